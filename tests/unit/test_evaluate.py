"""Counts: every labelled pixel once, in the cell where it belongs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.views import RawBatch
from bench.evaluate import count_confusion, evaluate, image_scopes, scattered_count
from bench.machine import Machine
from methods.base import MethodConfig
from methods.finetune import Finetune
from methods.nn.network import NetworkConfig, build
from protocols import load

MACHINE = Machine(torch.device("cpu"), "fp32", torch.contiguous_format, 0, 60)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(2, 9))
def test_counts_agree_with_counting_one_by_one(seed, images, n_true):
    rng = np.random.default_rng(seed)
    n_predicted = int(rng.integers(1, n_true + 1))
    labels = rng.choice([*range(n_true), 255], (images, 4, 3))
    predictions = rng.integers(0, n_predicted, labels.shape)
    scopes = rng.integers(0, 3, images)
    expected = np.zeros((3, n_true, n_predicted), dtype=np.int64)
    for image in range(images):
        for true, predicted in zip(labels[image].flat, predictions[image].flat, strict=True):
            if true != 255:
                expected[scopes[image], true, predicted] += 1
    counts = count_confusion(
        torch.from_numpy(labels), torch.from_numpy(predictions), torch.from_numpy(scopes), expected.shape
    )
    assert np.array_equal(counts.numpy(), expected)
    assert counts.sum() == (labels != 255).sum()


@pytest.mark.parametrize("pixels", [0, 1, 5000])
def test_a_gpu_counts_as_a_cpu_does(pixels):
    index = torch.randint(40, (pixels,), generator=torch.Generator().manual_seed(0))
    counts = scattered_count(index, minlength=50)
    assert counts.dtype == torch.int64 and torch.equal(counts, torch.bincount(index, minlength=50))


def test_scopes_look_at_foreground_classes_of_the_whole_image():
    step = load("voc_10-1").steps[1]  # seen: 1..11, future: 12..20
    presence = np.zeros((5, 21), dtype=bool)
    presence[:, 0] = True  # background counts for nothing
    presence[1, 11] = True  # seen
    presence[2, [3, 12]] = True  # seen and future
    presence[3, 20] = True  # future alone
    presence[4, [1, 2]] = True
    assert image_scopes(presence, step).tolist() == [0, 1, 2, 0, 1]


class Fixed(Finetune):
    """Predicts the red channel of the image, as a slot."""

    def predict(self, batch):
        return (batch.images[:, 0] * 0.25 * 255 + 0.5 * 255).round().long()


def learner(method_class):
    method = method_class(MethodConfig(), build(NetworkConfig("deeplab-tiny", "none", 64)))
    method.begin_step(load("voc_10-1").steps[0].visible())
    return method


def raw(predicted, labels):
    images = torch.zeros(len(labels), 3, 4, 4, dtype=torch.uint8)
    images[:, 0] = torch.tensor(predicted, dtype=torch.uint8).view(-1, 1, 1)
    return RawBatch(
        images, torch.tensor(labels, dtype=torch.uint8).view(-1, 1, 1).expand(-1, 4, 4), ("x",) * len(labels)
    )


def test_evaluation_adds_up_batches_with_their_own_scopes():
    stream = [raw([2, 3], [2, 20]), raw([0], [255])]
    counts = evaluate(
        learner(Fixed),
        stream,
        np.array([1, 2, 0]),
        21,
        MACHINE,
        MACHINE.normaliser((0.5,) * 3, (0.25,) * 3),
        lambda done: None,
    )
    assert counts.shape == (3, 21, 11)
    assert counts[1, 2, 2] == 16 and counts[2, 20, 3] == 16 and counts.sum() == 32


def test_a_slot_that_does_not_exist_is_an_error_not_a_count():
    with pytest.raises(ValueError, match=r"slots 0\.\.11; step 0 has slots 0\.\.10"):
        evaluate(
            learner(Fixed), [raw([11], [1])], np.array([1]), 21, MACHINE,
            MACHINE.normaliser((0.5,) * 3, (0.25,) * 3), lambda done: None,
        )  # fmt: skip
