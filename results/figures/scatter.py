"""Figures with a point per method: what it keeps against what it learns, and what it costs against its mIoU."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from results.figures.labels import label_points
from results.figures.series import Series
from results.figures.style import lay_out, new_figure

UNITS = ((120, "s", 1), (120 * 60, "min", 60), (float("inf"), "h", 3600))  # used up to, name, seconds


def stability_plasticity(series: Sequence[Series], old: str) -> Figure | None:
    """mIoU of the classes of step 0 at the last step against the IoU of later ones when first learned.

    A small point for each seed, a large one for the mean; joint training learns all in its only step. old: what
    tables call the old classes. None where no method that learns in steps has both.
    """
    points = {one: np.stack([one.curves["old"][:, -1], one.plasticity], axis=1) for one in series}
    if all(one.joint or np.isnan(of_seeds).any() for one, of_seeds in points.items()):
        return None
    return _scatter(points, f"stability: mIoU {old} at the last step (%)", "plasticity: IoU when first learned (%)")


def cost(series: Sequence[Series], everything: str, machines: int) -> Figure | None:
    """Training time against mIoU of all classes at the last step, on a log scale if times differ tenfold.

    everything: what tables call all classes. machines: on how many kinds of hardware the runs were trained; said
    where there are several, since times then do not compare. None where no run says its time.
    """
    times = np.concatenate([one.seconds for one in series])
    longest = times[~np.isnan(times)].max(initial=0)
    unit, seconds = next((name, seconds) for most, name, seconds in UNITS if longest < most)
    points = {one: np.stack([one.seconds / seconds, one.curves["all"][:, -1]], axis=1) for one in series}
    where = f", {machines} kinds of machine" if machines > 1 else ""
    return _scatter(points, f"training time ({unit}{where})", f"mIoU {everything} at the last step (%)", spread=10)


def _scatter(points: dict[Series, np.ndarray], x: str, y: str, spread: float | None = None) -> Figure | None:
    """points: by series, (seeds, 2). spread: from which ratio of means on the x axis is logarithmic."""
    means = {one: of_seeds.mean(0) for one, of_seeds in points.items() if not np.isnan(of_seeds.mean(0)).any()}
    if not means:
        return None
    figure = new_figure(height=2.5)
    axes = figure.subplots()
    for one, mean in means.items():
        look = one.look.points | {"linestyle": "", "clip_on": False}
        if len(points[one]) > 1:
            axes.plot(*points[one].T, **look | {"alpha": 0.45, "markersize": 2.2, "markeredgewidth": 0.4})
        axes.plot(*mean, **look | {"markersize": 5.5, "markeredgewidth": 0.8})
    horizontal = [mean[0] for mean in means.values()]
    if spread is not None and min(horizontal) > 0 and max(horizontal) >= spread * min(horizontal):
        _logarithmic(axes)
    axes.margins(0.12)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    lay_out(figure)
    names, colors = zip(*((one.label, _darkened(one.look.color)) for one in means), strict=True)
    label_points(axes, np.array([*means.values()]), names, colors, np.concatenate([points[one] for one in means]))
    return figure


def _darkened(color: str) -> tuple[float, ...]:
    """A colour as that of thin text: it keeps its hue, and the pale ones become readable."""
    return tuple(0.7 * part for part in to_rgb(color))


def _logarithmic(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
