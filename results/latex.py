"""Tables as LaTeX (booktabs): a bare `tabular` of each to `\\input`, and a document with all of them.

Best numbers are bold, second-best underlined, upper bounds grey. A mean and its deviation are two columns, so that
means line up at their points.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import groupby

from results import citations
from results.table import HOLE, Grid, GridColumn, Shown, Table, arranged

PACKAGES = ("amssymb", "booktabs", "graphicx", "xcolor")
LONGEST = 50  # lines of a table that fit on a page
SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "[": "{[}", "]": "{]}", "*": "{*}",  # the last three mean something after a line's end
    "±": r"$\pm$", "·": r"$\cdot$", "×": r"$\times$", "✓": r"\checkmark{}", "–": "--", "—": "---", "’": "'",
}  # fmt: skip
MARKS = {"best": r"\textbf{%s}", "second": r"\underline{%s}", "": "%s"}
NUMBERS = re.compile(r"[-+]?[\d.]*\d(\.\.[-+]?[\d.]*\d)?")  # -4.2, or a range such as -4.2..-1.0
UNSUPPORTED = "ÐðÞþ"  # Latin-1 letters that LaTeX's default fonts lack


def escaped(text: str) -> str:
    """Text with every character that LaTeX would read as a command made printable.

    What its default fonts cannot print stands as its code point: "[U+4E2D]".
    """
    return "".join(_escape(character) for character in " ".join(text.split()))


def _escape(character: str) -> str:
    if character in SPECIAL:
        return SPECIAL[character]
    latin = character.isprintable() and ord(character) < 0x80
    accented = unicodedata.category(character)[0] == "L" and ord(character) < 0x100 and character not in UNSUPPORTED
    return character if latin or accented else f"{{[}}U+{ord(character):04X}{{]}}"


def tabular(table: Table) -> str:
    """The table as a bare `tabular`, to \\input; needs PACKAGES."""
    grid = arranged(table)
    spreads = [max((len(line[place].spread) for line in grid.lines), default=0) for place in range(len(grid.columns))]
    cited: set[str] = set()  # a method's paper is cited where its name first stands
    lines = [rf"\begin{{tabular}}{{{_alignment(grid, spreads)}}}", r"\toprule", *_heads(grid, spreads, cited)]
    lines.append(r"\midrule")
    for number, line in enumerate(grid.lines):
        if number and line[0].greyed and not grid.lines[number - 1][0].greyed:
            lines.append(r"\midrule")
        lines.append(_row(_cell(cell, widest, cited) for cell, widest in zip(line, spreads, strict=True)))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def table_environment(table: Table) -> str:
    """The table as a float with caption and notes, shrunk where it is wider than the line."""
    names = {name for line in table.lines for name in (line.label, line.method) if name}
    if table.kind == "protocols":
        names |= {column.over for column in table.columns if column.over}
    caption, below = (
        _sentences(texts, names) for texts in ([table.title, *table.caption], [*table.below, *table.notes])
    )
    return "\n".join(
        [
            r"\begin{table}[!htbp]",
            r"\centering\footnotesize",
            rf"\caption{{{caption}{_sources(table)}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            tabular(table).rstrip("\n") + "}",
            *([rf"\par\smallskip\parbox{{\linewidth}}{{\scriptsize {below}}}"] if below else []),
            r"\end{table}",
        ]
    )


def document(tables: Sequence[Table]) -> str:
    """All tables and their bibliography as a document that pdflatex compiles as it is (twice, for the citations)."""
    bodies = [
        "\n\n".join(map(table_environment, together)) + "\n\n\\clearpage\n"
        for _, together in groupby(tables, lambda table: table.subject)
    ]
    return "\n".join(
        [
            r"\documentclass{article}",
            r"\usepackage[utf8]{inputenc}",
            r"\usepackage[margin=2cm]{geometry}",
            rf"\usepackage{{{','.join(PACKAGES)}}}",
            r"\setlength{\abovecaptionskip}{0pt}",  # captions stand above their tables
            r"\setlength{\belowcaptionskip}{6pt}",
            r"\setlength{\intextsep}{24pt}",
            r"\makeatletter\setlength{\@fptop}{0pt}\setlength{\@fpsep}{24pt}\makeatother",  # pages fill from the top
            r"\begin{document}",
            *bodies,
            citations.bibitems(cited_papers(tables)) + r"\end{document}",
        ]
    ) + "\n"  # fmt: skip


def cited_papers(tables: Sequence[Table]) -> list[str]:
    """The keys of all papers that the tables cite."""
    keys = {key for table in tables for some in _of_table(table).values() for key in some}
    methods = {line.method for table in tables for line in table.lines}
    return sorted(keys | {key for key in map(citations.of_method, methods) if key})


def pages(table: Table) -> list[Table]:
    """The table in parts that fit on a page each: many classes are many lines, and so are many published numbers.

    Lines among which the best is marked stay together. What stands below a table stands below its last part.
    """
    length = len(table.columns if table.by else table.lines)
    if length <= LONGEST or (not table.by and any(column.better for column in table.columns)):
        return [table]
    starts = range(0, length, LONGEST)
    return [
        replace(
            _part(table, slice(start, start + LONGEST)),
            title=f"{table.title} (part {number} of {len(starts)})",
            stem=f"{table.stem}-part{number}",
            below=table.below if start == starts[-1] else (),
        )
        for number, start in enumerate(starts, start=1)
    ]


def _part(table: Table, part: slice) -> Table:
    if not table.by:
        return replace(table, lines=table.lines[part])
    lines = tuple(replace(line, cells=line.cells[part]) for line in table.lines)
    return replace(table, columns=table.columns[part], lines=lines)


def _of_table(table: Table) -> dict[str, list[str]]:
    return citations.of_provenance(table.provenance) | citations.of_measures(column.head for column in table.columns)


def _sentences(texts: Iterable[str], names: Collection[str]) -> str:
    """Notes as sentences with a capital, unless they start with one of the names, or with mIoU."""
    kept = ("mIoU", *names)
    sentences = (text if text.startswith(kept) else text[0].upper() + text[1:] for text in texts)
    return " ".join(f"{escaped(text)}." for text in sentences)


def _sources(table: Table) -> str:
    """A last sentence of the caption: what the papers behind network, data and measures are."""
    sources = [rf"{what}~\cite{{{','.join(keys)}}}" for what, keys in _of_table(table).items()]
    return f" Sources: {', '.join(sources)}." if sources else ""


def _alignment(grid: Grid, spreads: Sequence[int]) -> str:
    by_kind = {"text": "l", "mark": "c"}
    return "".join(
        "r@{}l" if spread else by_kind.get(column.kind, "r")
        for column, spread in zip(grid.columns, spreads, strict=True)
    )


def _heads(grid: Grid, spreads: Sequence[int], cited: set[str]) -> list[str]:
    """One to three rows of heads: what several columns share, with a rule below; the heads; the class ids."""
    columns = list(zip(grid.columns, spreads, strict=True))
    lines = []
    if any(column.over for column in grid.columns):
        cells, rules, place = [], [], 1
        for over, some in groupby(columns, lambda pair: pair[0].over):
            width = sum(2 if spread else 1 for _, spread in some)
            cells.append(rf"\multicolumn{{{width}}}{{c}}{{{escaped(over)}}}")
            rules += [rf"\cmidrule(lr){{{place}-{place + width - 1}}}"] if over else []
            place += width
        lines += [_row(cells), "".join(rules)]
    lines.append(_row(_head(column.head, column, spread, cited) for column, spread in columns))
    if any(column.under for column in grid.columns):
        lines.append(_row(_head(column.under, column, spread, set()) for column, spread in columns))
    return lines


def _head(text: str, column: GridColumn, spread: int, cited: set[str]) -> str:
    content = _grey(escaped(text), column.greyed) + _citation(column.method, cited)
    if column.kind == "text":
        return content
    return rf"\multicolumn{{{2 if spread else 1}}}{{c}}{{{content}}}" if content else ("&" if spread else "")


def _cell(cell: Shown, widest: int, cited: set[str]) -> str:
    """One cell, or two with the ampersand between where the column has deviations, `widest` characters at most."""
    text = "--" if cell.text == HOLE else escaped(cell.text)
    if NUMBERS.fullmatch(cell.text):
        text = text.replace("-", "$-$")
    content = _grey(MARKS[cell.mark] % text, cell.greyed) + _citation(cell.method, cited)
    if not widest:
        return content
    if not cell.spread:
        return f"{content} &"
    padding = rf"\phantom{{{'0' * (widest - len(cell.spread))}}}" if len(cell.spread) < widest else ""
    deviation = _grey(rf"\,$\pm$\,{padding}{cell.spread}", cell.greyed)
    return f"{content} & {deviation}"


def _grey(text: str, greyed: bool) -> str:
    return rf"\color{{gray}}{text}" if greyed and text else text


def _citation(method: str, cited: set[str]) -> str:
    key = citations.of_method(method)
    if key is None or key in cited:
        return ""
    cited.add(key)
    return rf"~\cite{{{key}}}"


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
