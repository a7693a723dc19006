"""What one step shows of a data set, and in which order.

Order and augmentation are functions of (seed, view, epoch, image) alone. Methods, workers and interruptions
do not enter, so every method sees the same batches, and any iteration can be made without the ones before it.
"""

import json
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b, sha256
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from bench import interruption
from bench.data.base import SegmentationData
from bench.data.transforms import EvalTransform, ResizedCropTransform, TrainTransform
from protocols import InputError

AHEAD = 2  # batches that each loading process makes ahead, PyTorch's default


class RawBatch(NamedTuple):
    """images uint8 (B, 3, H, W), labels uint8 (B, H, W) of slots (255: ignored), ids of the B images."""

    images: Tensor
    labels: Tensor
    ids: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class StepView:
    """The images of a step and the table that turns their class ids into slots.

    indices: int64 (N,) into `data`. table: uint8 (256,), class id to slot. digest: hex sha256 of everything
    that decides what a network can see here; equal views of two protocols have equal digests.
    """

    data: SegmentationData
    indices: np.ndarray
    table: np.ndarray
    digest: str

    def __len__(self) -> int:
        return len(self.indices)


def step_view(data: SegmentationData, indices: np.ndarray, table: np.ndarray, data_digest: str) -> StepView:
    """View of the images `indices` of `data`; data_digest is that of the whole split (see `presence`)."""
    content = {"data": data_digest, "ids": [data.ids[i] for i in indices], "table": table.tolist()}
    digest = sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return StepView(data, np.asarray(indices, dtype=np.int64), table, digest)


def iterations_per_epoch(images: int, batch: int) -> int:
    """Whole batches in a pass over the images; 1 where a batch holds more than all of them, 0 of no
    images."""
    return max(1, images // batch) if images else 0


@dataclass(frozen=True)
class BatchPlan:
    """Which images make up which batch: an endless stream with random access.

    Every epoch is a permutation of the view from (seed, view digest, epoch); the last, partial batch of an
    epoch is dropped. With fewer images than a batch holds, the permutations follow each other without a gap
    and a batch spans several epochs.
    """

    view: StepView
    seed: int
    batch: int

    def __getitem__(self, iteration: int) -> list[tuple[int, int]]:
        """The batch of an iteration (from 0): epoch and image index of every image in it."""
        n = len(self.view)
        if n == 0:
            raise ValueError("a view without images has no batches")
        used = n // self.batch * self.batch or n  # images that an epoch uses
        start = iteration * self.batch
        places = [divmod(position, used) for position in range(start, start + self.batch)]
        return [(epoch, int(self.view.indices[self._permutation(epoch)[place]])) for epoch, place in places]

    def _permutation(self, epoch: int) -> np.ndarray:
        return _permutation(self.seed, self.view.digest, epoch, len(self.view))


@lru_cache(maxsize=8)
def _permutation(seed: int, digest: str, epoch: int, n: int) -> np.ndarray:
    return random_stream(seed, digest, epoch).permutation(n)


def random_stream(*key: int | str) -> np.random.Generator:
    """An independent stream of random numbers for every key."""
    digest = blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


class Share(NamedTuple):
    """What one process of a run takes of every batch: neighbours from each of its equal parts (those of
    `train.accumulate`), as many as any other process."""

    rank: int = 0
    world: int = 1
    parts: int = 1

    def of(self, batch: list) -> list:
        """The share of a batch whose length `parts * world` divides."""
        if self.world == 1:
            return batch
        size = len(batch) // (self.parts * self.world)
        starts = ((part * self.world + self.rank) * size for part in range(self.parts))
        return [item for start in starts for item in batch[start : start + size]]


def make_loader(
    view: StepView,
    transform: TrainTransform | ResizedCropTransform,
    seed: int,
    batch: int,
    first_iteration: int,
    iterations: int,
    workers: int,
    pin_memory: bool = False,
    share: Share = Share(),  # noqa: B008 (immutable)
) -> "Batches":
    """Training batches number first_iteration, ..., iterations - 1 of a step that has `iterations` of them.

    workers: processes that make batches ahead; 0 makes each in this process when asked for it. An InputError
    (a broken file) reaches the caller as it is, from either. share: what of every batch is made.
    """
    source = _TrainSource(BatchPlan(view, seed, batch), transform, share)
    return Batches(source, range(first_iteration, iterations), workers, pin_memory)


def make_eval_loader(
    view: StepView, size: int | None, batch: int, workers: int, pin_memory: bool = False
) -> "EvalBatches":
    """All images of `view` in order, in batches of `batch` and a shorter last one if need be.

    size: see `EvalTransform`. Whole images (None) come in batches of one size each, the largest first, so that memory
    that does not suffice is known at once; with batch=1 they too come in the order of the view.
    """
    places = np.arange(len(view))
    sizes = places_by_shape(view) if size is None and batch > 1 else [places]
    groups = [of_size[first : first + batch] for of_size in sizes for first in range(0, len(of_size), batch)]
    return EvalBatches(_EvalSource(view, EvalTransform(size), groups), workers, pin_memory)


def places_by_shape(view: StepView) -> list[np.ndarray]:
    """The places in `view` of the images of each size, the largest first."""
    shapes: dict[tuple[int, int], list[int]] = {}
    for place, index in enumerate(view.indices.tolist()):
        shapes.setdefault(image_shape(view.data, index), []).append(place)
    return [np.array(shapes[shape]) for shape in sorted(shapes, key=lambda s: (-s[0] * s[1], s))]


@lru_cache(maxsize=2**15)
def image_shape(data: SegmentationData, index: int) -> tuple[int, int]:
    """Height and width of an image in pixels; kept, for every step asks for it."""
    return data.shape(index)


class Batches(Iterable[RawBatch]):
    """An iterable of batches, each made whole by one worker."""

    def __init__(self, source: "_Source", numbers: range, workers: int, pin_memory: bool) -> None:
        self._source, self._numbers = source, numbers
        self._workers, self._pin_memory = workers, pin_memory

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[RawBatch]:
        if self._workers and self._numbers:
            self._source.data.load(0)  # rendered data are kept in memory: make them once, not once a worker
        loader = DataLoader(
            self._source,
            batch_size=None,
            sampler=self._numbers,
            num_workers=self._workers,
            prefetch_factor=AHEAD if self._workers else None,
            collate_fn=_as_is,
            pin_memory=self._pin_memory,
            generator=torch.Generator(),  # the default draws from the global stream, which training uses
            worker_init_fn=_leave_signals_to_the_parent,
        )
        for made in loader:
            if isinstance(made, _Refused):
                raise InputError(made.reason)
            yield made


class EvalBatches(Batches):
    """Batches of all images of a view. order: the places in the view that they come from, int64 (N,)."""

    def __init__(self, source: "_EvalSource", workers: int, pin_memory: bool) -> None:
        super().__init__(source, range(len(source.groups)), workers, pin_memory)
        self.order = np.array([place for group in source.groups for place in group], dtype=np.int64)


class _Refused(NamedTuple):
    """An InputError on its way out of a worker; raised there it would come wrapped in a traceback."""

    reason: str


class _Source(ABC):
    """Makes the batch of a number; the 'data set' that torch's DataLoader sees."""

    data: SegmentationData

    def __getitem__(self, number: int) -> RawBatch | _Refused:
        try:
            images, labels, ids = zip(*self.pairs(number), strict=True)
        except InputError as error:
            return _Refused(str(error))
        return RawBatch(torch.stack(images), torch.stack(labels), ids)

    @abstractmethod
    def pairs(self, number: int) -> Iterator[tuple[Tensor, Tensor, str]]:
        """Image, labels and id of every image of the batch."""


class _TrainSource(_Source):
    def __init__(self, plan: BatchPlan, transform: TrainTransform | ResizedCropTransform, share: Share) -> None:
        self.data, self._plan, self._transform, self._share = plan.view.data, plan, transform, share

    def pairs(self, number: int) -> Iterator[tuple[Tensor, Tensor, str]]:
        view = self._plan.view
        for epoch, index in self._share.of(self._plan[number]):
            name = self.data.ids[index]
            generator = random_stream(self._plan.seed, view.digest, epoch, name)
            yield *self._transform(*self.data.load(index), view.table, generator), name


class _EvalSource(_Source):
    def __init__(self, view: StepView, transform: EvalTransform, groups: list[np.ndarray]) -> None:
        self.data, self.groups, self._view, self._transform = view.data, groups, view, transform

    def pairs(self, number: int) -> Iterator[tuple[Tensor, Tensor, str]]:
        for index in self._view.indices[self.groups[number]].tolist():
            yield *self._transform(*self.data.load(index), self._view.table), self.data.ids[index]


def _leave_signals_to_the_parent(worker: int) -> None:
    """A scheduler signals every process of a job, Ctrl-C all of a terminal. A worker that ends of it, with the parent
    in the middle of an iteration, would end that with an error, before it is at a place to write its checkpoint."""
    for number in (signal.SIGINT, *interruption.SIGNALS):
        signal.signal(number, signal.SIG_IGN)


def _as_is(batch: RawBatch | _Refused) -> RawBatch | _Refused:
    return batch
