"""The scores of one run under a convention, in percent."""

from dataclasses import dataclass

import numpy as np

from results.measures import convention_named, forgetting, iou, matrix, mean_iou
from results.schema import Run


@dataclass(frozen=True)
class Scores:
    """Percent; NaN where the run has not got that far or the measure does not exist for it.

    old, new, all: mIoU at the last step over the classes of step 0, those learned later, and both.
    avg: mean of "all" over the steps, step 0 included. forgetting: `measures.forgetting` over foreground
    classes. steps (S,): "all" after every step. absent: class ids without a ground-truth pixel at the last
    evaluated step.
    """

    old: float
    new: float
    all: float
    avg: float
    forgetting: float
    steps: np.ndarray
    absent: tuple[int, ...]


def score(run: Run, convention: str = "default") -> Scores:
    """Scores of a run from its counts. InputError: unknown convention."""
    rules = convention_named(convention)
    evaluated = run.manifest["background_evaluated"]
    old, new = group_slots(run, convention)
    first_all = 0 if rules.counts_background("all", evaluated) else 1

    steps = np.full(run.n_steps, np.nan)
    per_class = np.full((run.n_steps, len(run.slot_ids) - 1), np.nan)  # (S, foreground slots)
    absent: tuple[int, ...] = ()
    old_mean = new_mean = float("nan")
    for step in sorted(run.counts):
        square = matrix(run.counts[step], convention, evaluated)
        truth = square.sum(1)
        steps[step] = mean_iou(square, rules.rule, range(first_all, len(square)))
        per_class[step, : len(square) - 1] = np.where(truth > 0, iou(square), np.nan)[1:]
        absent = tuple(int(run.slot_ids[slot]) for slot in range(1, len(square)) if truth[slot] == 0)
        if step == run.n_steps - 1:
            old_mean, new_mean = (mean_iou(square, rules.group_rule, slots) for slots in (old, new))
    whole = not run.missing_steps and len(run.expected_steps) == run.n_steps
    return Scores(
        old=100 * old_mean,
        new=100 * new_mean,
        all=100 * float(steps[-1]),
        avg=100 * float(steps.mean()) if whole else float("nan"),
        forgetting=100 * forgetting(per_class) if whole else float("nan"),
        steps=100 * steps,
        absent=absent,
    )


def group_slots(run: Run, convention: str = "default") -> tuple[range, range]:
    """Slots of old (step 0; with background if the convention counts it there) and of new (later steps)."""
    rules = convention_named(convention)
    first = 0 if rules.counts_background("old", run.manifest["background_evaluated"]) else 1
    return range(first, run.n_slots(0)), range(run.n_slots(0), len(run.slot_ids))
