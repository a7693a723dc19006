"""The embedded data: rendered scenes in the label space of the data set they stand in for. No files are
needed.

A class is a conjunction of shape, texture and hue. The 5 shapes and 4 textures combine to 20 distinct pairs,
one per class; hues are noisy and overlap between neighbours, so that neither hue nor texture nor shape
decides alone. Objects occlude each other over cluttered ground, some classes often occur together, and class
15 (person) is the commonest, as in VOC. Scenes depend on (split, index) alone, and splits share no scene.
"""

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from bench.data.base import SegmentationData, stamp
from bench.data.rendering import SHAPES, TEXTURES, Brush, Canvas, colour, disc, smooth, square
from protocols import InputError

GENERATOR = 1  # raised whenever a scene changes: part of every fingerprint

CLASSES = 20
SPLIT_SEED = {"train": 1, "val": 2, "pretrain": 3, "pretrain_val": 4}  # the last two: of the tiny CLIP, of no run
CACHE_BYTES = 512 * 2**20  # a split that is larger than this once rendered is rendered again at every load

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


class _Draws:
    """Uniform draws of one scene, by its own stream."""

    def __init__(self, *key: int) -> None:
        self._random = np.random.Generator(np.random.PCG64(key)).random

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self._random()

    def around(self, half_width: float) -> float:
        """Triangular about zero."""
        return (self._random() - self._random()) * half_width

    def array(self, *shape: int) -> np.ndarray:
        return self._random(shape, dtype=np.float32)

    def choice(self, cumulative: np.ndarray) -> int:
        """Index drawn with the given cumulative weights."""
        return int(np.searchsorted(cumulative, self._random() * cumulative[-1], side="right"))

    def index(self, n: int) -> int:
        return int(self._random() * n)


_FREQUENCIES = np.cumsum([FREQUENCY.get(class_id, 1.0) for class_id in range(1, CLASSES + 1)])


def render(split: str, index: int, size: int, difficulty: Difficulty = DIFFICULTY) -> tuple[np.ndarray, np.ndarray]:
    """One scene: image uint8 (size, size, 3) and mask uint8 (size, size) of class ids."""
    d = difficulty
    draws = _Draws(GENERATOR, SPLIT_SEED[split], index)
    canvas = Canvas(_ground(draws), size)
    for _ in range(d.clutter[0] + draws.index(d.clutter[1] - d.clutter[0] + 1)):
        canvas.paint(_clutter(draws, d))
    for class_id, x, y, radius in _layout(draws, d):
        canvas.paint(_object(draws, d, class_id, x, y, radius))
    light = draws.between(*d.light) + 0.35 * (smooth(draws.array(3, 3, 1), size) - 0.5)
    grain = d.grain * (draws.array(size, size, 3) - 0.5)
    pixels = canvas.pixels * light + grain
    return np.clip(pixels * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8), canvas.mask


def _layout(draws: _Draws, d: Difficulty) -> list[tuple[int, float, float, float]]:
    """Class id, centre and radius of every object, back to front. What finds no room is left out."""
    placed: list[tuple[int, float, float, float]] = []
    for _ in range(1 + draws.choice(np.cumsum(d.objects))):
        if placed and draws.between(0.0, 1.0) < d.companion:
            companions = COMPANIONS[placed[0][0]]
            class_id = companions[draws.index(len(companions))]
        else:
            class_id = 1 + draws.choice(_FREQUENCIES)
        radius = d.radius[0] * (d.radius[1] / d.radius[0]) ** draws.between(0.0, 1.0)
        for _ in range(6):
            x, y = draws.between(0.12, 0.88), draws.between(0.12, 0.88)
            if all(math.hypot(x - x2, y - y2) > d.crowding * (radius + r2) for _, x2, y2, r2 in placed):
                placed.append((class_id, x, y, radius))
                break
    return placed


def _object(draws: _Draws, d: Difficulty, class_id: int, x: float, y: float, radius: float) -> Brush:
    shape, texture, hue = appearance(class_id)
    first, second = _tones(draws, d, hue + draws.around(d.hue_noise), d.saturation)
    return Brush(
        SHAPES[shape], TEXTURES[texture], first, second, x, y, radius,
        stretch=draws.between(1.0, d.stretch), angle=draws.between(0.0, math.tau),
        period=draws.between(*d.period), texture_angle=draws.between(0.0, math.tau),
        shade=draws.between(0.0, 0.35), halo=draws.between(0.0, 0.45), label=class_id,
    )  # fmt: skip


def _clutter(draws: _Draws, d: Difficulty) -> Brush:
    """Bars and slivers of any hue and texture, too long to be the shape of a class."""
    first, second = _tones(draws, d, draws.between(0.0, 1.0), d.clutter_saturation)
    return Brush(
        (disc, square)[draws.index(2)], TEXTURES[draws.index(len(TEXTURES))], first, second,
        draws.between(0.0, 1.0), draws.between(0.0, 1.0), draws.between(0.06, 0.22),
        stretch=draws.between(1.6, 2.6), angle=draws.between(0.0, math.tau),
        period=draws.between(*d.period), texture_angle=draws.between(0.0, math.tau),
        shade=draws.between(0.0, 0.35), halo=0.0, opacity=draws.between(*d.clutter_opacity),
    )  # fmt: skip


def _tones(draws: _Draws, d: Difficulty, hue: float, saturation: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    first = colour(hue, draws.between(*saturation), draws.between(*d.value))
    return first, first * np.float32(1.0 - draws.between(*d.contrast))


def _ground(draws: _Draws) -> np.ndarray:
    """A coarse grid of muted colours around one tint, float32 (5, 5, 3)."""
    tint = colour(draws.between(0.0, 1.0), draws.between(0.05, 0.35), draws.between(0.35, 0.85))
    hues, brightness = draws.array(5, 5, 3) - 0.5, draws.array(5, 5, 1) - 0.5
    return tint + 0.22 * hues + 0.30 * brightness


@lru_cache(maxsize=4)
def _rendered(split: str, images: int, size: int) -> tuple[Tensor, Tensor]:
    """A whole split, once per process: uint8 (N, 3, size, size) and (N, size, size)."""
    pixels = np.empty((images, size, size, 3), dtype=np.uint8)
    masks = np.empty((images, size, size), dtype=np.uint8)
    for index in range(images):
        pixels[index], masks[index] = render(split, index, size)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(masks)


class ShapesData(SegmentationData):
    """Rendered scenes with the 20 class ids of VOC. images: scenes in the split. size: pixels a side."""

    name = "shapes"

    def __init__(self, split: str, images: int, size: int, label_space: str = "voc") -> None:
        if label_space != "voc":
            raise InputError(f"shapes has no scenes for {label_space} protocols: choose a voc protocol or data.root=")
        if images < 1 or size < 16:
            raise InputError(f"shapes needs at least 1 scene of 16 pixels a side, not {images} of {size}")
        self.split, self.label_space = split, label_space
        self.images, self.size = images, size
        self.ids = tuple(f"shapes_{split}_{index:05d}" for index in range(images))

    def load(self, index: int) -> tuple[Tensor, Tensor]:
        if self.images * self.size**2 * 4 > CACHE_BYTES:
            pixels, mask = render(self.split, index, self.size)
            return torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), torch.from_numpy(mask)
        pixels, masks = _rendered(self.split, self.images, self.size)
        return pixels[index], masks[index]

    def shape(self, index: int) -> tuple[int, int]:
        return self.size, self.size

    def inspect(self, index: int) -> tuple[np.ndarray, bytes]:
        image, mask = (tensor.numpy() for tensor in self.load(index))
        pixels = np.bincount(mask.ravel(), minlength=256)
        return pixels, sha256(image.tobytes() + mask.tobytes()).digest()

    def fingerprint(self) -> str:
        scenes = (self.label_space, self.split, self.images, self.size)
        return stamp("shapes", GENERATOR, *scenes, asdict(DIFFICULTY))
