"""Ablation tables: one row per variant of a method, check marks for its parts, and the measures of the main table.

What a variant is comes as `Variant` rows, derived from configurations by whoever ran them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from results.latex import latex_table
from results.render import cells_of, print_tables
from results.schema import Run, write_atomically

if TYPE_CHECKING:
    import pandas as pd

MARKS = {True: "✓", False: "·"}
LATEX_MARKS = {True: r"\checkmark", False: ""}


@dataclass(frozen=True)
class Variant:
    """One row: what its runs are labelled, and per column a part that is on or off, or the value of an option."""

    label: str
    columns: dict[str, bool | str]


def ablation_table(variants: Sequence[Variant], runs: Sequence[Run], convention: str = "default") -> "pd.DataFrame":
    """The main table of the variants' runs, in the order of the variants, with a column for each of their parts.

    A variant without runs is a row of holes. ValueError: the runs are not one group of comparable ones.
    """
    import pandas as pd

    from results.tables import main_table

    frame = main_table(runs, convention).drop(columns="recipe")
    base = frame["method"].str.partition(" [")[0]  # one label with several recipes has several rows
    parts = []
    for variant in variants:
        rows = frame[base == variant.label]
        rows = rows if len(rows) else pd.DataFrame({"method": [variant.label], "seeds": [0]})
        for place, (name, value) in enumerate(variant.columns.items(), start=1):
            rows.insert(place, name, [value] * len(rows))
        parts.append(rows)
    table = pd.concat(parts, ignore_index=True)
    return table[[*table.columns[:1], *variants[0].columns, *frame.columns[1:]]]


def report_ablation(
    title: str,
    variants: Sequence[Variant],
    runs: Sequence[Run],
    notes: Sequence[str],
    folder: Path,
    convention: str = "default",
    width: int = 100,
) -> tuple[str, list[Path]]:
    """The ablation as text for a terminal, and as CSV and LaTeX files in `folder`; returns the text and the paths."""
    table = ablation_table(variants, runs, convention)
    names = list(variants[0].columns)
    shown = {"method": table["method"].tolist()}
    shown |= {name.replace(" ", "\n", 1): [MARKS.get(value, str(value)) for value in table[name]] for name in names}
    measures = cells_of(table)
    text = print_tables(title, ["method"], {**shown, **measures}, notes, width)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", f"ablation-{title}") + ("" if convention == "default" else f"_{convention}")
    csv, latex = folder / f"{stem}.csv", folder / f"{stem}.tex"
    write_atomically(csv, table.to_csv(index=False).encode())
    columns = {"method": table["method"].tolist()}
    columns |= {name: [LATEX_MARKS.get(value, str(value)) for value in table[name]] for name in names}
    columns |= {head.replace("\n", " "): cells for head, cells in measures.items()}
    write_atomically(
        latex, latex_table(columns, caption=f"{title}. " + " ".join(f"{note}." for note in notes)).encode()
    )
    return text, [csv, latex]
