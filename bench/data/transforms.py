"""From an image and a mask of class ids to what a network sees: scale, crop, flip, and labels as slots.

Images are resampled bilinearly with antialiasing, masks by nearest neighbour at pixel centres. Labels turn
from class ids into slots by a 256-entry table after resampling and before padding, so that padding means what
it says whatever the table does to void.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from protocols import VOID, unknown

# RGB, the mean of ImageNet and of CLIP's training images: near 0 once normalised.
GREY = torch.tensor((124, 116, 104), dtype=torch.uint8)
RATIOS, TRIES = (3 / 4, 4 / 3), 10  # of resized crops
PADDING = {"ignore": VOID, "background": 0}


@dataclass(frozen=True)
class TrainTransform:
    """Random scale, crop and horizontal flip.

    The shorter side is resized to `crop` times a factor drawn uniformly from `scale`, a window of `crop` x
    `crop` is cut at random, and mirrored with probability `flip`. Where the image is smaller than the window
    it lies at a random place in it, over grey; labels there are void ("ignore") or background ("background",
    as MBS pads).

    Only the window is resampled: its counterpart in the original image, to the nearest whole pixel.
    """

    crop: int
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    padding: str = "ignore"

    def __post_init__(self) -> None:
        if self.padding not in PADDING:
            raise unknown("padding", self.padding, PADDING)

    def __call__(
        self, image: Tensor, mask: Tensor, table: np.ndarray, generator: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """image uint8 (3, H, W), mask uint8 (H, W) of class ids, table uint8 (256,) from class id to slot
        -> image uint8 (3, crop, crop), labels uint8 (crop, crop) of slots.

        Everything random comes from `generator`, four draws whatever the image."""
        scale, down, across, mirror = generator.random(4).tolist()
        height, width = mask.shape
        factor = self.crop / min(height, width) * (self.scale[0] + scale * (self.scale[1] - self.scale[0]))
        top, rows, into_top, out_rows = _window(height, factor, self.crop, down)
        left, columns, into_left, out_columns = _window(width, factor, self.crop, across)
        image = image[:, top : top + rows, left : left + columns]
        image = _resize(image, out_rows, out_columns)
        row = top + _nearest(rows, out_rows)
        column = left + _nearest(columns, out_columns)
        if mirror < self.flip:
            image, column = image.flip(-1), column[::-1]
        labels = torch.from_numpy(table.take(mask.numpy()[row[:, None], column]))
        if (out_rows, out_columns) == (self.crop, self.crop):
            return image, labels
        inside = (slice(into_top, into_top + out_rows), slice(into_left, into_left + out_columns))
        padded = GREY[:, None, None].repeat(1, self.crop, self.crop)
        padded[:, *inside] = image
        padded_labels = torch.full((self.crop, self.crop), PADDING[self.padding], dtype=torch.uint8)
        padded_labels[inside] = labels
        return padded, padded_labels


@dataclass(frozen=True)
class ResizedCropTransform:
    """A random window of the image, by area and aspect ratio, resized to `crop` x `crop`, and a horizontal flip.

    The window's area is the image's times a factor drawn uniformly from `scale`, its ratio log-uniform from 3/4 to 4/3;
    of ten draws the first that fits into the image is taken, else the largest centred window of an allowed ratio. So
    nothing is ever padded. (The augmentation of MiB and PLOP.)
    """

    crop: int
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    padding: str = "ignore"  # never needed

    def __call__(
        self, image: Tensor, mask: Tensor, table: np.ndarray, generator: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """As `TrainTransform`."""
        top, left, rows, columns = self._window(*mask.shape, generator)
        image = _resize(image[:, top : top + rows, left : left + columns], self.crop, self.crop)
        row, column = top + _nearest(rows, self.crop), left + _nearest(columns, self.crop)
        if generator.random() < self.flip:
            image, column = image.flip(-1), column[::-1]
        return image, torch.from_numpy(table.take(mask.numpy()[row[:, None], column]))

    def _window(self, height: int, width: int, generator: np.random.Generator) -> tuple[int, int, int, int]:
        """Top, left, rows and columns of the window."""
        low, high = math.log(RATIOS[0]), math.log(RATIOS[1])
        for area, ratio, down, across in generator.random((TRIES, 4)).tolist():
            area = height * width * (self.scale[0] + area * (self.scale[1] - self.scale[0]))
            ratio = math.exp(low + ratio * (high - low))
            columns, rows = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < columns <= width and 0 < rows <= height:
                return int(down * (height - rows + 1)), int(across * (width - columns + 1)), rows, columns
        ratio = min(max(width / height, RATIOS[0]), RATIOS[1])
        columns, rows = min(width, round(height * ratio)), min(height, round(width / ratio))
        return (height - rows) // 2, (width - columns) // 2, rows, columns


AUGMENTATIONS = {"scale_crop": TrainTransform, "resized_crop": ResizedCropTransform}


@dataclass(frozen=True)
class EvalTransform:
    """Shorter side to `size`, then the centre `size` x `size`, of image and labels; None leaves both
    whole."""

    size: int | None

    def __call__(self, image: Tensor, mask: Tensor, table: np.ndarray) -> tuple[Tensor, Tensor]:
        """image uint8 (3, H, W), mask uint8 (H, W) of class ids, table uint8 (256,) from class id to slot
        -> image uint8 (3, size, size), labels uint8 (size, size) of slots."""
        if self.size is None:
            return image, torch.from_numpy(table.take(mask.numpy()))
        height, width = mask.shape
        short = min(height, width)
        out_height, out_width = self.size * height // short, self.size * width // short
        top, left = round((out_height - self.size) / 2), round((out_width - self.size) / 2)
        inside = (slice(top, top + self.size), slice(left, left + self.size))
        image = _resize(image, out_height, out_width)[:, *inside]
        row, column = _nearest(height, out_height)[inside[0]], _nearest(width, out_width)[inside[1]]
        return image.contiguous(), torch.from_numpy(table.take(mask.numpy()[row[:, None], column]))


def _window(length: int, factor: float, crop: int, draw: float) -> tuple[int, int, int, int]:
    """One axis of a random window: first source pixel, source pixels, first target pixel, target pixels.

    draw in [0, 1) places the window in the image, or the image in the window if it is the smaller of the two.
    """
    wanted = crop / factor
    if wanted < length:
        pixels = max(1, round(wanted))
        return int(draw * (length - pixels + 1)), pixels, 0, crop
    pixels = min(crop, max(1, round(length * factor)))
    return 0, length, int(draw * (crop - pixels + 1)), pixels


def _resize(image: Tensor, height: int, width: int) -> Tensor:
    """What torchvision's resize computes, without its dispatch, which takes as long at 64 x 64 pixels."""
    if image.shape[1:] == (height, width):
        return image
    if width == 1:  # torch's kernel for bytes mixes up the channels of a result one pixel wide
        return interpolate(image[None].float(), (height, 1), mode="bilinear", antialias=True)[0].round().byte()
    return interpolate(image[None], (height, width), mode="bilinear", antialias=True)[0]


@lru_cache(maxsize=1024)
def _nearest(source: int, target: int) -> np.ndarray:
    """For every target pixel the source pixel under its centre, int64 (target,)."""
    return ((2 * np.arange(target) + 1) * source) // (2 * target)
