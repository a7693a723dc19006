"""PLOP: learning without forgetting by pooled features and pseudo-labels (Douillard et al., CVPR 2021, arXiv
2011.11390).

The paper's parts -> here
    local POD distillation of intermediate maps (multi-scale)        losses.local_pod, losses.pod_distillation
    entropy of the teacher and its threshold per class               losses.pixel_entropy, EntropyScores, Plop.prepare
    pseudo-labels of old classes in the background                   entropy_pseudo_labels
    adaptive factor: share of the background that gets a label       entropy_pseudo_labels, used in Plop.forward
    classifiers of new classes start as the background (from MiB)    growing_head.background_initialisation

The maps: on DeepLab the four stages of the encoder before their last activation, the head's output and the small
logits, new slots summed into the background; on the segmenter, which the paper does not have, four evenly spaced blocks
of the ViT take the place of the stages (ours).

Thresholds. The paper takes the median entropy of each class, no less than a floor. The official code approximates it
with a histogram whose running sum adds up bin *indices* instead of counts, so its thresholds are no medians: on ADE20K
they accept every background pixel. `thresholds=official` reproduces that, for comparisons with published numbers;
`exact`, the default, is the median. Both follow the official code in what the paper leaves open: entropies are a mean
over classes, the floor is 0.001, a class that the teacher never predicts gets the floor.

Known deviations. The official code computes thresholds on each device from its own share of the images; here one pass
sees all images of the step. ReLU takes the place of leaky ReLU (see `deeplab`). In the sequential setting, which the
paper does not have, the labels of old classes are replaced like the background.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Batch, Method, MethodConfig, Term
from methods.nn.image_size import at_image_size
from methods.nn.losses import pixel_entropy, pod_distillation
from methods.nn.network import Network, Output
from methods.published import PLOP_TRAINING, Published
from protocols.errors import unknown
from protocols.protocol import VOID, Step

RULES = ("exact", "official")
BINS = 100  # of the official histogram over [0, 1]


@dataclass
class PlopConfig(MethodConfig):
    """Options of PLOP; the defaults are the official ones, but for the rule of the thresholds."""

    pod: float | None = None  # factor of the encoder's and the head's maps; None: 0.01 on VOC, 0.001 on ADE20K
    pod_logits: float | None = None  # factor of the logits; None: 0.0005 on VOC, 0.00001 on ADE20K
    thresholds: str = "exact"  # exact (median) or official (its bug included)
    floor: float = 0.001  # least threshold
    distil: bool = True  # False: no POD distillation
    pseudo_labels: bool = True  # False: old classes stay background
    adaptive: bool = True  # False: every image counts alike
    background_init: bool = True  # False: random weights for new classes

    def __post_init__(self) -> None:
        if self.thresholds not in RULES:
            raise unknown("plop.thresholds", self.thresholds, RULES)


class EntropyScores:
    """Scores of background pixels, gathered batch by batch; the thresholds are those of all batches together.

    The score of a pixel is its entropy over log(n_current); it belongs to the class that the teacher predicts there.
    The rule `official` needs a histogram. `exact` counts the scores below the floor, which cannot be a threshold, and
    keeps the others in main memory, four bytes each.
    """

    def __init__(self, n_current: int, floor: float, rule: str) -> None:
        """n_current: slots of the current step, background included; rule: "exact" or "official"."""
        if rule not in RULES:
            raise unknown("rule of thresholds", rule, RULES)
        self.n_current, self.floor, self.rule = n_current, floor, rule
        self.histogram = torch.zeros(n_current * BINS, dtype=torch.int64)
        self.below = torch.zeros(n_current, dtype=torch.int64)
        self.kept: list[list[Tensor]] = [[] for _ in range(n_current)]  # per class, a tensor (n,) from each batch

    @torch.no_grad()
    def add(self, old_logits: Tensor, labels: Tensor) -> None:
        """old_logits (B, n_old, H, W) at the size of the labels; labels (B, H, W): pixels with label 0 count."""
        scores, classes = _scores(old_logits, self.n_current)
        background = labels == 0
        scores, classes = scores[background], classes[background]
        if self.rule == "official":
            bins = (scores * BINS).long().clamp_(max=BINS - 1) + classes * BINS
            self.histogram += bins.bincount(minlength=len(self.histogram)).cpu()
            return
        high = scores >= self.floor
        self.below += classes[~high].bincount(minlength=self.n_current).cpu()
        scores, classes = scores[high], classes[high]
        sizes = classes.bincount(minlength=self.n_current).tolist()
        for kept, part in zip(self.kept, scores[classes.argsort()].cpu().split(sizes), strict=True):
            if len(part):
                kept.append(part.clone())  # a copy, so that no small part holds on to the whole batch

    def thresholds(self) -> Tensor:
        """(n_current,) float32 on the CPU."""
        if self.rule == "official":
            return _official_thresholds(self.histogram.view(self.n_current, BINS), self.floor)
        thresholds = torch.full((self.n_current,), self.floor)
        for c, below in enumerate(self.below.tolist()):
            kept = torch.cat(self.kept[c]) if self.kept[c] else thresholds[:0]
            rank = (below + len(kept) - 1) // 2 - below  # of the lower median, among the kept ones
            if rank >= 0 and len(kept):
                thresholds[c] = kept.kthvalue(rank + 1).values
        return thresholds


def _scores(old_logits: Tensor, n_current: int) -> tuple[Tensor, Tensor]:
    """Score and predicted class of every pixel, (B, H, W) each, from logits (B, n_old, H, W)."""
    probabilities = old_logits.float().softmax(dim=1)
    classes = probabilities.max(dim=1).indices  # as argmax, in a fraction of its time on the CPU
    return pixel_entropy(probabilities) / math.log(n_current), classes


def _official_thresholds(histogram: Tensor, floor: float) -> Tensor:
    """The official code's stand-in for the median, from counts (n_current, 100) of scores over [0, 1].

    At the median of n scores the counts of the bins below add up to n/2 at most. The official running sum S_k adds the
    bin indices j < k instead; the first bin with S_k <= n/2 <= S_k + h_k gives the threshold
    k/100 + (n/2 - S_k) / h_k / 100. Where no bin fits it is that of the last bin with the sum of all indices, 4950: if
    that bin is empty, infinity or NaN (minus infinity: the floor). The count h_k is looked up at int(k / 100 * 100),
    which in floating point is the bin before for k = 29, 57 and 58.
    """
    lower = torch.arange(BINS, dtype=torch.float64) / BINS
    indices = lower * BINS  # not whole numbers for a few k
    sums = (indices.cumsum(0) - indices).float()
    counts = histogram[:, indices.long()].float()
    total = histogram.sum(dim=1)
    half = (total.float() / 2)[:, None]
    inside = (sums <= half) & (half <= sums + counts)
    found = inside.any(dim=1, keepdim=True)
    bin = torch.where(found, inside.int().argmax(dim=1, keepdim=True), BINS - 1)
    share = (half - torch.where(found, sums[bin], indices.sum().float())) / counts.gather(1, bin)
    thresholds = (lower.float()[bin] + share / BINS)[:, 0]
    return torch.where(total > 0, thresholds, floor).clamp(min=floor)  # clamp keeps NaN


def entropy_thresholds(old_logits: Tensor, labels: Tensor, n_current: int, floor: float, rule: str) -> Tensor:
    """Threshold on the score of each class (PLOP): pixels of lower entropy get the teacher's prediction as label.

    old_logits (B, n_old, H, W) of the teacher; labels (B, H, W) slots: pixels with label 0 count. n_current slots now,
    background included. rule: "exact" is the lower median of the scores of the pixels predicted as the class, no less
    than `floor`; "official" what the official code computes (see `_official_thresholds`). A class that is never
    predicted gets the floor. Returns (n_current,) float32. Raises InputError for another rule.
    """
    scores = EntropyScores(n_current, floor, rule)
    scores.add(old_logits, labels)
    return scores.thresholds().to(old_logits.device)


@torch.no_grad()
def entropy_pseudo_labels(
    old_logits: Tensor, labels: Tensor, thresholds: Tensor, n_current: int
) -> tuple[Tensor, Tensor]:
    """The teacher's confident predictions as labels of the background, and the share of it that got one (PLOP).

    A background pixel (label < n_old) gets the predicted class c, which may be the background, if its score is below
    thresholds[c], and is ignored (255) otherwise. Other pixels keep their label.

    old_logits (B, n_old, H, W); labels (B, H, W) slots; thresholds (n_current,) or longer; n_current slots now,
    background included. Returns labels (B, H, W), a new tensor, and the adaptive factor (B,) float32: labelled
    background pixels over background pixels of each image, 0 where an image has none.
    """
    scores, classes = _scores(old_logits, n_current)
    background = labels < old_logits.shape[1]
    accepted = background & (scores < thresholds[classes])
    pseudo = torch.where(accepted, classes, VOID).to(labels.dtype)
    factor = accepted.flatten(1).sum(dim=1) / (background.flatten(1).sum(dim=1) + 1e-6)
    return torch.where(background, pseudo, labels), factor


class Plop(Method):
    """Cross-entropy on pseudo-labelled images, and distillation of locally pooled features."""

    Config = PlopConfig
    summary = "entropy pseudo-labels, local POD distillation, background initialisation"
    paper = "Douillard et al., PLOP: Learning without Forgetting for Continual Semantic Segmentation, CVPR 2021"
    version = 3  # 2: on the segmenter the background keeps its bias; 3: sums in another order
    uses_teacher = True
    published = (
        *PLOP_TRAINING,
        Published("plop.thresholds", "official", "PLOP, official code, its bug included"),
        Published("plop.floor", 0.001, "PLOP, official scripts"),
        Published("plop.pod", 0.01, "PLOP, official code", "voc_*"),
        Published("plop.pod_logits", 0.0005, "PLOP, official code", "voc_*"),
        Published("plop.pod", 0.001, "PLOP, official scripts", "ade_*"),
        Published("plop.pod_logits", 0.00001, "PLOP, official scripts", "ade_*"),
    )
    by_dataset = {
        "voc": {"pod": 0.01, "pod_logits": 0.0005},
        "ade": {"pod": 0.001, "pod_logits": 0.00001},
    }
    variants = {
        "official": {"thresholds": "official"},
        "no_pod": {"distil": False},
        "no_pseudo": {"pseudo_labels": False},
        "no_adaptive": {"adaptive": False},
        "no_init": {"background_init": False},
    }

    def __init__(self, config: PlopConfig, network: Network):
        super().__init__(config, network)
        # One entry for every slot that a label can name, whatever the step; zero accepts nothing.
        self.register_buffer("thresholds", torch.zeros(VOID))

    def initialisation(self) -> str:
        return "background" if self.config.background_init else "random"

    def prepare(self, step: Step, loader: Iterable[Batch]) -> None:
        if step.index == 0 or not self.config.pseudo_labels:
            return
        scores = EntropyScores(step.n_slots, self.config.floor, self.config.thresholds)
        for batch in loader:
            scores.add(self.teacher_logits(batch.images), batch.labels)
        self.thresholds[: step.n_slots] = scores.thresholds().to(self.thresholds)

    def forward(self, batch: Batch) -> dict[str, Term]:
        if self.step.index == 0:
            return self.supervised(batch)
        with torch.no_grad():
            old = self.teacher(batch.images, taps=self.config.distil)
        new = self.network(batch.images, taps=self.config.distil)
        terms = {"ce": at_image_size(self._cross_entropy, batch.labels, new.logits, old.logits)}
        if self.config.distil:
            n_old = self.step.n_old_slots
            factors = self.config.pod, self.config.pod_logits
            pod = pod_distillation(_levels(old), _levels(new), n_old, self.step.n_slots - n_old, *factors)
            terms["pod"] = Term.mean_of(pod)
        return terms

    def _cross_entropy(self, labels: Tensor, logits: Tensor, old_logits: Tensor) -> Term:
        """Cross-entropy of a few images on pseudo-labels: labels (B, H, W), logits (B, K, H, W), the teacher's
        (B, K_old, H, W)."""
        factor = None
        if self.config.pseudo_labels:
            labels, factor = entropy_pseudo_labels(old_logits, labels, self.thresholds, self.step.n_slots)
        losses = F.cross_entropy(logits, labels, ignore_index=VOID, reduction="none").flatten(1).sum(dim=1)  # (B,)
        ce = (factor * losses if factor is not None and self.config.adaptive else losses).sum()
        return Term(ce, torch.full_like(ce, labels.numel()).detach())  # the mean counts ignored pixels, too


def _levels(output: Output) -> list[Tensor]:
    """The six maps that are distilled."""
    return [*output.taps, output.features, output.logits]
