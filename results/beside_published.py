"""Own runs beside published numbers: what differs is said, and a difference is shown only on the same images.

Where the convention of a published number is known, ours is counted in that convention too (the counts allow
it); elsewhere in the convention of the report, with a flag. Nothing is marked as best across the two.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import protocols
from results.groups import Group, Row, id_ranges, rows_of, the_group
from results.measures import CONVENTIONS
from results.published_numbers import METRICS, of_method, published_numbers
from results.schema import Run
from results.statistics import MISSING
from results.table import Column, Line, Table
from results.tables import line_of, measure_cells, n_complete, table_of

if TYPE_CHECKING:
    import pandas as pd

VAL_IMAGES = {"voc": 1449, "ade": 2000}  # what published numbers are evaluated on
SEPARATOR = " | "  # between the sources of one line in a file
NETWORKS = {"deeplab": "ResNet-101/DeepLabV3", "segmenter": "ViT-B/16"}  # our networks, as papers name their kind
COLUMNS = (
    Column("mIoU", kind="text", repeated=True, printed_only=True),
    Column("network", kind="text", repeated=True, printed_only=True),
    Column("counted", kind="text", repeated=True, printed_only=True),
    Column("ours"),
    Column("theirs", kind="range", printed_only=True),
)
DIFFERENCE = Column("difference", kind="range", printed_only=True)
SOURCES = Column("sources", kind="text", printed_only=True)
_ALIKE = ["backbone", "mark", "convention", "background_in_old"]  # numbers that agree in these make one range


@dataclass(frozen=True)
class Published:
    """What print has for one method and measure, on one kind of network and counted one way.

    values: in percent, one or more; convention: its name, or what is known of it, such as "old without 0" (the
    background is no member of old). All empty: print has nothing.
    """

    measure: str
    values: tuple[float, ...] = ()
    sources: tuple[str, ...] = ()
    network: str = ""
    mark: str = ""  # of `published_numbers.MARKS`
    convention: str = ""
    note: str = ""

    @property
    def low(self) -> float:
        return min(self.values, default=math.nan)

    @property
    def high(self) -> float:
        return max(self.values, default=math.nan)


def published_table(runs: Sequence[Run], convention: str = "default", numbers: "pd.DataFrame | None" = None) -> Table:
    """Ours beside theirs: a line per row of the group's tables, measure, and kind of published number.

    numbers: as of `published_numbers` (default: all of them). Those of other settings, of weak labels and federated
    ones are left out; a method without any has one line, with a hole. Ours: mean and sample standard deviation over
    seeds, a hole where no run is complete. Where the images differ (`obstacles`) there are no differences. Files of
    raw numbers have: measure; seeds; counted, the convention of ours, theirs where it is known, else `convention`; low
    and high, the range over that many `sources`; difference low and high, ours minus high and ours minus low; their
    network, mark and convention, note and source. ValueError: the runs are not one group.
    """
    group = the_group(runs)
    fitting = _fitting(published_numbers() if numbers is None else numbers, group)
    rows = [(row, theirs) for row in rows_of(group) for theirs in _of_row(row, group, fitting)]
    sources = dict.fromkeys(source for _, theirs in rows for source in theirs.sources)  # each once, in order
    numbered = {source: number for number, source in enumerate(sources, start=1)}
    comparable = not obstacles(group)
    columns = (*COLUMNS, DIFFERENCE, SOURCES) if comparable else (*COLUMNS, SOURCES)
    lines = [_line(row, theirs, numbered, convention, comparable) for row, theirs in rows]
    below = (*_notes(group, rows, convention), *(f"[{number}] {source}" for source, number in numbered.items()))
    title = "Ours beside published numbers (%)"
    return table_of(group, convention, "published", title, columns, lines, below=below)


def obstacles(group: Group) -> list[str]:
    """Why the group's numbers may not be subtracted from published ones; empty if they may."""
    dataset, evaluation = group["dataset"], group["evaluation"]
    if group["data"] != dataset:
        title = protocols.dataset(dataset).title if dataset in protocols.datasets() else dataset
        return [f"the data differ: ours are on {group['data']}, theirs on {title}; no difference is shown"]
    if evaluation.get("split") != "val":
        return [f"the images differ: ours are on the {evaluation.get('split')} split, theirs on val; no difference"]
    images, whole = evaluation.get("images"), VAL_IMAGES.get(dataset)
    if images != whole:
        number = "an unknown number of" if images is None else images
        return [f"the images differ: ours are {number} val images, theirs all {whole:,}; no difference is shown"]
    return []


def _fitting(numbers: "pd.DataFrame", group: Group) -> "pd.DataFrame":
    fitting = (numbers["protocol"] == group["protocol"]) & (numbers["setting"] == group["setting"])
    return numbers[fitting & (numbers["regime"] == "standard")]


def _of_row(row: Row, group: Group, numbers: "pd.DataFrame") -> Iterator[Published]:
    """What print has for a row, measure by measure, our kind of network first."""
    theirs = numbers[of_method(numbers["method"], row["label"])]
    if theirs.empty:
        yield Published("all")
    own = NETWORKS.get(group["network"])
    for measure in METRICS:
        kinds = theirs[theirs["metric"] == measure].groupby(_ALIKE)
        for (network, mark, *known), found in sorted(kinds, key=lambda pair: (pair[0][0] != own, pair[0])):
            yield Published(
                measure,
                tuple(found["value"].tolist()),
                tuple(sorted(set(found["source"]))),
                network,
                mark,
                _known(*known),
                "; ".join(sorted(set(found["note"]) - {""})),
            )


def _known(convention: str, background_in_old: str) -> str:
    """What is known of how a published number was counted."""
    return convention or {"yes": "old with 0", "no": "old without 0", "": "unknown"}[background_in_old]


def _line(row: Row, theirs: Published, numbered: dict[str, int], convention: str, comparable: bool) -> Line:
    counted = theirs.convention if theirs.convention in CONVENTIONS else convention
    ours = measure_cells(row, counted, [theirs.measure])[-1] if row.complete else MISSING
    differences = (ours.mean - theirs.high, ours.mean - theirs.low) if comparable else (math.nan, math.nan)
    facts = {
        "measure": theirs.measure, "seeds": n_complete(row), "counted": counted,
        "low": theirs.low, "high": theirs.high, "sources": len(theirs.sources),
        "difference low": differences[0], "difference high": differences[1],
        "their network": theirs.network, "mark": theirs.mark, "their convention": theirs.convention,
        "note": theirs.note, "source": SEPARATOR.join(theirs.sources),
    }  # fmt: skip
    cells = [
        theirs.measure,
        theirs.network + (f" ({theirs.mark})" if theirs.mark else ""),
        theirs.convention + (" !" if theirs.note else ""),
        ours,
        _range(theirs.low, theirs.high, _quoted),
        *([_range(*differences, "{:+.1f}".format)] if comparable else []),
        id_ranges([numbered[source] for source in theirs.sources], longest=50) if theirs.sources else "",
    ]
    return line_of(row, tuple(cells), **facts)


def _quoted(value: float) -> str:
    """A published number with the decimals it was printed with: one or two."""
    return f"{value:.2f}".removesuffix("0")


def _range(low: float, high: float, written: Callable[[float], str]) -> str:
    """29.3..38.2, or the one number; "" for none."""
    ends = dict.fromkeys(written(value) for value in (low, high) if not math.isnan(value))
    return "..".join(ends)


def _notes(group: Group, rows: Sequence[tuple[Row, Published]], convention: str) -> list[str]:
    """What a reader must know, one sentence a line."""
    found = [theirs for _, theirs in rows if theirs.values]
    absent = dict.fromkeys(row.label for row, theirs in rows if not theirs.values)
    track = {
        "unified": "ours have one recipe for all methods, theirs one each",
        "demo": "ours are tiny networks with a short training",
        "external": "ours are predictions from elsewhere",
    }.get(group["track"])
    own = NETWORKS.get(group["network"], group["network"])
    others = sorted({theirs.network for theirs in found} - {own})
    unmatched = sorted({theirs.convention for theirs in found} - set(CONVENTIONS))
    odd = sorted({theirs.note for theirs in found} - {""})
    lines = [
        *obstacles(group),
        f"track {group['track']}: {track}" if track else "",
        f"networks differ: ours is {group['network']} (weights {group['pretrained']}), "
        f"some of theirs are {', '.join(others)}"
        if others
        else "",
        f"ours are counted in the convention of theirs where it is known; where it is not "
        f"({', '.join(unmatched)}), in the {convention} convention, so part of a difference may be counting"
        if unmatched
        else "",
        "dkd: the way of DKD's and STAR's code, known but not one of our conventions" if "dkd" in unmatched else "",
        f"ours are evaluated at size {group['evaluation'].get('size')}; image size, mask source and decision rule of "
        "theirs are their own",
        "network and counted are theirs; 0 is the background" if found else "",
        "a range spans the sources of one number; nothing is marked as best across ours and theirs",
        *(f"! in their convention: {note}, as printed by the source" for note in odd),
        f"no published numbers for {group['protocol']} {group['setting']}: {', '.join(absent)}" if absent else "",
    ]
    return [line for line in lines if line]
