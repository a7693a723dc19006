"""The tables of one group of comparable runs: main, per step, per class, and per group of classes.

A line stands for a method with one recipe, over its seeds; see `groups` for what may share a table.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from results.groups import GROUP_KEYS, Group, Row, class_ranges, id_ranges, rows_of, the_group
from results.measures import convention_named, harmonic, matrix, mean_iou
from results.notes import caption, reading
from results.schema import Run
from results.scores import Scores, class_ious, group_slots, score
from results.statistics import summary
from results.table import Cell, Column, Line, Table, written

MEASURES: dict[str, Callable[[Scores], float]] = {
    "old": lambda scores: scores.old,
    "new": lambda scores: scores.new,
    "all": lambda scores: scores.all,
    "avg": lambda scores: scores.avg,
    "harmonic": lambda scores: harmonic(scores.old, scores.new),
    "forgetting": lambda scores: scores.forgetting,
}
SEEDS = Column("seeds", kind="count")


def main_table(runs: Sequence[Run], convention: str = "default") -> Table:
    """Seeds and MEASURES at the last step, in percent. ValueError: the runs are not one group."""
    group = the_group(runs)
    columns = (SEEDS, *measure_columns(group, convention))
    lines = [line_of(row, measure_cells(row, convention)) for row in rows_of(group)]
    return table_of(group, convention, "main", "mIoU (%) at the last step", columns, lines)


def measure_columns(group: Group, convention: str, measures: Sequence[str] = tuple(MEASURES)) -> tuple[Column, ...]:
    """A column for each of the MEASURES; old, new and all say which class ids they are."""
    ids = class_ranges(group, convention)
    return tuple(
        Column(name, ids.get(name, ""), better="lower" if name == "forgetting" else "higher") for name in measures
    )


def measure_cells(row: Row, convention: str, measures: Sequence[str] = tuple(MEASURES)) -> tuple[Cell, ...]:
    """Complete runs, and each measure over them."""
    scores = [score(run, convention) for run in row.used]
    return (n_complete(row), *(summary(MEASURES[name](one) for one in scores) for name in measures))


def per_step_table(runs: Sequence[Run], convention: str = "default") -> Table:
    """mIoU over all classes seen, after every step, in percent: a column for each step.

    Methods without such values are left out; what joint training reaches stands below. ValueError: the runs are not
    one group.
    """
    group = the_group(runs)
    lines, below = [], []
    for row in rows_of(group):
        steps = np.stack([score(run, convention).steps for run in row.used])  # (seeds, S)
        if row.joint and row.complete:
            below.append(f"{row.label}, all classes in one step: {written(summary(steps[:, -1]))}")
        elif not row.joint and not np.isnan(steps).all():
            cells = tuple(summary(values) for values in steps.T)
            lines.append(line_of(row, cells, seeds=n_complete(row)))
    columns = tuple(
        Column(str(step), id_ranges(classes), better="higher") for step, classes in enumerate(group["step_classes"])
    )
    title = "mIoU (%) over all classes seen, after every step"
    return table_of(
        group, convention, "steps", title, columns, lines, by=("step", "learned"), measure="all", below=tuple(below)
    )


def per_class_table(runs: Sequence[Run], convention: str = "default") -> Table:
    """IoU of every class at the last step, in percent: a column for each class, background first where it counts.

    Classes without a ground-truth pixel are holes. ValueError: the runs are not one group.
    """
    group = the_group(runs)
    run = group.runs[0]
    first = 0 if convention_named(convention).counts_background("all", group["background_evaluated"]) else 1
    lines = [
        line_of(row, tuple(summary(values) for values in per_class[:, first:].T), seeds=n_complete(row))
        for row in rows_of(group)
        for per_class in [np.stack([class_ious(run, convention)[-1] for run in row.used])]  # (seeds, T)
    ]
    columns = tuple(
        Column(group["class_names"][class_id], str(class_id), better="higher") for class_id in run.slot_ids[first:]
    )
    title = "IoU (%) of every class at the last step"
    return table_of(group, convention, "classes", title, columns, lines, by=("class", "id"), measure="iou")


def per_group_table(runs: Sequence[Run], convention: str = "default") -> Table | None:
    """mIoU at the last step over the classes of each step, as papers print ADE (1-100, 101-110, ...), and over all.

    None where that would say no more than other tables: with one increment, or with one class at a time. The classes of
    step 0 are those of "old", background included where the convention counts it there. ValueError: the runs are not
    one group.
    """
    group = the_group(runs)
    sizes = [len(classes) for classes in group["step_classes"]]
    if len(sizes) < 3 or max(sizes[1:]) < 2:
        return None
    run = group.runs[0]
    old, _ = group_slots(run, convention)
    slots = [old, *(range(run.n_slots(step - 1), run.n_slots(step)) for step in range(1, len(sizes)))]
    columns = tuple(
        Column(id_ranges(run.slot_ids[list(some)].tolist()), f"step {step}", better="higher")
        for step, some in enumerate(slots)
    )
    lines = []
    for row in rows_of(group):
        per_run = np.array([_group_means(run, convention, slots) for run in row.used])  # (seeds, groups)
        everything = measure_cells(row, convention, ["all"])
        lines.append(line_of(row, (everything[0], *map(summary, per_run.T), everything[1])))
    columns = (SEEDS, *columns, *measure_columns(group, convention, ["all"]))
    title = "mIoU (%) at the last step, over the classes of each step"
    return table_of(group, convention, "groups", title, columns, lines)


def _group_means(run: Run, convention: str, slots: Sequence[range]) -> list[float]:
    last = run.counts.get(run.n_steps - 1)
    if last is None:
        return [math.nan] * len(slots)
    square = matrix(last, convention, run.manifest["background_evaluated"])
    rule = convention_named(convention).group_rule
    return [100 * mean_iou(square, rule, some) for some in slots]


def table_of(
    group: Group, convention: str, kind: str, title: str, columns: Sequence[Column], lines: Sequence[Line], **more: Any
) -> Table:
    """A table with the provenance, caption and notes of its group."""
    return Table(
        kind=kind,
        subject=group.title,
        title=title,
        columns=tuple(columns),
        lines=tuple(lines),
        stem=group.stem(kind, convention),
        provenance={**{key: group[key] for key in GROUP_KEYS}, "convention": convention},
        caption=tuple(caption(group, convention)),
        notes=tuple(reading(group, convention)),
        **more,
    )


def line_of(row: Row, cells: tuple[Cell, ...], **facts: Any) -> Line:
    """The line of a row, with its recipe and the ids of the runs behind it."""
    runs = " ".join(run.manifest["run"] for run in row.used)
    return Line(row.label, cells, row["method"], {"recipe": row.recipe, "runs": runs, **facts}, row.joint, row.complete)


def n_complete(row: Row) -> int:
    """How many complete runs the numbers of a row come from."""
    return len(row.used) if row.complete else 0
