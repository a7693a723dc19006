"""What the runs of one process share: the store, its step cache, and each data set with its presence matrix, opened
once."""

import os
import tempfile
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np

from bench.cache import StepCache
from bench.data.base import SegmentationData, open_data
from bench.data.presence import Presence, presence
from bench.progress import counting
from bench.spec import RunSpec
from protocols.errors import InputError

DRY_RUN = "dry-run"  # in a store, what dry runs write aside of
DEV_SHARE = 10  # one training image in ten is held out when evaluation.split=dev


@dataclass(frozen=True)
class Images:
    """Some images of a data set, and which classes they hold."""

    data: SegmentationData
    indices: np.ndarray  # int64 (N,), into data
    presence: Presence  # of the whole of data

    @cached_property
    def ids(self) -> frozenset[str]:
        """The names of the images."""
        return frozenset(self.data.ids[index] for index in self.indices)

    @property
    def rows(self) -> np.ndarray:
        """Presence of the images, bool (N, n_classes + 1), column = class id."""
        return self.presence.matrix[self.indices]


class Workspace:
    """One store, opened for writing. Raises InputError if it cannot be."""

    def __init__(self, store: str | Path):
        self.store = Path(store)
        self._opened: dict[tuple, Images] = {}

    @cached_property
    def cache(self) -> StepCache:
        """The step cache of the store."""
        return StepCache(self.store / "cache")

    @property
    def presence_folder(self) -> Path:
        """Where the presence matrices of data sets are kept."""
        return self.cache.root / "presence"

    def check_writable(self) -> None:
        """Raises InputError unless files can be made in the store."""
        try:
            self.store.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.store):
                pass
        except OSError as fault:
            raise InputError(
                f"the store {self.store} cannot be written ({os.strerror(fault.errno)}): choose another with store=PATH"
            ) from fault

    def images(self, spec: RunSpec) -> tuple[Images, Images]:
        """What may be trained on and what is evaluated. Raises InputError if an image is in both."""
        training, evaluation = self.training_images(spec), self.evaluation_images(spec)
        shared = sorted(training.ids & evaluation.ids)
        if shared:
            raise InputError(
                f"{len(shared):,} images of {spec.config.data.name} would be trained on and evaluated, {shared[0]} "
                "first: take them out of the training list, or every score is too good"
            )
        return training, evaluation

    def training_images(self, spec: RunSpec) -> Images:
        """All images that may be trained on: the training split, less the held-out tenth when that is what is
        evaluated."""
        images = self._split(spec, "train")
        if spec.config.evaluation.split != "dev":
            return images
        return Images(images.data, images.indices[~_held_out(images.data.ids)], images.presence)

    def evaluation_images(self, spec: RunSpec) -> Images:
        """The validation split, or the held-out tenth of the training split (evaluation.split=dev)."""
        if spec.config.evaluation.split != "dev":
            return self._split(spec, "val")
        images = self._split(spec, "train")
        return Images(images.data, images.indices[_held_out(images.data.ids)], images.presence)

    def _split(self, spec: RunSpec, split: str) -> Images:
        section = spec.config.data
        key = (*vars(section).values(), split, spec.protocol.dataset, spec.config.train.crop)
        if key not in self._opened:
            data = open_data(
                section.name,
                split,
                root=section.root,
                label_space=spec.protocol.dataset,
                train_images=section.train_images,
                val_images=section.val_images,
                image_size=section.image_size or spec.config.train.crop,
            )
            with counting(f"indexing {data.name} {split}") as progress:
                index = presence(data, self.presence_folder, progress)
            self._opened[key] = Images(data, np.arange(len(data)), index)
        return self._opened[key]


def _held_out(ids: tuple[str, ...]) -> np.ndarray:
    """Which images belong to the dev split: decided by their names alone. bool (N,)."""
    return np.array([int(sha256(name.encode()).hexdigest()[:8], 16) % DEV_SHARE == 0 for name in ids])


@cache
def workspace_of(store: str) -> Workspace:
    """The workspace of a store, one a process: runs of one command share opened data."""
    return Workspace(store)
