"""What rendered scenes of every label space share: the draws of a scene, colours, ground, and light."""

import math
from collections.abc import Sequence

import numpy as np

from bench.data.rendering import Canvas, colour, smooth

Range = tuple[float, float]

SPLIT_SEED = {"train": 1, "val": 2, "pretrain": 3, "pretrain_val": 4}  # the last two: of the tiny CLIP, of no run


class Draws:
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


def tones(draws: Draws, hue: float, saturation: Range, value: Range, contrast: Range) -> tuple[np.ndarray, np.ndarray]:
    """The two tones of a texture, RGB float32 (3,) each: a colour of that hue (in turns), and a darker one."""
    first = colour(hue, draws.between(*saturation), draws.between(*value))
    return first, first * np.float32(1.0 - draws.between(*contrast))


def room_for(
    draws: Draws, radius: float, placed: Sequence[tuple[int, float, float, float]], crowding: float
) -> tuple[float, float] | None:
    """A centre (x, y) for one more object, or None if six draws find none.

    placed: (class id, x, y, radius) of the others; centres are at least `crowding` times the sum of radii apart.
    """
    for _ in range(6):
        x, y = draws.between(0.12, 0.88), draws.between(0.12, 0.88)
        if all(math.hypot(x - x2, y - y2) > crowding * (radius + r2) for _, x2, y2, r2 in placed):
            return x, y
    return None


def ground(draws: Draws) -> np.ndarray:
    """A coarse grid of muted colours around one tint, float32 (5, 5, 3)."""
    tint = colour(draws.between(0.0, 1.0), draws.between(0.05, 0.35), draws.between(0.35, 0.85))
    hues, brightness = draws.array(5, 5, 3) - 0.5, draws.array(5, 5, 1) - 0.5
    return tint + 0.22 * hues + 0.30 * brightness


def exposed(canvas: Canvas, draws: Draws, light: Range, grain: float) -> np.ndarray:
    """The finished picture, uint8 (S, S, 3): lit unevenly, with uniform noise of full width `grain`."""
    brightness = draws.between(*light) + 0.35 * (smooth(draws.array(3, 3, 1), canvas.size) - 0.5)
    noise = grain * (draws.array(canvas.size, canvas.size, 3) - 0.5)
    pixels = canvas.pixels * brightness + noise
    return np.clip(pixels * 255.0 + 0.5, 0.0, 255.0).astype(np.uint8)
