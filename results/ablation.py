"""Ablation tables: one row per variant of a method, check marks for its parts, and the measures of the main table.

What a variant is comes as `Variant` rows, derived from configurations by whoever ran them.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from results.files import write_csv, write_latex
from results.groups import GROUP_KEYS, Group, file_stem, the_group
from results.schema import Run
from results.statistics import MISSING
from results.table import Cell, Column, Line, Table
from results.tables import main_table
from results.terminal import to_terminal


@dataclass(frozen=True)
class Variant:
    """One row: what its runs are labelled, and per column a part that is on or off, or the value of an option."""

    label: str
    columns: dict[str, bool | str]


def ablation_table(variants: Sequence[Variant], runs: Sequence[Run], convention: str = "default") -> Table:
    """The main table of the variants' runs, in the order of the variants, with a column for each of their parts.

    A variant without runs is a row of holes. ValueError: the runs are not one group of comparable ones.
    """
    table = main_table(runs, convention)
    parts = tuple(
        Column(name, kind="mark" if all(isinstance(variant.columns[name], bool) for variant in variants) else "text")
        for name in variants[0].columns
    )
    lines = []
    for variant in variants:
        marks = _parts(variant, parts)
        found = [line for line in table.lines if line.label.partition(" [")[0] == variant.label]
        for line in found or [_nothing(variant, table)]:  # one label with several recipes has several rows
            lines.append(replace(line, cells=(*marks, *line.cells)))
    return replace(table, kind="ablation", columns=(*parts, *table.columns), lines=tuple(lines))


def report_ablation(
    title: str,
    variants: Sequence[Variant],
    runs: Sequence[Run],
    folder: Path,
    convention: str = "default",
    width: int = 100,
) -> tuple[str, list[Path]]:
    """The ablation as text for a terminal, and as CSV and LaTeX files in `folder`; returns the text and the paths.

    title: what is ablated; the rest of the caption comes from the runs.
    """
    table = ablation_table(variants, runs, convention)
    where = [table.provenance[key] for key in GROUP_KEYS]
    stem = file_stem("ablation", [title, *where, _digest(variants, the_group(runs))], convention)
    table = replace(table, title=f"{title}: {table.title}", stem=stem)
    return to_terminal([table], width), [*write_csv([table], folder), *write_latex([table], folder, stem)]


def _parts(variant: Variant, columns: Sequence[Column]) -> tuple[Cell, ...]:
    values = (variant.columns[column.head] for column in columns)
    return tuple(value if column.kind == "mark" else str(value) for value, column in zip(values, columns, strict=True))


def _digest(variants: Sequence[Variant], group: Group) -> str:
    """Tells apart the files of ablations with other variants, other options of them, or another evaluation."""
    content = [[[variant.label, variant.columns] for variant in variants], group["evaluation"]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def _nothing(variant: Variant, table: Table) -> Line:
    """The line of a variant that has no runs."""
    cells = tuple(0 if column.kind == "count" else MISSING for column in table.columns)
    return Line(variant.label, cells, table.lines[0].method, complete=False)
