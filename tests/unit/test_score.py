"""Counting label maps without a network: the counts of the engine, in two bytes a pixel."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.evaluate import count_confusion
from bench.predictions import PALETTE, find_maps, step_folder, write_map
from bench.score import pixels_by_slots
from protocols import load


def test_pixels_by_slots_by_hand():
    labels = np.array([[0, 2, 255], [1, 2, 2]], dtype=np.uint16)
    predictions = np.array([[0, 1, 1], [1, 1, 0]], dtype=np.uint8)
    assert pixels_by_slots(labels, predictions, 3, 2).tolist() == [[1, 0], [0, 1], [1, 2]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 151))
def test_pixels_are_counted_as_the_engine_counts_them(seed, n_true):
    rng = np.random.default_rng(seed)
    n_predicted = int(rng.integers(1, n_true + 1))
    labels = rng.choice([0, n_true - 1, 255, *rng.integers(0, n_true, 5)], (7, 9)).astype(np.uint16)
    predictions = rng.choice([0, n_predicted - 1, *rng.integers(0, n_predicted, 5)], (7, 9)).astype(np.uint8)
    engine = count_confusion(
        torch.from_numpy(labels.astype(np.uint8))[None],
        torch.from_numpy(predictions)[None],
        torch.tensor([1]),
        (3, n_true, n_predicted),
    )
    assert np.array_equal(pixels_by_slots(labels, predictions, n_true, n_predicted), engine[1].numpy())
    assert engine.sum() == (labels != 255).sum()


def test_class_ids_become_slots_of_a_permuted_order(tmp_path):
    protocol = load("voc_15-5", order="random:4")
    first, last = protocol.order[0], protocol.order[-1]
    for step in range(2):
        write_map(
            tmp_path / step_folder(step) / "a.png", np.array([[0, first, first if step == 0 else last]], np.uint8)
        )
    before, after = find_maps(tmp_path, protocol, ["a"])
    assert before.read("a").tolist() == [[0, 1, 1]]
    assert after.read("a").tolist() == [[0, 1, 20]]


@pytest.mark.parametrize(("label", "colour"), [(0, (0, 0, 0)), (15, (192, 128, 128)), (20, (0, 64, 128))])
def test_the_palette_is_that_of_voc(label, colour):
    assert tuple(PALETTE[label]) == colour
