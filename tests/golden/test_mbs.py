"""MBS's functions: worked by hand, and against the official values."""

import math

import pytest
import torch

from methods.mbs import patch_weights, selective_pseudo_labels
from methods.nn.losses import label_guided_distillation, orthogonality, weighted_feature_distillation
from tests.golden.official import assert_golden, golden

LOGITS = torch.tensor([1.0, 2.0, 5.0]).log().view(1, 3, 1, 1)  # p = (1/8, 2/8, 5/8)
OLD_LOGITS = torch.tensor([3.0, 1.0]).log().view(1, 2, 1, 1)  # the teacher has (3/4, 1/4)


@pytest.mark.parametrize(
    ("label", "target"), [(0, (3 / 4, 1 / 4, 0)), (2, (0, 1 / 4, 3 / 4)), (255, (3 / 4, 1 / 4, 0))]
)
def test_label_guided_distillation_by_hand(label, target):
    p = (1 / 8, 2 / 8, 5 / 8)
    logits = LOGITS.clone().requires_grad_()
    loss = label_guided_distillation(logits, OLD_LOGITS, torch.full((1, 1, 1), label))
    assert loss.item() == pytest.approx(-sum(q * math.log(x) for q, x in zip(target, p, strict=True)) / 3, rel=1e-6)
    loss.backward()
    expected = [(x - q) / 3 for q, x in zip(target, p, strict=True)]
    assert logits.grad.flatten().tolist() == pytest.approx(expected, abs=1e-7)


def test_label_guided_distillation_takes_half_precision_and_stays_finite():
    logits = torch.tensor([500.0, -500.0, 0.0]).view(1, 3, 1, 1).bfloat16()
    loss = label_guided_distillation(logits, -logits[:, :2], torch.tensor([[[2]]]))
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(1000 / 3)


def test_weighted_feature_distillation_by_hand():
    features = torch.tensor([[[1.0, 2.0], [3.0, 0.0], [9.0, 9.0]]]).requires_grad_()
    weights = torch.tensor([[1.0, 0.5, 0.0]])
    loss = weighted_feature_distillation(features, torch.zeros(1, 3, 2), weights)
    assert loss.item() == pytest.approx((1 * (1 + 4) + 0.5 * 9) / 4)  # two patches of two entries have a weight
    loss.backward()
    assert features.grad[0].tolist() == [[0.5, 1.0], [0.75, 0.0], [0.0, 0.0]]  # 2 w f / 4


def test_weighted_feature_distillation_without_weights_is_zero():
    features = torch.ones(1, 3, 2, requires_grad=True)
    loss = weighted_feature_distillation(features, torch.zeros(1, 3, 2), torch.zeros(1, 3))
    loss.backward()
    assert loss.item() == 0 and features.grad.tolist() == [[[0.0, 0.0]] * 3]


def test_orthogonality_by_hand():
    tokens = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]], requires_grad=True)
    loss = orthogonality(tokens, 2)
    assert loss.item() == pytest.approx(math.sqrt(0.5) / 3)  # cosines with both old tokens; one slot of three is new
    loss.backward()
    assert tokens.grad[:2].tolist() == [[0, 0], [0, 0]]  # only new tokens move
    # cosines of exactly zero do not count; the two new tokens are compared with each other in both directions
    assert orthogonality(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]), 1).item() == pytest.approx(1 * 2 / 3)
    assert orthogonality(torch.tensor([[0.0, 1.0], [1.0, 0.0], [-2.0, 0.0]]), 1).item() == pytest.approx(1 * 2 / 3)
    assert orthogonality(torch.ones(3, 2), 3).item() == 0


def test_orthogonality_computes_in_float32_under_autocast():
    tokens = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        inside = orthogonality(tokens, 2)
    assert torch.equal(inside, orthogonality(tokens, 2))


def test_patch_weights_by_hand():
    old_logits = OLD_LOGITS.expand(1, 2, 1, 4)
    weights = patch_weights(old_logits, torch.tensor([[[0, 1, 2, 255]]]), n_old=2)
    assert weights.tolist() == [[pytest.approx([0.75, 1.0, 0.0, 0.0])]]


def test_selective_pseudo_labels_by_hand():
    probabilities = [
        (0.2, 0.8, 0.0001),  # sure of an old class
        (0.2, 0.6, 0.2),  # an old class, but not surely: ignored
        (0.4, 0.3, 0.3),  # the background wins, but the old classes together are more probable: ignored
        (0.6, 0.3, 0.1),  # background
        (0.2, 0.8, 0.0001),  # a new class keeps its label
        (0.2, 0.8, 0.0001),  # ignored stays ignored
    ]
    old_logits = torch.tensor(probabilities).T[None, :, None].log()
    labels = torch.tensor([[[0, 0, 0, 0, 3, 255]]])
    assert selective_pseudo_labels(old_logits, labels, 0.7).tolist() == [[[1, 255, 255, 0, 3, 255]]]
    assert selective_pseudo_labels(old_logits, labels, 0.7, ignore_doubtful=False).tolist() == [[[1, 0, 0, 0, 3, 255]]]
    assert labels[0, 0, 0] == 0  # not in place


@pytest.mark.parametrize(
    ("loss", "arguments"),
    [
        (label_guided_distillation, ("logits", "old_logits", "labels")),
        (weighted_feature_distillation, ("features", "old_features", "weights")),
        (orthogonality, ("tokens", "n_old")),
    ],
)
def test_losses_golden(shared, loss, arguments):
    case = golden(shared, loss.__name__)
    first = case[arguments[0]].requires_grad_()
    result = loss(*(case[name] for name in arguments))
    result.backward()
    assert_golden(result, case["loss"])
    assert_golden(first.grad, case["grad"], gradient=True)


def test_patch_weights_golden(shared):
    case = golden(shared, "patch_weights")
    assert_golden(patch_weights(case["old_patch_logits"], case["patch_labels"], case["n_old"]), case["weights"])


def test_selective_pseudo_labels_golden(shared):
    case = golden(shared, "selective_pseudo_labels")
    after = selective_pseudo_labels(case["old_logits"], case["labels"], case["threshold"])
    assert torch.equal(after, case["labels_after"])
