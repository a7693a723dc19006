"""From the network's resolution to that of the image."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.nn.precision import full_precision


def upsample(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (B, K, h, w) -> (B, K, H, W), size = (H, W): bilinear, align_corners=False (MiB, PLOP, MBS).

    Where a GPU will want the gradient, as two matrix products: PyTorch's own backward adds up there with atomic
    operations, some thousand to a cell, in an order that differs from run to run.
    """
    if logits.is_cuda and logits.requires_grad and torch.is_grad_enabled():
        return upsample_by_products(logits, size)
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def upsample_by_products(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """The same values up to rounding: rows and columns by a matrix each. logits (B, K, h, w) float32."""
    rows, columns = (
        _interpolation(short, long, logits.device) for short, long in zip(logits.shape[2:], size, strict=True)
    )
    with full_precision(logits):
        return rows @ (logits @ columns.T)


@lru_cache(maxsize=16)
def _interpolation(short: int, long: int, device: torch.device) -> Tensor:
    """The linear map from `short` samples to `long` ones, (long, short) float32; no row has more than two entries."""
    with torch.inference_mode(False), torch.no_grad():
        impulses = torch.eye(short, device=device)[:, None]  # (short, 1, short): one sample at a time
        return F.interpolate(impulses, size=long, mode="linear", align_corners=False)[:, 0].T.contiguous()
