"""PLOP's building blocks: the entropy of a pixel, and distillation of locally pooled features.

Source: Douillard et al., PLOP: Learning without Forgetting for Continual Semantic Segmentation, CVPR 2021
(arXiv 2011.11390), with the normalisations of its official code where they differ from the paper.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

EPSILON = 1e-8  # inside the logarithms of the entropy
SCALES = (1, 2, 4)


def pixel_entropy(probabilities: Tensor) -> Tensor:
    """Entropy per pixel, -(1 / log(K + 1e-8)) mean_c p_c log(p_c + 1e-8), as PLOP's official code computes it.

    The mean over classes, where entropy has a sum, leaves values in [0, 1/K].

    probabilities (B, K, H, W), of any floating type. Returns (B, H, W) float32.
    """
    p = probabilities.float()
    return -(p + EPSILON).log().mul_(p).mean(dim=1) / math.log(p.shape[1] + EPSILON)


def local_pod(features: Tensor, scales: Sequence[int] = SCALES) -> Tensor:
    """Local POD embedding: means over width and over height inside the s x s regions of each scale s.

    A scale cuts the map into squares of k = min(h, w) // s pixels and drops the rows and columns that are left over;
    a scale finer than the map adds nothing. Linear in `features`.

    features (B, C, h, w) -> (B, D) float32, D the sum over scales of 2 s^2 C k: scales as given, regions row by row,
    in each the mean over width (C, k), then that over height (C, k).
    """
    x = features.float().permute(0, 2, 3, 1)
    side = min(x.shape[1:3])
    parts = []
    for rows, columns in _every_scale([_strip_means(x, s) for s in _scales_to_read(side, scales)], side, scales):
        strips = torch.stack([rows.permute(0, 1, 3, 4, 2), columns.permute(0, 1, 2, 4, 3)], dim=3)
        parts.append(strips.flatten(1))  # (B, s, s, 2, C, k)
    return torch.cat(parts, dim=1)


# The strips of a scale: means of its regions over their width (B, s, k, s, C) and over their height (B, s, s, k, C).
# Channels come last, as the encoders leave them in memory: a mean over pixels then adds up rows of channels, which on
# the CPU is an order of magnitude faster than gathering the pixels of each channel.
Strips = tuple[Tensor, Tensor]


def _strip_means(x: Tensor, scale: int) -> Strips:
    """The strips of a map (B, h, w, C) at one scale."""
    k = min(x.shape[1:3]) // scale
    regions = x[:, : scale * k, : scale * k].unflatten(2, (scale, k)).unflatten(1, (scale, k))  # (B, s, k, s, k, C)
    return regions.mean(dim=4), regions.mean(dim=2)


def _scales_to_read(side: int, scales: Sequence[int]) -> list[int]:
    """The scales whose strips must come from the map itself, of a map of `side` pixels.

    Where all regions of a scale are made of whole regions of the finest, its means are means of the finest ones.
    """
    finest = max(scales)
    if side % finest:
        return [scale for scale in scales if scale <= side]
    return [finest] + [scale for scale in scales if finest % scale]


def _every_scale(read: Sequence[Strips], side: int, scales: Sequence[int]) -> Iterator[Strips]:
    """The strips of each scale in turn, from those of `_scales_to_read`, in that order."""
    known = dict(zip(_scales_to_read(side, scales), read, strict=True))
    finest = max(scales)
    for scale in scales:
        if scale > side:
            continue
        if scale not in known:
            step, k = finest // scale, side // scale
            rows, columns = known[finest]
            rows = rows.flatten(1, 2).unflatten(1, (scale, k)).unflatten(3, (scale, step)).mean(dim=4)
            columns = columns.flatten(2, 3).unflatten(2, (scale, k)).unflatten(1, (scale, step)).mean(dim=2)
            known[scale] = rows, columns
        yield known[scale]


class _StripsOfSquares(torch.autograd.Function):
    """Strips of new^2 - old^2 at some scales; the gradient is written once, as 2 new (rows / k + columns / k).

    Without it the difference, its squares and each mean leave a map of full size to go through, forward and backward.
    """

    @staticmethod
    def forward(ctx: Any, new: Tensor, old: Tensor, scales: Sequence[int]) -> tuple[Tensor, ...]:
        """new, old (B, C, h, w) -> rows and columns of each scale in turn, float32."""
        ctx.save_for_backward(new)
        ctx.scales = scales
        difference = new.float().square().sub_(old.float().square()).permute(0, 2, 3, 1)
        return tuple(strip for scale in scales for strip in _strip_means(difference, scale))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (new,) = ctx.saved_tensors
        pixels = new.permute(0, 2, 3, 1)
        total = None
        for scale, rows, columns in zip(ctx.scales, gradients[::2], gradients[1::2], strict=True):
            share = 2 / (min(pixels.shape[1:3]) // scale)
            regions = (rows * share).unsqueeze(4) + (columns * share).unsqueeze(2)  # (B, s, k, s, k, C)
            part = regions.flatten(3, 4).flatten(1, 2)  # (B, s k, s k, C)
            if total is None and part.shape == pixels.shape:
                total = part
                continue
            total = part.new_zeros(pixels.shape) if total is None else total
            total[:, : part.shape[1], : part.shape[2]] += part
        return total.mul_(pixels).permute(0, 3, 1, 2).to(new.dtype), None, None


def _distance_of_squares(old: Tensor, new: Tensor, scales: Sequence[int]) -> Tensor:
    """|POD(old^2) - POD(new^2)|_2 of each image, (B,), from maps (B, C, h, w). POD is linear: one of the difference."""
    side = min(new.shape[2:])
    strips = _StripsOfSquares.apply(new, old, _scales_to_read(side, scales))
    pairs = _every_scale(list(zip(strips[::2], strips[1::2], strict=True)), side, scales)
    return torch.linalg.vector_norm(torch.cat([strip.flatten(1) for pair in pairs for strip in pair], dim=1), dim=1)


def pod_distillation(
    old_features: Sequence[Tensor],
    new_features: Sequence[Tensor],
    n_old: int,
    n_new: int,
    factor: float,
    last_factor: float,
    scales: Sequence[int] = SCALES,
) -> Tensor:
    """Distance between the local POD embeddings of squared maps, averaged over images and levels (PLOP).

    The last level holds logits: the new slots are added to the background, so that both have n_old channels. Level l
    contributes f_l sqrt((n_old + n_new) / n_new) mean_images |POD(a_l^2) - POD(b_l^2)|_2, where f_l is `factor`, and
    `last_factor` at the last level.

    old_features, new_features: L maps each, (B, C_l, h_l, w_l), the last (B, n_old, h, w) and (B, n_old + n_new, h, w);
    the old ones are taken as constants. n_old counts the background, n_new >= 1. Returns a float32 scalar.
    """
    pairs = list(zip(old_features, new_features, strict=True))
    pairs[-1] = (pairs[-1][0], _merge_new_into_background(pairs[-1][1].float(), n_old))
    factors = [factor] * (len(pairs) - 1) + [last_factor]
    scale = math.sqrt((n_old + n_new) / n_new) / len(pairs)
    total = 0.0
    for weight, (old, new) in zip(factors, pairs, strict=True):
        total = total + weight * _distance_of_squares(old.detach(), new, scales).mean()
    return scale * total


def _merge_new_into_background(logits: Tensor, n_old: int) -> Tensor:
    """Sums the raw logits of the new slots into slot 0: (B, K, h, w) -> (B, n_old, h, w)."""
    background = logits[:, :1] + logits[:, n_old:].sum(dim=1, keepdim=True)
    return torch.cat([background, logits[:, 1:n_old]], dim=1)
