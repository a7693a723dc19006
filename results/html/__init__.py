"""The report as one HTML file that needs nothing else: tables that sort on click, figures, the runs behind every row.

No request leaves the page, and a policy in its head makes the browser see to that: style and script are inline, figures
are data URIs, and no script runs but the one of `report.js`, by its hash. Whatever a user named is escaped.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from results.groups import Group
from results.html.provenance import runs_element
from results.html.tables import table_element
from results.markdown import MARKING
from results.naming import as_in_papers
from results.statistics import Summary
from results.table import Table, written

if TYPE_CHECKING:
    from results.figures.files import Drawn

ASSETS = Path(__file__).parent


@dataclass(frozen=True)
class Section:
    """What the page shows of a group of comparable runs: its tables, the main one first, and its figures."""

    group: Group
    tables: Sequence[Table]
    figures: Sequence["Drawn"]


def to_html(
    sections: Sequence[Section], across: Sequence[Table], convention: str = "default", problems: Iterable[str] = ()
) -> str:
    """The page: a summary, a part for each group, then the tables `across` groups. Equal input gives equal text.

    Figures must have been drawn as PNG. problems: what could not be read, named in the summary.
    """
    style, script = ((ASSETS / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    parts = [_part(section, f"group-{number}") for number, section in enumerate(sections, start=1)]
    if across:
        parts.append(f'<section id="across"><h2>Several protocols</h2>{_tables(across, "across")}</section>')
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">',
            f"<title>{escape(_title(sections))}</title>\n<style>{style}</style>\n</head>\n<body>",
            _summary(sections, bool(across), convention, list(problems)),
            "<main>",
            *parts,
            f"</main>\n<script>{script}</script>\n</body>\n</html>\n",
        ]
    )


def _title(sections: Sequence[Section]) -> str:
    return f"ciss-bench: {', '.join(dict.fromkeys(section.group['protocol'] for section in sections))}"


def _summary(sections: Sequence[Section], across: bool, convention: str, problems: Sequence[str]) -> str:
    """What there is, where it is on the page, and how it came out."""
    runs = [run for section in sections for run in section.group.runs]
    methods = {run.manifest["label"] for run in runs}
    counted = [_counted(len(runs), "run"), _counted(len(methods), "method")]
    if len(sections) > 1:
        counted.append(f"{len(sections)} groups of comparable runs, which never share a table")
    lines = [
        f'<li><a href="#group-{number}">{escape(section.group.title)}</a><br>{escape(headline(section.tables[0]))}</li>'
        for number, section in enumerate(sections, start=1)
    ]
    lines += ['<li><a href="#across">Several protocols side by side</a></li>'] if across else []
    return "\n".join(
        [
            f"<header>\n<h1>{escape(_title(sections))}</h1>",
            f"<p>{', '.join(counted)}; {escape(convention)} convention.</p>",
            f"<ul>{''.join(lines)}</ul>",
            *(f'<p class="problem">Left out: {escape(problem)}</p>' for problem in problems),
            f'<p class="legend">{escape(MARKING)} Grey: upper bounds, which are never marked. A click on a '
            "column's head sorts by it, a second one the other way round, a third one as it was.</p>\n</header>",
        ]
    )


def headline(table: Table) -> str:
    """How a group came out, in a sentence from its main table: the best two of the complete lines, and the bound."""
    place = next(place for place, column in enumerate(table.columns) if column.head == "all")
    reached: list[tuple[str, Summary, bool]] = [
        (line.label, line.cells[place], line.upper_bound) for line in as_in_papers(table).lines if line.complete
    ]
    best = sorted((one for one in reached if not one[2]), key=lambda one: -one[1].mean)[:2]
    parts = [", then ".join(f"{label} {written(number)}" for label, number, _ in best)] if best else []
    parts += [f"{label} (upper bound) {written(number)}" for label, number, bound in reached if bound]
    what = f"mIoU of all classes ({table.columns[place].under}) at the last step, in percent"
    return f"{what}: {'; '.join(parts)}" if parts else "No run is complete yet."


def _part(section: Section, identity: str) -> str:
    return "\n".join(
        [
            f'<section id="{identity}">\n<h2>{escape(section.group.title)}</h2>',
            _tables(section.tables, identity),
            _figures(section.figures),
            f"<h3>Runs behind each row</h3>\n{runs_element(section.group)}\n</section>",
        ]
    )


def _tables(tables: Sequence[Table], identity: str) -> str:
    """The tables; those in a row with equal notes share them."""
    parts = []
    named = [as_in_papers(table) for table in tables]
    numbered = [(f"{identity}-table-{number}", table) for number, table in enumerate(named, start=1)]
    for (subject, *said), together in groupby(numbered, lambda one: (one[1].subject, *one[1].caption, *one[1].notes)):
        if identity == "across":
            parts.append(f"<h3>{escape(subject)}</h3>")
        parts += [table_element(table, name) for name, table in together]
        notes = "".join(f"<li>{escape(note)}</li>" for note in said)
        parts.append(f'<ul class="notes" aria-label="notes to the tables above">{notes}</ul>')
    return "\n".join(parts)


def _figures(figures: Sequence["Drawn"]) -> str:
    if not figures:
        return ""
    return f'<h3>Figures</h3>\n<div class="figures">\n{"".join(map(_figure, figures))}</div>'


def _figure(figure: "Drawn") -> str:
    width, height = figure.pixels
    name, says = escape(figure.name), escape(figure.says)
    return (
        f'<figure class="{"wide" if figure.wide else "narrow"}"><img src="{figure.data_uri()}" width="{width}" '
        f'height="{height}" alt="{name}: {says}"><figcaption>{says}</figcaption></figure>\n'
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)
