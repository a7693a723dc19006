"""MBS: mitigating the background shift (Park et al., ECCV 2024, arXiv 2407.11859).

The paper's parts -> here
    selective pseudo-labelling: old classes, doubtful pixels ignored     selective_pseudo_labels
    adaptive feature distillation: patches and class tokens              patch_weights, mbs_losses.weighted_squares,
                                                                         the terms `patches` and `classes`
    label-guided output distillation                                     losses.label_guided_distillation
    orthogonal loss between class tokens                                 losses.orthogonality
    weight transfer: new tokens start as the background's                Network.grow, init "copy"
    background token of its own, masks normalised over the classes       segmenter.MaskTransformer

A part that is switched off falls back to the plain rule of the official ablation: pseudo-labels without ignored pixels,
features distilled with one weight for all patches, distillation over the old slots alone.

Known deviations. On DeepLab, which the official code does not have, the rules are ours: orthogonality acts on the rows
of the classifier, feature distillation on the head's output, there are no class features to distil, and weight transfer
copies the background's row and bias. A batch without background or old patches has a feature term of 0 (officially
NaN). The official training pads with background (train.padding=background) and keeps the checkpoint of the best
validation score; the benchmark always keeps the last iteration.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Batch, Method, MethodConfig, Term, cross_entropy
from methods.nn.image_size import at_image_size
from methods.nn.losses import distillation, label_guided_distillation, orthogonality
from methods.nn.mbs_losses import weighted_squares
from methods.nn.network import Output
from methods.published import MBS_TRAINING, Published
from protocols.protocol import VOID


@dataclass
class MbsConfig(MethodConfig):
    """Options of MBS; the defaults are the official ones."""

    od: float | None = None  # weight of the output distillation; None: 25 on VOC, 50 on ADE20K
    threshold: float = 0.7  # least probability of a pseudo-label
    selective: bool = True  # False: doubtful background pixels stay background instead of being ignored
    adaptive: bool = True  # False: every patch counts alike in the feature distillation
    label_guided: bool = True  # False: plain output distillation over the old slots
    orthogonal: bool = True  # False: no orthogonal loss
    weight_transfer: bool = True  # False: random weights for new classes


@torch.no_grad()
def selective_pseudo_labels(
    old_logits: Tensor, labels: Tensor, threshold: float, ignore_doubtful: bool = True
) -> Tensor:
    """Background pixels labelled by the teacher where it is sure, ignored where it doubts the background (MBS).

    With p' = softmax(z') and c its most probable slot, a pixel with label 0 becomes c if c is an old class and
    p'_c >= threshold; otherwise 255 if the old classes together are more probable than the background (only with
    `ignore_doubtful`). Other pixels keep their label.

    old_logits (B, n_old, H, W); labels (B, H, W) slots. Returns labels (B, H, W), a new tensor.
    """
    probabilities = old_logits.float().softmax(dim=1)
    confidence, classes = probabilities.max(dim=1)
    background = labels == 0
    sure = background & (classes > 0) & (confidence >= threshold)
    pseudo = torch.where(sure, classes.to(labels.dtype), labels)
    if not ignore_doubtful:
        return pseudo
    doubtful = background & ~sure & (probabilities[:, 0] < probabilities[:, 1:].sum(dim=1))
    return pseudo.masked_fill(doubtful, VOID)


def patch_labels(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Labels (B, H, W) of slots at the resolution of the patches, int64 (B, h, w) with size = (h, w); nearest."""
    return F.interpolate(labels[:, None].float(), size=tuple(size), mode="nearest")[:, 0].long()


@torch.no_grad()
def patch_weights(old_patch_logits: Tensor, patch_labels: Tensor, n_old: int) -> Tensor:
    """Weight of each patch in the feature distillation (MBS): how far its content is known to the teacher.

    1 where an old class is labelled, the teacher's probability of the background where background is, and 0 where a
    new class is or nothing.

    old_patch_logits (B, n_old, h, w); patch_labels (B, h, w) slots after pseudo-labelling. Returns (B, h, w) float32.
    """
    background = old_patch_logits.float().softmax(dim=1)[:, 0]
    old = (patch_labels > 0) & (patch_labels < n_old)
    return torch.where(patch_labels == 0, background, old.float())


class Mbs(Method):
    """Cross-entropy on selective pseudo-labels, distillation of features and outputs, orthogonal class tokens."""

    Config = MbsConfig
    summary = "selective pseudo-labels, adaptive feature and label-guided output distillation, orthogonal tokens"
    paper = "Park et al., Mitigating Background Shift in Class-Incremental Semantic Segmentation, ECCV 2024"
    uses_teacher = True
    published = (
        *MBS_TRAINING,
        Published("mbs.threshold", 0.7, "MBS, configurations"),
        Published("mbs.od", 25, "MBS, VOC configuration", "voc_*"),
        Published("mbs.od", 50, "MBS, ADE configuration", "ade_*"),
    )
    by_dataset = {"voc": {"od": 25.0}, "ade": {"od": 50.0}}
    variants = {
        "no_selective": {"selective": False},
        "no_adaptive": {"adaptive": False},
        "no_label_guided": {"label_guided": False},
        "no_ortho": {"orthogonal": False},
        "no_transfer": {"weight_transfer": False},
        "plain": {"selective": False, "adaptive": False, "label_guided": False, "orthogonal": False},
    }

    def initialisation(self) -> str:
        return "copy" if self.config.weight_transfer else "random"

    def forward(self, batch: Batch) -> dict[str, Term]:
        if self.step.index == 0:
            return self.supervised(batch)
        config = self.config
        with torch.no_grad():
            old = self.teacher(batch.images)
        new = self.network(batch.images)
        labels, ce, od = at_image_size(self._outputs, batch.labels, new.logits, old.logits)
        terms = {"ce": ce, "patches": self._patch_distillation(old, new, labels)}
        if new.classes is not None:
            old_slots = new.classes[:, : self.step.n_old_slots]  # (B, n_old, D), of the student
            terms["classes"] = Term.mean_of(F.mse_loss(old_slots.float(), old.classes.float()))
        terms["od"] = od
        if config.orthogonal:
            terms["ortho"] = Term.mean_of(orthogonality(self.network.class_vectors(), self.step.n_old_slots))
        return terms

    def _outputs(self, labels: Tensor, logits: Tensor, old_logits: Tensor) -> tuple[Tensor, Term, Term]:
        """Pseudo-labels (B, H, W), cross-entropy on them and output distillation of a few images: labels (B, H, W) of
        the step, logits (B, K, H, W), the teacher's (B, n_old, H, W)."""
        config = self.config
        known = selective_pseudo_labels(old_logits, labels, config.threshold, config.selective)
        if config.label_guided:
            od = label_guided_distillation(logits, old_logits, labels)
        else:
            od = distillation(logits, old_logits)
        return known, cross_entropy(logits, known), Term.mean_over(len(labels), od, config.od)

    def _patch_distillation(self, old: Output, new: Output, labels: Tensor) -> Term:
        """Distance of the patch features, weighted by patch."""
        if self.config.adaptive:
            size = old.logits.shape[2:]
            weights = patch_weights(old.logits, patch_labels(labels, size), self.step.n_old_slots)
        else:
            weights = torch.ones_like(old.logits[:, 0])
        features, old_features = (output.features.flatten(2).mT for output in (new, old))  # (B, N, D)
        return Term(*weighted_squares(features, old_features, weights.flatten(1)))
