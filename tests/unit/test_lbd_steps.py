"""What a step of LBD may read, train and change."""

import pytest
import torch

import protocols
from bench.contract import Trial
from bench.train import loss_values
from methods import get
from methods.nn.clip import ADAPTATIONS
from tests.lbd import lbd, steps


def test_only_names_of_seen_classes_reach_the_text_tower():
    method = lbd()
    read: list[str] = []
    tokenise = method.network.clip.text.tokenise
    method.network.clip.text.tokenise = lambda texts: (read.extend(texts), tokenise(texts))[1]
    trial = Trial(get("lbd"), "segmenter")
    for step in steps()[:3]:
        method.begin_step(step)
        method.train()
        method(trial.batch(0)._replace(labels=trial.batch(0).labels.clamp(max=1)))
        said = " ".join(read)
        future = set(protocols.load("voc_10-1").class_names[1:]) - {step.names[c] for c in step.seen}
        assert not [name for name in future if f" {name}." in f" {said}"]
        assert step.names[step.new[-1]] in said
        method.end_step(step, [])


def test_evaluation_needs_no_text_tower():
    method = lbd()
    method.begin_step(steps()[0])
    method.end_step(steps()[0], [])
    images = torch.randn(2, 3, 32, 32)
    expected = method.train().logits(images)
    method.network.clip.text.forward = method.network.clip.text.prompts = None
    torch.testing.assert_close(method.eval().logits(images), expected)


def test_old_logits_stay_bit_equal_through_a_step_transition():
    method = lbd(head="cosine", kd="none")
    method.begin_step(steps()[0])
    method.end_step(steps()[0], [])
    images = torch.randn(2, 3, 32, 32)
    before = method.eval().logits(images)
    method.begin_step(steps()[1])
    after = method.eval().logits(images)
    assert torch.equal(after[:, :11], before) and after.shape[1] == 12


def test_the_text_tower_has_no_gradient_and_is_in_no_group_and_no_state():
    method = lbd()
    method.begin_step(steps()[0])
    tower = {id(p) for p in method.network.clip.text.parameters()}
    grouped = {id(p) for group in method.parameter_groups(steps()[0]) for p in group["params"]}
    assert tower and not tower & grouped
    assert not any(".text." in name for name in method.state_dict())
    batch = Trial(get("lbd"), "segmenter").batch(0)
    sum(loss_values(method.train()(batch)).values()).backward()
    assert all(p.grad is None for p in method.network.clip.text.parameters())
    assert method.network.contexts[0].grad.abs().sum() > 0


def test_parameters_of_a_step_are_grouped_once_and_prototypes_do_not_decay():
    method = lbd()
    for step in steps()[:2]:
        method.begin_step(step)
    groups = method.parameter_groups(steps()[1])
    listed = [id(p) for group in groups for p in group["params"]]
    assert len(listed) == len(set(listed)) == sum(p.requires_grad for p in method.parameters())
    free = {id(p) for group in groups if group.get("weight_decay") == 0.0 for p in group["params"]}
    network = method.network
    assert {id(network.contexts[1]), id(network.residuals[1]), id(network.warmth)} <= free
    assert id(network.contexts[0]) not in listed and id(network.kept[0]) not in listed


def test_prototypes_are_kept_at_the_end_of_their_step_and_stay():
    method = lbd()
    method.begin_step(steps()[0])
    with torch.no_grad():
        method.network.residuals[0].add_(0.3)
    learned = method.train().network.prototypes()
    method.end_step(steps()[0], [])
    method.begin_step(steps()[1])
    torch.testing.assert_close(method.train().network.prototypes()[:10], learned)


@pytest.mark.parametrize(("bank", "sizes"), [("carry", (4, 4, 4)), ("grow", (4, 5, 6)), ("reinit", (4, 4, 4))])
def test_the_background_bank_over_the_steps(bank, sizes):
    method = lbd(bg_bank=bank)
    for step, size in zip(steps()[:3], sizes, strict=True):
        before = method.network.bank() if step.index else None
        method.begin_step(step)
        assert len(method.network.bank()) == size
        if step.index:
            assert torch.equal(method.network.bank()[: len(before)], before) == (bank != "reinit")
        assert method.network.backgrounds[0].requires_grad == (bank != "grow" or step.index == 0)
        method.end_step(step, [])


@pytest.mark.parametrize("adaptation", ADAPTATIONS)
def test_every_adaptation_trains(adaptation):
    method = lbd(encoder_adapt=adaptation, encoder_tune="vpt" if adaptation == "vpt" else "full")
    method.begin_step(steps()[0])
    sum(loss_values(method.train()(Trial(get("lbd"), "segmenter").batch(0))).values()).backward()
    trained = [p for p in method.network.clip.parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert len(trained) == 1 if adaptation == "vpt" else len(trained) > 20
