"""Figures of a group of comparable runs, as PDF and PNG for one column of a paper.

`looks` gives every method its colour, `series` is what is drawn, `style` the page; `steps`, `classes` and `scatter`
hold the figures. Loads matplotlib, so this package is imported where figures are made, never by a table.
"""

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure

from protocols.errors import unknown
from results.cost import hardware
from results.figures.classes import forgetting_bars, heat_maps
from results.figures.files import Drawn, paper, rendered
from results.figures.scatter import cost, stability_plasticity
from results.figures.series import series_of
from results.figures.steps import over_steps
from results.groups import Group, class_ranges
from results.notes import notes

FORMATS = ("png", "pdf")
BAND = "Band: one standard deviation over seeds."


def draw(group: Group, formats: Sequence[str] = FORMATS, convention: str = "default") -> list[Drawn]:
    """The group's figures in the formats given.

    Names: miou, miou-old, miou-new, heat-map, forgetting, stability-plasticity, background-swallow, old-to-new and
    cost, less those that the runs have nothing for; a group whose runs learn all classes at once has none over
    steps. Each file says in its metadata what it shows (title and notes of the tables); equal runs give equal
    bytes. InputError: an unknown format or convention.
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown("figure format", name, FORMATS)
    said = notes(group, convention)
    with paper():
        return [
            rendered(figure, name, says, formats, group.title, said)
            for name, says, figure in _figures(group, convention)
        ]


def _figures(group: Group, convention: str) -> Iterator[tuple[str, str, Figure]]:
    """Name, what it says, and figure, of those that there is something for."""
    series, ids = series_of(group, convention), class_ranges(group, convention)
    machines = {machine for run in group.runs for machine in hardware(run)}
    made = (
        (
            "miou",
            f"mIoU over all classes seen, after every step. {BAND}",
            over_steps(series, "all", "mIoU, all classes seen (%)"),
        ),
        (
            "miou-old",
            f"How the classes of step 0 ({ids['old']}) are forgotten. {BAND}",
            over_steps(series, "old", f"mIoU old {ids['old']} (%)"),
        ),
        (
            "miou-new",
            f"mIoU over the classes learned after step 0 so far. {BAND}",
            over_steps(series, "new", "mIoU, new classes so far (%)"),
        ),
        (
            "heat-map",
            "IoU of every class after every step, mean over seeds. Blank: not learned yet, or nothing to measure.",
            heat_maps(series, group),
        ),
        (
            "forgetting",
            "Forgetting of every class: its best earlier IoU minus the last. Whisker: one standard deviation.",
            forgetting_bars(series, group),
        ),
        (
            "stability-plasticity",
            "What is kept against what is learned: top right is best. Small points: seeds.",
            stability_plasticity(series, f"old {ids['old']}"),
        ),
        (
            "background-swallow",
            f"Share of the old classes' pixels predicted as background. {BAND}",
            over_steps(series, "swallow", "background swallow (%)"),
        ),
        (
            "old-to-new",
            f"Share of the old classes' pixels predicted as classes learned later. {BAND}",
            over_steps(series, "confusion", "old-to-new confusion (%)"),
        ),
        (
            "cost",
            "Time of training against what it reached: top left is best. Small points: seeds.",
            cost(series, f"all {ids['all']}", len(machines)),
        ),
    )
    for name, says, figure in made:
        if figure is not None:
            yield name, says, figure
