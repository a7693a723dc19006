"""Figures of a group of comparable runs, as PDF and PNG for one column of a paper.

`looks` gives every method its colour, `series` is what is drawn, `style` the page; `steps`, `classes` and `scatter`
hold the figures. Loads matplotlib, so this package is imported where figures are made, never by a table.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from protocols.errors import unknown
from results.cost import hardware
from results.figures.classes import forgetting_bars, heat_maps
from results.figures.files import paper, write_figure
from results.figures.scatter import cost, stability_plasticity
from results.figures.series import series_of
from results.figures.steps import over_steps
from results.groups import Group, class_ranges
from results.notes import notes

FORMATS = ("png", "pdf")


def figures(group: Group, folder: Path, formats: Sequence[str] = FORMATS, convention: str = "default") -> list[Path]:
    """Draw the group's figures into `folder` and return the files written, NAME.FORMAT.

    Names: miou, miou-old, miou-new, heat-map, forgetting, stability-plasticity, background-swallow, old-to-new and
    cost, less those that the runs have nothing for; a group whose runs learn all classes at once has none over
    steps. Each file says in its metadata what it shows (title and notes of the tables); equal runs give equal
    bytes. InputError: an unknown format or convention, or the folder cannot be written.
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown("figure format", name, FORMATS)
    said = notes(group, convention)
    with paper():
        return [
            path
            for name, figure in _drawn(group, convention)
            for path in write_figure(figure, name, folder, formats, group.title, said)
        ]


def _drawn(group: Group, convention: str) -> Iterator[tuple[str, Figure]]:
    series, ids = series_of(group, convention), class_ranges(group, convention)
    machines = {machine for run in group.runs for machine in hardware(run)}
    made = (
        ("miou", over_steps(series, "all", "mIoU, all classes seen (%)")),
        ("miou-old", over_steps(series, "old", f"mIoU old {ids['old']} (%)")),
        ("miou-new", over_steps(series, "new", "mIoU, new classes so far (%)")),
        ("heat-map", heat_maps(series, group)),
        ("forgetting", forgetting_bars(series, group)),
        ("stability-plasticity", stability_plasticity(series, f"old {ids['old']}")),
        ("background-swallow", over_steps(series, "swallow", "background swallow (%)")),
        ("old-to-new", over_steps(series, "confusion", "old-to-new confusion (%)")),
        ("cost", cost(series, f"all {ids['all']}", len(machines))),
    )
    for name, figure in made:
        if figure is not None:
            yield name, figure
