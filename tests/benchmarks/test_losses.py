"""Losses at full size, forward and backward, beside a plain cross-entropy over as many slots."""

import pytest
import torch
import torch.nn.functional as F

from methods.base import cross_entropy
from methods.lbd.background import separation
from methods.lbd.prototypes import lpd_loss
from methods.nn.losses import (
    distillation,
    label_guided_distillation,
    unbiased_cross_entropy,
    unbiased_distillation,
)
from methods.nn.mbs_losses import orthogonality, weighted_feature_distillation
from methods.nn.plop_losses import pod_distillation

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


MAPS, WIDTH, PATCHES = (4, 256, 64, 64), 512, 1024
FEATURE_LOSSES = {  # of maps (B, C, h, w), their teacher's, patches (B, N, D), their teacher's, class vectors (K, D)
    "local POD (PLOP)": lambda maps, old, *_: _pod(maps, old),
    "weighted features (MBS)": lambda _, __, x, old, ___: weighted_feature_distillation(x, old, old[..., 0].abs()),
    "orthogonality (MBS)": lambda _, __, x, ___, classes: orthogonality(classes, OLD) + 0 * x.mean(),
    "LPD (LBD)": lambda _, __, x, ___, classes: lpd_loss("rel_kl", classes, classes.detach(), classes[0] * 0, OLD),
    "MMBD (LBD)": lambda _, __, x, ___, classes: _mmbd(x, classes),
}


def _pod(maps, old):
    """One level of features, and its first channels as logits."""
    return pod_distillation([old, old[:, :OLD]], [maps, maps[:, :SLOTS]], OLD, SLOTS - OLD, 0.01, 0.0005)


def _mmbd(patches, classes):
    labels = torch.arange(PATCHES).remainder(SLOTS).expand(len(patches), -1)
    parts = separation(F.normalize(patches, dim=2), labels, classes[4:], classes[:4], OLD, torch.tensor(0.07))
    return parts.foreground + parts.background + parts.spread + parts.apart


@pytest.mark.benchmark(group="losses of features")
@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_a_loss_of_features_beside_a_mean_square(beside, name):
    generator = torch.Generator().manual_seed(0)
    maps, old_maps = (torch.randn(MAPS, generator=generator) for _ in range(2))
    patches, old_patches = (torch.randn(4, PATCHES, WIDTH, generator=generator) for _ in range(2))
    classes = F.normalize(torch.randn(4 + SLOTS, WIDTH, generator=generator), dim=1)
    learned = [tensor.requires_grad_() for tensor in (maps, patches, classes)]
    floor_of, old = (maps, old_maps) if "POD" in name else (patches, old_patches)

    def work():
        loss = FEATURE_LOSSES[name](maps, old_maps, patches, old_patches, classes)
        torch.autograd.grad(loss, learned, allow_unused=True)

    def floor():
        torch.autograd.grad(F.mse_loss(floor_of, old), floor_of)

    beside(f"{name}, forward and backward, beside the mean square of its features", work, floor, rounds=7)


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
