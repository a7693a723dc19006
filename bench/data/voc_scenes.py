"""Rendered scenes with the 20 classes of VOC: a few objects over cluttered background.

A class is a conjunction of shape, texture and hue. The 5 shapes and 4 textures combine to 20 distinct pairs,
one per class; hues are noisy and overlap between neighbours, so that neither hue nor texture nor shape
decides alone. Objects occlude each other over cluttered ground, some classes often occur together, and class
15 (person) is the commonest, as in VOC. Scenes depend on (split, index) alone, and splits share no scene.
"""

import math
from dataclasses import dataclass

import numpy as np

from bench.data.rendering import SHAPES, TEXTURES, Brush, Canvas, disc, square
from bench.data.scenery import SPLIT_SEED, Draws, exposed, ground, room_for, tones

GENERATOR = 1  # raised whenever a scene changes: part of every fingerprint

CLASSES = 20

# How often a class is drawn, where it is not 1.
FREQUENCY = {15: 3.0, 7: 1.5, 9: 1.5, 12: 1.4, 8: 1.3, 3: 1.2, 11: 0.8, 10: 0.8, 17: 0.8, 4: 0.8}

# What is often seen together with a class.
COMPANIONS = {
    1: (7, 15), 2: (15, 7), 3: (4,), 4: (15, 3), 5: (11, 9, 15), 6: (7, 15), 7: (15, 6, 14),
    8: (18, 9), 9: (11, 15, 20), 10: (17, 15), 11: (9, 5), 12: (15, 18, 8), 13: (15, 10), 14: (15, 7),
    15: (7, 9, 12, 14), 16: (18, 9), 17: (10, 12), 18: (16, 20, 15), 19: (15, 7), 20: (9, 18),
}  # fmt: skip


@dataclass(frozen=True)
class Difficulty:
    """Every number that makes scenes easier or harder. Lengths are fractions of the image side."""

    objects: tuple[float, ...] = (0.30, 0.36, 0.22, 0.12)  # probability of 1, 2, 3, 4 objects
    companion: float = 0.60  # probability that a further object is drawn from the companions of the first
    radius: tuple[float, float] = (0.12, 0.30)  # log-uniform
    stretch: float = 1.18  # aspect ratios up to this, squared
    crowding: float = 0.72  # centres are at least this times the sum of radii apart: below 1 objects occlude
    hue_noise: float = 0.075  # triangular, half width; hues of neighbours are 0.05 apart
    saturation: tuple[float, float] = (0.35, 0.90)
    value: tuple[float, float] = (0.55, 0.95)
    contrast: tuple[float, float] = (0.30, 0.62)  # how much darker the second tone of a texture is
    period: tuple[float, float] = (0.085, 0.125)
    clutter: tuple[int, int] = (4, 8)  # things in the background, inclusive
    clutter_saturation: tuple[float, float] = (0.10, 0.60)
    clutter_opacity: tuple[float, float] = (0.45, 0.95)
    grain: float = 0.10  # full width of uniform noise per pixel and channel
    light: tuple[float, float] = (0.75, 1.10)  # brightness of the whole scene


DIFFICULTY = Difficulty()


def appearance(class_id: int) -> tuple[int, int, float]:
    """Shape index, texture index and mean hue (in turns) of a class, 1 to 20."""
    k = class_id - 1
    return k % 5, (k // 5 + k % 5) % 4, (7 * k % CLASSES) / CLASSES


_FREQUENCIES = np.cumsum([FREQUENCY.get(class_id, 1.0) for class_id in range(1, CLASSES + 1)])


def render(split: str, index: int, size: int, difficulty: Difficulty = DIFFICULTY) -> tuple[np.ndarray, np.ndarray]:
    """One scene: image uint8 (size, size, 3) and mask uint8 (size, size) of class ids."""
    d = difficulty
    draws = Draws(GENERATOR, SPLIT_SEED[split], index)
    canvas = Canvas(ground(draws), size)
    for _ in range(d.clutter[0] + draws.index(d.clutter[1] - d.clutter[0] + 1)):
        canvas.paint(_clutter(draws, d))
    for class_id, x, y, radius in _layout(draws, d):
        canvas.paint(_object(draws, d, class_id, x, y, radius))
    return exposed(canvas, draws, d.light, d.grain), canvas.mask


def _layout(draws: Draws, d: Difficulty) -> list[tuple[int, float, float, float]]:
    """Class id, centre and radius of every object, back to front. What finds no room is left out."""
    placed: list[tuple[int, float, float, float]] = []
    for _ in range(1 + draws.choice(np.cumsum(d.objects))):
        if placed and draws.between(0.0, 1.0) < d.companion:
            companions = COMPANIONS[placed[0][0]]
            class_id = companions[draws.index(len(companions))]
        else:
            class_id = 1 + draws.choice(_FREQUENCIES)
        radius = d.radius[0] * (d.radius[1] / d.radius[0]) ** draws.between(0.0, 1.0)
        centre = room_for(draws, radius, placed, d.crowding)
        if centre is not None:
            placed.append((class_id, *centre, radius))
    return placed


def _object(draws: Draws, d: Difficulty, class_id: int, x: float, y: float, radius: float) -> Brush:
    shape, texture, hue = appearance(class_id)
    first, second = tones(draws, hue + draws.around(d.hue_noise), d.saturation, d.value, d.contrast)
    return Brush(
        SHAPES[shape], TEXTURES[texture], first, second, x, y, radius,
        stretch=draws.between(1.0, d.stretch), angle=draws.between(0.0, math.tau),
        period=draws.between(*d.period), texture_angle=draws.between(0.0, math.tau),
        shade=draws.between(0.0, 0.35), halo=draws.between(0.0, 0.45), label=class_id,
    )  # fmt: skip


def _clutter(draws: Draws, d: Difficulty) -> Brush:
    """Bars and slivers of any hue and texture, too long to be the shape of a class."""
    first, second = tones(draws, draws.between(0.0, 1.0), d.clutter_saturation, d.value, d.contrast)
    return Brush(
        (disc, square)[draws.index(2)], TEXTURES[draws.index(len(TEXTURES))], first, second,
        draws.between(0.0, 1.0), draws.between(0.0, 1.0), draws.between(0.06, 0.22),
        stretch=draws.between(1.6, 2.6), angle=draws.between(0.0, math.tau),
        period=draws.between(*d.period), texture_angle=draws.between(0.0, math.tau),
        shade=draws.between(0.0, 0.35), halo=0.0, opacity=draws.between(*d.clutter_opacity),
    )  # fmt: skip
