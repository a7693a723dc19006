"""Tables as text for a terminal and as CSV files, and the report that makes both from a store."""

import io
import math
import re
import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from protocols.errors import InputError, unknown
from results.measures import convention_named
from results.schema import read_runs, write_atomically

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from results.tables import Group

FIGURES = ("png", "pdf")
FORMATS = ("terminal", "csv", *FIGURES)
HOLE = "-"


class Report(NamedTuple):
    """What `report` made: text for the terminal ("" if not asked for), and the files written. Prints as both."""

    text: str
    paths: list[Path]

    def __str__(self) -> str:
        return "\n".join([self.text] * bool(self.text) + [f"written: {path}" for path in self.paths])


def report(
    store: Path | str,
    protocol: str | None = None,
    formats: Sequence[str] = ("terminal",),
    convention: str = "default",
    out: Path | str | None = None,
    width: int = 100,
    color: bool = False,
    runs: Collection[str] | None = None,
    compare: bool = False,
) -> Report:
    """Compare the runs of a store: a main and a per-step table for every group of comparable runs.

    protocol, runs: only runs of that protocol, only those run ids. formats: of FORMATS.
    convention: of `measures.CONVENTIONS`.
    compare: also set the runs beside published numbers (`results.comparison`).
    out: the folder for files (default: `reports` in the store). Runs that cannot be read are named at the
    end. InputError: nothing to report, or an unknown name.
    """
    from results.tables import group_runs  # on use: it loads pandas

    for name in formats:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    convention_named(convention)
    stored, problems = read_runs(store)
    if not stored:
        reason = f"; left out: {'; '.join(problems)}" if problems else ""
        raise InputError(f"no runs in {store}: start one with `bench run`, or name the store with store=FOLDER{reason}")
    known = sorted({run.manifest["protocol"] for run in stored})
    chosen = [run for run in stored if protocol in (None, run.manifest["protocol"])]
    if not chosen:
        raise unknown("protocol of a run", protocol, known)
    if runs is not None:
        chosen = [run for run in chosen if run.manifest["run"] in runs]
        if not chosen:
            raise InputError(f"none of the runs asked for is in {store}: {', '.join(sorted(runs))}")
    groups = group_runs(chosen)
    text = to_terminal(groups, convention, width, color, problems) if "terminal" in formats else ""
    folder = Path(out) if out is not None else Path(store) / "reports"
    paths = to_csv(groups, folder, convention, compare) if "csv" in formats else []
    if compare and text:
        from results.comparison import comparison_text
        from results.published_numbers import published_numbers

        text += "\n" + comparison_text(groups, published_numbers(), convention, width)
    paths += to_figures(groups, folder, [name for name in formats if name in FIGURES], convention)
    return Report(text, paths)


def to_terminal(
    groups: Sequence["Group"],
    convention: str = "default",
    width: int = 100,
    color: bool = False,
    problems: Sequence[str] = (),
) -> str:
    """The tables of all groups as text of at most `width` columns; color adds terminal styles."""
    from rich.text import Text

    from results.tables import main_table, notes, per_step_table

    console = _console(width, color)
    for group in groups:
        console.print(Text(f"{group.title}: mIoU (%) at the last step", style="bold"))
        for table in _blocks(*_main(main_table(group.runs, convention)), width):
            console.print(table, "")
        if len(group["step_classes"]) > 1:
            console.print(Text("mIoU (%) over all classes seen, after every step", style="bold"))
            for table in _blocks(*_per_step(per_step_table(group.runs, convention)), width):
                console.print(table, "")
        _print_notes(console, notes(group, convention))
    for problem in problems:
        console.print(Text(f"left out: {problem}", style="red"))
    return _printed(console)


def print_tables(
    title: str, fixed: Sequence[str], columns: dict[str, list[str]], notes: Sequence[str], width: int = 100
) -> str:
    """One table as text of at most `width` columns, split where it is wider; every part repeats the `fixed` ones."""
    from rich.text import Text

    console = _console(width, color=False)
    console.print(Text(title, style="bold"))
    for table in _blocks(fixed, columns, width):
        console.print(table, "")
    _print_notes(console, notes)
    return _printed(console)


def _console(width: int, color: bool) -> "Console":
    from rich.console import Console

    return Console(file=io.StringIO(), width=width, force_terminal=color, color_system="standard" if color else None)


def _print_notes(console: "Console", notes: Sequence[str]) -> None:
    from rich.text import Text

    for note in notes:
        wrapped = textwrap.fill(note, console.width - 1, initial_indent=" * ", subsequent_indent="   ")
        console.print(Text(wrapped, style="dim"))
    console.print()


def _printed(console: "Console") -> str:
    lines = console.file.getvalue().splitlines()
    return "\n".join(line.rstrip() for line in lines).strip("\n") + "\n"


def to_csv(groups: Sequence["Group"], folder: Path, convention: str = "default", compare: bool = False) -> list[Path]:
    """Write main-*.csv and steps-*.csv of every group, and compare-*.csv if asked for, and return their paths.

    Each line carries its provenance and convention. Numbers are percent, unrounded; holes are empty.
    """
    from results.tables import GROUP_KEYS, main_table, per_step_table

    paths: list[Path] = []
    for group in groups:
        name = _stem(group, convention)
        frames = [
            ("main", main_table(group.runs, convention)),
            ("steps", per_step_table(group.runs, convention)),
        ]
        if compare:
            from results.comparison import compare as compared
            from results.published_numbers import published_numbers

            frames.append(("compare", compared(group, published_numbers(), convention)))
        for kind, frame in frames:
            for place, key in enumerate(GROUP_KEYS):
                frame.insert(place, key, group[key])
            frame.insert(len(GROUP_KEYS), "convention", convention)
            path = _fresh(folder / f"{kind}-{name}.csv", paths)
            write_atomically(path, frame.to_csv(index=False).encode())
            paths.append(path)
    return paths


def to_figures(groups: Sequence["Group"], folder: Path, formats: Sequence[str], convention: str) -> list[Path]:
    """Draw the figures of every group into a folder of its own, figures-*, and return the files' paths."""
    if not formats:
        return []
    from results.figures import figures  # on use: it loads matplotlib

    folders: list[Path] = []
    for group in groups:
        folders.append(_fresh(folder / f"figures-{_stem(group, convention)}", folders))
    return [
        path for group, own in zip(groups, folders, strict=True) for path in figures(group, own, formats, convention)
    ]


def _stem(group: "Group", convention: str) -> str:
    """What files of this group are called: where its runs come from, and the convention."""
    from results.tables import GROUP_KEYS

    name = re.sub(r"[^A-Za-z0-9._-]+", "-", "_".join(group[key] for key in GROUP_KEYS))
    return name if convention == "default" else f"{name}_{convention}"


def _fresh(path: Path, taken: Sequence[Path]) -> Path:
    """The path, numbered if another group of this report already has it."""
    number = 2
    while path in taken:
        path = path.with_stem(f"{path.stem.removesuffix(f'-{number - 1}')}-{number}")
        number += 1
    return path


def _main(frame: "pd.DataFrame") -> tuple[list[str], dict[str, list[str]]]:
    """Heads and cells of the main table: method first, one column for each measure."""
    return ["method"], {"method": frame["method"].tolist(), **cells_of(frame)}


def cells_of(frame: "pd.DataFrame") -> dict[str, list[str]]:
    """The cells of a main table from the number of seeds on: head -> "35.0 ± 1.2", line by line."""
    columns = {"seeds": [str(n or HOLE) for n in frame["seeds"]]}
    for head in (name.removesuffix(" std") for name in frame.columns if name.endswith(" std")):
        columns[head.replace(" ", "\n", 1)] = _mean_and_std(frame[head], frame[f"{head} std"])
    return columns


def _per_step(frame: "pd.DataFrame") -> tuple[list[str], dict[str, list[str]]]:
    """Heads and cells of the per-step table: a line for each step, a column for each method."""
    columns = {}
    for method, lines in frame.groupby("method", sort=False):
        columns.setdefault("step", lines["step"].astype(str).tolist())
        columns.setdefault("learned", lines["learned"].tolist())
        columns[method] = _mean_and_std(lines["all"], lines["all std"])
    return ["step", "learned"], columns


def _mean_and_std(means: Sequence[float], stds: Sequence[float]) -> list[str]:
    """Cells such as "35.0 ± 1.2", padded so that a right-aligned column lines up at its points."""
    deviations = ["" if math.isnan(std) else f" ± {std:.1f}" for std in stds]
    widest = max(map(len, deviations))
    return [
        f"{HOLE:>4}{'':{widest}}" if math.isnan(mean) else f"{mean:.1f}{deviation:{widest}}"
        for mean, deviation in zip(means, deviations, strict=True)
    ]


def _blocks(fixed: Sequence[str], columns: dict[str, list[str]], width: int) -> list:
    """The columns as rich tables, split to fit the width; each repeats the fixed columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def room(head: str) -> int:
        return max(map(len, [*head.split("\n"), *columns[head]])) + 3  # a blank either side, one between

    blocks: list[list[str]] = []
    left = 0
    for head in columns:
        if head in fixed:
            continue
        if not blocks or room(head) > left:
            blocks.append([])
            left = width - sum(map(room, fixed))
        blocks[-1].append(head)
        left -= room(head)
    tables = []
    for block in blocks:
        heads = [*fixed, *block]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=True, header_style="bold", show_edge=False)
        for head in heads:
            justify = "left" if head in ("method", "learned") else "right"
            table.add_column(Text(head), justify=justify, no_wrap=True, vertical="bottom")
        for cells in zip(*(columns[head] for head in heads), strict=True):
            table.add_row(*(Text(cell) for cell in cells))
        tables.append(table)
    return tables
