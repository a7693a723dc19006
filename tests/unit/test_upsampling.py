"""Upsampling by matrix products, as on a GPU, beside PyTorch's interpolation; when it is used."""

import pytest
import torch
import torch.nn.functional as F

from methods.nn.upsampling import upsample, upsample_by_products


@pytest.mark.parametrize(
    ("small", "large"), [((32, 32), (512, 512)), ((5, 7), (33, 50)), ((1, 3), (16, 9)), ((8, 8), (8, 8))]
)
def test_products_are_the_interpolation_with_its_gradient(small, large):
    logits = torch.randn(2, 4, *small, requires_grad=True)
    weights = torch.randn(2, 4, *large)
    found, expected = upsample_by_products(logits, large), F.interpolate(logits, size=large, mode="bilinear")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad((one * weights).sum(), logits)[0] for one in (found, expected)]
    torch.testing.assert_close(*gradients, atol=1e-3, rtol=1e-4)


def test_products_keep_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert upsample_by_products(torch.randn(1, 2, 4, 4), (16, 16)).dtype == torch.float32


class OnGpu(torch.Tensor):
    """A tensor that says so."""

    is_cuda = True


@pytest.mark.parametrize("where", ["cpu", "gpu"])
def test_products_are_for_gradients_on_a_gpu(where, monkeypatch):
    used = []
    monkeypatch.setattr("methods.nn.upsampling.upsample_by_products", lambda logits, size: used.append(size))
    logits = torch.zeros(1, 1, 4, 4)
    logits = (logits.as_subclass(OnGpu) if where == "gpu" else logits).requires_grad_()
    upsample(logits, (8, 8))
    with torch.no_grad():
        upsample(logits, (9, 9))
    upsample(logits.detach(), (10, 10))
    assert used == ([(8, 8)] if where == "gpu" else [])
