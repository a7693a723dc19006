"""MBS's losses: label-guided distillation of the output, weighted distillation of features, orthogonality.

Source: Park et al., Mitigating Background Shift in Class-Incremental Semantic Segmentation, ECCV 2024
(arXiv 2407.11859), with the normalisations of its official code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.nn.precision import full_precision
from protocols.protocol import VOID


def label_guided_distillation(logits: Tensor, old_logits: Tensor, labels: Tensor) -> Tensor:
    """Distillation over all slots; where a new class is labelled, it inherits the teacher's background.

    The target q is softmax(z') on old slots and 0 on new ones, except that at pixels labelled with a new class c the
    probability of the background moves to c. The loss is -mean over pixels (ignored ones too) and all K slots of
    q log softmax(z). Since q sums to one, that is (lse(z) - sum_c q_c z_c) / K per pixel: neither q nor log softmax(z)
    is formed.

    logits (B, K, H, W); old_logits (B, n_old, H, W), taken as constants; labels (B, H, W), the ground truth of the
    step: 0, new slots, 255. Returns a float32 scalar in nats.
    """
    z, n_old = logits.float(), old_logits.shape[1]
    background, old = old_logits.detach().float().softmax(dim=1).split([1, n_old - 1], dim=1)
    new = (labels >= n_old) & (labels != VOID)
    heir = torch.where(new, labels, 0).long()[:, None]  # (B, 1, H, W): the slot that gets the background's share
    expected = (old * z[:, 1:n_old]).sum(dim=1) + (background * z.gather(1, heir))[:, 0]
    return (z.logsumexp(dim=1) - expected).mean() / z.shape[1]


def weighted_squares(features: Tensor, old_features: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Sum and count of `weighted_feature_distillation`: two scalars, the count without gradient."""
    squares = (features.float() - old_features.detach().float()).square().sum(dim=2)  # (B, N)
    return (weights * squares).sum(), (weights > 0).sum() * features.shape[2]


def weighted_feature_distillation(features: Tensor, old_features: Tensor, weights: Tensor) -> Tensor:
    """Squared distance of patch features, weighted by patch: sum of w (f - f')^2 over the number of entries with w > 0.

    The weights are in the numerator alone, as in the official code; where all are zero the loss is 0 (officially NaN).

    features, old_features (B, N, D), the old ones taken as constants; weights (B, N) >= 0. Returns a float32 scalar.
    """
    total, count = weighted_squares(features, old_features, weights)
    return total / count.clamp(min=1)


def orthogonality(tokens: Tensor, n_old: int) -> Tensor:
    """Mean absolute cosine between each new token and every other one, times the share of new slots.

    The partner in a cosine is a constant: the gradient reaches new tokens only, and pairs of new tokens count in both
    directions. Cosines that are exactly zero do not count, as in the official code.

    tokens (K, D), one per slot; n_old slots, background included, come first. Returns a float32 scalar, 0 without new
    slots.
    """
    with full_precision(tokens):
        directions = F.normalize(tokens.float(), dim=1)
        cosines = directions[n_old:] @ directions.detach().T  # (n_new, K)
    itself = torch.ones_like(cosines, dtype=torch.bool).triu(n_old).tril(n_old)
    cosines = cosines.masked_fill(itself, 0.0).abs()
    share = (len(tokens) - n_old) / len(tokens)
    return share * cosines.sum() / (cosines > 0).sum().clamp(min=1)
