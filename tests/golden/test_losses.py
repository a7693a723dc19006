"""Losses and MiB's initialisation: worked by hand, against a direct float64 form, and against the official
values."""

import math

import pytest
import torch

from methods.nn.growing_head import background_initialisation
from methods.nn.losses import distillation, unbiased_cross_entropy, unbiased_distillation
from tests.golden.official import assert_golden, golden

# one pixel with background, one old and one new class: p = (1/8, 2/8, 5/8); the teacher has (3/4, 1/4)
LOGITS = torch.tensor([1.0, 2.0, 5.0]).log().view(1, 3, 1, 1)
OLD_LOGITS = torch.tensor([3.0, 1.0]).log().view(1, 2, 1, 1)


@pytest.mark.parametrize(
    ("label", "loss", "gradient"),
    [
        (0, -math.log(3 / 8), (1 / 8 - 1 / 3, 2 / 8 - 2 / 3, 5 / 8)),
        (1, -math.log(3 / 8), (1 / 8 - 1 / 3, 2 / 8 - 2 / 3, 5 / 8)),  # an old class counts as background
        (2, -math.log(5 / 8), (1 / 8, 2 / 8, 5 / 8 - 1)),
        (255, 0.0, (0.0, 0.0, 0.0)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_unbiased_cross_entropy_by_hand(label, loss, gradient, dtype):
    logits = LOGITS.clone().requires_grad_()
    result = unbiased_cross_entropy(logits, torch.full((1, 1, 1), label, dtype=dtype), n_old=2)
    assert result.shape == (1, 1, 1)
    assert result.item() == pytest.approx(loss, rel=1e-6)
    result.sum().backward()
    assert logits.grad.flatten().tolist() == pytest.approx(gradient, abs=1e-6)


def test_unbiased_distillation_by_hand():
    expected = -(0.75 * math.log(6 / 8) + 0.25 * math.log(2 / 8)) / 2  # background or new: 1/8 + 5/8
    assert unbiased_distillation(LOGITS, OLD_LOGITS).item() == pytest.approx(expected, rel=1e-6)


def test_distillation_by_hand():
    expected = -(0.75 * math.log(1 / 3) + 0.25 * math.log(2 / 3)) / 2  # the new slot takes no part
    assert distillation(LOGITS, OLD_LOGITS).item() == pytest.approx(expected, rel=1e-6)


def direct_unbiased_cross_entropy(logits, labels, n_old):
    p = logits.softmax(1)
    merged = torch.cat([p[:, :n_old].sum(1, keepdim=True).expand(-1, n_old, -1, -1), p[:, n_old:]], dim=1)
    loss = -merged.gather(1, labels.clamp(max=logits.shape[1] - 1)[:, None])[:, 0].log()
    return torch.where(labels == 255, 0, loss)


def direct_unbiased_distillation(logits, old_logits):
    p, n_old = logits.softmax(1), old_logits.shape[1]
    merged = torch.cat([p[:, :1] + p[:, n_old:].sum(1, keepdim=True), p[:, 1:n_old]], dim=1)
    return -(old_logits.softmax(1) * merged.log()).mean()


@pytest.mark.parametrize(("n_old", "n_slots"), [(1, 5), (4, 5), (16, 21), (101, 151), (6, 6)])
def test_losses_equal_their_direct_form_in_float64(n_old, n_slots):
    generator = torch.Generator().manual_seed(n_slots)
    logits = (4 * torch.randn(2, n_slots, 6, 5, generator=generator)).requires_grad_()
    old_logits = 4 * torch.randn(2, n_old, 6, 5, generator=generator)
    labels = torch.randint(0, n_slots, (2, 6, 5), generator=generator)
    labels[:, :2] = 255
    exact = logits.detach().double().requires_grad_()
    pairs = [
        (
            unbiased_cross_entropy(logits, labels, n_old).mean(),
            direct_unbiased_cross_entropy(exact, labels, n_old).mean(),
        ),
        (unbiased_distillation(logits, old_logits), direct_unbiased_distillation(exact, old_logits.double())),
    ]
    for actual, expected in pairs:
        assert actual.item() == pytest.approx(expected.item(), rel=1e-5)
        (gradient,) = torch.autograd.grad(actual, logits)
        (expected_gradient,) = torch.autograd.grad(expected, exact)
        torch.testing.assert_close(gradient, expected_gradient.float(), rtol=1e-3, atol=1e-7)


def test_losses_stay_finite_for_huge_logits():
    logits = torch.tensor([500.0, -500.0, 0.0]).view(1, 3, 1, 1).requires_grad_()
    loss = unbiased_cross_entropy(logits, torch.tensor([[[2]]]), 2).sum()
    loss = loss + unbiased_distillation(logits, -logits[:, :2])
    loss.backward()
    assert loss.item() == pytest.approx(500 + 1000 / 2)
    assert logits.grad.isfinite().all()


def test_losses_take_half_precision_and_compute_in_float32():
    logits = LOGITS.bfloat16()
    expected = unbiased_cross_entropy(logits.float(), torch.zeros(1, 1, 1, dtype=torch.long), 2)
    actual = unbiased_cross_entropy(logits, torch.zeros(1, 1, 1, dtype=torch.long), 2)
    assert actual.dtype == torch.float32 and torch.equal(actual, expected)
    assert unbiased_distillation(logits, OLD_LOGITS.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("loss", [unbiased_distillation, distillation])
def test_no_gradient_reaches_the_teacher(loss):
    logits, old_logits = LOGITS.clone().requires_grad_(), (2 * OLD_LOGITS).requires_grad_()
    loss(logits, old_logits).backward()
    assert old_logits.grad is None and logits.grad.abs().sum() > 0


def test_background_initialisation_by_hand():
    weight, bias = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([0.5, -1.0])
    weight_after, bias_after = background_initialisation(weight, bias, n_new=3)
    assert weight_after.tolist() == [[1, 2], [3, 4], [1, 2], [1, 2], [1, 2]]
    share = 0.5 - math.log(4)
    assert bias_after.tolist() == pytest.approx([share, -1.0, share, share, share])
    assert bias.tolist() == [0.5, -1.0]


def test_unbiased_cross_entropy_golden(shared):
    case = golden(shared, "unbiased_cross_entropy")
    logits = case["logits"].requires_grad_()
    loss = unbiased_cross_entropy(logits, case["labels"], case["n_old"])
    loss.mean().backward()
    assert_golden(loss, case["loss"])
    assert_golden(logits.grad, case["grad_of_mean"], gradient=True)


@pytest.mark.parametrize("loss", [unbiased_distillation, distillation])
def test_distillation_golden(shared, loss):
    case = golden(shared, loss.__name__)
    logits = case["logits"].requires_grad_()
    result = loss(logits, case["old_logits"])
    result.backward()
    assert_golden(result, case["loss"])
    assert_golden(logits.grad, case["grad"], gradient=True)


def test_background_initialisation_golden(shared):
    case = golden(shared, "background_initialisation")
    weight_after, bias_after = background_initialisation(case["weight"], case["bias"], case["n_new"])
    assert_golden(weight_after, case["weight_after"])
    assert_golden(bias_after, case["bias_after"])
