"""Scores from confusion counts: pure functions of arrays, numpy only.

Confusion matrices have true classes in rows and predicted classes in columns. Counts are indexed by slot: 0
is background, then the classes in the order they are learned. IoU and every mean of it are fractions in [0,
1], and so are shares of pixels; `forgetting`, `first_minus_last`, `plasticity` and `harmonic` are in the
unit of their arguments. What does not exist is NaN, never 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from protocols.errors import unknown

VOID = 255
SCOPES = ("no seen class", "seen classes only", "seen and future classes")


@dataclass(frozen=True)
class Convention:
    """How a project reads its numbers from the counts: image set, future pixels, averaging, background.

    `rule` averages over all seen classes, `group_rule` over old and over new (see `mean_iou`). Background
    is counted "always", "never", or as the "dataset" has it (VOC counts it, ADE does not).
    """

    name: str
    scopes: tuple[int, ...]  # which images count, indices of SCOPES
    future: str  # pixels of classes not yet learned: "ignored" | "background"
    rule: str
    group_rule: str
    background_in_old: str
    background_in_all: str

    def counts_background(self, group: str, background_evaluated: bool) -> bool:
        """Is background a member of the group "old" or "all"?"""
        choice = self.background_in_old if group == "old" else self.background_in_all
        return choice == "always" or (choice == "dataset" and background_evaluated)

    def keeps_unlabelled(self, background_evaluated: bool) -> bool:
        """Do pixels of label 0 count? Not where label 0 is no class, unless background always counts."""
        return background_evaluated or self.background_in_all == "always"

    def sentence(self, background_evaluated: bool) -> str:
        """The convention in one sentence, for captions."""
        images = "all val images" if 0 in self.scopes else "val images with a seen class"
        groups = [g for g in ("old", "all") if self.counts_background(g, background_evaluated)]
        background = f"background counted in {' and '.join(groups)}" if groups else "background not counted"
        averaging = _RULE_WORDS[self.rule]
        if self.group_rule != self.rule:
            averaging = f"all: {averaging}; old and new: {_RULE_WORDS[self.group_rule]}"
        future = "ignored" if self.future == "ignored" else "counted as background"
        return f"{images}, pixels of future classes {future}, {background}; {averaging}"


_RULE_WORDS = {
    "seen": "classes neither in the ground truth nor predicted are left out",
    "present": "classes absent from the ground truth are left out",
    "nonzero": "classes with an IoU of exactly 0 are left out",
    "zero": "absent classes count as 0",
}

CONVENTIONS: dict[str, Convention] = {
    convention.name: convention
    for convention in (
        Convention("default", (0, 1, 2), "ignored", "present", "present", "dataset", "dataset"),
        Convention("mib", (1, 2), "ignored", "present", "present", "never", "never"),
        Convention("plop", (1, 2), "background", "present", "zero", "always", "always"),
        Convention("mbs", (0, 1, 2), "ignored", "nonzero", "zero", "never", "dataset"),
        Convention("ssul", (0, 1, 2), "ignored", "zero", "zero", "dataset", "dataset"),
    )
}


def convention_named(name: str) -> Convention:
    """The convention of that name; InputError (with the nearest names) if there is none."""
    if name not in CONVENTIONS:
        raise unknown("convention", name, CONVENTIONS)
    return CONVENTIONS[name]


def confusion(labels: np.ndarray, predictions: np.ndarray, n_classes: int) -> np.ndarray:
    """Confusion matrix of two label maps: m[i, j] = #{pixels : label = i and prediction = j}.

    labels, predictions: integer arrays of one shape, in one label space (ids or slots). Pixels whose label
    is void (255), negative or >= n_classes are dropped. Returns int64 (n_classes, n_classes).
    ValueError: shapes differ, or a counted pixel is predicted outside 0..n_classes-1.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape:
        raise ValueError(f"labels {labels.shape} and predictions {predictions.shape} differ in shape")
    kept = (labels >= 0) & (labels < n_classes) & (labels != VOID)
    true, predicted = labels[kept].astype(np.int64), predictions[kept].astype(np.int64)
    if predicted.size and not 0 <= predicted.min() <= predicted.max() < n_classes:
        raise ValueError(f"predictions range over {predicted.min()}..{predicted.max()}, not 0..{n_classes - 1}")
    return np.bincount(n_classes * true + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def matrix(counts: np.ndarray, convention: str = "default", background_evaluated: bool = True) -> np.ndarray:
    """Square confusion matrix of the seen slots from the counts of a step, as a project's own evaluator
    builds it.

    counts: int (3, T, P): scope of the image (see SCOPES), true slot of the whole protocol, predicted slot
    of those seen. Returns int64 (P, P) with

        m = sum over the convention's scopes of counts[scope];  m[0] += m[P:].sum(0) if future pixels are
        background; rows P.. (future classes) are dropped;  m[0] = 0 if label 0 is no class of the dataset
        (background_evaluated false: ADE) and the convention ignores its pixels. Predicting background on a
        labelled pixel remains a miss.

    ValueError: counts of another shape. InputError: unknown convention.
    """
    rules = convention_named(convention)
    counts = np.asarray(counts)
    if counts.ndim != 3 or counts.shape[0] != len(SCOPES) or counts.shape[1] < counts.shape[2]:
        raise ValueError(f"counts of shape {counts.shape}: expected (3, true slots, predicted slots <= true slots)")
    n_seen = counts.shape[2]
    merged = counts[list(rules.scopes)].sum(0, dtype=np.int64)  # (T, P)
    square = merged[:n_seen].copy()
    if rules.future == "background":
        square[0] += merged[n_seen:].sum(0)
    if not rules.keeps_unlabelled(background_evaluated):
        square[0] = 0
    return square


def iou(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union of every class: IoU_c = tp_c / (tp_c + fp_c + fn_c) = m[c, c] / (row_c +
    column_c - m[c, c]).

    matrix: (K, K). Returns float64 (K,); NaN where the class is neither in the ground truth nor predicted
    (0 / 0).
    """
    matrix = np.asarray(matrix)
    hit = np.diag(matrix).astype(np.float64)
    union = matrix.sum(1) + matrix.sum(0) - np.diag(matrix)
    return np.divide(hit, union, out=np.full(len(hit), np.nan), where=union > 0)


def mean_iou(matrix: np.ndarray, rule: str = "seen", ids: Sequence[int] | None = None) -> float:
    """Mean IoU over the classes `ids` (rows of the matrix; default: all), mIoU = (1 / |A|) sum_{c in A}
    IoU_c, with A by rule:

    * seen: the ids with a union, so a class that is predicted but absent from the ground truth counts as 0;
    * present: the ids in the ground truth (row sum > 0; MiB, PLOP);
    * nonzero: the ids whose IoU is not exactly 0 (MBS);
    * zero: all ids, those without a union as 0 (SSUL; PLOP and MBS for old and new).

    matrix: (K, K). Returns a fraction; NaN if A is empty. InputError: unknown rule.
    """
    matrix = np.asarray(matrix)
    chosen = np.arange(len(matrix)) if ids is None else np.asarray(ids, dtype=np.int64)
    scores = iou(matrix)[chosen]
    if rule == "seen":
        kept = ~np.isnan(scores)
    elif rule == "present":
        kept = matrix.sum(1)[chosen] > 0
    elif rule == "nonzero":
        kept = ~np.isnan(scores) & (scores != 0)
    elif rule == "zero":
        scores, kept = np.nan_to_num(scores), np.ones(len(chosen), dtype=bool)
    else:
        raise unknown("rule", rule, _RULE_WORDS)
    return float(scores[kept].mean()) if kept.any() else float("nan")


def forgetting(R: np.ndarray) -> float:
    """Mean forgetting: F = mean over groups k learned before the last step T of (max_{t < T} R[t, k] - R[T,
    k]).

    R: (steps, groups), the score of a class (or group of classes) after every step, NaN where it is not
    learned yet or not defined. Negative where the last step is the best. NaN if no group was learned before
    the last step. Source: Chaudhry et al., Riemannian Walk for Incremental Learning, ECCV 2018 (forgetting
    measure).
    """
    return _nanmean(forgetting_per_group(R))


def forgetting_per_group(R: np.ndarray) -> np.ndarray:
    """F_k = max_{t < T} R[t, k] - R[T, k] per group, (groups,); NaN where not learned before step T."""
    R = _step_scores(R)
    return np.fmax.reduce(R[:-1], axis=0, initial=np.nan) - R[-1]


def first_minus_last(R: np.ndarray) -> float:
    """Mean over groups k learned before the last step T of (R[t_k, k] - R[T, k]), t_k the step in which k
    is learned.

    R as in `forgetting`, t_k = the first row that is not NaN. The negative of backward transfer (Lopez-Paz
    and Ranzato, Gradient Episodic Memory, NeurIPS 2017).
    """
    R = _step_scores(R)
    if len(R) < 2:
        return float("nan")
    return _nanmean(np.where(np.isnan(R[:-1]).all(axis=0), np.nan, plasticity_per_group(R) - R[-1]))


def plasticity(R: np.ndarray) -> float:
    """How well new classes are learned: P = mean over groups k of R[t_k, k], t_k the step in which k is learned.

    R as in `forgetting`, t_k = the first row that is not NaN; pass the columns of the new classes alone, since
    at step 0 there is nothing that could hinder learning. NaN if no group is ever learned.
    """
    return _nanmean(plasticity_per_group(R))


def plasticity_per_group(R: np.ndarray) -> np.ndarray:
    """P_k = R[t_k, k] per group, (groups,): its score when first learned; NaN where it never is."""
    R = _step_scores(R)
    return np.take_along_axis(R, np.argmax(~np.isnan(R), axis=0)[None], axis=0)[0]


def harmonic(old: float, new: float) -> float:
    """Harmonic mean of old and new, H = 2 old new / (old + new); 0 if both are 0, NaN if either is NaN."""
    total = old + new
    return 0.0 if total == 0 else 2 * old * new / total


def background_swallow(matrix: np.ndarray, old: Sequence[int]) -> float:
    """How much of the old classes background takes: mean over classes c in old of m[c, 0] / row_c.

    matrix: (K, K) or more rows than columns, in slots. old: foreground slots. A fraction; NaN if none of them
    has a pixel.
    """
    return _nanmean(share_predicted(matrix, old, [0]))


def old_to_new(matrix: np.ndarray, old: Sequence[int], new: Sequence[int]) -> float:
    """How much of the old classes new ones take: mean over classes c in old of (sum_{j in new} m[c, j]) / row_c.

    matrix, old as in `background_swallow`; new: slots learned later. A fraction; NaN if no class of old has a
    pixel or nothing new is learned yet.
    """
    return _nanmean(share_predicted(matrix, old, new)) if len(new) else float("nan")


def future_leakage(counts: np.ndarray) -> float:
    """How much of what is not learned yet is taken for a learned class rather than for background.

    L = mean over future slots c of (sum_{0 < j < P} n[c, j]) / row_c, with n = the sum of counts over scopes.
    counts: int (3, T, P) as in `matrix`; future slots are P..T-1. A fraction; NaN if none of them has a pixel,
    so at the last step.
    """
    merged = np.asarray(counts).sum(0, dtype=np.int64)  # (T, P)
    n_slots, n_seen = merged.shape
    return _nanmean(share_predicted(merged, range(n_seen, n_slots), range(1, n_seen)))


def share_predicted(matrix: np.ndarray, true: Sequence[int], predicted: Sequence[int]) -> np.ndarray:
    """Share of each true class's pixels that is predicted as one of `predicted`: s_c = (sum_j m[c, j]) / row_c.

    matrix: (T, P). true, predicted: indices of rows and of columns. Returns (len(true),), NaN where row_c = 0.
    """
    rows = np.asarray(matrix)[list(true)]
    total = rows.sum(1)
    taken = rows[:, list(predicted)].sum(1)
    return np.divide(taken, total, out=np.full(len(rows), np.nan), where=total > 0)


def _step_scores(R: np.ndarray) -> np.ndarray:
    R = np.asarray(R, dtype=np.float64)
    if R.ndim != 2 or len(R) == 0:
        raise ValueError(f"R of shape {R.shape}: expected (steps, groups) with at least one step")
    return R


def _nanmean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
