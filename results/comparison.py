"""Is the best method better than the others by more than chance? Paired comparisons within a group of runs."""

import math
from collections.abc import Sequence

import numpy as np

from results.groups import Row, class_ranges, rows_of, the_group
from results.schema import Run
from results.scores import class_ious, score
from results.statistics import BOOTSTRAP_SEED, RESAMPLES, Comparison, compare
from results.table import Column, Table
from results.tables import line_of, table_of

COLUMNS = (
    Column("difference", spread=False),
    Column("from", over="95% CI", spread=False),
    Column("to", over="95% CI", spread=False),
    Column("p", kind="text"),
    Column("test", kind="text"),
)
HOW = (
    "difference: the method minus the best one, in points of mIoU over all classes; p two-sided, not corrected for the "
    "number of comparisons nor for having picked the best",
    "paired t-test over seeds (it takes the differences to be normal) where two methods share at least two; otherwise "
    f"a paired bootstrap over classes ({RESAMPLES:,} resamples, seed {BOOTSTRAP_SEED}), which takes the trained "
    "networks as given and says nothing about seeds",
)


def comparison_table(runs: Sequence[Run], convention: str = "default") -> Table | None:
    """Every method against the one with the best mean "all"; None with fewer than two complete methods.

    Joint training is no method to compare with. ValueError: the runs are not one group.
    """
    group = the_group(runs)
    rows = [row for row in rows_of(group) if row.complete and not row.joint]
    if len(rows) < 2:
        return None
    best = max(rows, key=lambda row: np.mean(list(_by_seed(row, convention).values())))
    lines = []
    for row in rows:
        if row is not best:
            found = _compared(row, best, convention)
            p = "" if math.isnan(found.p) else f"{found.p:.2g}"
            bounds = [found.difference._replace(mean=value) for value in (found.low, found.high)]
            lines.append(line_of(row, (found.difference, *bounds, p, found.how)))
    everything = class_ranges(group, convention)["all"]
    title = f"Difference to {best.label}, the best by mIoU (%) over all classes ({everything}) at the last step"
    return table_of(group, convention, "comparison", title, COLUMNS, lines, below=HOW)


def _compared(row: Row, best: Row, convention: str) -> Comparison:
    classes = [np.mean([class_ious(run, convention)[-1] for run in one.used], axis=0) for one in (row, best)]
    return compare(_by_seed(row, convention), _by_seed(best, convention), *classes)


def _by_seed(row: Row, convention: str) -> dict[int, float]:
    return {seed: score(run, convention).all for seed, run in zip(row.seeds, row.used, strict=True)}
