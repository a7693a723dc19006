"""The report: every table that the runs of a store give, in the formats asked for."""

from collections.abc import Callable, Collection, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from protocols.errors import InputError, unknown
from results.beside_published import published_table
from results.comparison import comparison_table
from results.cost import cost_table
from results.explanation import explain as explained
from results.files import write_csv, write_html, write_latex, write_markdown
from results.groups import Group, distinct, group_runs
from results.html import Section
from results.measures import convention_named
from results.schema import Run, read_runs
from results.side_by_side import protocols_table, sets_of_protocols
from results.table import Table
from results.tables import main_table, per_class_table, per_group_table, per_step_table
from results.terminal import to_terminal

if TYPE_CHECKING:
    from results.figures.files import Drawn

    Further = Callable[[Sequence[Group], Sequence[str]], Sequence[Sequence[Drawn]]]  # groups, formats -> of each group

FIGURES = ("png", "pdf")
FORMATS = ("terminal", "md", "csv", "latex", "html", *FIGURES)


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
    further: "Further | None" = None,
) -> Report:
    """Compare the runs of a store: tables and figures for every group of comparable runs.

    protocol, runs: only runs of that protocol, only those run ids. formats: of FORMATS; a terminal gets the main and
    the per-step tables, files get all; FIGURES are drawn into a folder for each group, figures-*, and HTML has them in
    it. convention: of `measures.CONVENTIONS`. out: the folder for files (default: `reports` in the store). compare:
    also a table of ours beside published numbers. explain: the text says which runs are behind each row. further: draws
    more figures of each group, which are shown like the others, and written as PNG if in no other format. Runs that
    cannot be read are named at the end. InputError: nothing to report, or an unknown name.
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
    figures, figure_paths = _figures(groups, folder, formats, convention, further)
    if set(formats) & {"csv", "md", "latex", "html"}:
        of_groups = [group_tables(group, convention, compare) for group in groups]
        across = across_tables(groups, convention)
        tables = [*chain.from_iterable(of_groups), *across]
        paths += write_csv(tables, folder) if "csv" in formats else []
        paths += write_markdown(tables, folder, name, problems) if "md" in formats else []
        paths += write_latex(tables, folder, name) if "latex" in formats else []
        if "html" in formats:
            sections = list(map(Section, groups, of_groups, figures))
            paths.append(write_html(sections, across, folder, name, convention, problems))
    return Report(text, paths + figure_paths)


def short_tables(group: Group, convention: str = "default", compare: bool = False) -> list[Table]:
    """The tables for a terminal: main, per step if there are several, per group of classes where that says more, and
    beside published numbers if asked for."""
    tables = [main_table(group.runs, convention)]
    steps = per_step_table(group.runs, convention) if len(group["step_classes"]) > 1 else None
    tables += [steps] if steps and steps.lines else []
    groups = per_group_table(group.runs, convention)
    tables += [groups] if groups else []
    return tables + ([published_table(group.runs, convention)] if compare else [])


def group_tables(group: Group, convention: str = "default", compare: bool = False) -> list[Table]:
    """All tables of a group."""
    more = [make(group.runs, convention) for make in (per_class_table, comparison_table, cost_table)]
    return [*short_tables(group, convention, compare), *(table for table in more if table)]


def across_tables(groups: Sequence[Group], convention: str = "default") -> list[Table]:
    """The tables that set several protocols side by side."""
    return [protocols_table(some, convention) for some in sets_of_protocols(groups)]


def _figures(
    groups: Sequence[Group], folder: Path, formats: Sequence[str], convention: str, further: "Further | None"
) -> tuple[list[list["Drawn"]], list[Path]]:
    """Each group's figures, drawn once, and the paths of those that are written, in a folder of the group's own."""
    kinds = [name for name in formats if name in FIGURES]
    own = [*kinds, "png"] if "html" in formats and "png" not in kinds else kinds
    if not own and further is None:
        return [[] for _ in groups], []
    from results.figures import draw  # on use: it loads matplotlib
    from results.figures.files import write_figures

    more = further(groups, list(dict.fromkeys([*own, "png"]))) if further else [[] for _ in groups]
    stems = distinct(group.stem("figures", convention) for group in groups)
    drawn, paths = [], []
    for group, others, stem in zip(groups, more, stems, strict=True):
        measured = draw(group, own, convention) if own else []
        drawn.append([*measured, *others])
        paths += write_figures(measured, folder / stem, kinds)
        paths += write_figures(others, folder / stem, kinds or ["png"])
    return drawn, paths


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
