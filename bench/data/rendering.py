"""A small painter for procedural scenes: distance fields, textures, soft edges.

Array arithmetic is restricted to + - * / sqrt floor and comparisons, which IEEE 754 rounds the same way on
every processor: a scene has the same bits everywhere. Lengths are fractions of the image side, so a scene
looks alike at every size.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

Array = np.ndarray
Field = Callable[[Array, Array], Array]


# Shapes: coordinates in units of the object's radius -> signed distance to the edge, negative inside.


def disc(x: Array, y: Array) -> Array:
    return np.sqrt(x * x + y * y) - 0.90


def square(x: Array, y: Array) -> Array:
    return np.maximum(np.abs(x), np.abs(y)) - 0.78


def triangle(x: Array, y: Array) -> Array:
    return np.maximum(0.8660254 * np.abs(x) + 0.5 * y, -y) - 0.56


def cross(x: Array, y: Array) -> Array:
    x, y = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(x - 1.0, y - 0.36), np.maximum(x - 0.36, y - 1.0))


def ring(x: Array, y: Array) -> Array:
    return np.abs(np.sqrt(x * x + y * y) - 0.72) - 0.28


def dome(x: Array, y: Array) -> Array:
    """The upper half of a disc."""
    return np.maximum(np.sqrt(x * x + (y - 0.45) * (y - 0.45)) - 1.0, y - 0.45)


SHAPES: tuple[Field, ...] = (disc, square, triangle, cross, ring)


# Outlines: the same for what fills the frame, all of it or all below its own centre; the radius is one image side.


def everywhere(x: Array, y: Array) -> Array:
    return -1.0 - 0.0 * (x + y)


def level(x: Array, y: Array) -> Array:
    return -y


def rolling(x: Array, y: Array) -> Array:
    x = 1.7 * x - np.floor(1.7 * x)
    return -y - 0.48 * x * (1.0 - x)


def stepped(x: Array, y: Array) -> Array:
    """A skyline: blocks a fifth of the image wide, of five heights."""
    block = np.floor(5.0 * x) * 0.4
    return -y - 0.25 * (block - np.floor(block))


# Textures: coordinates in periods -> share of the second tone, 0 to 1.


def plain(x: Array, y: Array) -> Array:
    return np.zeros_like(x)


def stripes(x: Array, y: Array) -> Array:
    return _band(x)


def checks(x: Array, y: Array) -> Array:
    a, b = _band(x), _band(y)
    return a + b - 2.0 * a * b


def dots(x: Array, y: Array) -> Array:
    x, y = x - np.floor(x) - 0.5, y - np.floor(y) - 0.5
    return np.clip(0.5 - 5.0 * (np.sqrt(x * x + y * y) - 0.31), 0.0, 1.0)


def grid(x: Array, y: Array) -> Array:
    """Thin lines both ways."""
    x, y = np.abs(x - np.floor(x) - 0.5), np.abs(y - np.floor(y) - 0.5)
    return np.clip(0.5 - 5.0 * (0.36 - np.maximum(x, y)), 0.0, 1.0)


def zigzag(x: Array, y: Array) -> Array:
    return _band(x + np.abs(y - np.floor(y) - 0.5))


TEXTURES: tuple[Field, ...] = (plain, stripes, checks, dots)


def _band(x: Array) -> Array:
    """1 in one half of every period, 0 in the other, with a short ramp against aliasing."""
    return np.clip(0.5 - 5.0 * (np.abs(x - np.floor(x) - 0.5) - 0.25), 0.0, 1.0)


def colour(hue: float, saturation: float, value: float) -> Array:
    """RGB float32 (3,) in 0 to 1 of a hue (any real; 1 is a full turn), saturation and value in 0 to 1."""
    sectors = [(offset + 6.0 * hue) % 6.0 for offset in (5.0, 3.0, 1.0)]
    return np.array([value - value * saturation * max(0.0, min(k, 4.0 - k, 1.0)) for k in sectors], np.float32)


@dataclass(frozen=True, slots=True)
class Brush:
    """One thing to paint. x, y (of the centre), radius, period: fractions of the image side; angles in
    radians."""

    field: Field
    texture: Field
    first: Array  # RGB of the two tones of the texture, float32 (3,)
    second: Array
    x: float
    y: float
    radius: float
    stretch: float  # > 1 makes it longer along its own x axis and thinner along y, at equal area
    angle: float
    period: float
    texture_angle: float
    shade: float  # how much darker its lower edge is, 0 to 1
    halo: float  # how much it darkens what lies around it, 0 to 1
    opacity: float = 1.0
    label: int | None = None  # class id written into the mask; None leaves the mask alone


HALO_WIDTH = 0.05  # fraction of the image side
REACH = 1.13  # every shape lies within [-REACH, REACH] on both axes, in units of its radius


class Canvas:
    """A picture under construction: pixels float32 (S, S, 3) in 0 to 1, mask uint8 (S, S) of class ids."""

    def __init__(self, field: Array, size: int) -> None:
        """Starts from a smooth interpolation of a coarse grid of colours, float32 (g, g, 3)."""
        self.size = size
        self.pixels = smooth(field, size)
        self.mask = np.zeros((size, size), dtype=np.uint8)

    def paint(self, brush: Brush) -> None:
        """Paints over what is there; only the window around the brush is touched."""
        length, width = brush.radius * brush.stretch, brush.radius / brush.stretch
        cosine, sine = abs(math.cos(brush.angle)), abs(math.sin(brush.angle))
        margin = HALO_WIDTH if brush.halo else 0.0
        rows, y = self._span(brush.y, REACH * (sine * length + cosine * width) + margin)
        columns, x = self._span(brush.x, REACH * (cosine * length + sine * width) + margin)
        x, y = x[None, :], y[:, None]
        u, v = _turn(x, y, brush.angle)
        distance = brush.field(u * (1.0 / length), v * (1.0 / width)) * width
        edge = np.clip(0.5 - distance * self.size, 0.0, 1.0)
        cover = edge * brush.opacity if brush.opacity < 1.0 else edge
        s, t = _turn(x, y, brush.texture_angle)
        tone = brush.texture(s * (1.0 / brush.period), t * (1.0 / brush.period))
        light = 1.0 - brush.shade * (0.5 + y * (0.5 / brush.radius))
        window = self.pixels[rows, columns]
        if brush.halo:
            window *= (1.0 - brush.halo * np.clip(1.0 - distance * (1.0 / HALO_WIDTH), 0.0, 1.0))[:, :, None]
        tones = brush.first + tone[:, :, None] * (brush.second - brush.first)
        window += cover[:, :, None] * (tones * light[:, :, None] - window)
        if brush.label is not None:
            self.mask[rows, columns][distance < 0.0] = brush.label

    def _span(self, centre: float, reach: float) -> tuple[slice, Array]:
        """Pixels within reach of a centre along one axis, and their signed offsets from it."""
        first = max(0, math.floor((centre - reach) * self.size))
        last = min(self.size, math.ceil((centre + reach) * self.size))
        return slice(first, last), _pixel_centres(self.size)[first:last] - np.float32(centre)


def smooth(grid: Array, size: int) -> Array:
    """Bilinear interpolation of a coarse grid (g, g, C) to (size, size, C), corners on corners."""
    low, weight = _interpolation(grid.shape[0], size)
    rows = grid[low] + weight[:, None, None] * (grid[low + 1] - grid[low])
    return rows[:, low] + weight[None, :, None] * (rows[:, low + 1] - rows[:, low])


@lru_cache(maxsize=16)
def _interpolation(points: int, size: int) -> tuple[Array, Array]:
    position = _pixel_centres(size) * np.float32(points - 1)
    low = np.minimum(np.floor(position).astype(np.int64), points - 2)
    return low, position - low.astype(np.float32)


@lru_cache(maxsize=4)
def _pixel_centres(size: int) -> Array:
    return (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)


def _turn(x: Array, y: Array, angle: float) -> tuple[Array, Array]:
    cosine, sine = math.cos(angle), math.sin(angle)
    return cosine * x + sine * y, cosine * y - sine * x
