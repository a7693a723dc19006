"""LGKD on top of MiB: a method outside the package, complete in one file (docs/add-a-method.md walks through it).

Yang et al., Label-Guided Knowledge Distillation for Continual Semantic Segmentation on 2D Images and 3D Point Clouds,
ICCV 2023. Where a pixel is labelled with a new class, the teacher, which cannot know that class, called it background:
so the teacher's probability of the background moves to the class. Elsewhere new classes get a target of zero.
"""

from dataclasses import dataclass

import torch

from methods.base import Batch, MethodConfig, Term
from methods.mib import Mib
from methods.nn.losses import unbiased_cross_entropy
from protocols.protocol import VOID


def label_guided_targets(old_logits, labels, n_slots):
    """The teacher's probabilities over all slots, (B, n_slots, H, W), guided by the labels (B, H, W) of the step.

    old_logits (B, n_old, H, W).
    """
    targets = old_logits.softmax(dim=1)
    n_old = targets.shape[1]
    new = (labels >= n_old) & (labels != VOID)  # (B, H, W)
    targets = torch.cat([targets, targets.new_zeros(len(targets), n_slots - n_old, *labels.shape[1:])], dim=1)
    background = targets[:, 0].clone()
    targets[:, 0] = background.masked_fill(new, 0)
    return targets.scatter_add(1, labels.where(new, 0)[:, None], (background * new)[:, None])


@dataclass
class LgkdConfig(MethodConfig):
    """Options of LGKD."""

    kd: float = 10.0  # weight of the distillation
    background_init: bool = True  # False: random weights for new classes


class Lgkd(Mib):
    """MiB with label-guided distillation."""

    Config = LgkdConfig
    summary = "MiB with the teacher's background given to the class that is labelled"
    paper = "Yang et al., Label-Guided Knowledge Distillation for Continual Semantic Segmentation, ICCV 2023"
    variants = {"no_init": {"background_init": False}}

    def forward(self, batch: Batch) -> dict[str, Term]:
        if self.step.index == 0:
            return super().forward(batch)  # step 0 is plain cross-entropy, and shared with every method like that
        logits = self.logits(batch.images)  # (B, K, H, W)
        losses = unbiased_cross_entropy(logits, batch.labels, self.step.n_old_slots)
        targets = label_guided_targets(self.teacher_logits(batch.images), batch.labels, self.step.n_slots)
        kd = -targets * logits.log_softmax(dim=1)  # (B, K, H, W)
        return {"ce": Term(losses.sum(), (batch.labels != VOID).sum()), "kd": Term.mean_of(kd, self.config.kd)}
