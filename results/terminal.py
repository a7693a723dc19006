"""Tables as text for a terminal, split where they are wider than it."""

import io
import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from results.table import Grid, GridColumn, Shown, Table, arranged

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

STYLES = {"best": "bold", "second": "underline", "": ""}


def to_terminal(tables: Sequence[Table], width: int = 100, color: bool = False, problems: Iterable[str] = ()) -> str:
    """The tables as text of at most `width` columns; those in a row with equal notes share them.

    color: terminal styles. problems: lines at the end.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(file=io.StringIO(), width=width, force_terminal=color, color_system="standard" if color else None)
    for (subject, *notes), together in groupby(tables, lambda table: (table.subject, *table.caption, *table.notes)):
        for place, table in enumerate(together):
            console.print(Text(table.title if place else f"{subject}: {table.title}", style="bold"))
            for number, block in enumerate(_blocks(arranged(table), width)):
                console.print(*[""] * bool(number), block, sep="\n")
            for line in table.below:
                _print_wrapped(console, line, " ")
            console.print()
        for note in notes:
            _print_wrapped(console, note, " * ")
        console.print()
    for problem in problems:
        console.print(Text(f"left out: {problem}", style="red"))
    lines = console.file.getvalue().splitlines()
    return "\n".join(line.rstrip() for line in lines).strip("\n") + "\n"


def _print_wrapped(console: "Console", text: str, indent: str) -> None:
    from rich.text import Text

    wrapped = textwrap.fill(text, console.width - 1, initial_indent=indent, subsequent_indent=" " * len(indent))
    console.print(Text(wrapped, style="dim"))


def _blocks(grid: Grid, width: int) -> "list[RichTable]":
    """The grid as rich tables that fit the width; each repeats the columns that say what a line is."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    texts = [_texts([line[place] for line in grid.lines]) for place in range(len(grid.columns))]
    tables = []
    for block in _split(grid, texts, width):
        table = RichTable(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), header_style="bold", show_edge=False)
        for place in block:
            column = grid.columns[place]
            justify = {"text": "left", "mark": "center"}.get(column.kind, "right")
            table.add_column(Text(_head(column)), justify=justify, no_wrap=True, vertical="bottom")
        for number, line in enumerate(grid.lines):
            table.add_row(*(Text(texts[place][number], style=_style(line[place])) for place in block))
        tables.append(table)
    return tables


def _split(grid: Grid, texts: Sequence[Sequence[str]], width: int) -> list[list[int]]:
    """Which columns stand in which table."""
    rooms = [
        max(map(len, [*_head(column).split("\n"), *cells])) + 2  # a blank before, one between
        for column, cells in zip(grid.columns, texts, strict=True)
    ]
    repeated = [place for place, column in enumerate(grid.columns) if column.repeated]
    blocks: list[list[int]] = []
    left = 0
    for place, column in enumerate(grid.columns):
        if column.repeated:
            continue
        if not blocks or rooms[place] > left:
            blocks.append([*repeated])
            left = width - sum(rooms[some] for some in repeated)
        blocks[-1].append(place)
        left -= rooms[place]
    return blocks


def _head(column: GridColumn) -> str:
    return "\n".join(part for part in (column.over, column.head, column.under) if part)


def _texts(cells: Sequence[Shown]) -> list[str]:
    """Cells such as "35.0 ± 1.2", padded so that a right-aligned column lines up at its points."""
    spreads = [f" ± {cell.spread}" if cell.spread else "" for cell in cells]
    widest = max(map(len, spreads), default=0)
    return [f"{cell.text}{spread:{widest}}" for cell, spread in zip(cells, spreads, strict=True)]


def _style(cell: Shown) -> str:
    return "dim" if cell.greyed else STYLES[cell.mark]
