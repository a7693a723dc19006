"""Several protocols in one table, as papers print them: old, new and all of each, a line for each method."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from results.groups import Group, Row, distinct, file_stem, rows_of
from results.notes import caption, reading, together
from results.statistics import MISSING
from results.table import Column, Line, Table
from results.tables import measure_cells, measure_columns

SHARED = ("setting", "order", "track", "network", "pretrained", "data")
MEASURES = ("old", "new", "all")


def sets_of_protocols(groups: Iterable[Group]) -> list[list[Group]]:
    """Groups that differ in the protocol alone (and so in their step images), two or more, as they come."""
    sets: dict[tuple, list[Group]] = {}
    for group in groups:
        shared = tuple(group[key] for key in SHARED) + (json.dumps(group["evaluation"], sort_keys=True),)
        sets.setdefault(shared, []).append(group)
    return [some for some in sets.values() if len({group["protocol"] for group in some}) > 1]


def protocols_table(groups: Sequence[Group], convention: str = "default") -> Table:
    """One of `sets_of_protocols` as a table. Lines of different protocols meet by their label; each keeps its recipe.

    A label that some protocol has with several recipes stays apart there, with holes elsewhere.
    """
    names = distinct((group["protocol"] for group in groups), "{} ({})")  # two of one name were given other images
    rows = [{row.label: row for row in rows_of(group)} for group in groups]
    labels = sorted({label: row.joint for of in rows for label, row in of.items()}.items(), key=lambda item: item[::-1])
    columns = [
        Column(column.head, column.under, name, better=column.better)
        for name, group in zip(names, groups, strict=True)
        for column in measure_columns(group, convention, MEASURES)
    ]
    lines = [_line(label, [of.get(label) for of in rows], convention) for label, _ in labels]
    first = groups[0]
    captions = [(name, caption(group, convention)) for name, group in zip(names, groups, strict=True)]
    readings = [(name, reading(group, convention)) for name, group in zip(names, groups, strict=True)]
    return Table(
        kind="protocols",
        subject=f"{first['setting']} | {first.where}",
        title="mIoU (%) at the last step of several protocols",
        columns=tuple(columns),
        lines=tuple(lines),
        stem=file_stem("protocols", [first[key] for key in SHARED], convention),
        provenance={**{key: first[key] for key in SHARED}, "convention": convention},
        caption=together(captions),
        notes=(*together(readings), *_changing([[of[label] for of in rows if label in of] for label, _ in labels])),
    )


def _line(label: str, rows: Sequence[Row | None], convention: str) -> Line:
    """The line of a label: its row in each protocol, holes where it has none."""
    cells = [measure_cells(row, convention, MEASURES)[1:] if row else (MISSING,) * len(MEASURES) for row in rows]
    there = [row for row in rows if row]
    facts = {
        "recipe": " ".join(row.recipe for row in there),
        "runs": " ".join(run.manifest["run"] for row in there for run in row.used),
    }
    complete = any(row.complete for row in there)
    return Line(label, sum(cells, ()), there[0]["method"], facts, there[0].joint, complete)


def _changing(lines: Sequence[Sequence[Row]]) -> list[str]:
    """Which options of a method are not the same in all protocols, as on the paper track."""
    notes = []
    for rows in lines:
        options = [_options(row) for row in rows]
        keys = sorted({key for one in options for key in one if any(other.get(key) != one[key] for other in options)})
        if keys:
            notes.append(f"{rows[0].label}: not the same in all protocols: {', '.join(keys)}")
    return notes


def _options(row: Row) -> dict[str, Any]:
    """What the manifest says of training and of the method's own options, as key -> value."""
    config = row.used[0].manifest.get("config", {})
    flat: dict[str, Any] = {}
    pending = [(name, config.get(name)) for name in ("train", row["method"])]
    while pending:
        name, value = pending.pop()
        if isinstance(value, dict):
            pending += [(f"{name}.{key}", inner) for key, inner in value.items()]
        else:
            flat[name] = value
    return flat
