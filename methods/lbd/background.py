"""MMBD: the background as several prototypes, kept apart from the classes by what lies under the masks.

The abstract of LBD names "multiple learnable prototypes and mask-pooling-based supervision for background-incremental
class disentanglement". We read this as: the background is a union of K manifolds with one prototype each; features
pooled under a mask are drawn to the prototypes of their own side, and driven from the other. Equation numbers are those
of README.md beside this file. Every vector is in the joint space of CLIP, of width D.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

AGGREGATIONS = ("lse", "max")
KMEANS_ROUNDS = 10


def aggregate_background(scores: Tensor, n_backgrounds: int, how: str = "lse") -> Tensor:
    """Scores of K background prototypes and n classes -> scores of 1 + n slots (E1).

    scores (..., K + n), the backgrounds first, divided by the temperature. "lse": log-sum-exp less log K, so that K
    equal prototypes count as one; "max": the best of them.
    """
    backgrounds, classes = scores.split([n_backgrounds, scores.shape[-1] - n_backgrounds], dim=-1)
    if how == "max":
        background = backgrounds.amax(dim=-1, keepdim=True)
    else:
        background = backgrounds.logsumexp(dim=-1, keepdim=True) - math.log(n_backgrounds)
    return torch.cat([background, classes], dim=-1)


def mask_pool(features: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Unit means of features under soft masks (E8).

    features (B, N, D); masks (B, R, N) >= 0. Returns (B, R, D) float32, 0 where a mask is empty, and whether each mask
    holds anything, bool (B, R).
    """
    weight = masks.sum(dim=2)
    pooled = masks @ features / weight.clamp(min=1e-6)[:, :, None]
    valid = weight > 1e-6
    return F.normalize(pooled, dim=2) * valid[:, :, None], valid


class Separation(NamedTuple):
    """The four terms of MMBD, float32 scalars; the first two as sums, with their counts."""

    foreground: Tensor  # E9, summed over the pooled new classes
    n_foreground: Tensor
    background: Tensor  # E10, summed over the pooled backgrounds
    n_background: Tensor
    spread: Tensor  # E11
    apart: Tensor  # E12


def separation(
    features: Tensor, labels: Tensor, classes: Tensor, backgrounds: Tensor, n_old: int, temperature: Tensor
) -> Separation:
    """The terms of MMBD for one batch (E7 to E12).

    features (B, N, D) unit, of N patches; labels (B, N) slots, 255 belongs to neither side; classes (n, D) unit
    prototypes of the seen classes, n_old of them old; backgrounds (K, D) unit.
    """
    new_slots = torch.arange(n_old + 1, len(classes) + 1, device=labels.device)
    foreground_masks = (labels[:, None] == new_slots[:, None]).float()  # (B, n_new, N)
    with torch.no_grad():
        nearest = (features @ backgrounds.T / temperature).softmax(dim=2)  # (B, N, K)
        background_masks = nearest.mT * (labels[:, None] == 0)  # (B, K, N)
    anchors = torch.cat([backgrounds, classes])  # (K + n, D)
    pooled, valid = mask_pool(features, torch.cat([foreground_masks, background_masks], dim=1))
    scores = (pooled @ anchors.T / temperature).log_softmax(dim=2)  # (B, n_new + K, K + n)
    n_new, n_backgrounds = len(new_slots), len(backgrounds)
    own = scores[:, :n_new, n_backgrounds + n_old :].diagonal(dim1=1, dim2=2)  # (B, n_new)
    behind = scores[:, n_new:, :n_backgrounds].logsumexp(dim=2)  # (B, K)
    valid_new, valid_background = valid[:, :n_new], valid[:, n_new:]
    among = backgrounds @ backgrounds.T
    pairs = n_backgrounds * (n_backgrounds - 1)
    off_diagonal = among - torch.diag(among.diagonal())
    return Separation(
        foreground=-(own * valid_new).sum(),
        n_foreground=valid_new.sum(),
        background=-(behind * valid_background).sum(),
        n_background=valid_background.sum(),
        spread=off_diagonal.clamp(min=0).sum() / max(pairs, 1),
        apart=(backgrounds @ classes[n_old:].detach().T).abs().mean(),
    )


@torch.no_grad()
def kmeans(points: Tensor, k: int) -> Tensor:
    """k unit centres of unit vectors by Lloyd's rounds over cosines, started from k of the points spread evenly through
    them. points (n, D), n >= k. Returns (k, D). An empty cluster keeps its centre."""
    points = points.float()
    centres = points[torch.linspace(0, len(points) - 1, k).long().to(points.device)]
    for _ in range(KMEANS_ROUNDS):
        member = F.one_hot((points @ centres.T).argmax(dim=1), k).to(points.dtype)  # (n, k)
        sums = member.T @ points
        centres = torch.where(member.sum(dim=0)[:, None] > 0, F.normalize(sums, dim=1), centres)
    return centres
