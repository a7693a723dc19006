"""Rendered scenes with the 150 classes of ADE20K: stuff that fills the frame, and objects on it.

A scene is a room, a street or a landscape: layers of stuff with level, rolling or stepped outlines, then objects that
belong there. Hardly a pixel is unlabelled (0, "other" in ADE20K). A class is a conjunction: stuff of texture and hue,
objects of shape, texture and hue; 150 different ones, of which every part is shared by many classes. Class ids follow
frequency, as in ADE20K: the share of its training images that show class c falls like (c + 2)^-1.13 (fitted to all
150), which is how often a class is drawn here among those that fit the place.
"""

import math
from dataclasses import dataclass

import numpy as np

from bench.data import rendering
from bench.data.rendering import Brush, Canvas, Field, disc, everywhere, level, rolling, stepped
from bench.data.scenery import SPLIT_SEED, Draws, Range, exposed, ground, room_for, tones

GENERATOR = 1  # raised whenever a scene changes: part of every fingerprint

CLASSES = 150
SHAPES: tuple[Field, ...] = (*rendering.SHAPES, rendering.dome)
OBJECT_TEXTURES: tuple[Field, ...] = (*rendering.TEXTURES, rendering.grid)
STUFF_TEXTURES: tuple[Field, ...] = (*OBJECT_TEXTURES, rendering.zigzag)

WALL, SKY, TREE, CEILING = 1, 3, 5, 6
FLOORS = (4,)
ON_FLOORS = (29, 54, 60, 102, 110)  # rug, stairs, stairway, stage, swimming pool
BUILDINGS = (2, 26, 49)  # building, house, skyscraper
STREETS = (7,)
BESIDE_STREETS = (12, 10, 53)  # sidewalk, grass, path
HILLS = (17, 69)  # mountain, hill
LANDS = (10, 14, 22, 27, 30, 35, 47, 55, 61, 92, 95, 114, 129, 141)  # grass, earth, water, sea, field, rock, ...
STUFF = tuple(sorted({WALL, SKY, TREE, CEILING, *FLOORS, *ON_FLOORS, *BUILDINGS, *STREETS, *BESIDE_STREETS}
                     | {*HILLS, *LANDS}))  # fmt: skip
OBJECTS = tuple(class_id for class_id in range(1, CLASSES + 1) if class_id not in STUFF)
OUTDOORS = (21, 33, 39, 41, 44, 52, 62, 70, 73, 77, 80, 81, 84, 85, 87, 88, 89, 91, 94, 96, 103, 104, 105, 107, 115,
            117, 122, 123, 124, 127, 128, 133, 137, 139, 150)  # fmt: skip
ANYWHERE = (13, 18, 43, 67)  # person, plant, column, flower


@dataclass(frozen=True)
class Difficulty:
    """Every number that makes scenes easier or harder. Lengths are fractions of the image side."""

    places: tuple[float, ...] = (0.54, 0.25, 0.21)  # probability of a room, a street, a landscape
    falling: tuple[float, float] = (2.0, 1.13)  # classes are drawn with weight (class id + first) to the -second
    objects: tuple[int, int] = (4, 9)  # how many are drawn, inclusive; those without room are left out
    radius: Range = (0.09, 0.20)  # log-uniform
    stretch: float = 1.12  # aspect ratios up to this, squared
    crowding: float = 0.80  # centres are at least this times the sum of radii apart: below 1 objects occlude
    hue_noise: float = 0.05  # triangular, half width; hues of one shape and texture are 1/4 apart, of stuff 1/6
    saturation: Range = (0.55, 0.95)
    stuff_saturation: Range = (0.30, 0.60)
    value: Range = (0.60, 0.95)
    contrast: Range = (0.35, 0.65)  # how much darker the second tone of a texture is
    period: Range = (0.085, 0.115)
    stuff_period: Range = (0.15, 0.21)
    tilt: float = 0.15  # of stuff, triangular, radians
    unlabelled: float = 0.25  # probability of a thing without a class in front of the stuff
    grain: float = 0.08  # full width of uniform noise per pixel and channel
    light: Range = (0.80, 1.10)  # brightness of the whole scene


DIFFICULTY = Difficulty()


def appearance(class_id: int) -> tuple[Field | None, Field, float]:
    """Shape (None for stuff), texture and mean hue (in turns) of a class, 1 to 150."""
    if class_id in STUFF:
        k = STUFF.index(class_id)
        return None, STUFF_TEXTURES[k % 6], ((k // 6 + k) % 6 + (k % 6) / 6) / 6
    k = OBJECTS.index(class_id)  # 6 and 5 have no common factor: 30 pairs of shape and texture, four hues of each
    return SHAPES[k % 6], OBJECT_TEXTURES[k % 5], (k // 30 + 7 * k % 30 / 30) / 4


def render(split: str, index: int, size: int, difficulty: Difficulty = DIFFICULTY) -> tuple[np.ndarray, np.ndarray]:
    """One scene: image uint8 (size, size, 3) and mask uint8 (size, size) of class ids."""
    d = difficulty
    draws = Draws(CLASSES, GENERATOR, SPLIT_SEED[split], index)
    canvas = Canvas(ground(draws), size)
    place = (_room, _street, _landscape)[draws.choice(np.cumsum(d.places))]
    for brush in place(draws, d):
        canvas.paint(brush)
    if draws.between(0.0, 1.0) < d.unlabelled:
        canvas.paint(_unlabelled(draws, d))
    for class_id, x, y, radius in _layout(draws, d, indoors=place is _room):
        canvas.paint(_object(draws, d, class_id, x, y, radius))
    return exposed(canvas, draws, d.light, d.grain), canvas.mask


def _room(draws: Draws, d: Difficulty) -> list[Brush]:
    """A wall, most often a floor and sometimes something on it, half the time a ceiling."""
    layers = [_stuff(draws, d, WALL, 0.5, everywhere)]
    if draws.between(0.0, 1.0) < 0.85:
        top = draws.between(0.58, 0.80)
        layers.append(_stuff(draws, d, _one_of(draws, d, FLOORS), top, level))
        if draws.between(0.0, 1.0) < 0.35:
            layers.append(_stuff(draws, d, _one_of(draws, d, ON_FLOORS), draws.between(top + 0.08, 0.90), level))
    if draws.between(0.0, 1.0) < 0.55:
        layers.append(_stuff(draws, d, CEILING, draws.between(0.12, 0.28), level, turned=math.pi))
    return layers


def _street(draws: Draws, d: Difficulty) -> list[Brush]:
    """Sky, buildings, sometimes trees, a street, and what lies beside it."""
    layers = [_stuff(draws, d, SKY, 0.5, everywhere)]
    layers.append(_stuff(draws, d, _one_of(draws, d, BUILDINGS), draws.between(0.30, 0.50), stepped))
    if draws.between(0.0, 1.0) < 0.65:
        layers.append(_stuff(draws, d, TREE, draws.between(0.48, 0.62), rolling))
    kerb = draws.between(0.62, 0.72)
    layers.append(_stuff(draws, d, _one_of(draws, d, BESIDE_STREETS), kerb, level))
    if draws.between(0.0, 1.0) < 0.8:
        layers.append(_stuff(draws, d, _one_of(draws, d, STREETS), draws.between(kerb + 0.05, 0.86), level))
    return layers


def _landscape(draws: Draws, d: Difficulty) -> list[Brush]:
    """Sky, sometimes hills and trees, and one or two kinds of land or water."""
    layers = [_stuff(draws, d, SKY, 0.5, everywhere)]
    if draws.between(0.0, 1.0) < 0.6:
        layers.append(_stuff(draws, d, _one_of(draws, d, HILLS), draws.between(0.30, 0.48), rolling))
    if draws.between(0.0, 1.0) < 0.75:
        layers.append(_stuff(draws, d, TREE, draws.between(0.42, 0.56), rolling))
    shore = draws.between(0.50, 0.64)
    layers.append(_stuff(draws, d, _one_of(draws, d, LANDS), shore, level))
    if draws.between(0.0, 1.0) < 0.75:
        layers.append(_stuff(draws, d, _one_of(draws, d, LANDS), draws.between(shore + 0.10, 0.85), level))
    return layers


def _layout(draws: Draws, d: Difficulty, indoors: bool) -> list[tuple[int, float, float, float]]:
    """Class id, centre and radius of every object, back to front. What finds no room is left out."""
    classes = _INDOORS if indoors else (*OUTDOORS, *ANYWHERE)
    placed: list[tuple[int, float, float, float]] = []
    for _ in range(d.objects[0] + draws.index(d.objects[1] - d.objects[0] + 1)):
        class_id = _one_of(draws, d, classes)
        radius = d.radius[0] * (d.radius[1] / d.radius[0]) ** draws.between(0.0, 1.0)
        centre = room_for(draws, radius, placed, d.crowding)
        if centre is not None:
            placed.append((class_id, *centre, radius))
    return placed


_INDOORS = tuple(class_id for class_id in OBJECTS if class_id not in OUTDOORS)


def _one_of(draws: Draws, d: Difficulty, classes: tuple[int, ...]) -> int:
    """One of the classes, by how frequent each of them is."""
    shift, exponent = d.falling
    return classes[draws.choice(np.cumsum([(class_id + shift) ** -exponent for class_id in classes]))]


def _stuff(draws: Draws, d: Difficulty, class_id: int, top: float, outline: Field, turned: float = 0.0) -> Brush:
    """All below `top` by its outline, or above it if turned half round."""
    _, texture, hue = appearance(class_id)
    first, second = tones(draws, hue + draws.around(d.hue_noise), d.stuff_saturation, d.value, d.contrast)
    tilt = draws.around(d.tilt) if outline is level else 0.0
    return Brush(
        outline, texture, first, second, x=draws.between(0.2, 0.8), y=top, radius=1.0,
        stretch=1.0, angle=turned + tilt, period=draws.between(*d.stuff_period), texture_angle=draws.around(0.5),
        shade=draws.between(0.0, 0.3), halo=0.0, label=class_id,
    )  # fmt: skip


def _object(draws: Draws, d: Difficulty, class_id: int, x: float, y: float, radius: float) -> Brush:
    shape, texture, hue = appearance(class_id)
    first, second = tones(draws, hue + draws.around(d.hue_noise), d.saturation, d.value, d.contrast)
    return Brush(
        shape, texture, first, second, x, y, radius,
        stretch=draws.between(1.0, d.stretch), angle=draws.between(0.0, math.tau),
        period=draws.between(*d.period), texture_angle=draws.between(0.0, math.tau),
        shade=draws.between(0.0, 0.3), halo=draws.between(0.1, 0.5), label=class_id,
    )  # fmt: skip


def _unlabelled(draws: Draws, d: Difficulty) -> Brush:
    """A sliver of any hue and texture that no class has the shape of."""
    first, second = tones(draws, draws.between(0.0, 1.0), d.stuff_saturation, d.value, d.contrast)
    return Brush(
        disc, OBJECT_TEXTURES[draws.index(len(OBJECT_TEXTURES))], first, second,
        draws.between(0.0, 1.0), draws.between(0.0, 1.0), draws.between(0.08, 0.14),
        stretch=draws.between(1.8, 2.6), angle=draws.between(0.0, math.tau),
        period=draws.between(*d.period), texture_angle=draws.between(0.0, math.tau),
        shade=draws.between(0.0, 0.3), halo=0.0, label=0,
    )  # fmt: skip
