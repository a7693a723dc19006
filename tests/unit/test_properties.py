"""Numbers that cannot lie: what holds for every protocol, presence matrix, label map and prediction."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import protocols
from bench.evaluate import SCOPES, count_confusion, image_scopes
from protocols import VOID, Protocol
from protocols.protocol import build
from protocols.split import step_images
from results.measures import CONVENTIONS, iou, matrix, mean_iou

VOC = protocols.dataset("voc")


@st.composite
def some_protocol(draw, settings=protocols.SETTINGS) -> Protocol:
    """Any order of VOC's classes, cut into steps of any sizes."""
    order = draw(st.permutations(range(1, VOC.n_classes + 1)))
    cuts = sorted(draw(st.sets(st.integers(1, VOC.n_classes - 1), max_size=8)))
    sizes = np.diff([0, *cuts, VOC.n_classes]).tolist()
    return build("any", VOC, draw(st.sampled_from(settings)), order, sizes)


@st.composite
def some_masks(draw, images: int = 6, side: int = 5) -> np.ndarray:
    """Masks of class ids, background and void, uint8 (images, side, side), each of a few classes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    chosen = rng.choice([0, 0, VOID, *range(1, VOC.n_classes + 1)], (images, 4))
    return np.take_along_axis(chosen, rng.integers(0, 4, (images, side * side)), 1).reshape(images, side, side)


def presence_of(masks: np.ndarray) -> np.ndarray:
    return np.stack([(masks == id).any((1, 2)) for id in range(VOC.n_classes + 1)], axis=1)


def counts_of(protocol: Protocol, position: int, masks: np.ndarray, predicted_ids: np.ndarray) -> np.ndarray:
    """The engine's counts of a step, from masks and predictions in class ids; int64 (3, true, predicted slots)."""
    step, table = protocol.steps[position], protocol.evaluation_table()
    counted = count_confusion(
        torch.from_numpy(table[masks]).long(),
        torch.from_numpy(table[predicted_ids]).long(),
        torch.from_numpy(image_scopes(presence_of(masks), step)),
        (SCOPES, len(protocol.slot_ids), step.n_slots),
    )
    return counted.numpy()


def predictions(masks: np.ndarray, choices: list[int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice([0, *choices], masks.shape)


@given(some_protocol(), some_masks(images=12))
def test_disjoint_steps_are_a_partition_and_part_of_the_overlapped_ones(protocol, masks):
    presence = presence_of(masks)
    disjoint = [set(step_images(presence, step, "disjoint").tolist()) for step in protocol.steps]
    overlapped = [set(step_images(presence, step, "overlapped").tolist()) for step in protocol.steps]
    holding_any = set(np.flatnonzero(presence[:, 1:].any(1)).tolist())
    assert set().union(*disjoint) == holding_any == set().union(*overlapped)
    assert sum(map(len, disjoint)) == len(holding_any)
    assert all(one <= other for one, other in zip(disjoint, overlapped, strict=True))
    for step in protocol.steps:
        sequential = step_images(presence, step, "sequential")
        assert set(sequential.tolist()) == disjoint[step.index]
        assert not presence[sequential][:, list(step.future)].any()


@given(some_protocol(), some_masks(), st.sampled_from(["ignore", "background"]))
def test_no_label_of_the_future_is_in_what_a_step_trains_on(protocol, masks, void):
    for step in protocol.steps:
        labels = protocol.training_table(step, void)[masks]
        visible = step.seen if protocol.setting == "sequential" else step.new
        assert set(np.unique(labels)) <= {0, VOID} | {step.slots[id] for id in visible}
        for id in visible:  # and what it may see it sees
            assert (labels[masks == id] == step.slots[id]).all()
        assert (labels[masks == VOID] == (0 if void == "background" else VOID)).all()
        hidden = np.isin(masks, [0, *(set(protocol.order) - set(visible))])
        assert (labels[hidden] == 0).all()


@given(some_protocol(), st.data())
def test_slots_only_ever_grow(protocol, data):
    assert sorted(id for step in protocol.steps for id in step.new) == list(range(1, VOC.n_classes + 1))
    one, other = sorted(data.draw(st.tuples(*[st.sampled_from(range(len(protocol.steps)))] * 2)))
    early, late = protocol.steps[one], protocol.steps[other]
    assert late.slots.items() >= early.slots.items()
    table = protocol.evaluation_table()
    assert all(table[id] == slot for id, slot in late.slots.items())


@given(some_protocol(), some_masks(), st.data())
def test_counts_sum_to_the_labelled_pixels(protocol, masks, data):
    position = data.draw(st.sampled_from(range(len(protocol.steps))))
    step = protocol.steps[position]
    predicted = predictions(masks, list(step.seen), data.draw(st.integers(0, 99)))
    counts = counts_of(protocol, position, masks, predicted)
    assert counts.sum() == (masks != VOID).sum()
    truth = counts.sum((0, 2))
    assert all(truth[slot] == (masks == id).sum() for slot, id in enumerate(protocol.slot_ids))
    # The scopes are what they say: no future pixel in images of seen classes only, no seen one where there is none.
    assert counts[1, step.n_slots :].sum() == 0 and counts[0, 1 : step.n_slots].sum() == 0
    for name in CONVENTIONS:
        assert matrix(counts, name).sum() <= counts.sum() and (matrix(counts, name) >= 0).all()


@given(some_protocol(), some_protocol(), some_masks(), st.integers(0, 99))
def test_a_permutation_of_the_classes_permutes_the_results(one, other, masks, seed):
    predicted = predictions(masks, list(range(1, VOC.n_classes + 1)), seed)
    by_order = []
    for protocol in (one, other):
        square = matrix(counts_of(protocol, len(protocol.steps) - 1, masks, predicted))
        slots = np.argsort(protocol.slot_ids)
        by_order.append(square[np.ix_(slots, slots)])  # by class id
        assert mean_iou(square, "present") == pytest.approx(mean_iou(by_order[0], "present"), nan_ok=True)
    assert np.array_equal(*by_order)
    assert np.array_equal(*map(iou, by_order), equal_nan=True)


@given(some_protocol(), some_masks(), st.data())
def test_a_perfect_prediction_has_an_iou_of_1(protocol, masks, data):
    """Perfect is: every seen class where it is, and background elsewhere."""
    position = data.draw(st.sampled_from(range(len(protocol.steps))))
    step = protocol.steps[position]
    perfect = np.where(np.isin(masks, step.seen), masks, 0)
    square = matrix(counts_of(protocol, position, masks, perfect))
    scores, present = iou(square), square.sum(1) > 0
    assert (scores[present] == 1).all() and np.isnan(scores[~present]).all()
    if present.any():
        assert all(mean_iou(square, rule) == 1 for rule in ("seen", "present", "nonzero"))
    assert mean_iou(square, "zero") == pytest.approx(present.mean())


@given(some_protocol(), some_masks(), st.integers(0, 99))
def test_conventions_agree_where_they_must(protocol, masks, seed):
    """At the last step there is no future, and with a class in every image they count the same images: one matrix.

    With every class in it and found somewhere, their means are one mean, too.
    """
    last = len(protocol.steps) - 1
    ids = np.arange(VOC.n_classes + 1, dtype=masks.dtype)
    masks = np.concatenate([masks, np.resize(ids, (1, 5, 5))])  # an image with every class
    masks[:, 0, 0] = 1
    predicted = predictions(masks, protocol.order, seed)
    predicted[-1] = masks[-1]
    squares = [matrix(counts_of(protocol, last, masks, predicted), name) for name in CONVENTIONS]
    assert all(np.array_equal(square, squares[0]) for square in squares)
    means = [mean_iou(squares[0], rule) for rule in ("seen", "present", "nonzero", "zero")]
    assert means == [pytest.approx(means[0])] * 4


@given(some_protocol(settings=("overlapped",)), st.data())
def test_names_of_a_protocol_do_not_matter_to_its_digest_and_all_else_does(protocol, data):
    sizes, order = [len(step.new) for step in protocol.steps], list(protocol.order)
    assert build("another", VOC, "overlapped", order, sizes).digest == protocol.digest
    assert build("any", VOC, "disjoint", order, sizes).digest != protocol.digest
    first, second = data.draw(st.lists(st.integers(0, 19), min_size=2, max_size=2, unique=True))
    order[first], order[second] = order[second], order[first]
    assert build("any", VOC, "overlapped", order, sizes).digest != protocol.digest
