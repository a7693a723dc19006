"""Figures with one mark per class: the heat map of IoU by class and step, and the bars of forgetting."""

import math
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from results.figures.series import Series, over_seeds
from results.figures.style import COLUMN, FONT, NAMED_CLASSES, PAGE, POINT, lay_out, new_figure
from results.groups import Group, id_ranges

LINE = 1.2 * FONT * POINT  # inches from one class name to the next
WIDEST_ROW = 7  # heat maps side by side
LONGEST_NAME = 24  # characters of a class name on an axis
MOST_BARS = 8  # panels of bars below each other


def heat_maps(series: Sequence[Series], group: Group) -> Figure | None:
    """IoU by class (down, in the order learned) and step (across), mean over seeds: a panel for each method.

    Blank: not learned yet, missing, or absent from the ground truth. All panels, and all such figures, share
    the colours of 0 to 100%. None where no method learns in steps.
    """
    drawn = [one for one in series if not one.joint and not np.isnan(one.class_ious).all()]
    if not drawn:
        return None
    first = 0 if any(not np.isnan(one.class_ious[..., 0]).all() for one in drawn) else 1  # is background a class?
    slots = range(first, drawn[0].class_ious.shape[2])
    n_steps = drawn[0].class_ious.shape[1]
    n_rows = math.ceil(len(drawn) / WIDEST_ROW)
    n_columns = math.ceil(len(drawn) / n_rows)
    tall = LINE * min(len(slots), NAMED_CLASSES)
    figure = new_figure(n_rows * (tall + 0.3) + 0.2, COLUMN if n_columns <= 3 else PAGE)
    panels = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False)
    step_edges, slot_edges = (np.arange(low, high + 1) - 0.5 for low, high in ((0, n_steps), (first, slots.stop)))
    for axes, one in zip(panels.flat, drawn, strict=False):
        ious = one.class_ious.mean(0).T[first:]
        image = axes.pcolormesh(
            step_edges, slot_edges, ious, vmin=0, vmax=100, cmap="viridis", edgecolor="face", linewidth=0.1
        )
        axes.set_title(textwrap.fill(one.label, 14), loc="left")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    for axes in panels.flat[len(drawn) :]:
        axes.set_axis_off()
    for axes in panels.flat[len(drawn) - n_columns : len(drawn)]:  # where nothing is below them
        axes.tick_params(axis="x", labelbottom=True)
    panels[0, 0].set_xticks(
        _whole_numbers(n_steps, most=math.ceil(4.5 * (figure.get_size_inches()[0] - 1) / n_columns))
    )
    panels[0, 0].set_yticks(*_class_ticks(group, slots, room=tall))
    panels[0, 0].set_ylim(slot_edges[-1], slot_edges[0])
    figure.supxlabel("step", fontsize=FONT)
    bar = figure.colorbar(image, ax=panels, label="IoU (%)", pad=0.01, aspect=40 * n_rows)
    bar.outline.set_visible(False)
    lay_out(figure)
    return figure


def forgetting_bars(series: Sequence[Series], group: Group) -> Figure | None:
    """Forgetting of every foreground class learned before the last step: a panel of bars for each method.

    Classes stand in the order learned; where they are too many to be named, lines part those of different steps.
    Mean over seeds, with a whisker of one standard deviation either side. None where there is no forgetting.
    """
    drawn = [one for one in series if not np.isnan(one.forgetting).all()]
    if not drawn:
        return None
    n_classes = len(group.runs[0].slot_ids) - 1 - len(group["step_classes"][-1])
    slots = range(1, 1 + n_classes)
    n_columns = math.ceil(len(drawn) / MOST_BARS)
    n_rows = math.ceil(len(drawn) / n_columns)
    width = COLUMN if n_columns == 1 else PAGE
    figure = new_figure(0.55 * n_rows + 0.75, width)
    panels = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).T.ravel()  # down the columns
    top, spare = n_rows * (n_columns - 1), len(panels) - len(drawn)  # nothing at the top of the last column, if spare
    for axes in panels[top : top + spare]:
        axes.set_axis_off()
    whisker = {"elinewidth": 0.5 if n_classes <= NAMED_CLASSES else 0.25, "ecolor": "#666666"}
    for axes, one in zip([*panels[:top], *panels[top + spare :]], drawn, strict=True):
        mean, std = over_seeds(one.forgetting[:, :n_classes])
        axes.bar(slots, mean, yerr=std, color=one.look.color, width=0.8, error_kw=whisker)
        axes.axhline(0, color="black", linewidth=0.6)
        for edge in _step_edges(group, slots) if n_classes > NAMED_CLASSES else ():
            axes.axvline(edge, color="#888888", linewidth=0.4, linestyle=":", zorder=0.5)
        axes.set_title(one.label, loc="left", pad=1.5)
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(axis="x", length=0, rotation=90)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=3))
        axes.grid(axis="y")
    panels[0].set_xlim(0.4, n_classes + 0.6)
    panels[0].set_xticks(*_class_ticks(group, slots, room=width / n_columns - 0.4))
    figure.supylabel("forgetting (IoU points)", fontsize=FONT)
    lay_out(figure)
    return figure


def _class_ticks(group: Group, slots: range, room: float) -> tuple[list[float], list[str]]:
    """Where an axis over slots has ticks, and their names, given its length in inches.

    Every class by its name, or if there are many the ids that each step learns, where there is room for them.
    """
    run = group.runs[0]
    if len(slots) <= NAMED_CLASSES:
        names = (group["class_names"][run.slot_ids[slot]] for slot in slots)
        return list(slots), [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in names]
    places: list[float] = []
    labels = []
    for step in range(run.n_steps):
        members = range(run.n_slots(step - 1) if step else 1, run.n_slots(step))
        middle = (members[0] + members[-1]) / 2
        if members[-1] in slots and (not places or (middle - places[-1]) * room / len(slots) >= LINE):
            places.append(middle)
            labels.append(id_ranges(run.slot_ids[list(members)].tolist()))
    return places, labels


def _step_edges(group: Group, slots: range) -> list[float]:
    """Where the classes of one step end and those of the next begin, on an axis over slots."""
    ends = [group.runs[0].n_slots(step) - 0.5 for step in range(group.runs[0].n_steps - 1)]
    return [end for end in ends if end < slots[-1]]


def _whole_numbers(n: int, most: int) -> list[int]:
    """At most `most` numbers of 0..n-1, evenly spaced from 0."""
    return list(range(0, n, math.ceil(n / most)))
