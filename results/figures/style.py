"""Paper style: sizes for one column of a two-column paper, fonts of 7 points as TrueType, and what figures share.

Figures are built from matplotlib.figure.Figure, inside `PAPER`; nothing of pyplot is loaded or changed.
"""

from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from results.figures.series import Series

COLUMN, PAGE = 3.3, 6.9  # inches: the width of one column, of both
FONT = 7  # points
POINT = 1 / 72  # inches
NAMED_CLASSES = 40  # more of them are named on an axis by the range of ids that a step learns

PAPER = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that figures look the same everywhere
    "font.size": FONT,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "axes.titlesize": FONT,
    "axes.labelsize": FONT,
    "xtick.labelsize": FONT,
    "ytick.labelsize": FONT,
    "legend.fontsize": FONT,
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
    "savefig.dpi": 300,
    "figure.dpi": 300,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.labelpad": 2.0,
    "axes.titlepad": 3.0,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.4,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.0,
    "ytick.major.size": 2.0,
    "xtick.major.pad": 2.0,
    "ytick.major.pad": 2.0,
    "lines.linewidth": 1.0,
    "lines.markersize": 2.6,
    "lines.markeredgewidth": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.0,
    "legend.labelspacing": 0.25,
    "legend.borderpad": 0.0,
    "legend.borderaxespad": 0.4,
}


def new_figure(height: float, width: float = COLUMN) -> Figure:
    """An empty figure of that size in inches, whose canvas can measure text; `lay_out` arranges what is put on it."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def lay_out(figure: Figure) -> None:
    """Arrange the figure with tight margins, once: a figure with a layout engine would do so whenever it is saved."""
    ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02).execute(figure)


def add_legend(figure: Figure, series: Sequence[Series]) -> None:
    """A legend above the axes, in as many columns as fit; the figure grows by its height."""
    handles = [
        Line2D(
            [], [], linestyle=one.look.line, label=one.label, **one.look.points | ({"marker": ""} if one.joint else {})
        )
        for one in series
    ]
    room = figure.get_size_inches()[0] - 0.1
    for columns in range(min(4, len(handles)), 0, -1):
        legend = figure.legend(handles=handles, loc="outside upper left", ncols=columns)
        size = _inches(figure, legend)
        if size[0] <= room or columns == 1:
            break
        legend.remove()
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + size[1])


def _inches(figure: Figure, legend: Legend) -> tuple[float, float]:
    box = legend.get_window_extent(figure.canvas.get_renderer())
    return box.width / figure.dpi, box.height / figure.dpi
