"""The scores of one run under a convention, in percent."""

from dataclasses import dataclass, fields

import numpy as np

from results.measures import (
    background_swallow,
    convention_named,
    forgetting,
    forgetting_per_group,
    future_leakage,
    iou,
    matrix,
    mean_iou,
    old_to_new,
    plasticity,
)
from results.schema import Run


@dataclass(frozen=True)
class Scores:
    """Percent; NaN where the run has not got that far or the measure does not exist for it.

    old, new, all: mIoU at the last step over the classes of step 0, those learned later, and both.
    avg: mean of "all" over the steps, step 0 included. forgetting: `measures.forgetting` over foreground
    classes. plasticity: `measures.plasticity` over the classes learned after step 0. steps (S,): "all" after
    every step. absent: class ids without a ground-truth pixel at the last evaluated step.
    """

    old: float
    new: float
    all: float
    avg: float
    forgetting: float
    plasticity: float
    steps: np.ndarray
    absent: tuple[int, ...]


@dataclass(frozen=True)
class Curves:
    """What changes from step to step, in percent: each (S,), NaN where the step is missing.

    all, old, new: mIoU over the classes seen, those of step 0 (with background if the convention counts it
    there), and those learned since (NaN at step 0). swallow, confusion: share of the pixels of step 0's
    foreground classes predicted as background and as a class learned since. leakage: share of the pixels of
    classes not yet learned predicted as a learned one.
    """

    all: np.ndarray
    old: np.ndarray
    new: np.ndarray
    swallow: np.ndarray
    confusion: np.ndarray
    leakage: np.ndarray


def score(run: Run, convention: str = "default") -> Scores:
    """Scores of a run from its counts. InputError: unknown convention."""
    over_steps, per_class = curves(run, convention), class_ious(run, convention)
    whole = not run.missing_steps and len(run.expected_steps) == run.n_steps
    return Scores(
        old=float(over_steps.old[-1]),
        new=float(over_steps.new[-1]),
        all=float(over_steps.all[-1]),
        avg=float(over_steps.all.mean()) if whole else float("nan"),
        forgetting=forgetting(per_class[:, 1:]) if whole else float("nan"),
        plasticity=float("nan") if run.missing_steps else plasticity(per_class[:, run.n_slots(0) :]),
        steps=over_steps.all,
        absent=_absent(run, convention),
    )


def curves(run: Run, convention: str = "default") -> Curves:
    """The curves of a run from its counts. InputError: unknown convention."""
    rules = convention_named(convention)
    evaluated = run.manifest["background_evaluated"]
    old, new = group_slots(run, convention)
    old_foreground = range(1, old.stop)
    everything = range(0 if rules.counts_background("all", evaluated) else 1, new.stop)

    values = {field.name: np.full(run.n_steps, np.nan) for field in fields(Curves)}
    for step, counts in run.counts.items():
        square = matrix(counts, convention, evaluated)
        seen = len(square)
        learned_since = range(new.start, seen)
        values["all"][step] = mean_iou(square, rules.rule, everything[: seen - everything.start])
        values["old"][step] = mean_iou(square, rules.group_rule, old)
        values["new"][step] = mean_iou(square, rules.group_rule, learned_since)
        values["swallow"][step] = background_swallow(square, old_foreground)
        values["confusion"][step] = old_to_new(square, old_foreground, learned_since)
        values["leakage"][step] = future_leakage(counts)
    return Curves(**{name: 100 * array for name, array in values.items()})


def class_ious(run: Run, convention: str = "default") -> np.ndarray:
    """IoU of every slot after every step, (S, T), in percent.

    NaN where the class is not learned yet or absent from the ground truth, for background where its pixels
    do not count, and for missing steps. InputError: unknown convention.
    """
    result = np.full((run.n_steps, len(run.slot_ids)), np.nan)
    for step, counts in run.counts.items():
        square = matrix(counts, convention, run.manifest["background_evaluated"])
        result[step, : len(square)] = np.where(square.sum(1) > 0, 100 * iou(square), np.nan)
    return result


def class_forgetting(run: Run, convention: str = "default") -> np.ndarray:
    """Best earlier IoU minus the last of every foreground slot, (T - 1,), in points of percent.

    NaN for the classes of the last step, those absent from the ground truth, and for a run that is not whole.
    """
    per_class = class_ious(run, convention)[:, 1:]
    return np.full(per_class.shape[1], np.nan) if run.missing_steps else forgetting_per_group(per_class)


def _absent(run: Run, convention: str) -> tuple[int, ...]:
    """Ids of the foreground classes learned that have no ground-truth pixel at the last evaluated step."""
    if not run.counts:
        return ()
    square = matrix(run.counts[max(run.counts)], convention, run.manifest["background_evaluated"])
    return tuple(int(run.slot_ids[slot]) for slot in range(1, len(square)) if not square[slot].any())


def group_slots(run: Run, convention: str = "default") -> tuple[range, range]:
    """Slots of old (step 0; with background if the convention counts it there) and of new (later steps)."""
    rules = convention_named(convention)
    first = 0 if rules.counts_background("old", run.manifest["background_evaluated"]) else 1
    return range(first, run.n_slots(0)), range(run.n_slots(0), len(run.slot_ids))
