"""Figures over steps: a line per method with a band over its seeds, joint training as a horizontal line."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from results.figures.series import Series
from results.figures.style import add_legend, lay_out, new_figure


def over_steps(series: Sequence[Series], curve: str, label: str) -> Figure | None:
    """A curve of `scores.Curves` over the steps: mean over seeds, band of one standard deviation either side.

    Missing steps are gaps. Joint training, which has the last step alone, is drawn across. None where no
    method has a value.
    """
    drawn = [one for one in series if not np.isnan(one.curves[curve]).all()]
    if all(one.joint for one in drawn):
        return None
    figure = new_figure(height=1.9)
    axes = figure.subplots()
    for one in drawn:
        mean, std = one.mean_and_std(curve)
        if one.joint:
            axes.axhline(mean[-1], color=one.look.color, linestyle=one.look.line, linewidth=0.9, zorder=1.5)
            continue
        steps = np.arange(len(mean))
        axes.fill_between(steps, mean - std, mean + std, color=one.look.color, alpha=0.18, linewidth=0)
        axes.plot(steps, mean, linestyle=one.look.line, **one.look.points)
    n_steps = drawn[0].curves[curve].shape[1]
    axes.set_xlim(-0.2, n_steps - 0.8)
    axes.set_ylim(0, max(1, axes.get_ylim()[1]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=11, min_n_ticks=1))
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.grid(axis="y")
    add_legend(figure, drawn)
    lay_out(figure)
    return figure
