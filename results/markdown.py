"""Tables as Markdown (GitHub's pipes): best bold, second underlined, upper bounds in italics."""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

from results.table import Grid, GridColumn, Shown, Table, arranged

MARKING = "Bold: best; underlined: second best, among comparable rows."
LEGEND = f"{MARKING} In italics: upper bounds, which are never marked."
ALIGNMENT = {"text": ":--", "mark": ":-:"}


def to_markdown(tables: Sequence[Table], problems: Iterable[str] = ()) -> str:
    """The tables as one document; those in a row with equal notes share them, under one heading."""
    parts = [LEGEND]
    for (subject, *notes), together in groupby(tables, lambda table: (table.subject, *table.caption, *table.notes)):
        parts.append(f"## {escaped(subject)}")
        for table in together:
            parts += [f"### {escaped(table.title)}", _pipes(arranged(table)), *map(escaped, table.below)]
        parts.append("\n".join(f"* {escaped(note)}" for note in notes))
    parts += [f"Left out: {escaped(problem)}" for problem in problems]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Text in which nothing is markup: GitHub shows every character as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", " ".join(text.split()))


def _pipes(grid: Grid) -> str:
    rows = [
        [_head(column) for column in grid.columns],
        [ALIGNMENT.get(column.kind, "--:") for column in grid.columns],
        *([_cell(cell) for cell in line] for line in grid.lines),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _head(column: GridColumn) -> str:
    return "<br>".join(escaped(part) for part in (column.over, column.head, column.under) if part)


def _cell(cell: Shown) -> str:
    text = escaped(f"{cell.text} ± {cell.spread}" if cell.spread else cell.text)
    if cell.greyed and text:
        return f"*{text}*"
    return {"best": f"**{text}**", "second": f"<u>{text}</u>", "": text}[cell.mark]
