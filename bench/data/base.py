"""What every data set offers to the machine: images, masks of class ids, and a stamp."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
from torch import Tensor

from bench.data.pairs import Inspection
from protocols import VOID, InputError, dataset, unknown

SPLITS = ("train", "val")
DATA = ("voc", "ade", "shapes")


class SegmentationData(ABC):
    """One split of one data set: images with a mask of class ids each.

    name: "voc", "ade" or "shapes". label_space: the data set whose class ids the masks hold ("voc" or "ade").
    split: "train" or "val". ids: the name of every image, in the order that image indices refer to.
    """

    name: str
    label_space: str
    split: str
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def load(self, index: int) -> tuple[Tensor, Tensor]:
        """Image uint8 (3, H, W) in RGB and mask uint8 (H, W) of class ids (0 background, 255 void).

        Raises InputError, naming the file, where a file cannot be read as such a pair.
        """

    @abstractmethod
    def inspect(self, index: int) -> Inspection:
        """What is to be known of an image and its mask before any training.

        Raises InputError, naming the file, for a broken image, a broken mask, or sizes that differ.
        """

    def inspections(self, processes: int | None = None) -> Iterator[Inspection | InputError]:
        """`inspect` of every image in order; what it raises comes as a value. processes: that may take part, where
        there is work for several; default: one for each CPU."""
        for index in range(len(self)):
            try:
                yield self.inspect(index)
            except InputError as fault:
                yield fault

    @abstractmethod
    def fingerprint(self) -> str:
        """A cheap stamp that changes whenever images or masks may have changed; it reads no pixel."""

    def describe(self, index: int) -> str:
        """What to call the mask of an image in an error: a path where there is one."""
        return f"{self.name} {self.split} mask {self.ids[index]}"


def known_labels(label_space: str) -> np.ndarray:
    """Label values that masks may hold, bool (256,): the class ids, 0, and void where the label space has
    it."""
    info = dataset(label_space)
    known = np.zeros(256, dtype=bool)
    known[: len(info.class_names)] = True
    known[VOID] = info.has_void
    return known


def stamp(*parts: object) -> str:
    """Hex sha256 of the parts' text: for fingerprints and cache names."""
    digest = sha256()
    for part in parts:
        text = str(part).encode()
        digest.update(len(text).to_bytes(8, "little") + text)
    return digest.hexdigest()


def open_data(
    name: str,
    split: str,
    root: str | Path | None = None,
    label_space: str = "voc",
    train_images: int = 2000,
    val_images: int = 300,
    image_size: int = 64,
) -> SegmentationData:
    """Opens a split of a data set by name.

    root: folder of real data. train_images, val_images, image_size (pixels a side): of rendered data, which
    need no folder. label_space: what the protocol's class ids mean; real data have one of their own, and
    another is refused. Raises InputError for an unknown name or split, a folder or list that is missing, or
    sizes that make no sense.
    """
    # Here, because each of them builds on this file.
    from bench.data.ade import AdeData
    from bench.data.shapes import ShapesData
    from bench.data.voc import VocData

    if name not in DATA:
        raise unknown("data", name, DATA)
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if name == "shapes":
        images = train_images if split == "train" else val_images
        return ShapesData(split, images=images, size=image_size, label_space=label_space)
    if label_space != name:
        raise InputError(f"data {name!r} cannot serve a {label_space} protocol: choose data {label_space!r}")
    return {"voc": VocData, "ade": AdeData}[name](split, root)
