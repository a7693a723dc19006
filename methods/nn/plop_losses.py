"""PLOP's building blocks: the entropy of a pixel, and distillation of locally pooled features.

Source: Douillard et al., PLOP: Learning without Forgetting for Continual Semantic Segmentation, CVPR 2021
(arXiv 2011.11390), with the normalisations of its official code where they differ from the paper.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

EPSILON = 1e-8  # inside the logarithms of the entropy
SCALES = (1, 2, 4)


def pixel_entropy(probabilities: Tensor) -> Tensor:
    """Entropy per pixel, -(1 / log(K + 1e-8)) mean_c p_c log(p_c + 1e-8), as PLOP's official code computes it.

    The mean over classes, where entropy has a sum, leaves values in [0, 1/K].

    probabilities (B, K, H, W), of any floating type. Returns (B, H, W) float32.
    """
    p = probabilities.float()
    return -torch.xlogy(p, p + EPSILON).mean(dim=1) / math.log(p.shape[1] + EPSILON)


def local_pod(features: Tensor, scales: Sequence[int] = SCALES) -> Tensor:
    """Local POD embedding: means over width and over height inside the s x s regions of each scale s.

    A scale cuts the map into squares of k = min(h, w) // s pixels and drops the rows and columns that are left over;
    a scale finer than the map adds nothing. Linear in `features`.

    features (B, C, h, w) -> (B, D) float32, D the sum over scales of 2 s^2 C k: scales as given, regions row by row,
    in each the mean over width (C, k), then that over height (C, k).
    """
    x = features.float()
    parts = []
    for rows, columns in _strip_means(x, scales):  # (B, C, s, k, s) and (B, C, s, s, k)
        strips = torch.stack([rows.permute(0, 2, 4, 1, 3), columns.permute(0, 2, 3, 1, 4)], dim=3)
        parts.append(strips.flatten(1))  # (B, s, s, 2, C, k)
    return torch.cat(parts, dim=1)


def _strip_means(x: Tensor, scales: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """For each scale the means over the width of its regions (B, C, s, k, s) and over their height (B, C, s, s, k).

    Where every region of one scale is made of whole regions of the finest, its means are means of the finest ones, so
    the map itself is read (and its gradient written) twice, not twice a scale.
    """
    side, finest = min(x.shape[2:]), max(scales)
    base = _regions(x, finest) if side % finest == 0 else None
    pairs = []
    for scale in scales:
        if side // scale == 0:
            continue
        if base is None or finest % scale:
            pairs.append(_regions(x, scale))
            continue
        step, k = finest // scale, side // scale
        rows, columns = base
        rows = rows.flatten(2, 3).unflatten(2, (scale, k)).unflatten(4, (scale, step)).mean(dim=5)
        columns = columns.flatten(3, 4).unflatten(3, (scale, k)).unflatten(2, (scale, step)).mean(dim=3)
        pairs.append((rows, columns))
    return pairs


def _regions(x: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    k = min(x.shape[2:]) // scale
    grid = x[:, :, : scale * k, : scale * k].unflatten(3, (scale, k)).unflatten(2, (scale, k))  # (B, C, s, k, s, k)
    return grid.mean(dim=5), grid.mean(dim=3)


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
    `last_factor` at the last level. POD is linear, so it is applied once, to the difference of the squares.

    old_features, new_features: L maps each, (B, C_l, h_l, w_l), the last (B, n_old, h, w) and (B, n_old + n_new, h, w);
    the old ones are taken as constants. n_old counts the background, n_new >= 1. Returns a float32 scalar.
    """
    pairs = list(zip(old_features, new_features, strict=True))
    pairs[-1] = (pairs[-1][0], _merge_new_into_background(pairs[-1][1].float(), n_old))
    factors = [factor] * (len(pairs) - 1) + [last_factor]
    scale = math.sqrt((n_old + n_new) / n_new) / len(pairs)
    total = 0.0
    for weight, (old, new) in zip(factors, pairs, strict=True):
        new, old = new.float(), old.detach().float()
        difference = new.square().sub_(old.square())
        total = total + weight * torch.linalg.vector_norm(local_pod(difference, scales), dim=1).mean()
    return scale * total


def _merge_new_into_background(logits: Tensor, n_old: int) -> Tensor:
    """Sums the raw logits of the new slots into slot 0: (B, K, h, w) -> (B, n_old, h, w)."""
    background = logits[:, :1] + logits[:, n_old:].sum(dim=1, keepdim=True)
    return torch.cat([background, logits[:, 1:n_old]], dim=1)
