"""Networks: growth, state, initial weights, precision."""

import copy
import hashlib
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from timm.models.resnet import BasicBlock

from methods.nn.deeplab import SIZES
from methods.nn.network import NetworkConfig, build, names, weights_digest
from methods.nn.upsampling import upsample
from protocols.errors import InputError

TINY = ("deeplab-tiny", "segmenter-tiny")


def tiny(name, *growth, image_size=64, init="background"):
    torch.manual_seed(0)
    network = build(NetworkConfig(name, "none", image_size))
    for n_new in growth:
        network.grow(n_new, init)
    return network


def images(batch=2, size=64):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def logits(network):
    return network.eval()(images()).logits


@pytest.mark.parametrize("name", TINY)
def test_shapes_and_growth(name):
    network = build(NetworkConfig(name, image_size=64))
    assert network.n_slots == 0
    for n_new, n_slots in [(11, 11), (1, 12), (5, 17)]:
        network.grow(n_new)
        assert network.n_slots == n_slots
    output = network(images())
    assert output.logits.shape == (2, 17, 16, 16)
    assert output.features.shape[0] == 2 and output.features.shape[2:] == (16, 16)
    assert upsample(output.logits, (64, 64)).shape == (2, 17, 64, 64)


@pytest.mark.parametrize("name", TINY)
def test_other_image_sizes_than_the_training_crop(name):
    network = tiny(name, 3, image_size=32).eval()
    assert network(images(1, 64)).logits.shape == (1, 3, 16, 16)


def test_deeplab_background_initialisation_keeps_old_classes_and_shares_the_background():
    network = tiny("deeplab-tiny", 4)
    before = logits(network)
    network.grow(2, "background")
    after = logits(network)
    torch.testing.assert_close(after[:, 1:4], before[:, 1:4])
    share = before[:, 0] - math.log(3)
    for slot in (0, 4, 5):
        torch.testing.assert_close(after[:, slot], share)
    p_before, p_after = before.softmax(1), after.softmax(1)
    torch.testing.assert_close(p_after[:, [0, 4, 5]].sum(1), p_before[:, 0])
    torch.testing.assert_close(p_after[:, 1:4], p_before[:, 1:4])


def test_deeplab_random_initialisation_keeps_all_old_logits():
    network = tiny("deeplab-tiny", 4)
    before = logits(network)
    network.grow(2, "random")
    after = logits(network)
    torch.testing.assert_close(after[:, :4], before)
    assert not torch.allclose(after[:, 4], before[:, 0], atol=1e-3)


def grown_segmenter(init):
    network = tiny("segmenter-tiny", 4)
    decoder = network.decoder
    with torch.no_grad():
        for weight, bias in zip(decoder.norm_weight, decoder.norm_bias, strict=True):
            weight.uniform_(1, 2)
            bias.uniform_(-1, 1)
    before = copy.deepcopy(decoder.state_dict())
    network.grow(2, init)
    return network, before


def test_segmenter_background_initialisation_copies_the_background_and_leaves_it_alone():
    network, before = grown_segmenter("background")
    decoder = network.decoder
    assert torch.equal(decoder.class_tokens[2], before["class_tokens.0"].expand(2, -1))
    assert torch.equal(decoder.norm_weight[2], before["norm_weight.0"].expand(2))
    assert torch.equal(decoder.norm_bias[2], before["norm_bias.0"].expand(2))
    for key in ("class_tokens.1", "norm_weight.1", "norm_bias.1", "class_tokens.0", "norm_weight.0", "norm_bias.0"):
        assert torch.equal(decoder.state_dict()[key], before[key])
    after = logits(network)
    torch.testing.assert_close(after[:, 4:], after[:, :1].expand(-1, 2, -1, -1), rtol=1e-3, atol=1e-3)


def test_segmenter_copy_is_the_token_alone_and_random_is_neither():
    network, before = grown_segmenter("copy")
    decoder = network.decoder
    assert torch.equal(decoder.class_tokens[2], before["class_tokens.0"].expand(2, -1))
    assert decoder.norm_weight[2].tolist() == [1, 1] and decoder.norm_bias[2].tolist() == [0, 0]
    assert torch.equal(decoder.norm_bias[0], before["norm_bias.0"])
    network, before = grown_segmenter("random")
    tokens = network.decoder.class_tokens[2]
    assert not torch.equal(tokens[0], tokens[1])
    assert 0.01 < tokens.std().item() < 0.03
    assert torch.equal(network.decoder.norm_bias[0], before["norm_bias.0"])


@pytest.mark.parametrize("name", TINY)
def test_growing_keeps_the_parameters_that_exist(name):
    network = tiny(name, 4)
    before = dict(network.named_parameters())
    network.grow(2)
    after = dict(network.named_parameters())
    assert all(after[key] is value for key, value in before.items()) and len(after) > len(before)


@pytest.mark.parametrize("name", TINY)
def test_new_slots_learn_apart_although_they_start_equal(name):
    network = tiny(name, 3, 2).train()
    output = upsample(network(images()).logits, (64, 64))
    labels = torch.full((2, 64, 64), 3)
    labels[:, 32:] = 4
    torch.nn.functional.cross_entropy(output, labels).backward()
    groups = network.classifier.steps[1].weight if name == "deeplab-tiny" else network.decoder.class_tokens[2]
    assert not torch.allclose(groups.grad[0], groups.grad[1])


@pytest.mark.parametrize("name", TINY)
def test_state_loads_back_after_replaying_the_growth(name):
    source = tiny(name, 4, 1, 2)
    for parameter in source.parameters():
        parameter.data.add_(0.01)
    source.train()(images())  # moves the running statistics
    target = build(NetworkConfig(name, "none", 64))
    for n_new in (4, 1, 2):
        target.grow(n_new, "random")
    target.load_state_dict(source.state_dict(), strict=True)
    assert torch.equal(logits(target), logits(source))


@pytest.mark.parametrize("name", TINY)
def test_deepcopy_is_independent(name):
    network = tiny(name, 4)
    teacher = copy.deepcopy(network)
    before = logits(teacher)
    network.grow(2)
    for parameter in network.parameters():
        parameter.data.mul_(1.5)
    assert teacher.n_slots == 4
    assert torch.equal(logits(teacher), before)


@pytest.mark.parametrize("name", TINY)
def test_every_parameter_is_of_the_encoder_or_of_the_head_and_gets_a_gradient(name):
    network = tiny(name, 4, 2).train()
    parts = [*network.encoder_parameters(), *network.head_parameters()]
    assert len(parts) == len({id(p) for p in parts})
    assert {id(p) for p in parts} == {id(p) for p in network.parameters()}
    network(images()).logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parts)


@pytest.mark.parametrize("name", TINY)
def test_bfloat16_autocast_gives_float32_logits_near_the_float32_ones(name):
    network = tiny(name, 4, 2).eval()
    with torch.autocast("cpu", torch.bfloat16):
        output = network(images())
    assert output.logits.dtype == torch.float32
    output.logits.square().mean().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
    difference = (output.logits.detach() - logits(network)).abs().mean()
    assert difference < 0.1 * logits(network).std()


@pytest.mark.parametrize("name", TINY)
def test_compiles_into_one_graph(name):
    network = tiny(name, 4, 2).eval()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(images()).logits, logits(network))


@pytest.mark.parametrize(
    ("name", "encoder", "head", "per_class"),
    # as in the official code: encoder and head without classes; a class token has an affine of two numbers
    [("deeplab", 42_500_160, 15_535_104, 257), ("segmenter", None, 15_947_520, 770)],
)
def test_full_networks_have_the_published_sizes(name, encoder, head, per_class):
    with torch.device("meta"):
        network = build(NetworkConfig(name, "none", 512))
        network.grow(16)
        network.grow(1)
    count = sum(p.numel() for p in network.head_parameters())
    assert count == head + 17 * per_class
    if encoder:
        assert sum(p.numel() for p in network.encoder_parameters()) == encoder
        assert network.head.eval_window == 32


def test_the_tiny_deeplab_has_no_published_weights():
    name = "deeplab-tiny"
    assert weights_digest(NetworkConfig(name)) == weights_digest(NetworkConfig(name, "none")) == "random"
    torch.manual_seed(0)
    assert torch.equal(logits_of_fresh(NetworkConfig(name, "default", 64)), logits(tiny(name, 3)))


def test_the_tiny_segmenter_starts_from_the_tiny_clip_as_lbd_does():
    assert weights_digest(NetworkConfig("segmenter-tiny")) == weights_digest(NetworkConfig("clip-tiny")) != "random"
    torch.manual_seed(0)
    assert not torch.equal(logits_of_fresh(NetworkConfig("segmenter-tiny", "default", 64)), logits(tiny(TINY[1], 3)))


def logits_of_fresh(config):
    network = build(config)
    network.grow(3)
    return logits(network)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_encoder_weights_load_from_a_file(tmp_path, name, suffix):
    state = build(NetworkConfig(name, "none", 64)).encoder.state_dict()
    path = tmp_path / f"encoder.{suffix}"
    extra = {**state, "head.weight": torch.zeros(2, 2)}  # a classifier in the file is left out
    save_file(extra, path) if suffix == "safetensors" else torch.save(extra, path)
    config = NetworkConfig(name, str(path), 64)
    loaded = build(config).encoder.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    assert weights_digest(config) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_position_embeddings_are_resampled_to_the_image_size(tmp_path):
    state = build(NetworkConfig("segmenter-tiny", "none", 64)).encoder.state_dict()
    save_file(state, tmp_path / "encoder.safetensors")
    network = build(NetworkConfig("segmenter-tiny", str(tmp_path / "encoder.safetensors"), 32))
    assert network.encoder.pos_embed.shape == (1, 1 + 64, 128)  # with the class token's
    assert torch.equal(network.encoder.blocks[0].attn.qkv.weight, state["blocks.0.attn.qkv.weight"])


def test_weights_that_leave_tensors_random_are_refused(tmp_path):
    state = build(NetworkConfig("deeplab-tiny", "none", 64)).encoder.state_dict()
    del state["layer4.0.conv1.weight"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match=r"part\.safetensors do not fit the network: 1 tensors .* layer4\.0\.conv1"):
        build(NetworkConfig("deeplab-tiny", str(tmp_path / "part.safetensors"), 64))


def test_unreadable_and_missing_weights_are_refused_in_one_line(tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not weights")
    other = tmp_path / "other.safetensors"
    save_file(build(NetworkConfig("segmenter-tiny", "none", 64)).encoder.state_dict(), other)
    wide = tmp_path / "wide.safetensors"
    save_file({"conv1.0.weight": torch.zeros(99, 3, 3, 3)}, wide)
    for path, message in [
        (broken, "cannot be loaded"),
        (other, "do not fit"),
        (wide, "cannot be loaded"),
        (tmp_path / "absent.safetensors", "no such file"),
    ]:
        with pytest.raises(InputError, match=message) as error:
            build(NetworkConfig("deeplab-tiny", str(path), 64))
        assert path.name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("offline", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "https://hub.invalid"}])
def test_published_weights_offline_and_uncached_say_what_to_do(tmp_path, offline):
    """Told to stay offline, or where the hub cannot be found: at once, and without the hub's own words."""
    code = (
        "from methods.nn.network import NetworkConfig, build\n"
        "from protocols.errors import InputError\n"
        "for name in ('deeplab', 'segmenter', 'clip'):\n"
        "    try:\n"
        "        build(NetworkConfig(name))\n"
        "    except InputError as error:\n"
        "        print(error)\n"
    )
    environment = {
        **os.environ,
        **offline,
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    for name in ("HF_HUB_CACHE", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        environment.pop(name, None)
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    lines = result.stdout.splitlines()
    assert len(lines) == 3 and "Retry" not in result.stderr
    for line, published in zip(lines, ("resnet101.tv_in1k", *["ViT-B-16-quickgelu/openai"] * 2), strict=True):
        assert published in line and str(tmp_path) in line
        assert "pretrained=/path/to/it" in line and "pretrained=none" in line


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (NetworkConfig("deeplap", "none"), "unknown network 'deeplap': did you mean 'deeplab'"),
        (NetworkConfig("segmenter-tiny", "none", 66), "66 is not a multiple of the segmenter's patch of 4 pixels"),
    ],
)
def test_unfit_configurations_are_refused(config, message):
    with pytest.raises(InputError, match=message):
        build(config)


@pytest.mark.parametrize("name", TINY)
def test_unknown_initialisation_is_refused_and_changes_nothing(name):
    network = tiny(name, 3)
    with pytest.raises(InputError, match="backround"):
        network.grow(1, "backround")
    assert network.n_slots == 3


@torch.no_grad()
@pytest.mark.parametrize("name", TINY)
def test_taps_are_there_if_asked_for_and_change_nothing(name):
    network = tiny(name, 3).eval()
    for block in network.encoder.modules():
        if isinstance(block, BasicBlock):
            block.bn2.weight.fill_(2.0)  # zero in a fresh network: the branch would add nothing
    plain, tapped = network(images()), network(images(), taps=True)
    assert plain.taps == () and len(tapped.taps) == 4
    assert torch.equal(plain.logits, tapped.logits) and torch.equal(plain.encoded, tapped.encoded)
    if name.startswith("deeplab"):
        assert [tap.shape[1] for tap in tapped.taps] == [16, 32, 64, 64]
        assert all(tap.min() < 0 for tap in tapped.taps)  # before the activation, which has not overwritten them
        assert torch.equal(tapped.taps[-1].relu(), tapped.encoded)
        assert torch.equal(network.class_vectors(), network.classifier.steps[0].weight[..., 0, 0])
        assert tapped.classes is None
    else:
        assert all(tap.shape == (2, 128, 16, 16) for tap in tapped.taps)
        normed = network.encoder.norm(tapped.taps[-1].flatten(2).mT)
        torch.testing.assert_close(normed.mT.unflatten(2, (16, 16)), tapped.encoded)
        assert tapped.classes.shape == (2, 3, 128) and network.class_vectors().shape == (3, 128)


@torch.no_grad()
def test_deeplab_encodes_as_the_resnet_it_is_made_of():
    network = tiny("deeplab-tiny", 3).eval()
    resnet = SIZES["deeplab-tiny"].make_encoder().eval()
    resnet.load_state_dict(network.encoder.state_dict())
    assert torch.equal(network.encode(images())[0], resnet.forward_features(images()))


def test_growing_by_copies_leaves_the_background_as_it_is():
    network = tiny("deeplab-tiny", 3)
    before = network.classifier.steps[0].bias.clone()
    network.grow(2, "copy")
    first, new = network.classifier.steps
    assert torch.equal(first.bias, before) and torch.equal(new.bias, before[:1].expand(2))
    assert torch.equal(new.weight, first.weight[:1].expand(2, -1, -1, -1))


def test_names():
    segmenters = ("segmenter", "segmenter-augreg", "segmenter-tiny")
    assert names() == ("deeplab", "deeplab-tiny", *segmenters, "clip", "clip-tiny")
