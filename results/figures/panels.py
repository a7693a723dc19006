"""Panels: images, their ground truth, and what each method predicts for them, side by side with a legend."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from results.figures.style import FONT, PAGE, lay_out, new_figure

VOID = 255
LABEL_WIDTH = 12  # letters of a method's name on one line
LEGEND_ROWS = 5  # most entries of the legend above each other


@dataclass(frozen=True)
class Panel:
    """One image: uint8 (H, W, 3); its ground truth and each method's prediction as class ids, uint8 (H, W)."""

    name: str
    image: np.ndarray
    truth: np.ndarray
    predictions: Mapping[str, np.ndarray]  # label of the method -> class ids


def draw_panels(panels: Sequence[Panel], class_names: Sequence[str], palette: np.ndarray) -> Figure:
    """A row for each panel: the image, the ground truth, the predictions. The legend names the classes to be seen.

    class_names: index = class id, 0 the background; palette: uint8 (256, 3). All panels have the same methods.
    """
    methods = list(panels[0].predictions)
    side = PAGE / (2 + len(methods))
    figure = new_figure(side * len(panels) + 0.25, PAGE)
    axes = figure.subplots(len(panels), 2 + len(methods), squeeze=False)
    for row, panel in zip(axes, panels, strict=True):
        shown = [panel.image, *(palette[ids] for ids in (panel.truth, *panel.predictions.values()))]
        for axis, pixels in zip(row, shown, strict=True):
            axis.imshow(pixels, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
    for axis, title in zip(axes[0], ["image", "ground truth", *methods], strict=True):
        axis.set_title("\n".join(textwrap.wrap(title, LABEL_WIDTH)), fontsize=FONT - 1)
    seen = sorted(
        {
            int(value)
            for panel in panels
            for ids in (panel.truth, *panel.predictions.values())
            for value in np.unique(ids)
        }
    )
    handles = [
        Patch(facecolor=palette[c] / 255, edgecolor="#888888", linewidth=0.3, label=_class_name(class_names, c))
        for c in seen
    ]
    columns = max(6, -(-len(handles) // LEGEND_ROWS))
    legend = figure.legend(
        handles=handles, loc="outside lower left", ncols=columns, handlelength=1.0, fontsize=FONT - 1
    )
    height = legend.get_window_extent(figure.canvas.get_renderer()).height / figure.dpi
    width, above = figure.get_size_inches()
    figure.set_size_inches(width, above + height)
    lay_out(figure)
    return figure


def _class_name(names: Sequence[str], class_id: int) -> str:
    return "void" if class_id == VOID else names[class_id]
