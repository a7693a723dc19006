"""LBD's background prototypes, worked by hand: aggregation, mask pooling, MMBD, k-means."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.lbd.background import aggregate_background, kmeans, mask_pool, separation
from tests.lbd import unit


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
