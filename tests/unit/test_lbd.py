"""LBD's parts, worked by hand: relations, backgrounds, mask pooling, and what a step may touch."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import protocols
from bench.contract import Trial
from bench.train import loss_values
from methods import get
from methods.lbd.background import aggregate_background, kmeans, mask_pool, separation
from methods.lbd.config import LbdConfig
from methods.lbd.method import Lbd
from methods.lbd.prototypes import lpd_loss, permuted, template_relations
from methods.nn.clip import ADAPTATIONS
from methods.nn.network import NetworkConfig, build
from protocols.errors import InputError


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def lbd(**options):
    torch.manual_seed(0)
    return Lbd(LbdConfig(**options), build(NetworkConfig("clip-tiny", "default", 32)))


def steps(protocol="voc_10-1"):
    return [step.visible() for step in protocols.load(protocol).steps]


# background prototypes


@given(k=st.integers(1, 8))
@settings(max_examples=8, deadline=None)
def test_equal_backgrounds_count_as_one(k):
    scores = torch.randn(2, 5, 4)
    repeated = torch.cat([scores[..., :1].expand(-1, -1, k), scores[..., 1:]], dim=-1)
    torch.testing.assert_close(aggregate_background(repeated, k), scores)


def test_max_takes_the_best_background():
    scores = torch.tensor([[0.5, 2.0, -1.0, 0.25]])
    assert aggregate_background(scores, 3, "max").tolist() == [[2.0, 0.25]]


def test_mask_pooling_of_a_constant_map_gives_its_vector():
    vector = unit(6)
    pooled, valid = mask_pool(vector.expand(2, 9, 6), torch.rand(2, 3, 9) + 0.1)
    assert valid.all()
    torch.testing.assert_close(pooled, vector.expand(2, 3, 6))


def test_an_absent_class_is_not_valid_and_no_nan():
    pooled, valid = mask_pool(unit(1, 4, 6), torch.tensor([[[1.0, 0, 0, 0], [0, 0, 0, 0]]]))
    assert valid.tolist() == [[True, False]]
    assert pooled[0, 1].eq(0).all()


def test_separation_by_hand():
    # Width 2, one background along x, one old and one new class; two patches: background along x, new along y.
    features = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    classes = torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
    backgrounds = torch.tensor([[1.0, 0.0]])
    got = separation(features, torch.tensor([[0, 2]]), classes, backgrounds, n_old=1, temperature=torch.tensor(1.0))
    total_new = math.exp(0) + math.exp(0) + math.exp(1)  # background, old, new
    total_background = math.exp(1) + math.exp(-1) + math.exp(0)
    assert got.n_foreground == 1 and got.n_background == 1
    assert got.foreground.item() == pytest.approx(-math.log(math.exp(1) / total_new), abs=1e-6)
    assert got.background.item() == pytest.approx(-math.log(math.exp(1) / total_background), abs=1e-6)
    assert got.spread == 0 and got.apart == 0


def test_spread_and_overlap_of_backgrounds_by_hand():
    backgrounds = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    classes = torch.tensor([[0.0, 1.0]])
    got = separation(unit(1, 1, 2), torch.tensor([[255]]), classes, backgrounds, 0, torch.tensor(1.0))
    assert got.spread.item() == pytest.approx(2 * 0.6 / 6)  # of six ordered pairs one is alike, counted twice
    assert got.apart.item() == pytest.approx(0.8 / 3)


def test_an_image_of_void_gives_no_loss():
    got = separation(unit(2, 4, 6), torch.full((2, 4), 255), unit(3, 6), unit(2, 6, seed=1), 1, torch.tensor(0.07))
    assert got.n_foreground == 0 and got.n_background == 0
    assert got.foreground == 0 and got.background == 0


def test_the_gradient_of_the_overlap_reaches_backgrounds_alone():
    classes, backgrounds = unit(3, 6).requires_grad_(), unit(2, 6, seed=1).requires_grad_()
    separation(unit(1, 4, 6), torch.full((1, 4), 255), classes, backgrounds, 1, torch.tensor(1.0)).apart.backward()
    assert classes.grad is None and backgrounds.grad.abs().sum() > 0


def test_kmeans_finds_two_bundles():
    bundles = F.normalize(
        torch.cat([unit(1, 8), unit(1, 8, seed=1)]).repeat_interleave(20, 0) + 0.05 * unit(40, 8), dim=1
    )
    centres = kmeans(bundles, 2)
    assert (centres @ torch.cat([unit(1, 8), unit(1, 8, seed=1)]).T).amax(dim=1).min() > 0.99


# relations


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


# steps


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


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"lpd": "relkl"}, "rel_kl"),
        ({"backgrounds": 0}, "at least 1"),
        ({"encoder_tune": "vpt"}, "encoder_adapt=vpt"),
        ({"head": "cosine", "mmbd_on": "decoded"}, "mask_transformer"),
        ({"proto": "prompt", "lpd": "init_only"}, "does not have"),
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
    ({"proto": "free"}, set()),
    ({"old_proto": "tuned"}, set()),
    ({"encoder_tune": "last_k", "encoder_last": 1}, set()),
    ({"encoder_tune": "frozen"}, set()),
    ({"encoder_adapt": "vpt", "encoder_tune": "frozen"}, set()),
    ({"single_template": True, "fresh_context": True}, set()),
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
        lbd(context=40).begin_step(steps("voc_15-5")[0])


def test_a_random_encoder_keeps_the_text_tower():
    with_language, without = lbd(), lbd(encoder_weights="random")
    text = [method.network.clip.text.templates(["cat"]) for method in (with_language, without)]
    assert torch.equal(*text)
    assert not torch.equal(*(method.network.clip.visual.conv1.weight for method in (with_language, without)))
