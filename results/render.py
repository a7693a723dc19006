"""The report: every table that the runs of a store give, in the formats asked for."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from protocols.errors import InputError, unknown
from results.beside_published import published_table
from results.comparison import comparison_table
from results.cost import cost_table
from results.explanation import explain as explained
from results.files import write_csv, write_latex, write_markdown
from results.groups import Group, distinct, group_runs
from results.measures import convention_named
from results.schema import Run, read_runs
from results.side_by_side import protocols_table, sets_of_protocols
from results.table import Table
from results.tables import main_table, per_class_table, per_group_table, per_step_table
from results.terminal import to_terminal

FIGURES = ("png", "pdf")
FORMATS = ("terminal", "md", "csv", "latex", *FIGURES)


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
    explain: bool = False,
) -> Report:
    """Compare the runs of a store: tables and figures for every group of comparable runs.

    protocol, runs: only runs of that protocol, only those run ids. formats: of FORMATS; a terminal gets the main and
    the per-step tables, files get all; FIGURES are drawn into a folder for each group. convention: of
    `measures.CONVENTIONS`. out: the folder for files (default: `reports` in the store). compare: also a table of ours
    beside published numbers. explain: the text says which runs are behind each row. Runs that cannot be read are
    named at the end. InputError: nothing to report, or an unknown name.
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    convention_named(convention)
    chosen, problems = _chosen(store, protocol, runs)

    groups = group_runs(chosen)
    folder = Path(out) if out is not None else Path(store) / "reports"
    name = "report" if convention == "default" else f"report_{convention}"
    text, paths = "", []
    if "terminal" in formats:
        tables = [table for group in groups for table in short_tables(group, convention, compare)]
        text = to_terminal(tables, width, color, problems)
    if explain:
        text = "\n".join([text] * bool(text) + [explained(groups)])
    if set(formats) & {"csv", "md", "latex"}:
        tables = all_tables(groups, convention, compare)
        paths += write_csv(tables, folder) if "csv" in formats else []
        paths += write_markdown(tables, folder, name, problems) if "md" in formats else []
        paths += write_latex(tables, folder, name) if "latex" in formats else []
    paths += draw_figures(groups, folder, [name for name in formats if name in FIGURES], convention)
    return Report(text, paths)


def short_tables(group: Group, convention: str = "default", compare: bool = False) -> list[Table]:
    """The tables for a terminal: main, per step if there are several, per group of classes where that says more, and
    beside published numbers if asked for."""
    tables = [main_table(group.runs, convention)]
    steps = per_step_table(group.runs, convention) if len(group["step_classes"]) > 1 else None
    tables += [steps] if steps and steps.lines else []
    groups = per_group_table(group.runs, convention)
    tables += [groups] if groups else []
    return tables + ([published_table(group.runs, convention)] if compare else [])


def all_tables(groups: Sequence[Group], convention: str = "default", compare: bool = False) -> list[Table]:
    """Every table: those of each group, then those that set several protocols side by side."""
    tables = []
    for group in groups:
        more = [make(group.runs, convention) for make in (per_class_table, comparison_table, cost_table)]
        tables += [*short_tables(group, convention, compare), *(table for table in more if table)]
    return tables + [protocols_table(some, convention) for some in sets_of_protocols(groups)]


def draw_figures(groups: Sequence[Group], folder: Path, formats: Sequence[str], convention: str) -> list[Path]:
    """Draw the figures of every group into a folder of its own, figures-*, and return the files' paths."""
    if not formats:
        return []
    from results.figures import figures  # on use: it loads matplotlib

    folders = [folder / name for name in distinct(group.stem("figures", convention) for group in groups)]
    return [
        path for group, own in zip(groups, folders, strict=True) for path in figures(group, own, formats, convention)
    ]


def _chosen(store: Path | str, protocol: str | None, runs: Collection[str] | None) -> tuple[list[Run], list[str]]:
    """The runs to report and what could not be read. InputError: there are none."""
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
    return chosen, problems
