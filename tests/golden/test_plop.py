"""PLOP's functions: worked by hand, against direct forms, and against the official values."""

import math

import pytest
import torch

from methods.nn.losses import local_pod, pixel_entropy, pod_distillation
from methods.plop import EntropyScores, _official_thresholds, entropy_pseudo_labels, entropy_thresholds
from protocols.errors import InputError
from tests.golden.official import assert_golden, golden


def logits_of(*probabilities):
    """One row of pixels (1, K, 1, W) whose softmax is `probabilities`, K numbers each."""
    return torch.tensor(probabilities).T[None, :, None].log()


def score(p, n_current):
    """Score of a pixel with two old slots and probabilities p, 1 - p."""
    return -(p * math.log(p) + (1 - p) * math.log(1 - p)) / 2 / math.log(2) / math.log(n_current)


def test_pixel_entropy_by_hand():
    two = torch.tensor([[0.5, 0.5], [1.0, 0.0]]).T.reshape(1, 2, 1, 2)
    assert pixel_entropy(two).flatten().tolist() == pytest.approx([0.5, 0.0], abs=1e-6)  # the most is 1 / K
    assert pixel_entropy(torch.full((1, 4, 1, 1), 0.25)).item() == pytest.approx(0.25)


def test_local_pod_by_hand():
    features = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]])
    whole = [1.5, 3.5, 5.5, 7.5] + [2.0, 3.0, 6.0, 7.0]  # means over width, channel by channel; then over height
    pixels = [1, 5, 1, 5, 2, 6, 2, 6, 3, 7, 3, 7, 4, 8, 4, 8]  # a region of one pixel: both means are the pixel
    assert local_pod(features, (1, 2)).tolist() == [whole + pixels]
    assert local_pod(features, (1, 2, 4)).tolist() == [whole + pixels]  # a scale finer than the map adds nothing


def direct_local_pod(features, scales):
    parts = []
    for scale in scales:
        k = min(features.shape[2:]) // scale
        for i in range(scale):
            for j in range(scale):
                region = features[:, :, i * k : (i + 1) * k, j * k : (j + 1) * k]
                parts += [region.mean(3).flatten(1), region.mean(2).flatten(1)]
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("size", [(8, 8), (9, 9), (11, 11), (16, 12), (8, 13)])
@pytest.mark.parametrize("scales", [(1, 2, 4), (1, 3), (2, 3), (1,)])
def test_local_pod_equals_its_direct_form(size, scales):
    features = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64).float()
    torch.testing.assert_close(local_pod(features, scales), direct_local_pod(features, scales))


def test_pod_distillation_by_hand():
    old = [torch.tensor([1.0]), torch.tensor([1.0, 2.0])]
    new = [torch.tensor([2.0]), torch.tensor([1.0, 0.0, 2.0])]
    old, new = ([m.view(1, -1, 1, 1) for m in maps] for maps in (old, new))
    # level 1: 4 - 1 = 3, twice (both means); level 2: new logits merge to (3, 0), squares differ by (8, -4), twice
    expected = math.sqrt(3 / 1) / 2 * (0.1 * math.sqrt(18) + 0.5 * math.sqrt(160))
    loss = pod_distillation(old, new, n_old=2, n_new=1, factor=0.1, last_factor=0.5)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("size", [(8, 8), (9, 9), (3, 3), (16, 12), (8, 13)])
@pytest.mark.parametrize("scales", [(1, 2, 4), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pod_distillation_equals_its_direct_form_gradient_included(size, scales, dtype):
    generator = torch.Generator().manual_seed(0)
    old = [torch.randn(2, channels, *size, generator=generator).to(dtype) for channels in (5, 2)]
    new = [torch.randn(2, channels, *size, generator=generator).to(dtype) for channels in (5, 3)]
    levels = [m.clone().requires_grad_() for m in new]
    pod_distillation(old, levels, 2, 1, 0.3, 0.1, scales).backward()

    direct = [m.double().requires_grad_() for m in new]
    merged = [direct[0], torch.stack([direct[1][:, 0] + direct[1][:, 2], direct[1][:, 1]], dim=1)]
    distances = [
        (direct_local_pod(n.square(), scales) - direct_local_pod(o.double().square(), scales)).norm(dim=1).mean()
        for n, o in zip(merged, old, strict=True)
    ]
    (math.sqrt(3 / 1) / 2 * (0.3 * distances[0] + 0.1 * distances[1])).backward()
    for found, expected in zip(levels, direct, strict=True):
        assert found.grad.dtype == dtype
        tolerance = {} if dtype == torch.float32 else {"rtol": 2**-7, "atol": 1e-4}  # bfloat16 keeps 8 bits
        torch.testing.assert_close(found.grad.double(), expected.grad.to(torch.float32).double(), **tolerance)


def test_pod_distillation_of_equal_maps_is_zero_with_a_finite_gradient():
    old = torch.randn(1, 2, 4, 4)
    new = torch.cat([old, torch.zeros(1, 1, 4, 4)], dim=1).requires_grad_()
    loss = pod_distillation([old], [new], 2, 1, 1.0, 1.0)
    loss.backward()
    assert loss.item() == 0 and new.grad.isfinite().all()


def test_exact_thresholds_by_hand():
    # predicted 1: three pixels, the median is that of 0.8; predicted 0: two pixels, the lower median is that of 0.95
    old_logits = logits_of((0.4, 0.6), (0.2, 0.8), (0.1, 0.9), (0.7, 0.3), (0.95, 0.05), (0.5001, 0.4999), (0.01, 0.99))
    labels = torch.tensor([[[0, 0, 0, 0, 0, 2, 255]]])  # new classes and ignored pixels do not count
    thresholds = entropy_thresholds(old_logits, labels, 3, 0.001, "exact")
    assert thresholds.tolist() == pytest.approx([score(0.95, 3), score(0.8, 3), 0.001], rel=1e-5)
    floor = (score(0.9, 3) + score(0.8, 3)) / 2
    assert score(0.95, 3) < floor
    thresholds = entropy_thresholds(old_logits, labels, 3, floor, "exact")
    assert thresholds.tolist() == pytest.approx([floor, score(0.8, 3), floor], rel=1e-5)


@pytest.mark.parametrize(
    ("counts", "threshold"),
    [
        ({1: 4}, 0.01 + 0.01 * 2 / 4),  # S_1 = 0, n/2 = 2
        ({2: 20000}, 0.02 + 0.01 * (10000 - 1) / 20000),  # S_2 = 0 + 1
        ({0: 2, 5: 8}, 0.001),  # S_4 = 6 > 5: no bin fits, (5 - 4950) / 0 is below the floor
        ({0: 4000, 1: 4000, 2: 4000}, math.inf),  # (6000 - 4950) / 0
        ({0: 3300, 1: 3300, 2: 3300}, math.nan),  # (4950 - 4950) / 0
        ({28: 1000}, 0.28 + 0.01 * (500 - 378) / 1000),
        ({29: 1000}, 0.001),  # S_29 = 406 < 500, but the count is looked up in bin 28
        ({}, 0.001),
    ],
)
def test_official_thresholds_by_hand(counts, threshold):
    histogram = torch.zeros(2, 100, dtype=torch.int64)
    for bin, count in counts.items():
        histogram[1, bin] = count
    found = _official_thresholds(histogram, 0.001)
    assert found.tolist() == pytest.approx([0.001, threshold], rel=1e-5, nan_ok=True)


@pytest.mark.parametrize("rule", ["exact", "official"])
@pytest.mark.parametrize("floor", [0.0, 0.001, 0.07])
def test_streamed_thresholds_are_those_of_the_concatenated_batches(rule, floor):
    generator = torch.Generator().manual_seed(0)
    old_logits = 3 * torch.randn(12, 4, 9, 7, generator=generator)
    labels = torch.randint(0, 6, (12, 9, 7), generator=generator)
    labels[::2] = 0
    scores = EntropyScores(6, floor, rule)
    for batch in (slice(0, 5), slice(5, 6), slice(6, 12)):
        scores.add(old_logits[batch], labels[batch])
    whole = entropy_thresholds(old_logits, labels, 6, floor, rule)
    assert torch.equal(scores.thresholds(), whole)
    if rule == "exact":
        p = old_logits.softmax(1)
        s, c = pixel_entropy(p) / math.log(6), p.argmax(1)
        medians = [s[(labels == 0) & (c == k)].median().item() for k in range(4)]
        assert whole.tolist() == pytest.approx([max(m, floor) for m in medians] + [floor] * 2, rel=1e-6)


def test_an_unknown_rule_is_refused():
    with pytest.raises(InputError, match="exactt"):
        entropy_thresholds(torch.zeros(1, 2, 1, 1), torch.zeros(1, 1, 1), 3, 0.001, "exactt")


def test_entropy_pseudo_labels_by_hand():
    old_logits = logits_of((0.1, 0.9), (0.9, 0.1), (0.4, 0.6), (0.1, 0.9), (0.1, 0.9), (0.1, 0.9)).repeat(2, 1, 1, 1)
    labels = torch.tensor([[[0, 0, 0, 1, 2, 255]], [[2, 2, 2, 2, 255, 255]]])
    thresholds = torch.tensor([score(0.9, 3) * 1.01, score(0.6, 3) * 0.99, 0.0])
    after, factor = entropy_pseudo_labels(old_logits, labels, thresholds, 3)
    assert after.tolist() == [[[1, 0, 255, 1, 2, 255]], [[2, 2, 2, 2, 255, 255]]]
    assert factor.tolist() == pytest.approx([3 / 4, 0.0])
    assert labels[0, 0, 0] == 0  # not in place
    nothing, factor = entropy_pseudo_labels(old_logits, labels, torch.full((3,), math.nan), 3)
    assert nothing[0, 0].tolist() == [255, 255, 255, 255, 2, 255] and factor.tolist() == [0, 0]
    everything, factor = entropy_pseudo_labels(old_logits, labels, torch.full((3,), math.inf), 3)
    assert everything[0, 0].tolist() == [1, 0, 1, 1, 2, 255] and factor.tolist() == pytest.approx([1, 0])


def test_pixel_entropy_golden(shared):
    case = golden(shared, "pixel_entropy")
    assert_golden(pixel_entropy(case["probabilities"]), case["entropy"])


@pytest.mark.parametrize("name", ["local_pod", "local_pod_remainder"])
def test_local_pod_golden(shared, name):
    case = golden(shared, name)
    assert_golden(local_pod(case["features"]), case["embedding"])


@pytest.mark.parametrize("dataset", ["voc", "ade"])
def test_pod_distillation_golden(shared, dataset):
    case = golden(shared, f"pod_distillation_{dataset}")
    old, new = [case[f"old_{i}"] for i in range(6)], [case[f"new_{i}"].requires_grad_() for i in range(6)]
    loss = pod_distillation(old, new, case["n_old"], case["n_new"], case["factor"], case["last_factor"])
    loss.backward()
    assert_golden(loss, case["loss"])
    for i in range(6):
        assert_golden(new[i].grad, case[f"grad_{i}"], gradient=True)


@pytest.mark.parametrize("name", ["confident", "spread", "spread_large", "edge", "voc_like", "many_classes"])
def test_entropy_thresholds_golden(shared, name):
    case = golden(shared, f"entropy_thresholds_{name}")
    arguments = case["old_logits"], case["labels"], case["n_current"], case["floor"]
    assert_golden(entropy_thresholds(*arguments, "official"), case["thresholds_official"], nan=True)
    exact = torch.full((case["n_current"],), case["floor"])
    medians = case["exact_medians"].nan_to_num(nan=0.0).clamp(min=case["floor"])
    exact[: len(medians)] = medians.float()
    assert_golden(entropy_thresholds(*arguments, "exact"), exact)


def test_entropy_pseudo_labels_golden(shared):
    case = golden(shared, "entropy_pseudo_labels")
    after, factor = entropy_pseudo_labels(case["old_logits"], case["labels"], case["thresholds"], case["n_current"])
    assert torch.equal(after, case["labels_after"])
    assert_golden(factor, case["adaptive_factor"])
