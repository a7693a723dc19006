"""What LBD's method hands to its losses: which classes are new, which prototypes learn, where the backgrounds start."""

import pytest
import torch

from bench.contract import Trial, check_round_trip
from bench.train import loss_values
from methods import Found
from methods.base import Batch
from methods.lbd.background import kmeans, separation
from methods.lbd.method import Lbd
from methods.lbd.prototypes import lpd_loss
from methods.mbs import patch_labels
from tests.lbd import lbd, steps

OLD, NEW_SLOT = 10, 11  # of the first increment of voc_10-1, which brings one class


def one_class_batch() -> Batch:
    """Three images; the new class is in the first and the last."""
    labels = torch.zeros(3, 32, 32, dtype=torch.int64)
    labels[0, :16], labels[2, :, 16:], labels[1, :, :8] = NEW_SLOT, NEW_SLOT, 255
    return Batch(torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)), labels, ("a", "b", "c"))


def in_increment(**options):
    method = lbd(kd="none", **options)  # no teacher: the labels stay as they are
    for step in steps()[:2]:
        method.begin_step(step)
        if step.index == 0:
            method.end_step(step, [])
    return method.train()


def test_the_new_class_of_an_increment_is_what_lpd_and_mmbd_take_as_new():
    method, batch = in_increment(), one_class_batch()
    terms, network = method(batch), method.network
    out = network(batch.images)
    lpd = lpd_loss("rel_kl", out.prototypes, network.templates(), network.anchor, OLD)
    torch.testing.assert_close(terms["lpd"].value, method.config.lpd_weight * lpd)
    patches = patch_labels(batch.labels, out.logits.shape[2:]).flatten(1)
    parts = separation(out.patches, patches, out.prototypes, out.backgrounds, OLD, network.temperature)
    torch.testing.assert_close(terms["mmbd_fg"].sum, parts.foreground)
    torch.testing.assert_close(terms["mmbd_sep"].sum, parts.apart)
    assert terms["mmbd_fg"].count == 2  # images with the new class
    assert terms["mmbd_bg"].count == 3 * len(out.backgrounds)
    assert out.prototypes.shape[0] == OLD + 1 and all(value.isfinite() for value in loss_values(terms).values())


def test_what_belongs_to_the_step_learns_and_what_is_old_does_not():
    method = in_increment()
    network = method.network
    sum(loss_values(method(one_class_batch())).values()).backward()
    learns = {
        "backgrounds": network.backgrounds[0],
        "residual": network.residuals[1],
        "context": network.contexts[1],
        "temperature": network.warmth,
    }
    assert {name for name, p in learns.items() if p.grad is not None and p.grad.abs().sum() > 0} == set(learns)
    assert network.backgrounds[0].grad.abs().sum(dim=1).min() > 0  # every one of them
    old = (network.residuals[0], network.contexts[0], network.kept[0], network.guides[0])
    assert all(p.grad is None for p in old)


@pytest.mark.parametrize("term", ["ce", "mmbd_bg"])
def test_backgrounds_learn_from_pixels_and_from_pooled_features(term):
    method = in_increment()
    values = loss_values(method(one_class_batch()))
    values[term].backward()
    assert method.network.backgrounds[0].grad.abs().sum(dim=1).min() > 0


def test_backgrounds_start_at_the_centres_of_background_patches():
    method, batch = lbd(), one_class_batch()
    step = steps()[0]
    labels = batch.labels.masked_fill(batch.labels == NEW_SLOT, 3)
    method.begin_step(step)
    drawn = method.network.bank().clone()
    method.prepare(step, [batch._replace(labels=labels)])
    with torch.no_grad():
        features = method.network.clip(batch.images)
    background = patch_labels(labels, [32 // method.network.clip.patch] * 2).flatten(1) == 0
    assert 0 < background.sum() < background.numel()
    torch.testing.assert_close(method.network.bank(), kmeans(features[background], len(drawn)))
    assert not torch.allclose(method.network.bank(), drawn, atol=0.1)


@pytest.mark.parametrize("options", [{}, {"head": "cosine", "kd": "mib"}, {"mmbd_on": "decoded", "lpd": "rel_mse"}])
def test_losses_are_finite_float32_under_bfloat16_autocast(options):
    method = lbd(**options)
    for step in steps()[:2]:
        method.begin_step(step)
    batch = one_class_batch()
    with torch.autocast("cpu", torch.bfloat16):
        method.train().prepare(method.step, [batch])
        values = loss_values(method(batch))
    assert "od" in values and all(value.dtype == torch.float32 and value.isfinite() for value in values.values())
    sum(values.values()).backward()
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    assert gradients and all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize(
    "options",
    [
        {"context": "16", "fresh_context": False, "proto": "prompt"},
        {"bg_bank": "grow", "head": "cosine"},
        {"bg_bank": "reinit", "mmbd_on": "decoded"},
        {"lpd_permuted": True, "kd": "mib"},
        {"proto": "free", "old_proto": "tuned", "lpd": "init_only"},
        {"encoder_adapt": "vpt", "encoder_tune": "vpt", "lpd": "anchor"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_the_state_of_other_options_loads_back(options):
    tried = type("Tried", (Lbd,), {"variants": {"tried": options}})
    check_round_trip(Trial(Found("lbd", "tried", tried), "segmenter"))
