"""Predictions for whole images of any size: in windows as large as the training crop, averaged where they overlap.

Only one row of windows is held at a time. Pixels that no later row reaches are decided and let go, so memory follows
the width of the image and the side of a window, not the image's height, and never the number of images.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Method

# Raised when the predictions of the same network change; part of the key of counts of whole images.
VERSION = 2  # 2: sides of windows are multiples of CELL
OVERLAP = 3  # windows overlap by at least one part in three of their side
CELL = 32  # pixels; the strides of networks divide it
WHOLE = 2  # a network that takes any size sees images whole up to this times the training crop
MEMORY = 2 * 2**30  # bytes of logits at once: beyond it the images of a batch are predicted one after the other


def starts(length: int, window: int) -> list[int]:
    """The first pixels of the windows along a side of `length`: as few as overlap by a third of `window`, evenly
    spread, the first and the last flush with the ends. One window if it covers the side."""
    if length <= window:
        return [0]
    gaps = math.ceil((length - window) / (window - window // OVERLAP))
    return [gap * (length - window) // gaps for gap in range(gaps + 1)]


def window_of(method: Method, crop: int, height: int, width: int) -> tuple[int, int]:
    """Height and width of the windows for an image of that size.

    The training crop, to which smaller images are padded; where the network takes any size, twice the crop, and no
    more than the image up to a multiple of CELL. On other sides a cell of the network's map would stand for fewer
    pixels than in training, and predictions would shift, by up to a cell at the far end.
    """
    if not method.network.any_size:
        return crop, crop
    return tuple(min(WHOLE * crop, math.ceil(side / CELL) * CELL) for side in (height, width))


def logit_bytes(slots: int, window: tuple[int, int], width: int) -> int:
    """Memory of the logits of one image of that width, float32: the row of windows that is held, and one window."""
    rows, columns = window
    across = len(starts(width, columns))
    return 4 * slots * rows * (columns if across == 1 else max(width, columns) + columns)


def predict_whole(method: Method, images: Tensor, crop: int) -> Tensor:
    """The predicted slots of whole images, (B, H, W) int64, by the method's own rule on averaged logits.

    images (B, 3, H, W), normalised, of any size; crop: side of the training crop in pixels. Images smaller than a
    window are padded below and to the right with the mean colour, as training pads, and the padding is cut off.
    """
    height, width = images.shape[2:]
    window = window_of(method, crop, height, width)
    padded = F.pad(images, (0, max(0, window[1] - width), 0, max(0, window[0] - height)))
    at_once = max(1, MEMORY // logit_bytes(method.step.n_slots, window, width))
    parts = [_predict(method, part, window) for part in padded.split(at_once)]
    return torch.cat(parts)[:, :height, :width]


def _predict(method: Method, images: Tensor, window: tuple[int, int]) -> Tensor:
    """Slots (B, H, W) of images (B, 3, H, W) that are at least as large as the window."""
    (rows, columns), (height, width) = window, images.shape[2:]
    tops, lefts = starts(height, rows), starts(width, columns)
    if len(tops) == len(lefts) == 1:
        return method.decide(method.logits(images))
    down, across = (_cover(*side, images.device) for side in ((height, tops, rows), (width, lefts, columns)))
    held = images.new_zeros(len(images), method.step.n_slots, rows, width, dtype=torch.float32)
    decided = []
    for top, below in zip(tops, [*tops[1:], height], strict=True):
        for left in lefts:
            inside = slice(left, left + columns)
            held[..., inside] += method.logits(images[:, :, top : top + rows, inside])
        done = below - top  # rows that no later window reaches
        mean = held[:, :, :done].div_(down[top:below, None] * across)
        decided.append(method.decide(mean))
        rest = held[:, :, done:].clone()
        held.zero_()[:, :, : rows - done] = rest
    return torch.cat(decided, dim=1)


def _cover(length: int, first: Sequence[int], window: int, device: torch.device) -> Tensor:
    """How many windows cover each pixel of a side, float32 (length,)."""
    cover = torch.zeros(length, device=device)
    for start in first:
        cover[start : start + window] += 1
    return cover
