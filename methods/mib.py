"""MiB: modelling the background (Cermelli et al., CVPR 2020, arXiv 2002.00718).

The paper's parts -> here
    unbiased cross-entropy: background stands for itself and every old class      losses.unbiased_cross_entropy
    unbiased distillation: the teacher's background stands for every new class    losses.unbiased_distillation
    new classifiers start as the background, which shares its probability out     growing_head.background_initialisation

Known deviations. The distillation divides by the number of old slots, as the official code does and the paper does
not. The cross-entropy is a mean over labelled pixels; official training has no others, because void is background there
(train.void=background) and crops are never padded. The distillation is a mean over all pixels, padding included. In the
sequential setting old labels count as background in the cross-entropy, which has no term for them. On the
mask-transformer segmenter, which the paper does not have, new class tokens and their affine in the class-axis norm are
copies of the background's, without lowering the background's bias: that rule is ours (see MaskTransformer.grow).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from methods.base import Batch, Method, MethodConfig, Term, cross_entropy
from methods.nn.image_size import at_image_size
from methods.nn.losses import distillation, unbiased_cross_entropy, unbiased_distillation
from methods.published import MIB_TRAINING, Published
from protocols.protocol import VOID


@dataclass
class MibConfig(MethodConfig):
    """Options of MiB; the defaults are the official ones (the authors used kd=100 for VOC 15-1)."""

    kd: float = 10.0  # weight of the distillation
    unbiased_ce: bool = True  # False: plain cross-entropy, old classes pushed down
    unbiased_kd: bool = True  # False: plain distillation over the old slots
    background_init: bool = True  # False: random weights for new classes


class Mib(Method):
    """Cross-entropy and distillation that know what the background hides."""

    Config = MibConfig
    summary = "unbiased cross-entropy and distillation, background initialisation"
    paper = "Cermelli et al., Modeling the Background for Incremental Learning in Semantic Segmentation, CVPR 2020"
    version = 2  # 2: on the segmenter the background keeps its bias
    uses_teacher = True
    published = (
        *MIB_TRAINING,
        Published("mib.kd", 10, "MiB, official code"),
        Published("mib.kd", 100, "MiB's author, issues 22 and 43 of the official repository", "voc_15-1"),
    )
    variants = {
        "no_unce": {"unbiased_ce": False},
        "no_unkd": {"unbiased_kd": False},
        "no_init": {"background_init": False},
    }

    def initialisation(self) -> str:
        return "background" if self.config.background_init else "random"

    def forward(self, batch: Batch) -> dict[str, Term]:
        if self.step.index == 0:
            return self.supervised(batch)
        new = self.network(batch.images)
        with torch.no_grad():
            old = self.teacher(batch.images)
        return at_image_size(self._terms, batch.labels, new.logits, old.logits)

    def _terms(self, labels: Tensor, logits: Tensor, old_logits: Tensor) -> dict[str, Term]:
        """The losses of a few images: labels (B, H, W), logits (B, K, H, W) and the teacher's (B, K_old, H, W)."""
        if self.config.unbiased_ce:
            losses = unbiased_cross_entropy(logits, labels, self.step.n_old_slots)
            ce = Term(losses.sum(), (labels != VOID).sum())
        else:
            ce = cross_entropy(logits, labels)
        distil = unbiased_distillation if self.config.unbiased_kd else distillation
        return {"ce": ce, "kd": Term.mean_over(len(labels), distil(logits, old_logits), self.config.kd)}
