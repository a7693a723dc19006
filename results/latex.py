"""Tables as LaTeX (booktabs): what `bench` prints, ready for a paper."""

import re
from collections.abc import Mapping, Sequence

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "±": r"$\pm$", "·": r"$\cdot$", "✓": r"\checkmark",
}  # fmt: skip


def escaped(text: str) -> str:
    """Text with every character that LaTeX would read as a command made printable."""
    return "".join(SPECIAL.get(character, character) for character in text)


def latex_table(columns: Mapping[str, Sequence[str]], caption: str) -> str:
    """A table environment: one column for each entry, the first ones of text to the left, numbers to the right.

    columns: head -> cells, all of one length; cells that start with a backslash are LaTeX already. Needs the packages
    booktabs and, for check marks, amssymb.
    """
    alignment = "".join("r" if _numeric(cells) else "c" if _marks(cells) else "l" for cells in columns.values())
    lines = [
        r"% needs \usepackage{booktabs,amssymb}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(caption)}}}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        _row([escaped(head) for head in columns]),
        r"\midrule",
        *(_row([_cell(cell) for cell in cells]) for cells in zip(*columns.values(), strict=True)),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(text: str) -> str:
    return text if text.startswith("\\") else escaped(text.strip())


def _numeric(cells: Sequence[str]) -> bool:
    return all(re.match(r"\s*-?(\d|$)", cell) for cell in cells) and any(cell.strip(" -") for cell in cells)


def _marks(cells: Sequence[str]) -> bool:
    return all(cell in ("", r"\checkmark") for cell in cells)
