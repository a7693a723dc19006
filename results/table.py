"""What every table is, whatever format it ends in: lines of methods, columns of measures, unrounded cells.

Builders (`tables`, `comparison`, `cost`, `side_by_side`, `beside_published`, `ablation`) make a `Table` from runs.
Files of raw numbers read its `records`; what is printed is first `arranged` as a `Grid` of strings, which each format
then dresses.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from results.statistics import Summary, half_width

HOLE = "-"
CHECKS = {True: "✓", False: "·"}
Cell = Summary | int | bool | str


@dataclass(frozen=True)
class Column:
    """One column of a table. Its head is up to three lines: what several columns share, the head, class ids."""

    head: str
    under: str = ""
    over: str = ""
    kind: str = "number"  # number (Summary) | count (int; 0 is a hole) | mark (bool) | text, range (str)
    better: str = ""  # "higher" | "lower": which number is the best; "" where none is
    digits: int = 1  # as printed
    spread: bool = True  # a mean over seeds, which has a deviation; not so for a bound or a p value
    repeated: bool = False  # says what a line is: where a table is too wide, each part has it
    printed_only: bool = False  # a text made of the line's facts, which files of raw numbers have instead

    @property
    def name(self) -> str:
        """Head in one line: "old 0-10"."""
        return " ".join(part for part in (self.over, self.head, self.under) if part)


@dataclass(frozen=True)
class Line:
    """One row: a method or variant with one recipe. cells: one for each column of the table."""

    label: str
    cells: tuple[Cell, ...]
    method: str = ""  # whose paper is cited
    facts: Mapping[str, Any] = field(default_factory=dict)  # for files of raw numbers: recipe, run ids, ...
    upper_bound: bool = False  # greyed, never marked
    complete: bool = True  # a line without a complete run is not marked


@dataclass(frozen=True)
class Table:
    """A table of comparable lines.

    by: if not empty, the columns are of one kind (steps, classes) and the printed table has a line for each of them and
    a column for each method; the names tell what `Column.head` and `Column.under` are, and `measure` what the cells
    are. caption: what has to be said wherever the table is shown; notes: what helps to read it; below: its last lines,
    of this table alone.
    """

    kind: str  # main, steps, classes, ...
    subject: str  # which runs: "voc_10-1 overlapped | demo track | ..."
    title: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    stem: str  # of file names
    provenance: Mapping[str, str] = field(default_factory=dict)
    caption: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    by: tuple[str, str] | tuple[()] = ()
    measure: str = ""

    def records(self) -> list[dict[str, Any]]:
        """Unrounded numbers with their provenance, a dict for each line; with `by`, for each line and column.

        A number has its mean, " std" (sample standard deviation) and " ci95" (half the confidence interval). Holes are
        "".
        """
        records = []
        for line in self.lines:
            head = {**self.provenance, "method": line.label, **line.facts}
            cells = list(zip(self.columns, line.cells, strict=True))
            if self.by:
                for column, cell in cells:
                    place = dict(zip(self.by, (column.head, column.under), strict=True))
                    records.append(head | place | _raw(self.measure, column, cell))
            else:
                for column, cell in cells:
                    head |= {} if column.printed_only else _raw(column.name, column, cell)
                records.append(head)
        return [{key: "" if value != value else value for key, value in record.items()} for record in records]


def _raw(name: str, column: Column, cell: Cell) -> dict[str, Any]:
    if not isinstance(cell, Summary):
        return {name: cell}
    values = {name: cell.mean}
    if column.spread:
        values |= {f"{name} std": cell.std, f"{name} ci95": half_width(cell)}
    return values


@dataclass(frozen=True)
class Shown:
    """A printed cell: "35.0" with spread "1.2", or text. mark: "best", "second" or ""."""

    text: str
    spread: str = ""
    mark: str = ""
    greyed: bool = False
    method: str = ""  # whose name it is, if it is one


@dataclass(frozen=True)
class GridColumn:
    """A printed column: its three heads, what it holds, and whether split tables repeat it."""

    over: str
    head: str
    under: str
    kind: str  # as `Column.kind`
    repeated: bool = False
    greyed: bool = False
    method: str = ""


@dataclass(frozen=True)
class Grid:
    """A table as it is printed."""

    columns: tuple[GridColumn, ...]
    lines: tuple[tuple[Shown, ...], ...]


def arranged(table: Table) -> Grid:
    """The table as strings, methods down or across as its `by` says, with its best and second-best cells marked."""
    marks = marked(table)
    cells = [
        [
            _shown(cell, column, marks.get((row, place), ""), line.upper_bound)
            for place, (column, cell) in enumerate(zip(table.columns, line.cells, strict=True))
        ]
        for row, line in enumerate(table.lines)
    ]
    if not table.by:
        above = [
            "",
            *(line.label for line in table.lines),
        ]  # a name is printed once for the lines in a row that share it
        names = (
            Shown("" if line.label == last else line.label, greyed=line.upper_bound, method=line.method)
            for last, line in zip(above, table.lines, strict=False)
        )
        heads = (
            GridColumn(column.over, column.head, column.under, column.kind, column.repeated) for column in table.columns
        )
        return Grid(
            (GridColumn("", "method", "", "text", repeated=True), *heads),
            tuple((name, *line) for name, line in zip(names, cells, strict=True)),
        )
    texts_of = [column.head for column in table.columns], [column.under for column in table.columns]
    stubs = [
        GridColumn("", name, "", "count" if all(map(str.isdigit, texts)) else "text", repeated=True)
        for name, texts in zip(table.by, texts_of, strict=True)
    ]
    heads = [
        GridColumn("", line.label, "", "number", greyed=line.upper_bound, method=line.method) for line in table.lines
    ]
    lines = [
        (Shown(column.head), Shown(column.under), *across)
        for column, *across in zip(table.columns, *cells, strict=True)
    ]
    return Grid((*stubs, *heads), tuple(lines))


def marked(table: Table) -> dict[tuple[int, int], str]:
    """(line, column) -> "best" or "second", column by column, by the numbers as printed.

    Two equal numbers share their mark, which then counts for both places; what more lines share (the same step 0, an
    IoU of 0) is no achievement and is not marked. Upper bounds and lines without a complete run take no part.
    """
    marks = {}
    for place, column in enumerate(table.columns):
        if not column.better:
            continue
        values = {
            row: round(line.cells[place].mean, column.digits)
            for row, line in enumerate(table.lines)
            if line.complete and not line.upper_bound and not math.isnan(line.cells[place].mean)
        }
        ranking = sorted(values.values(), reverse=column.better == "higher")
        for row, value in values.items():
            rank = ranking.index(value)
            if rank < 2 <= len(ranking) and ranking.count(value) <= min(2, len(ranking) - 1):
                marks[row, place] = ("best", "second")[rank]
    return marks


def written(number: Summary, digits: int = 1) -> str:
    """A number in a sentence: "35.0 ± 1.2", "35.0", or "-"."""
    shown = _shown(number, Column("", digits=digits), "", False)
    return f"{shown.text} ± {shown.spread}" if shown.spread else shown.text


def _shown(cell: Cell, column: Column, mark: str, greyed: bool) -> Shown:
    if isinstance(cell, Summary):
        if math.isnan(cell.mean):
            return Shown(HOLE, greyed=greyed)
        spread = f"{cell.std:.{column.digits}f}" if column.spread and not math.isnan(cell.std) else ""
        return Shown(f"{cell.mean:.{column.digits}f}", spread, mark, greyed)
    if isinstance(cell, bool):
        return Shown(CHECKS[cell], greyed=greyed)
    return Shown(str(cell or HOLE), greyed=greyed)
