"""Views and batches: every method, worker count and interruption sees the same stream."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch

from bench.data.base import SegmentationData, open_data
from bench.data.transforms import TrainTransform
from bench.data.views import (
    BatchPlan,
    RawBatch,
    StepView,
    iterations_per_epoch,
    make_eval_loader,
    make_loader,
    step_view,
)
from protocols import InputError

IDENTITY = np.arange(256, dtype=np.uint8)
TRANSFORM = TrainTransform(32)


class Broken(SegmentationData):
    """One image of four cannot be read."""

    name, label_space, split, ids = "voc", "voc", "train", tuple("abcd")

    def load(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if index == 2:
            raise InputError("c.jpg is truncated: copy it again")
        return torch.zeros(3, 32, 32, dtype=torch.uint8), torch.zeros(32, 32, dtype=torch.uint8)

    def inspect(self, index: int) -> tuple[np.ndarray, bytes]:
        raise AssertionError("batches need no inspection")

    def fingerprint(self) -> str:
        raise AssertionError("batches need no fingerprint")


@pytest.fixture(scope="module")
def data() -> SegmentationData:
    return open_data("shapes", "val", val_images=30, image_size=32)


def view(data: SegmentationData, count: int = 20) -> StepView:
    return step_view(data, np.arange(5, 5 + count), IDENTITY, "content")


def stream(data: SegmentationData, first: int = 0, last: int = 7, seed: int = 0, workers: int = 0):
    return list(make_loader(view(data), TRANSFORM, seed, 4, first, last, workers))


def same(a: list[RawBatch], b: list[RawBatch]) -> bool:
    return len(a) == len(b) and all(
        x.ids == y.ids and torch.equal(x.images, y.images) and torch.equal(x.labels, y.labels)
        for x, y in zip(a, b, strict=True)
    )


def test_a_batch_is_images_slots_and_ids(data: SegmentationData) -> None:
    batch = stream(data)[0]
    assert (tuple(batch.images.shape), batch.images.dtype) == ((4, 3, 32, 32), torch.uint8)
    assert (tuple(batch.labels.shape), batch.labels.dtype) == ((4, 32, 32), torch.uint8)
    assert set(batch.ids) <= set(data.ids[5:25])


def test_labels_pass_through_the_table(data: SegmentationData) -> None:
    table = np.full(256, 255, dtype=np.uint8)
    table[0], table[1:21] = 0, 9
    loader = make_loader(step_view(data, np.arange(20), table, ""), TRANSFORM, 0, 4, 0, 3, 0)
    assert set(torch.cat([batch.labels.unique() for batch in loader]).tolist()) == {0, 9, 255}


def test_workers_make_the_same_batches(data: SegmentationData) -> None:
    assert same(stream(data, workers=2), stream(data))


def test_a_stream_resumes_in_its_middle(data: SegmentationData) -> None:
    whole = stream(data)
    assert same(stream(data, first=3), whole[3:])
    assert same(stream(data, first=6, workers=1), whole[6:])
    assert stream(data, first=7) == []


def test_a_loader_can_be_read_twice(data: SegmentationData) -> None:
    loader = make_loader(view(data), TRANSFORM, 0, 4, 2, 5, 0)
    assert len(loader) == 3
    assert same(list(loader), list(loader))


def test_the_global_random_stream_is_left_alone(data: SegmentationData) -> None:
    """Dropout after a resume must draw what it would have drawn without the interruption."""
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    stream(data)
    list(make_eval_loader(everything(data), 32, 16, 0))
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_another_seed_or_view_is_another_stream(data: SegmentationData) -> None:
    ids = [batch.ids for batch in stream(data)]
    assert ids != [batch.ids for batch in stream(data, seed=1)]
    table = IDENTITY.copy()
    table[3] = 0
    other = step_view(data, np.arange(5, 25), table, "content")
    assert ids != [batch.ids for batch in make_loader(other, TRANSFORM, 0, 4, 0, 7, 0)]


def test_an_image_is_drawn_anew_every_epoch_but_not_by_its_place_in_the_batch(data: SegmentationData) -> None:
    def by_name(batch: int, epochs: int) -> dict[str, list[torch.Tensor]]:
        found: dict[str, list[torch.Tensor]] = {}
        for made in make_loader(view(data), TRANSFORM, 0, batch, 0, epochs * 20 // batch, 0):
            for name, image in zip(made.ids, made.images, strict=True):
                found.setdefault(name, []).append(image)
        return found

    fours, tens = by_name(4, 2), by_name(10, 2)
    assert fours.keys() == tens.keys() and len(fours) == 20
    for name, (first, second) in fours.items():
        assert not torch.equal(first, second)
        assert torch.equal(first, tens[name][0]) and torch.equal(second, tens[name][1])


def test_an_epoch_shows_every_image_at_most_once_and_drops_the_rest(data: SegmentationData) -> None:
    plan = BatchPlan(view(data, count=18), seed=0, batch=4)
    assert iterations_per_epoch(18, 4) == 4
    epochs = [list(chain.from_iterable(plan[i] for i in range(4 * e, 4 * e + 4))) for e in range(3)]
    for number, epoch in enumerate(epochs):
        assert {e for e, _ in epoch} == {number}
        images = [index for _, index in epoch]
        assert len(set(images)) == 16 and set(images) <= set(range(5, 23))
    assert epochs[0] != [(0, index) for _, index in epochs[1]]


def test_few_images_fill_a_batch_by_further_shuffles(data: SegmentationData) -> None:
    plan = BatchPlan(view(data, count=3), seed=0, batch=8)
    assert iterations_per_epoch(3, 8) == 1
    drawn = [pair for i in range(3) for pair in plan[i]]
    assert [epoch for epoch, _ in drawn] == [position // 3 for position in range(24)]
    assert Counter(index for _, index in drawn) == {5: 8, 6: 8, 7: 8}
    assert len(set(drawn)) == 24  # the same image twice in a batch is augmented twice


def test_no_images_make_no_batches(data: SegmentationData) -> None:
    empty = view(data, count=0)
    assert iterations_per_epoch(0, 8) == 0
    assert list(make_loader(empty, TRANSFORM, 0, 8, 0, 0, 0)) == []
    with pytest.raises(ValueError, match="without images"):
        BatchPlan(empty, 0, 8)[0]


def test_the_digest_of_a_view_covers_content_images_and_table(data: SegmentationData) -> None:
    table = IDENTITY.copy()
    table[20] = 0
    digests = {
        view(data).digest,
        view(data, count=19).digest,
        step_view(data, np.arange(5, 25), IDENTITY, "other content").digest,
        step_view(data, np.arange(5, 25), table, "content").digest,
    }
    assert len(digests) == 4 and view(data).digest in digests


def everything(data: SegmentationData) -> StepView:
    return step_view(data, np.arange(len(data)), IDENTITY, "content")


def test_evaluation_shows_only_the_images_of_its_view(data: SegmentationData) -> None:
    batches = list(make_eval_loader(step_view(data, np.array([3, 8, 21]), IDENTITY, ""), 32, 2, 0))
    assert [batch.ids for batch in batches] == [(data.ids[3], data.ids[8]), (data.ids[21],)]


def test_evaluation_shows_every_image_once_in_order(data: SegmentationData) -> None:
    loader = make_eval_loader(everything(data), 32, 8, 0)
    batches = list(loader)
    assert len(loader) == 4
    assert [len(batch.ids) for batch in batches] == [8, 8, 8, 6]
    assert tuple(chain.from_iterable(batch.ids for batch in batches)) == data.ids
    assert torch.equal(batches[3].images[5], data.load(29)[0])
    assert torch.equal(batches[3].labels[5], data.load(29)[1])
    assert same(list(make_eval_loader(everything(data), 32, 8, 2)), batches)


class Sized(Broken):
    """Six images of three sizes."""

    ids = tuple("abcdef")
    shapes = [(4, 6), (6, 4), (4, 6), (9, 9), (4, 6), (6, 4)]

    def load(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full((3, *self.shapes[index]), index, dtype=torch.uint8), torch.zeros(
            self.shapes[index], dtype=torch.uint8
        )


def test_whole_images_come_in_batches_of_one_size_the_largest_first() -> None:
    loader = make_eval_loader(step_view(Sized(), np.array([0, 1, 2, 3, 4, 5]), IDENTITY, ""), None, 2, 0)
    batches = list(loader)
    assert [batch.ids for batch in batches] == [("d",), ("a", "c"), ("e",), ("b", "f")]
    assert loader.order.tolist() == [3, 0, 2, 4, 1, 5]
    assert [tuple(batch.labels.shape) for batch in batches] == [(1, 9, 9), (2, 4, 6), (1, 4, 6), (2, 6, 4)]


def test_whole_images_one_at_a_time_keep_their_order() -> None:
    loader = make_eval_loader(step_view(Sized(), np.array([5, 0, 3]), IDENTITY, ""), None, 1, 0)
    assert [batch.ids for batch in loader] == [("f",), ("a",), ("d",)] and loader.order.tolist() == [0, 1, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_file_reaches_the_caller_as_its_own_line(workers: int) -> None:
    broken = Broken()
    batches = make_loader(step_view(broken, np.arange(4), IDENTITY, ""), TRANSFORM, 0, 4, 0, 2, workers)
    with pytest.raises(InputError) as caught:
        list(batches)
    assert type(caught.value) is InputError
    assert str(caught.value) == "c.jpg is truncated: copy it again"
