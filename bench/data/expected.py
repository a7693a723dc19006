"""What the published data sets hold, as numbers: a copy is held against them."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from protocols import load, names, step_counts, step_images


@dataclass(frozen=True)
class Published:
    """One split as published. images: how many. names: see `names_digest`."""

    images: int
    names: str


# VOC: train_aug is VOC's train (1,464) and what SBD adds to it (6,820 of its train, 2,298 of its val), without VOC's
# val (1,449).
PUBLISHED = {
    "voc": {
        "train": Published(10582, "855dff350b7f447bf43cb98ea626a32e0d0b3b7c5786e03b2712a21355b635bf"),
        "val": Published(1449, "6f8edc37993764f6e212237d39546fb595246244147e8a050813c520aac0ade1"),
    },
    "ade": {
        "train": Published(20210, "5812d1749bb33a21c520f8b5c61245f4f5c0212fcb89bba9e3e3803c4ad5297a"),
        "val": Published(2000, "ea1c90a7ccd457dda9514cc222d606241e61d58a5ba75215d5ceff95f1557a36"),
    },
}


def names_digest(ids: Iterable[str]) -> str:
    """Hex sha256 of the names of images, whatever their order."""
    return sha256("\n".join(sorted(ids)).encode()).hexdigest()


def differing(name: str, split: str, ids: Collection[str]) -> str:
    """How the names of a split differ from the published ones, in words; empty where they do not."""
    published = PUBLISHED[name][split]
    if names_digest(ids) == published.names:
        return ""
    return "as many as published, but not the same" if len(ids) == published.images else f"not {published.images:,}"


@dataclass(frozen=True)
class StepCount:
    """The training images of one step of a usual protocol: how many there are, and should be."""

    protocol: str
    setting: str
    step: int
    new: str  # the names of its new classes
    found: int
    expected: int


def count_steps(dataset: str, presence: np.ndarray) -> Iterator[StepCount]:
    """Every step of every usual protocol of a data set. presence: bool (N, n_classes + 1), column = class id."""
    for name in names():
        for setting in ("overlapped", "disjoint"):
            protocol = load(name, setting)
            if protocol.dataset != dataset:
                continue
            for step, expected in zip(protocol.steps, step_counts(name, setting), strict=True):
                new = ", ".join(protocol.class_names[class_id] for class_id in step.new)
                found = len(step_images(presence, step, setting))
                yield StepCount(name, setting, step.index, new, found, expected)
