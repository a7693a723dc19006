"""LBD's switches, weights and variants: each does what it says, through a step transition."""

import pytest
import torch

from bench.contract import Trial
from bench.train import loss_values
from methods import get
from methods.lbd.config import LbdConfig
from methods.lbd.method import Lbd
from protocols.errors import InputError
from tests.lbd import lbd, steps


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"lpd": "relkl"}, "rel_kl"),
        ({"backgrounds": 0}, "at least 1"),
        ({"context": "0"}, "at least 1"),
        ({"context": " "}, "give words"),
        ({"encoder_tune": "vpt"}, "encoder_adapt=vpt"),
        ({"head": "cosine", "mmbd_on": "decoded"}, "mask_transformer"),
        ({"proto": "prompt", "lpd": "init_only"}, "does not have"),
        ({"lpd_permuted": True, "lpd": "off"}, "does not have"),
    ],
)
def test_wrong_options_are_told(options, complaint):
    with pytest.raises(InputError, match=complaint):
        LbdConfig(**options).check()


EVERY_TERM = {"ce", "lpd", "mmbd_fg", "mmbd_bg", "mmbd_div", "mmbd_sep", "patches", "classes", "od"}
SWITCHES = [  # options, terms that they take away in an increment
    ({}, set()),
    ({"lpd": "off"}, {"lpd"}),
    ({"lpd": "init_only"}, {"lpd"}),
    ({"lpd": "anchor"}, set()),
    ({"lpd_permuted": True}, set()),
    ({"mmbd": False, "backgrounds": 1}, {"mmbd_fg", "mmbd_bg", "mmbd_div", "mmbd_sep"}),
    ({"mmbd_on": "decoded"}, set()),
    ({"bg_agg": "max"}, set()),
    ({"bg_bank": "grow"}, set()),
    ({"bg_bank": "reinit"}, set()),
    ({"head": "cosine"}, {"classes"}),
    ({"kd": "mib"}, {"patches", "classes"}),
    ({"kd": "none"}, {"patches", "classes", "od"}),
    ({"proto": "prompt"}, set()),
    ({"context": "16"}, set()),
    ({"proto": "free"}, set()),
    ({"old_proto": "tuned"}, set()),
    ({"encoder_tune": "last_k", "encoder_last": 1}, set()),
    ({"encoder_tune": "frozen"}, set()),
    ({"encoder_adapt": "vpt", "encoder_tune": "frozen"}, set()),
    ({"single_template": True, "fresh_context": False}, set()),
]


@pytest.mark.parametrize(
    ("options", "gone"), SWITCHES, ids=lambda value: str(value if isinstance(value, dict) else sorted(value))[:40]
)
def test_every_switch_trains_through_a_step_transition(options, gone):
    method, trial = lbd(**options), Trial(get("lbd"), "segmenter")
    for index, step in enumerate(trial.steps[:2]):
        method.begin_step(step)
        method.prepare(step, [trial.batch(index)])
        terms = loss_values(method.train()(trial.batch(index)))
        if index:
            assert set(terms) == EVERY_TERM - gone
        total = sum(terms.values())
        assert total.isfinite()
        total.backward()
        for group in method.parameter_groups(step):
            assert all(p.grad is None or p.grad.isfinite().all() for p in group["params"])
        method.zero_grad()
        method.end_step(step, [])
        assert method.eval().predict(trial.batch(index)).max() < step.n_slots


@pytest.mark.parametrize(
    ("option", "term"), [("lpd_weight", "lpd"), ("mmbd_weight", "mmbd_bg"), ("od", "od"), ("fd", "patches")]
)
def test_weights_weigh_their_terms(option, term):
    trial, values = Trial(get("lbd"), "segmenter"), []
    for weight in (1.0, 3.0):
        method = lbd(**{option: weight})
        for index in (0, 1):
            method.begin_step(trial.steps[index])
            if index == 0:
                method.network.norm_bias[0].data.fill_(20.0)  # a teacher that is sure of the background
                method.end_step(trial.steps[0], [])
        with torch.no_grad():
            method.network.clip.visual.proj.add_(0.01)  # away from the teacher
        values.append(loss_values(method.train()(trial.batch(1)))[term].item())
    assert values[1] == pytest.approx(3 * values[0], rel=1e-4) and values[0] > 0


def test_what_is_frozen_has_no_gradient():
    for options, trained in (({"encoder_tune": "frozen"}, 0), ({"encoder_tune": "last_k", "encoder_last": 1}, 15)):
        encoder = lbd(**options).network.encoder_parameters()
        assert sum(p.requires_grad for p in encoder) == trained, options
    prompted = lbd(encoder_adapt="vpt", encoder_tune="frozen").network
    assert prompted.clip.visual_prompts.requires_grad
    assert any(p is prompted.clip.visual_prompts for p in prompted.head_parameters())


def test_visual_prompts_do_not_decay():
    method = lbd(encoder_adapt="vpt", encoder_tune="vpt")
    method.begin_step(steps()[0])
    (decay,) = [
        group.get("weight_decay")
        for group in method.parameter_groups(steps()[0])
        if any(p is method.network.clip.visual_prompts for p in group["params"])
    ]
    assert decay == 0.0


@pytest.mark.parametrize("component", Lbd.components)
def test_switching_a_component_off_is_what_the_variant_does(component):
    off = Lbd.components[component]
    assert off in Lbd.variants.values()
    assert all(getattr(LbdConfig(), name) != value or name == "encoder_tune" for name, value in off.items())
    assert set(off) <= set(Lbd.variants["baseline"])


def test_the_temperature_starts_where_it_should_and_stays_in_its_range():
    network = lbd().network
    assert network.temperature.item() == pytest.approx(0.07, rel=1e-4)
    for warmth, expected in ((-30.0, 0.01), (30.0, 1.0)):
        network.warmth.data.fill_(warmth)
        assert network.temperature.item() == pytest.approx(expected, rel=1e-4)


def test_a_context_that_leaves_no_room_is_told():
    with pytest.raises(InputError, match="at most 27"):
        lbd(context="40").begin_step(steps("voc_15-5")[0])


def test_a_soft_prompt_starts_at_its_words_or_at_random():
    """From words, a prompt starts as the template they are; vectors drawn at random start elsewhere."""
    first, later = steps()[:2]
    for context, vectors, alike in (("a photo of a", 4, True), ("16", 16, False)):
        method = lbd(context=context)
        for step in (first, later):
            method.begin_step(step)
            network = method.network
            names = [step.names[c] for c in step.new if c]
            template = network.clip.text.templates(names, single=True)
            started = network._new_prototypes(len(names))
            assert torch.allclose(started, template, atol=1e-5) == alike
            assert len(network.contexts[-1]) == vectors
            method.end_step(step, [])


def test_a_random_encoder_keeps_the_text_tower():
    with_language, without = lbd(), lbd(encoder_weights="random")
    text = [method.network.clip.text.templates(["cat"]) for method in (with_language, without)]
    assert torch.equal(*text)
    assert not torch.equal(*(method.network.clip.visual.conv1.weight for method in (with_language, without)))
