"""The embedded data: rendered scenes in the label space of the data set they stand in for. No files are
needed.

Scenes depend on (label space, split, index) alone, and splits share no scene. `voc_scenes` and `ade_scenes` say what
they show.
"""

from dataclasses import asdict
from functools import lru_cache
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from bench.data import ade_scenes, voc_scenes
from bench.data.base import SegmentationData, stamp
from bench.data.pairs import Inspection
from protocols import InputError

SCENES = {"voc": voc_scenes, "ade": ade_scenes}
CACHE_BYTES = 512 * 2**20  # a split that is larger than this once rendered is rendered again at every load


@lru_cache(maxsize=4)
def _rendered(label_space: str, split: str, images: int, size: int) -> tuple[Tensor, Tensor]:
    """A whole split, once per process: uint8 (N, 3, size, size) and (N, size, size)."""
    pixels = np.empty((images, size, size, 3), dtype=np.uint8)
    masks = np.empty((images, size, size), dtype=np.uint8)
    for index in range(images):
        pixels[index], masks[index] = SCENES[label_space].render(split, index, size)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(masks)


class ShapesData(SegmentationData):
    """Rendered scenes with the class ids of `label_space`. images: scenes in the split. size: pixels a side."""

    name = "shapes"

    def __init__(self, split: str, images: int, size: int, label_space: str = "voc") -> None:
        if label_space not in SCENES:
            spaces = " and ".join(SCENES)
            raise InputError(f"shapes has scenes for {spaces} protocols, not for {label_space}: choose one of them")
        if images < 1 or size < 16:
            raise InputError(f"shapes needs at least 1 scene of 16 pixels a side, not {images} of {size}")
        self.split, self.label_space = split, label_space
        self.images, self.size = images, size
        self.ids = tuple(f"shapes_{split}_{index:05d}" for index in range(images))

    def load(self, index: int) -> tuple[Tensor, Tensor]:
        if self.images * self.size**2 * 4 > CACHE_BYTES:
            pixels, mask = SCENES[self.label_space].render(self.split, index, self.size)
            return torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), torch.from_numpy(mask)
        pixels, masks = _rendered(self.label_space, self.split, self.images, self.size)
        return pixels[index], masks[index]

    def inspect(self, index: int) -> Inspection:
        image, mask = (tensor.numpy() for tensor in self.load(index))
        pixels = np.bincount(mask.ravel(), minlength=256)
        return Inspection(pixels, sha256(image.tobytes() + mask.tobytes()).digest())

    def fingerprint(self) -> str:
        scenes = SCENES[self.label_space]
        return stamp(
            "shapes",
            scenes.GENERATOR,
            self.label_space,
            self.split,
            self.images,
            self.size,
            asdict(scenes.DIFFICULTY),
        )
