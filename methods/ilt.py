"""ILT: incremental learning techniques for semantic segmentation (Michieli and Zanuttigh, ICCV workshops 2019, arXiv
1907.13372), and LwF: learning without forgetting (Li and Hoiem, ECCV 2016, arXiv 1606.09282).

The papers' parts -> here
    output distillation over the old slots (LwF; ILT's on the output layer)    losses.distillation, the term `kd`
    distance between the encoders' outputs (ILT's on the feature space)        the term `features`

Both are the baselines of MiB and PLOP, and follow MiB's official code: weights of 100, mean squared distance over all
entries of the encoder's output, plain cross-entropy in which old classes are background.

Known deviations. ILT's paper also tries freezing the encoder and other ways to combine the two; the baselines of later
papers do not, nor does this. On the segmenter, which the papers do not have, the encoder's output is the ViT's patch
tokens after the last norm.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Batch, Method, MethodConfig, Term, cross_entropy
from methods.nn.image_size import at_image_size
from methods.nn.losses import distillation
from methods.nn.network import Output
from methods.published import MIB_TRAINING, Published


@dataclass
class LwfConfig(MethodConfig):
    """Options of LwF."""

    kd: float = 100.0  # weight of the output distillation


@dataclass
class IltConfig(LwfConfig):
    """Options of ILT."""

    de: float = 100.0  # weight of the feature distillation


class Lwf(Method):
    """Cross-entropy, and distillation of the output over the old slots."""

    Config = LwfConfig
    summary = "cross-entropy and output distillation over the old slots"
    paper = "Li and Hoiem, Learning without Forgetting, ECCV 2016"
    uses_teacher = True
    published = (*MIB_TRAINING, Published("lwf.kd", 100, "MiB, official code, its baseline"))

    def forward(self, batch: Batch) -> dict[str, Term]:
        if self.step.index == 0:
            return self.supervised(batch)
        new = self.network(batch.images)
        with torch.no_grad():
            old = self.teacher(batch.images)
        return at_image_size(self._terms, batch.labels, new.logits, old.logits) | self.feature_terms(old, new)

    def _terms(self, labels: Tensor, logits: Tensor, old_logits: Tensor) -> dict[str, Term]:
        """The losses of a few images: labels (B, H, W), logits (B, K, H, W) and the teacher's (B, K_old, H, W)."""
        kd = Term.mean_over(len(labels), distillation(logits, old_logits), self.config.kd)
        return {"ce": cross_entropy(logits, labels), "kd": kd}

    def feature_terms(self, old: Output, new: Output) -> dict[str, Term]:
        """Further terms, from the features of teacher and student."""
        return {}


class Ilt(Lwf):
    """LwF, and distillation of the encoder's output."""

    Config = IltConfig
    summary = "cross-entropy, output distillation, feature distillation"
    paper = "Michieli and Zanuttigh, Incremental Learning Techniques for Semantic Segmentation, ICCV workshops 2019"
    published = (
        *MIB_TRAINING,
        Published("ilt.kd", 100, "MiB, official code, its baseline"),
        Published("ilt.de", 100, "MiB, official code, its baseline"),
    )

    def feature_terms(self, old: Output, new: Output) -> dict[str, Term]:
        return {"features": Term.mean_of(F.mse_loss(new.encoded.float(), old.encoded.float()), self.config.de)}
