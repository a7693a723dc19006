"""Losses of class-incremental segmentation: those of MiB and LwF are here, those of PLOP and MBS come from beside.

Logits are (B, K, H, W) over slots: 0 is background, 1..n_old-1 old classes, n_old.. new ones. Labels are (B, H, W)
slots, 255 is ignored. The functions take logits of any floating type and compute in float32.

With z the logits, z' those of the teacher and lse the log-sum-exp over slots, each loss of this file is an ordinary
cross entropy over *merged* logits: a set S of slots that counts as one has the logit lse(z_S), because
log sum_{c in S} softmax(z)_c = lse(z_S) - lse(z). So the softmax over all slots is never formed.

Source: Cermelli et al., Modeling the Background for Incremental Learning in Semantic Segmentation (MiB), CVPR 2020.
See `plop_losses` and `mbs_losses` for the others.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.nn.mbs_losses import label_guided_distillation, orthogonality, weighted_feature_distillation
from methods.nn.plop_losses import local_pod, pixel_entropy, pod_distillation
from protocols.protocol import VOID

__all__ = [
    "distillation",
    "label_guided_distillation",
    "local_pod",
    "orthogonality",
    "pixel_entropy",
    "pod_distillation",
    "unbiased_cross_entropy",
    "unbiased_distillation",
    "weighted_feature_distillation",
]


def unbiased_cross_entropy(logits: Tensor, labels: Tensor, n_old: int) -> Tensor:
    """Cross entropy per pixel in which background stands for background or any old class (MiB).

    In the labels of a step the old classes are background, so p(background) = sum_{c < n_old} p(c).

    logits (B, K, H, W); labels (B, H, W) integer slots, those < n_old count as background; n_old in 1..K,
    background included. Returns (B, H, W) float32 in nats, 0 where the label is 255.
    """
    old, new = logits.float().split([n_old, logits.shape[1] - n_old], dim=1)
    merged = torch.cat([old.logsumexp(dim=1, keepdim=True), new], dim=1)  # (B, 1 + n_new, H, W)
    shift = n_old - 1  # moves the first new slot to 1, and the ignored label with it
    return F.cross_entropy(merged, (labels.long() - shift).clamp_(min=0), ignore_index=VOID - shift, reduction="none")


def unbiased_distillation(logits: Tensor, old_logits: Tensor) -> Tensor:
    """Distillation in which the teacher's background stands for background or any new class (MiB).

    Mean over pixels and old slots of -softmax(z')_c log q_c, with q_0 = p(background) + sum_{c new} p(c) and
    q_c = p(c) otherwise. The division by the number of old slots is the official code's; the paper's equation
    has the sum.

    logits (B, K, H, W); old_logits (B, n_old, H, W) with n_old <= K, taken as constants. Returns a float32
    scalar in nats.
    """
    n_old = old_logits.shape[1]
    background, old, new = logits.float().split([1, n_old - 1, logits.shape[1] - n_old], dim=1)
    merged_background = torch.cat([background, new], dim=1).logsumexp(dim=1, keepdim=True)
    return _soft_cross_entropy(torch.cat([merged_background, old], dim=1), old_logits)


def distillation(logits: Tensor, old_logits: Tensor) -> Tensor:
    """Plain distillation: mean over pixels and old slots of -softmax(z')_c log softmax(z_old)_c, without the new slots.

    logits (B, K, H, W); old_logits (B, n_old, H, W) with n_old <= K, taken as constants. Returns a float32 scalar in
    nats. Source: Li and Hoiem, Learning without Forgetting, ECCV 2016, at temperature 1; a baseline of MiB.
    """
    return _soft_cross_entropy(logits[:, : old_logits.shape[1]].float(), old_logits)


def _soft_cross_entropy(logits: Tensor, old_logits: Tensor) -> Tensor:
    """Cross entropy of logits against softmax(old_logits), both (B, n_old, H, W): mean over pixels and slots."""
    targets = old_logits.detach().float().softmax(dim=1)
    return F.cross_entropy(logits, targets) / old_logits.shape[1]
