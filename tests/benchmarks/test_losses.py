"""Losses at full size, forward and backward, beside a plain cross-entropy over as many slots."""

import pytest
import torch
import torch.nn.functional as F

from methods.base import cross_entropy
from methods.nn.losses import (
    distillation,
    label_guided_distillation,
    unbiased_cross_entropy,
    unbiased_distillation,
)

OLD, SLOTS, SIDE, IMAGES = 16, 21, 512, 2
LOSSES = {
    "unbiased_cross_entropy": lambda z, old, labels: unbiased_cross_entropy(z, labels, OLD).mean(),
    "unbiased_distillation": lambda z, old, labels: unbiased_distillation(z, old),
    "distillation": lambda z, old, labels: distillation(z, old),
    "label_guided_distillation": lambda z, old, labels: label_guided_distillation(z, old, labels),
}


@pytest.mark.benchmark(group=f"losses: {IMAGES} x {SLOTS} x {SIDE} x {SIDE}")
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_beside_cross_entropy(beside, name):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(IMAGES, SLOTS, SIDE, SIDE, generator=generator, requires_grad=True)
    old = torch.randn(IMAGES, OLD, SIDE, SIDE, generator=generator)
    labels = torch.randint(SLOTS, (IMAGES, SIDE, SIDE), generator=generator)

    def work():
        torch.autograd.grad(LOSSES[name](logits, old, labels), logits)

    def floor():
        torch.autograd.grad(cross_entropy(logits, labels).value, logits)

    beside(f"{name}, forward and backward, beside cross-entropy", work, floor, rounds=7)


@pytest.mark.benchmark(group="losses: upsampling")
def test_upsampled_cross_entropy_beside_the_loss_alone(beside):
    generator = torch.Generator().manual_seed(0)
    low = torch.randn(IMAGES, SLOTS, SIDE // 16, SIDE // 16, generator=generator, requires_grad=True)
    high = torch.randn(IMAGES, SLOTS, SIDE, SIDE, generator=generator, requires_grad=True)
    labels = torch.randint(SLOTS, (IMAGES, SIDE, SIDE), generator=generator)

    def work():
        up = F.interpolate(low, (SIDE, SIDE), mode="bilinear", align_corners=False)
        torch.autograd.grad(cross_entropy(up, labels).value, low)

    def floor():
        torch.autograd.grad(cross_entropy(high, labels).value, high)

    beside("cross-entropy from logits at stride 16, beside that at full size", work, floor, rounds=7)
