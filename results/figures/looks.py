"""How a method looks: one colour and marker wherever it is drawn, derived from its name alone.

The shipped methods have colours picked by hand, from Okabe and Ito's palette, which the colour-blind tell apart.
Others get one of the remaining colours by a hash of their name. Variants and recipes of a method share its colour
and marker and differ in line style. Joint training is grey and dashed.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from results.groups import Row

GREY = "#777777"
CHOSEN = {
    "finetune": ("#000000", "X"),
    "lwf": ("#56B4E9", "v"),
    "ilt": ("#CC79A7", "^"),
    "mib": ("#E69F00", "s"),
    "plop": ("#009E73", "D"),
    "mbs": ("#0072B2", "P"),
    "lbd": ("#D55E00", "o"),
}
# For all other names: Tol's muted palette, without what is close to the colours above, and two browns.
REMAINING = (
    *(("#882255", "<"), ("#332288", ">"), ("#999933", "p"), ("#AA4499", "h"), ("#117733", "d")),
    *(("#8C564B", "*"), ("#44AA99", "H"), ("#CC6677", "8"), ("#B8860B", "<"), ("#6699CC", ">")),
)
LINES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (7, 1.5, 1, 1.5)), (0, (2, 2)))


@dataclass(frozen=True)
class Look:
    """Colour (hex), marker and line style as matplotlib names them; hollow: markers are drawn as outlines."""

    color: str
    marker: str
    line: str | tuple = "-"
    hollow: bool = False

    @property
    def points(self) -> dict[str, object]:
        """Keywords that give a line's markers this look."""
        face = "white" if self.hollow else self.color
        return {"marker": self.marker, "color": self.color, "markerfacecolor": face, "markeredgecolor": self.color}


def colors_of(methods: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker by method name, the same in whatever company, save that no two methods share a colour.

    A name that is not in CHOSEN takes the place its hash says; where another one of `methods` that comes first
    by name has it, the next free one. Beyond all places they repeat.
    """
    taken: dict[str, tuple[str, str]] = {}
    for method in sorted(set(methods)):
        if method in CHOSEN:
            taken[method] = CHOSEN[method]
            continue
        start = int.from_bytes(hashlib.sha256(method.encode()).digest()[:8], "big")
        places = [REMAINING[(start + offset) % len(REMAINING)] for offset in range(len(REMAINING))]
        taken[method] = next((place for place in places if place not in taken.values()), places[0])
    return taken


def looks(rows: Sequence[Row]) -> list[Look]:
    """The look of every row of a group's tables, in their order."""
    methods = ["joint" if row.joint else row["method"] for row in rows]
    variants = [row["variant"] or "" for row in rows]
    colors = colors_of(method for method, row in zip(methods, rows, strict=True) if not row.joint)
    found: dict[int, Look] = {}
    drawn: dict[str, int] = {}  # by method, the place in LINES of its row drawn last
    for index in sorted(range(len(rows)), key=lambda index: (variants[index], rows[index].label)):
        method = methods[index]
        solid = not variants[index] and not rows[index].joint  # only the method itself, whether it is here or not
        place = drawn[method] = drawn.get(method, -1 if solid else 0) + 1
        color, marker = (GREY, "*") if rows[index].joint else colors[method]
        found[index] = Look(color, marker, LINES[place % len(LINES)], hollow=place > 0 and not rows[index].joint)
    return [found[index] for index in range(len(rows))]
