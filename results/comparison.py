"""Own runs beside published numbers: what differs is said, and a difference is shown only on the same images.

Where the convention of a published number is known, ours is counted in that convention too (the counts allow
it); elsewhere in the convention of the report, with a flag. Nothing is marked as best across the two.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

import protocols
from results.measures import CONVENTIONS
from results.published_numbers import METRICS, of_method
from results.render import print_tables
from results.scores import score
from results.tables import id_ranges, mean_and_std, rows_of

if TYPE_CHECKING:
    from results.tables import Group, Row

VAL_IMAGES = {"voc": 1449, "ade": 2000}  # what published numbers are evaluated on
SEPARATOR = " | "  # between the sources of one line
NETWORKS = {"deeplab": "ResNet-101/DeepLabV3", "segmenter": "ViT-B/16"}  # our networks, as papers name their kind
COLUMNS = (
    *("method", "recipe", "measure", "ours", "ours std", "seeds", "counted", "low", "high", "sources"),
    *("difference low", "difference high", "their network", "mark", "their convention", "note", "source"),
)
_ALIKE = ["backbone", "mark", "convention", "background_in_old"]  # numbers that agree in these make one range


def compare(group: "Group", numbers: pd.DataFrame, convention: str = "default") -> pd.DataFrame:
    """Ours beside theirs: a line per row of the group's table, measure, and kind of published number.

    numbers: of `published_numbers`. Columns COLUMNS: ours (mean and sample standard deviation over seeds, in
    percent, NaN where no run is complete); counted: the convention of ours, theirs where it is known, else
    `convention`; low and high: the range over `sources` sources; the differences are ours minus high, and ours
    minus low, NaN where the images differ (`obstacles`); their convention: its name, or what is known of it, such
    as "old without 0" (the background is no member of old).
    Published numbers of other settings, of weak labels and federated ones are left out. No line: none fits.
    """
    fitting = (numbers["protocol"] == group["protocol"]) & (numbers["setting"] == group["setting"])
    numbers = numbers[fitting & (numbers["regime"] == "standard")]
    comparable = not obstacles(group)
    own = NETWORKS.get(group["network"])
    lines = []
    for row in rows_of(group):
        theirs = numbers[of_method(numbers["method"], row.used[0].manifest["label"])]
        for measure in METRICS:
            kinds = theirs[theirs["metric"] == measure].groupby(_ALIKE)
            for kind, found in sorted(kinds, key=lambda pair: (pair[0][0] != own, pair[0])):
                lines.append(_line(row, measure, dict(zip(_ALIKE, kind, strict=True)), found, convention, comparable))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def _line(row: "Row", measure: str, kind: dict, found: pd.DataFrame, convention: str, comparable: bool) -> dict:
    counted = kind["convention"] if kind["convention"] in CONVENTIONS else convention
    complete = [run for run in row.used if not run.missing_steps]
    ours, std = mean_and_std(getattr(score(run, counted), measure) for run in complete) if complete else (_NAN, _NAN)
    low, high = found["value"].min(), found["value"].max()
    return {
        "method": row.label, "recipe": row.recipe, "measure": measure, "ours": ours, "ours std": std,
        "seeds": len(complete), "counted": counted, "low": low, "high": high, "sources": found["source"].nunique(),
        "difference low": ours - high if comparable else _NAN, "difference high": ours - low if comparable else _NAN,
        "their network": kind["backbone"], "mark": kind["mark"], "their convention": _known(kind),
        "note": "; ".join(sorted(set(found["note"]) - {""})), "source": SEPARATOR.join(sorted(set(found["source"]))),
    }  # fmt: skip


_NAN = float("nan")


def _known(kind: dict) -> str:
    """What is known of how a published number was counted."""
    if kind["convention"]:
        return kind["convention"]
    words = {"yes": "old with 0", "no": "old without 0", "": "unknown"}
    return words[kind["background_in_old"]]


def obstacles(group: "Group") -> list[str]:
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


def comparison_notes(group: "Group", frame: pd.DataFrame, convention: str = "default") -> list[str]:
    """What a reader of `compare`'s frame must know, one sentence a line."""
    absent = [row.label for row in rows_of(group) if row.label not in set(frame["method"])]
    track = {
        "unified": "ours have one recipe for all methods, theirs one each",
        "demo": "ours are tiny networks with a short training",
        "external": "ours are predictions from elsewhere",
    }.get(group["track"])
    own = NETWORKS.get(group["network"], group["network"])
    others = sorted(set(frame["their network"]) - {own})
    unmatched = sorted(set(frame["their convention"]) - set(CONVENTIONS))
    size = group["evaluation"].get("size")
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
        f"ours are evaluated at size {size}; image size, mask source and decision rule of theirs are their own",
        "network and counted are theirs; 0 is the background" if len(frame) else "",
        "a range spans the n sources of one number; nothing is marked as best across ours and theirs",
        *(f"! in their convention: {note}, as printed by the source" for note in sorted(set(frame["note"]) - {""})),
        f"no published numbers for {group['protocol']} {group['setting']}: {', '.join(absent)}" if absent else "",
    ]
    return [line for line in lines if line]


def comparison_text(groups: Sequence["Group"], numbers: pd.DataFrame, convention: str = "default", width=100) -> str:
    """`compare` of every group as text of at most `width` columns, sources numbered under each."""
    return "\n".join(_group_text(group, numbers, convention, width) for group in groups)


def _group_text(group: "Group", numbers: pd.DataFrame, convention: str, width: int) -> str:
    frame = compare(group, numbers, convention)
    sources = dict.fromkeys(SEPARATOR.join(frame["source"]).split(SEPARATOR))  # each once, in the order of the lines
    listed = {source: number for number, source in enumerate(sources, start=1)}
    title = f"{group.title}: ours beside published numbers (%)"
    notes = comparison_notes(group, frame, convention)
    if frame.empty:
        return print_tables(title, [], {}, notes, width)
    parts = [title + "\n"]
    for method, lines in frame.groupby("method", sort=False):
        parts.append(print_tables(method, ["measure", "network", "counted"], _columns(lines, listed), [], width))
    notes += [f"[{number}] {source}" for source, number in listed.items()]
    return "\n".join([*parts, print_tables("", [], {}, notes, width)])


def _columns(lines: pd.DataFrame, listed: dict[str, int]) -> dict[str, list[str]]:
    """Cells of one method's lines; the difference has a column only where there is one."""
    marks = [f" ({mark})" if mark else "" for mark in lines["mark"]]
    flags = [" !" if note else "" for note in lines["note"]]
    columns = {
        "measure": lines["measure"].tolist(),
        "network": [name + mark for name, mark in zip(lines["their network"], marks, strict=True)],
        "counted": [known + flag for known, flag in zip(lines["their convention"], flags, strict=True)],
        "ours": [_number(mean) + _deviation(std) for mean, std in zip(lines["ours"], lines["ours std"], strict=True)],
        "theirs": [_range(_quoted(low), _quoted(high)) for low, high in zip(lines["low"], lines["high"], strict=True)],
    }
    if lines["difference low"].notna().any():
        pairs = zip(lines["difference low"], lines["difference high"], strict=True)
        columns["difference"] = [_range(_number(low, "+"), _number(high, "+")) for low, high in pairs]
    columns["n: sources"] = [
        f"{count}: {id_ranges([listed[source] for source in text.split(SEPARATOR)])}"
        for count, text in zip(lines["sources"], lines["source"], strict=True)
    ]
    return columns


def _number(value: float, sign: str = "") -> str:
    return "-" if value != value else f"{value:{sign}.1f}"


def _deviation(std: float) -> str:
    return "" if std != std else f" ± {std:.1f}"


def _quoted(value: float) -> str:
    """A published number with the decimals it was printed with: one or two."""
    return f"{value:.2f}".removesuffix("0")


def _range(low: str, high: str) -> str:
    """29.3..38.2, or the one number."""
    return low if low == high else f"{low}..{high}"
