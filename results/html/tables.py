"""Tables as HTML elements: heads with their scope, numbers that line up, upper bounds in a body of their own."""

from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

from results.table import Grid, GridColumn, Shown, Table, arranged

MARKS = {"best": "<strong>{}</strong>", "second": "<u>{}</u>", "": "{}"}
FIGURE_SPACE = "\u2007"  # as wide as a digit
NUMERIC = ("number", "count", "range")


def table_element(table: Table, identity: str) -> str:
    """The table under its title, in a box that scrolls sideways, and the lines below it. identity: ids start so.

    Every head in its last line says which column it stands for and what that holds (`data-column`, `data-kind`), which
    is all that `report.js` needs to sort.
    """
    grid = arranged(table)
    below = "".join(f"<p>{escape(line)}</p>" for line in table.below)
    return "\n".join(
        [
            f'<h3 id="{identity}">{escape(table.title)}</h3>',
            f'<div class="scroll" role="region" aria-labelledby="{identity}" tabindex="0">',
            f'<table class="sortable" aria-labelledby="{identity}">',
            f"<thead>{_heads(grid.columns)}</thead>",
            *_bodies(grid),
            "</table>\n</div>",
            *([f'<div class="below">{below}</div>'] if below else []),
        ]
    )


def _heads(columns: Sequence[GridColumn]) -> str:
    """One line of heads; two where columns share one, in which those that share none span both."""
    if not any(column.over for column in columns):
        return f"<tr>{''.join(map(_head, columns, range(len(columns))))}</tr>"
    above, below = [], []
    for over, some in groupby(enumerate(columns), lambda one: one[1].over):
        shared = list(some)
        heads = [_head(column, place, lines=1 if over else 2) for place, column in shared]
        (below if over else above).extend(heads)
        if over:
            above.append(f'<th scope="colgroup" colspan="{len(shared)}">{escape(over)}</th>')
    return f"<tr>{''.join(above)}</tr>\n<tr>{''.join(below)}</tr>"


def _head(column: GridColumn, place: int, lines: int = 1) -> str:
    under = f"<small>{escape(column.under)}</small>" if column.under else ""
    span = f' rowspan="{lines}"' if lines > 1 else ""
    classes = _classes(column.kind, column.greyed)
    return (
        f'<th scope="col"{classes}{span} data-column="{place}" data-kind="{escape(column.kind)}">'
        f"<span>{escape(column.head)}{under}</span></th>"
    )


def _bodies(grid: Grid) -> Iterable[str]:
    """The lines; upper bounds, which are not compared, in a body of their own, below whatever the others' order."""
    widest = [max((len(line[place].spread) for line in grid.lines), default=0) for place in range(len(grid.columns))]
    name = ""
    for greyed, lines in groupby(grid.lines, lambda line: line[0].greyed):
        rows = []
        for first, *others in lines:
            again = not first.text  # as printed, a name stands once for the lines that share it; sorting parts them
            name = first.text or name
            cells = zip(others, grid.columns[1:], widest[1:], strict=True)
            stub = f'<th scope="row"{_classes(grid.columns[0].kind, again)}>{escape(name)}</th>'
            rows.append(f"<tr>{stub}{''.join(_cell(*cell) for cell in cells)}</tr>")
        yield "\n".join([f"<tbody{_classes('', greyed)}>", *rows, "</tbody>"])


def _cell(cell: Shown, column: GridColumn, widest: int) -> str:
    """widest: characters of the longest deviation in the column; shorter ones are padded, so that points line up."""
    text = MARKS[cell.mark].format(escape(cell.text))
    if cell.spread:
        text += f'<span class="spread"> ± {FIGURE_SPACE * (widest - len(cell.spread))}{escape(cell.spread)}</span>'
    elif widest:
        text += f'<span class="spread">{FIGURE_SPACE * (widest + 3)}</span>'
    return f"<td{_classes(column.kind, cell.greyed)}>{text}</td>"


def _classes(kind: str, greyed: bool) -> str:
    names = ["numeric"] * (kind in NUMERIC) + ["mark"] * (kind == "mark") + ["greyed"] * greyed
    return f' class="{" ".join(names)}"' if names else ""
