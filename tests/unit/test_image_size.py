"""Losses at the size of the images: in parts they are what they are as a whole, and need the memory of a part."""

import pytest
import torch

import methods
from bench.contract import Trial
from bench.train import loss_values
from methods.base import Batch, Term, cross_entropy_on
from methods.nn import image_size
from methods.nn.image_size import at_image_size
from tests.benchmarks.byte_counts import LiveBytes

PAIRS = [
    (name, backbone)
    for name in ("lwf", "ilt", "mib", "plop", "mbs", "lbd", "lbd-baseline")
    for backbone in methods.get(name).method.backbones
]


def step_of(name, backbone):
    """Weighted loss terms and gradients of one training batch of an increment."""
    trial = Trial(methods.get(name), backbone)
    method = trial.trained(0)
    trial.enter(method, 1)
    method.prepare(trial.steps[1], [trial.batch(1)])
    parts = [trial.batch(1, seed) for seed in range(2)]
    batch = Batch(torch.cat([p.images for p in parts]), torch.cat([p.labels for p in parts]), ("",) * 8)
    values = loss_values(method(batch))
    sum(values.values()).backward()
    return values, {n: p.grad for n, p in method.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("name", "backbone"), PAIRS)
def test_three_images_at_a_time_train_as_all_at_once(monkeypatch, name, backbone):
    whole, gradients = step_of(name, backbone)
    calls = []
    monkeypatch.setattr(image_size, "upsample", lambda low, size: calls.append(len(low)) or _upsample(low, size))
    monkeypatch.setattr(image_size, "PART_BYTES", 3 * 64 * 64 * 4 * 27)  # 16 slots and the 11 of the teacher
    split, split_gradients = step_of(name, backbone)
    assert calls.count(3) >= 2 * calls.count(2) > 0  # 3, 3 and 2 of the 8 images
    assert list(split) == list(whole)
    for term, value in whole.items():
        torch.testing.assert_close(split[term], value, rtol=1e-5, atol=1e-7)
    assert split_gradients.keys() == gradients.keys()
    for parameter, gradient in gradients.items():
        torch.testing.assert_close(split_gradients[parameter], gradient, rtol=1e-3, atol=1e-5)


_upsample = image_size.upsample


def test_parts_are_put_together_in_order(monkeypatch):
    monkeypatch.setattr(image_size, "PART_BYTES", 1)  # one image at a time
    labels = torch.arange(3)[:, None, None].expand(3, 4, 4)
    low = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 2, 2, 2)

    def function(labels, logits):
        term = Term(logits.sum(), torch.tensor(len(labels)), weight=5.0)
        return labels + 1, {"term": term, "pixel": logits[:, 0]}

    with torch.no_grad():
        maps, named = at_image_size(function, labels, low)
    assert torch.equal(maps, labels + 1)
    assert torch.equal(named["pixel"], low[:, :1, :1, :1].expand(3, 1, 4, 4)[:, 0])
    # every image adds 2 x 4 x 4 entries of its number: 32 x (0 + 1 + 2), over 3 images, times 5
    assert named["term"].value.item() == 5 * 96 / 3


def test_a_part_is_dropped_before_the_next(monkeypatch):
    """Of 8 images, computed one by one, less than one upsampled map is kept, and no more than a few exist at a time."""
    low = torch.randn(8, 21, 4, 4, requires_grad=True)
    labels = torch.randint(21, (8, 64, 64))
    one_map = 21 * 64 * 64 * 4

    def taken(part_bytes):
        """Bytes that are held after the loss, and at most while it is computed."""
        monkeypatch.setattr(image_size, "PART_BYTES", part_bytes)
        with LiveBytes([low, labels]) as memory:
            before = memory.now
            term = at_image_size(cross_entropy_on, labels, low)
            held = memory.now - before
            term.value.backward()
        return held, memory.peak - before

    assert min(taken(2**40)) > 8 * one_map
    held, peak = taken(1)
    assert held < one_map and peak < 6 * one_map


def test_terms_of_a_part_have_gradients_of_their_own(monkeypatch):
    """Each is scaled by what comes back to it, also where one of them does not depend on a map; constants have none."""
    monkeypatch.setattr(image_size, "PART_BYTES", 1)
    one, other = (torch.randn(3, 2, 4, 4, requires_grad=True) for _ in range(2))
    labels = torch.zeros(3, 4, 4, dtype=torch.int64)

    def function(labels, x, y):
        return {"a": Term((x * y).sum(), torch.tensor(2.0)), "b": Term(y.square().sum(), y.new_full((), 4.0))}

    terms = at_image_size(function, labels, one, other)
    assert not terms["a"].count.requires_grad and not terms["b"].count.requires_grad
    (3 * terms["a"].sum + 5 * terms["b"].sum).backward()
    torch.testing.assert_close(one.grad, 3 * other)
    torch.testing.assert_close(other.grad, 3 * one + 10 * other)
    frozen = one.detach()
    other.grad = None
    at_image_size(function, labels, frozen, other)["a"].sum.backward()
    torch.testing.assert_close(other.grad, frozen)
