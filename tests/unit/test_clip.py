"""CLIP as a dense encoder: against open_clip itself and timm's tower; the tiny one against what is claimed of it."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bench.tiny_clip import Scenes, accuracy, captions, contrastive_loss
from methods.nn import tiny_clip
from methods.nn.clip import ImageTower, TextTower, clip_size
from methods.nn.network import NetworkConfig, build, family, sibling
from protocols.dataset_info import dataset
from protocols.errors import InputError

NAMES = dataset("voc").class_names[1:]


@pytest.fixture(scope="module")
def model():
    """The shipped weights in open_clip's own model."""
    model = tiny_clip.make_model(32).eval()
    model.load_state_dict({name: value.float() for name, value in load_file(tiny_clip.FILE).items()})
    return model


def clip(image_size=32):
    return build(NetworkConfig("clip-tiny", "default", image_size)).eval()


@torch.no_grad()
def test_pooled_images_are_open_clips(model):
    images = torch.randn(3, 3, 32, 32)
    expected = model.encode_image(images, normalize=True)
    torch.testing.assert_close(clip().pooled(images), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_texts_are_open_clips(model):
    texts = [template.format("cat") for template in tiny_clip.TEMPLATES]
    features = model.encode_text(tiny_clip.tokenise(texts), normalize=True)
    expected = F.normalize(features.mean(dim=0), dim=0)
    text = clip().text
    torch.testing.assert_close(text.templates(["cat"])[0], expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(text.templates(["cat"], single=True)[0], features[0], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_prompt_of_the_words_of_a_template_is_that_template():
    text = clip().text
    words = tiny_clip.tokenise(["a photo of a"])[0, 1:5]
    prompted = text.prompts(text.token_embedding(words), ["cat", "dining table"])
    torch.testing.assert_close(prompted, text.templates(["cat", "dining table"], single=True), atol=1e-5, rtol=1e-4)


def test_the_gradient_of_a_prompt_reaches_its_context():
    context = torch.randn(16, 128, requires_grad=True)
    clip().text.prompts(context, ["cat"]).sum().backward()
    assert (context.grad.abs().sum(dim=1) > 0).all()


def test_tokens_after_the_longest_text_are_not_encoded(monkeypatch):
    names, lengths = ["cat", "dining table"], []
    found = []
    for block in (32, 1):  # of 32 tokens, or as many as the texts have
        monkeypatch.setattr("methods.nn.clip.TEXT_BLOCK", block)
        text = clip().text
        text.transformer.register_forward_pre_hook(lambda _, tokens: lengths.append(tokens[0].shape[1]))
        context = text.words("a photo of a").requires_grad_()
        prompted = text.prompts(context, names)
        prompted[:, 0].sum().backward()
        found.append((prompted.detach(), context.grad, text.templates(names, single=True)))
    assert lengths == [32, 32, 32, 9, 8, 9]  # two names together, then each by itself, with start and end
    for whole, cut in zip(*found, strict=True):
        torch.testing.assert_close(cut, whole, atol=1e-6, rtol=1e-5)


def test_a_text_tower_that_looks_ahead_is_refused(model):
    looking_ahead = copy.deepcopy(model)
    looking_ahead.attn_mask = None
    with pytest.raises(InputError, match="attends to tokens ahead"):
        TextTower(looking_ahead, clip_size("clip-tiny"))


@torch.no_grad()
def test_the_segmenter_encodes_as_the_unadapted_clip():
    images = torch.randn(2, 3, 64, 64)
    dense, segmenter = clip(64), build(NetworkConfig("segmenter-tiny", "default", 64)).eval()
    tokens = segmenter.encode(images)  # timm's tower, from the same file
    expected = F.normalize(tokens @ dense.visual.proj, dim=-1)
    torch.testing.assert_close(dense(images), expected, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_what_the_adaptations_do_to_the_last_block():
    images = torch.randn(2, 3, 32, 32)
    tower = clip()
    before = tower._before_last_block(images)
    block, visual = tower.visual.transformer.resblocks[-1], tower.visual
    plain = F.normalize(visual.ln_post(block(before))[:, 1:] @ visual.proj, dim=-1)
    torch.testing.assert_close(tower(images), plain, atol=1e-5, rtol=1e-4)
    width = before.shape[2]
    values = F.linear(block.ln_1(before), block.attn.in_proj_weight[2 * width :], block.attn.in_proj_bias[2 * width :])
    tower.adapt_to_dense("v_only")
    alone = F.normalize(visual.ln_post(block.attn.out_proj(values))[:, 1:] @ visual.proj, dim=-1)
    torch.testing.assert_close(tower(images), alone, atol=1e-5, rtol=1e-4)
    tower.adapt_to_dense("vv")
    heads = values.unflatten(2, (4, 32)).transpose(1, 2)
    mixed = (heads @ heads.mT / 32**0.5).softmax(-1) @ heads
    x = before + block.attn.out_proj(mixed.transpose(1, 2).flatten(2))
    x = x + block.mlp(block.ln_2(x))
    torch.testing.assert_close(
        tower(images), F.normalize(visual.ln_post(x)[:, 1:] @ visual.proj, dim=-1), atol=1e-5, rtol=1e-4
    )


@torch.no_grad()
def test_dense_features_at_another_size_than_training():
    small, large = clip(32), clip(64)
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(small(images), large(images), atol=1e-4, rtol=1e-3)  # resampled late or at loading


def test_copies_share_the_text_tower():
    import copy

    tower = clip()
    twin = copy.deepcopy(tower)
    assert twin.text is tower.text
    assert twin.visual.conv1.weight is not tower.visual.conv1.weight


def test_the_text_tower_moves_with_its_clip():
    tower = clip().double()
    assert tower.text.token_embedding.weight.dtype == tower.text.positional_embedding.dtype == torch.float64


def test_the_large_clip_has_the_shapes_and_words_of_openais():
    with torch.device("meta"):
        tower = build(NetworkConfig("clip", "none", 512))
        assert tower.text.templates(["cat"]).shape == (1, 512)
        assert tower(torch.empty(1, 3, 512, 512)).shape == (1, 1024, 512)
    assert tower.visual.transformer.resblocks[0].mlp.gelu.__class__.__name__ == "QuickGELU"
    assert len(tower.text.all_templates) == 85 == len(set(tower.text.all_templates))
    assert (tower.mean, tower.std) == (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    assert tower.text.longest_context(["tv monitor"]) >= 16


def test_other_clips_of_open_clip_by_name():
    assert family("clip:ViT-L-14/laion2b_s32b_b82k") == "clip"
    assert clip_size("clip:ViT-B-32/laion2b_s34b_b79k").title == "ViT-B-32/laion2b_s34b_b79k"
    for wrong in ("clip:ViT-B-16/opnai", "clip-tinny", "clip:"):
        with pytest.raises(InputError, match="did you mean"):
            clip_size(wrong)
    with torch.device("meta"), pytest.raises(InputError, match="no plain vision transformer"):
        build(NetworkConfig("clip:RN50/openai", "none", 64))


@pytest.mark.parametrize(
    ("name", "activation"), [("ViT-B-16/openai", "QuickGELU"), ("ViT-B-16/laion2b_s34b_b88k", "GELU")]
)
def test_the_activation_is_that_of_the_weights_whatever_the_name(name, activation):
    with torch.device("meta"):
        tower = build(NetworkConfig(f"clip:{name}", "none", 64))
    assert type(tower.visual.transformer.resblocks[0].mlp.gelu).__name__ == activation


@torch.no_grad()
def test_the_residual_stream_stays_in_full_precision_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert clip()._before_last_block(torch.randn(1, 3, 32, 32)).dtype == torch.float32


def test_siblings_stand_on_the_same_image_tower():
    assert [sibling(name, "clip") for name in ("segmenter", "segmenter-tiny")] == ["clip", "clip-tiny"]
    assert sibling("segmenter-augreg", "clip") == "segmenter-augreg"
    assert sibling("segmenter", None) == "segmenter"


def test_a_file_of_the_image_tower_alone_is_refused(tmp_path):
    state = {name: value for name, value in load_file(tiny_clip.FILE).items() if name.startswith("visual.")}
    save_file(state, tmp_path / "visual.safetensors")
    with pytest.raises(InputError, match="do not fit the network"):
        build(NetworkConfig("clip-tiny", str(tmp_path / "visual.safetensors"), 64))
    build(NetworkConfig("segmenter-tiny", str(tmp_path / "visual.safetensors"), 64))  # needs no text


def test_words_the_tiny_clip_lacks_are_named():
    with pytest.raises(InputError, match="no word 'escalator'"):
        tiny_clip.tokenise(["a photo of a escalator."])


# the tiny one


def test_the_shipped_file_is_small_and_says_how_it_was_made():
    assert tiny_clip.FILE.stat().st_size < 8 * 2**20
    with safe_open(tiny_clip.FILE, "pt") as file:
        made = json.loads(file.metadata()["settings"])
    assert made == {"seed": 0, "scenes": 16384, "iterations": 4000, "batch": 64, "lr": 1e-3}


@torch.no_grad()
def test_the_shipped_file_tells_the_classes_apart():
    """The claim of the documentation (95 % of windows, 88 % of scenes) on fewer held-out scenes."""
    got = accuracy(clip(), Scenes.of("pretrain_val", 400), 4000, torch.Generator().manual_seed(1))
    assert got["windows_accuracy"] > 0.85 and got["scenes_accuracy"] > 0.80
    shuffled = clip()
    shuffled.forget()
    assert accuracy(shuffled.eval(), Scenes.of("pretrain_val", 100), 500, torch.Generator())["windows_accuracy"] < 0.3


def test_captions_name_what_is_shown():
    shown = torch.zeros(4, 21, dtype=torch.bool)
    shown[1, 8] = shown[2, 8] = shown[3, [8, 15]] = True
    for seed in range(20):
        texts, generic, true = captions(shown, torch.Generator().manual_seed(seed))
        assert "background" in texts[0] and "cat" in texts[3] and "person" in texts[3] and " and a " in texts[3]
        for i in (1, 2):
            assert ("object" in texts[i]) == bool(generic[i]) != ("cat" in texts[i])
        assert true[1, 2] and true[2, 1] and true.diagonal().all()
        assert not true[0, 1:].any() and not true[3, :3].any() and not true[:3, 3].any()


def test_contrastive_loss_with_one_positive_each_is_clips():
    images, texts = F.normalize(torch.randn(5, 8), dim=1), F.normalize(torch.randn(5, 8), dim=1)
    logits, target = 10 * images @ texts.T, torch.arange(5)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    got = contrastive_loss(images, texts, torch.tensor(10.0), torch.eye(5, dtype=torch.bool))
    torch.testing.assert_close(got, expected)


def test_the_training_script_runs(tmp_path):
    out = tmp_path / "clip.safetensors"
    command = [sys.executable, "-m", "bench.tiny_clip", "--out", str(out), "--scenes", "20", "--iterations", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([*command, "--val-scenes", "20"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert 0 <= json.loads(done.stdout)["windows_accuracy"] <= 1
    assert set(load_file(out)) == set(load_file(tiny_clip.FILE))


def test_another_kind_of_image_tower_is_refused():
    with pytest.raises(InputError, match="no plain vision transformer"):
        ImageTower(torch.nn.Conv2d(3, 8, 4))


def test_every_class_has_a_text_of_its_own():
    text = clip().text.templates(NAMES)
    assert (text @ text.T - torch.eye(20)).max() < 0.95
