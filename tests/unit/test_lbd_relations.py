"""LPD: relations of text features and of prototypes, their anchor, and the permuted control."""

import math

import pytest
import torch
import torch.nn.functional as F

import protocols
from methods.lbd.prototypes import lpd_loss, permuted, template_relations
from tests.lbd import lbd, steps, unit


@pytest.mark.parametrize("form", ["rel_kl", "rel_mse"])
def test_lpd_is_zero_at_the_template_and_under_a_rotation_of_it(form):
    templates, anchor = unit(5, 8), unit(8, seed=3)
    prototypes = F.normalize(templates - anchor, dim=1)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1)))[0]
    for placed in (prototypes, prototypes @ rotation):
        assert lpd_loss(form, placed, templates, anchor, 2).item() == pytest.approx(0, abs=1e-6)
    assert lpd_loss(form, unit(5, 8, seed=9), templates, anchor, 2) > 0.01


@pytest.mark.parametrize("form", ["rel_kl", "rel_mse", "anchor"])
def test_lpd_moves_new_prototypes_alone(form):
    prototypes = unit(5, 8, seed=1).requires_grad_()
    lpd_loss(form, prototypes, unit(5, 8), unit(8, seed=3), 3).backward()
    assert prototypes.grad[:3].abs().sum() == 0
    assert (prototypes.grad[3:].abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize("form", ["rel_kl", "rel_mse"])
def test_one_new_class_has_the_old_ones_as_partners_and_none_when_alone(form):
    templates, anchor = unit(4, 8), unit(8, seed=3)
    assert lpd_loss(form, unit(4, 8, seed=1), templates, anchor, 3) > 0.001
    alone = unit(1, 8, seed=1).requires_grad_()
    loss = lpd_loss(form, alone, templates[:1], anchor, 0)
    loss.backward()
    assert loss == 0 and alone.grad.isfinite().all()
    assert lpd_loss(form, unit(4, 8, seed=1), templates, anchor, 3, graph="step") == 0


def test_kl_of_relations_by_hand():
    # One new class with two partners: target relations 1 and 0, relations of the prototype 0 and 1.
    templates = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [1.0, 0, 0]])
    prototypes = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 1.0, 0]])
    p = torch.tensor([10.0, 0.0]).softmax(0)
    expected = (p * (p / p.flip(0)).log()).sum()
    got = lpd_loss("rel_kl", prototypes, templates, torch.zeros(3), 2)
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_control_keeps_lengths_and_loses_relations():
    """Ten text features along a line: alike as neighbours are; with permuted entries no relation is left."""
    torch.manual_seed(0)
    anchor, ends = unit(512, seed=1), unit(2, 512, seed=2)
    share = torch.linspace(0, 1, 10)[:, None]
    templates = F.normalize(anchor + 0.3 * (share * ends[:1] + (1 - share) * ends[1:]), dim=1)
    control = permuted(templates, anchor)
    torch.testing.assert_close(control.norm(dim=1), torch.ones(10))
    lengths = [(features - anchor).norm(dim=1) for features in (templates, control)]
    torch.testing.assert_close(lengths[0], lengths[1], atol=0.02, rtol=0.05)
    off = ~torch.eye(10, dtype=torch.bool)
    assert template_relations(templates, anchor, 0)[off].mean() > 0.4
    assert template_relations(control, anchor, 0)[off].abs().mean() < 0.2


def test_the_control_is_fixed_when_its_class_comes():
    method = lbd(lpd_permuted=True)
    method.begin_step(steps()[0])
    first = method.network.templates().clone()
    real = method.network.clip.text.templates(method.network.names)
    assert not torch.allclose(first, real, atol=0.05)
    method.end_step(steps()[0], [])
    method.begin_step(steps()[1])
    assert torch.equal(method.network.templates()[:10], first)


def test_relations_of_real_text_features_make_sense(shared):
    """OpenAI's ViT-B/16 features of "a photo of a {class}": crowded, and spread once their mean is out."""
    import numpy as np

    text = torch.from_numpy(np.load(shared / "text_embeddings" / "voc_with_background.npy")).float()
    names = protocols.load("voc_15-5").class_names
    classes = text[1:]
    crowded = (classes @ classes.T)[~torch.eye(20, dtype=torch.bool)]
    assert crowded.min() > 0.6  # raw cosines tell little: all are high
    relations = template_relations(classes, classes[:10].mean(dim=0), 0)  # as if ten were those of step 0
    off = relations[~torch.eye(20, dtype=torch.bool)]
    assert off.std() > 2 * crowded.std() and off.min() < 0 < off.max()
    relations.fill_diagonal_(-1)
    nearest = {names[i + 1]: names[int(j) + 1] for i, j in enumerate(relations.argmax(dim=1))}
    assert nearest["cat"] == "dog" and nearest["dog"] == "cat"
    assert nearest["cow"] in ("sheep", "horse") and nearest["sheep"] in ("cow", "horse")
    assert nearest["chair"] in ("sofa", "dining table")
    assert nearest["bus"] in ("car", "train")
    entropy = -(F.softmax(relations / 0.1, dim=1) * F.log_softmax(relations / 0.1, dim=1)).sum(dim=1)
    assert entropy.max() < 0.97 * math.log(19)  # the target of rel_kl is not uniform


def test_the_anchor_lies_among_the_classes_of_the_first_step_and_stays():
    """What LPD takes away from text features must be what they share, or their relations crowd more than before."""
    method = lbd()
    for step in steps()[:2]:
        method.begin_step(step)
        method.end_step(step, [])
    network = method.network
    torch.testing.assert_close(network.anchor, network.templates()[:10].mean(dim=0))
    off = ~torch.eye(11, dtype=torch.bool)
    relations = template_relations(network.templates(), network.anchor, 0)[off]
    crowded = (network.templates() @ network.templates().T)[off]
    assert relations.mean().abs() < 0.15 < crowded.mean() and relations.std() > 1.2 * crowded.std()


def test_a_first_step_of_one_class_has_no_anchor_but_relations_later():
    method = lbd()
    for step in steps("voc_1-1")[:3]:
        method.begin_step(step)
        method.end_step(step, [])
    network = method.network
    assert network.anchor.abs().sum() == 0
    relations = template_relations(network.templates(), network.anchor, 0)
    torch.testing.assert_close(relations, network.templates() @ network.templates().T)
