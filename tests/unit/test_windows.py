"""Whole images in windows: where windows lie, what overlaps average to, what a window of the crop's size is equal to,
and how much memory it takes."""

import weakref

import numpy as np
import pytest
import torch

from bench.data.views import RawBatch
from bench.evaluate import evaluate
from bench.machine import Machine
from bench.windows import logit_bytes, predict_whole, starts, window_of
from methods.base import Method, MethodConfig
from methods.finetune import Finetune
from methods.nn.network import NetworkConfig, build
from protocols import load

CPU = Machine(torch.device("cpu"), "fp32", torch.contiguous_format, 0, 60)
MIB = 2**20


class Recorded(Method):
    """Logits are what `logits_of` makes of a window; keeps what was asked of it. `any_size`: as a network's."""

    def __init__(self, logits_of, slots=3, any_size=False):
        torch.nn.Module.__init__(self)
        self.logits_of, self.seen, self.decided = logits_of, [], []
        self.step = load("voc_10-1").steps[0].visible() if slots == 11 else _Step(slots)
        object.__setattr__(self, "network", _Network(any_size))

    def forward(self, batch):
        raise NotImplementedError

    def logits(self, images):
        self.seen.append(tuple(images.shape))
        return self.logits_of(images)

    def decide(self, logits):
        self.decided.append(logits.clone())
        return super().decide(logits)


class _Step:
    def __init__(self, slots):
        self.n_slots = slots


class _Network:
    def __init__(self, any_size):
        self.any_size = any_size


def test_windows_are_as_few_as_overlap_by_a_third_and_end_flush():
    assert starts(512, 512) == starts(100, 512) == [0]
    assert starts(683, 512) == [0, 171]  # 171 more pixels, of the 342 that a window may go on by
    assert starts(854, 512) == [0, 342]
    assert starts(855, 512) == [0, 171, 343]
    assert starts(2048, 512) == [0, 307, 614, 921, 1228, 1536]
    for length in range(13, 60):
        first = starts(length, 12)
        assert first[0] == 0 and first[-1] + 12 == length
        assert all(0 < after - before <= 8 for before, after in zip(first, first[1:], strict=False))


def test_overlapping_windows_are_averaged_before_the_decision():
    """An image 4 x 6 in windows of 4: columns 0-3 and 2-5, which share columns 2 and 3. Each window votes for a slot
    with the value of its first pixel: the left one 1.0 for slot 1, the right one 3.0 for slot 2."""

    def logits_of(images):
        first = images[:, 0, 0, 0]
        logits = torch.zeros(len(images), 3, 4, 4)
        for i, value in enumerate(first.tolist()):
            logits[i, 1 if value == 1 else 2] = value
        return logits

    method = Recorded(logits_of)
    images = torch.zeros(1, 3, 4, 6)
    images[0, 0, 0, 0], images[0, 0, 0, 2] = 1.0, 3.0
    assert predict_whole(method, images, crop=4).tolist() == [[[1, 1, 2, 2, 2, 2]] * 4]
    (mean,) = method.decided
    assert mean[0, :, 0].T.tolist() == [[0, 1, 0], [0, 1, 0], [0, 0.5, 1.5], [0, 0.5, 1.5], [0, 0, 3], [0, 0, 3]]


@pytest.mark.parametrize("size", [(12, 12), (13, 12), (12, 31), (31, 29), (25, 40), (40, 13)])
def test_rows_of_windows_that_are_let_go_give_the_plain_average(size):
    """Against the whole sum kept in memory, on logits that depend on the window."""

    def logits_of(images):
        return images.cumsum(2).cumsum(3).sin()

    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)).double()
    total, cover = torch.zeros(2, 3, *size, dtype=torch.float64), torch.zeros(size)
    for top in starts(size[0], 12):
        for left in starts(size[1], 12):
            inside = (slice(top, top + 12), slice(left, left + 12))
            total[..., *inside] += logits_of(images[..., *inside])
            cover[inside] += 1
    method = Recorded(logits_of)
    found = predict_whole(method, images.float(), crop=12)
    assert found.shape == (2, *size)
    torch.testing.assert_close(torch.cat(method.decided, dim=2).double(), total / cover, atol=1e-4, rtol=1e-4)
    assert len(method.seen) == len(starts(size[0], 12)) * len(starts(size[1], 12))


def learner(name, crop):
    torch.manual_seed(3)
    method = Finetune(MethodConfig(), build(NetworkConfig(name, "none", crop)))
    method.begin_step(load("voc_10-1").steps[0].visible())
    return method.eval()


def raw_batch(*size, images=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (images, 3, *size), generator=generator, dtype=torch.uint8)
    labels = torch.randint(11, (images, *size), generator=generator, dtype=torch.uint8)
    return RawBatch(pixels, labels, tuple(f"{seed} {i}" for i in range(images)))


@pytest.mark.parametrize("name", ["deeplab-tiny", "segmenter-tiny"])
@torch.inference_mode()
def test_an_image_as_large_as_the_crop_is_predicted_as_ever_bit_for_bit(name):
    method = learner(name, 32)
    batch = CPU.normaliser(method.network.mean, method.network.std)(raw_batch(32, 32))
    assert torch.equal(predict_whole(method, batch.images, 32), method.predict(batch))


@pytest.mark.parametrize("name", ["deeplab-tiny", "segmenter-tiny"])
@pytest.mark.parametrize("size", [(7, 5), (20, 61), (33, 32), (65, 67), (101, 31)])
@torch.inference_mode()
def test_any_size_gives_a_prediction_for_every_pixel(name, size):
    method = learner(name, 32)
    batch = CPU.normaliser(method.network.mean, method.network.std)(raw_batch(*size))
    slots = predict_whole(method, batch.images, 32)
    assert slots.shape == (2, *size) and slots.dtype == torch.int64
    assert 0 <= slots.min() and slots.max() <= 10


def test_small_images_are_padded_to_the_crop_or_to_whole_cells_of_the_network():
    def logits_of(images):
        return images.clone()

    fixed, free = Recorded(logits_of), Recorded(logits_of, any_size=True)
    images = torch.ones(1, 3, 5, 9)
    assert predict_whole(fixed, images, 8).shape == predict_whole(free, images, 32).shape == (1, 5, 9)
    assert fixed.seen == [(1, 3, 8, 8)] * 2 and free.seen == [(1, 3, 32, 32)]
    for method in (fixed, free):
        assert torch.cat(method.decided, dim=2)[0, :, 5:].eq(0).all()  # the mean colour, once normalised
    assert window_of(free, 512, 375, 500) == (384, 512)
    assert window_of(free, 512, 1365, 512) == (1024, 512)  # whole up to twice the crop


@pytest.mark.parametrize("width", [375, 497, 500, 512, 683])
def test_predictions_of_a_network_of_any_size_lie_where_the_objects_are(width):
    """A network that reads one pixel in sixteen and interpolates, as DeepLab does: a step edge stays in its place."""

    def logits_of(images):
        cells = torch.nn.functional.max_pool2d(images, 16, ceil_mode=True)
        return torch.nn.functional.interpolate(cells, size=images.shape[2:], mode="bilinear", align_corners=False)

    edge = width - 64 - width % 16
    images = torch.zeros(1, 2, 64, width)
    images[:, 0, :, :edge], images[:, 1, :, edge:] = 1, 1
    method = Recorded(logits_of, slots=2, any_size=True)
    assert predict_whole(method, images, 512)[0, 0].nonzero().min() == edge


def test_a_rule_of_its_own_decides_on_the_averaged_logits():
    class Sure(Recorded):
        def decide(self, logits):
            return torch.where(logits.max(1).values > 1, logits.argmax(1), 0)

    images = torch.zeros(1, 3, 4, 6)
    images[0, 2] = torch.tensor([0.5, 0.5, 2.0, 2.0, 0.5, 0.5])
    slots = predict_whole(Sure(lambda images: images.clone()), images, 4)
    assert slots[0, 0].tolist() == [0, 0, 2, 2, 0, 0]


def test_memory_follows_the_window_and_the_width_alone():
    """What the docstrings and docs/full-scale.md say, for 151 slots and crops of 512."""
    one = (512, 512)
    assert logit_bytes(151, one, 512) / MIB == pytest.approx(151, abs=1)
    assert logit_bytes(151, one, 683) / MIB == pytest.approx(352, abs=1)
    assert logit_bytes(151, one, 2048) / MIB == pytest.approx(755, abs=1)
    assert logit_bytes(151, (512, 704), 683) / MIB == pytest.approx(208, abs=1)  # DeepLab: the image, or 1,024
    assert logit_bytes(151, (1024, 1024), 2048) / MIB == pytest.approx(1812, abs=1)
    method = Recorded(lambda images: torch.zeros(len(images), 151, 8, 8), slots=151)
    assert predict_whole(method, torch.zeros(1, 3, 400, 20), 8).shape == (1, 400, 20)
    assert max(decided.numel() for decided in method.decided) <= 151 * 8 * 20
    assert sum(decided.shape[2] for decided in method.decided) == 400


def test_large_images_of_a_batch_are_predicted_one_after_the_other(monkeypatch):
    monkeypatch.setattr("bench.windows.MEMORY", 2 * logit_bytes(3, (8, 8), 20))
    method = Recorded(lambda images: images.clone())
    predict_whole(method, torch.zeros(5, 3, 8, 20), 8)
    assert [shape[0] for shape in method.seen] == [2] * 3 + [2] * 3 + [1] * 3


def test_evaluation_of_whole_images_keeps_no_image_and_counts_each_at_its_own_size():
    alive: list[weakref.ref] = []
    sizes = [(40, 31), (33, 32), (9, 64)] * 4

    def batches():
        for seed, size in enumerate(sizes):
            batch = raw_batch(*size, seed=seed)
            alive.append(weakref.ref(batch.images))
            assert sum(reference() is not None for reference in alive) <= 2
            yield batch
            del batch

    method = learner("segmenter-tiny", 32)
    normalise = CPU.normaliser(method.network.mean, method.network.std)
    counts = evaluate(
        method, batches(), np.ones(2 * len(sizes), dtype=np.int64), 11, CPU, normalise, lambda done: None, 32
    )
    assert counts.sum() == 2 * sum(height * width for height, width in sizes)
