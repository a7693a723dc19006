"""LPD: relations of text features and of prototypes, their anchor, and the permuted control."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import protocols
from methods.lbd.prototypes import dealt, lpd_loss, template_relations
from tests.lbd import lbd, steps, unit

NEAREST = {  # of some classes, what may be nearest
    "voc_10-1": {
        "cat": {"dog"},
        "dog": {"cat"},
        "cow": {"sheep", "horse"},
        "sheep": {"cow", "horse"},
        "chair": {"sofa", "dining table"},
        "bus": {"car", "train"},
    },
    "ade_100-10": {
        "bed": {"sofa", "pillow", "cushion"},
        "chair": {"armchair", "swivel chair", "seat"},
        "mountain": {"hill"},
        "river": {"lake", "water"},
        "truck": {"van", "car"},
        "oven": {"stove", "microwave"},
    },
}


def real_classes(shared, protocol):
    """Text features of the protocol's classes, (n, 512) unit, and their names."""
    file = "voc_with_background" if protocol.startswith("voc") else "ade"
    features = torch.from_numpy(np.load(shared / "text_embeddings" / f"{file}.npy")).float()
    names = protocols.load(protocol).class_names[1:]
    return features[-len(names) :], names


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


@given(n=st.integers(1, 12), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_control_gives_every_class_the_features_of_another(n, seed):
    templates, spare = unit(n, 8), unit(8, seed=1)
    torch.manual_seed(seed)
    given_out, left = dealt(templates, spare)
    pool = torch.cat([templates, spare[None]])
    source = (torch.cat([given_out, left[None]])[:, None] == pool).all(dim=2)
    assert torch.equal(source.sum(0), torch.ones(n + 1)) and torch.equal(source.sum(1), torch.ones(n + 1))
    assert not source.diagonal().any()


def test_the_control_is_fixed_when_its_class_comes_and_knows_no_later_one():
    method = lbd(lpd_permuted=True)
    network, text = method.network, method.network.clip.text
    for step in steps("voc_10-5"):
        before = network.templates() if step.index else None
        method.begin_step(step)
        got, real = network.templates(), text.templates(network.names)
        if before is not None:
            assert torch.equal(got[: len(before)], before)
        same = (got[:, None] - real).abs().amax(dim=2) < 1e-6
        assert not same.diagonal().any()  # none has its own
        assert same.sum() == len(real) - 1 and same.sum(dim=1).max() == 1  # one has "object", one feature is left over
        assert (network.spare - real).abs().amax(dim=1).min() < 1e-6
        method.end_step(step, [])


@pytest.mark.parametrize(("name", "first"), [("voc_15-5", 15), ("ade_100-10", 100)])
def test_relations_of_real_text_features_are_no_uniform_target(shared, name, first):
    """OpenAI's ViT-B/16 features of "a photo of a {class}": crowded, and spread once their mean is out."""
    classes, _ = real_classes(shared, name)
    off = ~torch.eye(len(classes), dtype=torch.bool)
    crowded, relations = (classes @ classes.T)[off], template_relations(classes, classes[:first].mean(dim=0), 0)
    assert crowded.min() > 0.5  # raw cosines tell little: all are high
    assert relations[off].std() > 2 * crowded.std() and relations[off].min() < 0 < relations[off].max()
    relations.fill_diagonal_(-math.inf)
    target = F.softmax(relations / 0.1, dim=1)
    entropy = torch.special.entr(target).sum(dim=1)
    assert entropy.mean() < 0.75 * math.log(len(classes) - 1)


def test_nearest_relations_of_real_text_features_make_sense(shared):
    for name, expected in NEAREST.items():
        classes, names = real_classes(shared, name)
        relations = template_relations(classes, classes[: len(classes) // 2].mean(dim=0), 0).fill_diagonal_(-1)
        nearest = {names[i]: names[int(j)] for i, j in enumerate(relations.argmax(dim=1))}
        assert {c: nearest[c] for c in expected if nearest[c] not in expected[c]} == {}


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
