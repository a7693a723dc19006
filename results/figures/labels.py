"""Names beside points, placed so that they cover neither each other nor a point."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

RADII = (5.5, 8, 12, 17, 23, 30, 38, 48)  # points from a mark's centre to its name
ANGLES = np.deg2rad([0, 180, 90, 270, 45, 315, 135, 225, 22, 338, 158, 202])
MARGIN = 1.5  # points around a name
LEADER = 8  # points: names farther off than this get a line to their mark


@dataclass(frozen=True)
class Place:
    """A place for a name: its box [[x0, y0], [x1, y1]] in points of the figure, and its distance from the mark."""

    box: np.ndarray
    radius: float


def label_points(
    axes: Axes, points: np.ndarray, labels: Sequence[str], colors: Sequence[str], marks: np.ndarray
) -> None:
    """Write labels[i] beside points[i]; to be called when all else is drawn and the layout is final.

    points (N, 2), and marks (M, 2), other points that a name should not cover, are in data coordinates. Each name
    in turn takes the best of a fixed set of places around its point, twice over, so that equal input gives equal
    places.
    """
    figure = axes.figure
    point = figure.dpi / 72  # in pixels
    texts = [
        axes.annotate(label, at, (0, 0), textcoords="offset points", color=color, in_layout=False)
        for label, at, color in zip(labels, points, colors, strict=True)
    ]
    boxes = [text.get_window_extent(figure.canvas.get_renderer()) for text in texts]
    sizes = [np.array([box.width, box.height]) / point for box in boxes]
    centres, small = axes.transData.transform(points) / point, axes.transData.transform(marks) / point
    frame = axes.bbox.get_points() / point
    places: dict[int, Place] = {}
    for index in [*range(len(texts))] * 2:
        others = [place.box for other, place in places.items() if other != index]
        places[index] = min(
            _places(centres[index], sizes[index]),
            key=lambda place: _cost(place, centres[index], centres, small, others, frame),  # noqa: B023
        )
    for index, text in enumerate(texts):
        low, high = places[index].box
        text.set_position(low - centres[index])
        if places[index].radius > LEADER:
            ends = np.stack([centres[index], np.clip(centres[index], low, high)]) * point
            axes.plot(*axes.transData.inverted().transform(ends).T, color="#888888", linewidth=0.4, zorder=1.5)


def _places(centre: np.ndarray, size: np.ndarray) -> list[Place]:
    found = []
    for radius in RADII:
        for angle in ANGLES:
            middle = centre + np.array([np.cos(angle), np.sin(angle)]) * (radius + size / 2)
            found.append(Place(np.stack([middle - size / 2, middle + size / 2]), radius))
    return found


def _cost(
    place: Place,
    centre: np.ndarray,
    centres: np.ndarray,
    small: np.ndarray,
    others: Sequence[np.ndarray],
    frame: np.ndarray,
) -> float:
    """What a place costs, in points of distance from its mark.

    1000 for leaving the frame, 300 for each name and 200 for each large mark covered, 25 for each small one, 30 for
    each large mark in between, and 15 for each that is nearer than its own.
    """
    low, high = place.box
    outside = (low < frame[0]).any() or (high > frame[1]).any()
    names = sum(((low - MARGIN < other[1]) & (high + MARGIN > other[0])).all() for other in others)
    distances = np.linalg.norm(centres - np.clip(centres, low, high), axis=1)
    own = np.linalg.norm(centre - np.clip(centre, low, high))
    covered = (distances < 4).sum() - (own < 4)
    seeds = ((small > low - MARGIN) & (small < high + MARGIN)).all(1).sum()
    nearer = (distances < own - 0.1).sum()
    between = (_distances(centres, centre, np.clip(centre, low, high)) < 3).sum() - 1
    return place.radius + 1000 * outside + 300 * names + 200 * covered + 25 * seeds + 30 * between + 15 * nearer


def _distances(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """How far points (N, 2) are from the line between start and end, (N,)."""
    along = end - start
    share = np.clip((points - start) @ along / max(along @ along, 1e-9), 0, 1)
    return np.linalg.norm(points - (start + share[:, None] * along), axis=1)
