"""Figures as files: equal figures give equal bytes, whatever the reader's settings of matplotlib."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from results.figures.style import PAPER
from results.schema import write_atomically


@contextmanager
def paper() -> Iterator[None]:
    """The style in which every figure is made and saved, and nothing of the reader's own matplotlibrc."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(PAPER)
        yield


def write_figure(
    figure: Figure, name: str, folder: Path, formats: Sequence[str], title: str, said: Sequence[str]
) -> list[Path]:
    """Saves a figure as NAME.FORMAT, with what it shows in the files' metadata, and returns the paths.

    Within `paper`. formats: "png", "pdf". InputError: the folder cannot be written.
    """
    notes = "; ".join(said)
    metadata = {
        "pdf": {"Title": title, "Subject": notes, "CreationDate": None},
        "png": {"Title": title, "Description": notes, "Software": None},
    }
    paths = []
    for kind in formats:
        content = io.BytesIO()
        figure.savefig(content, format=kind, metadata=metadata[kind])
        paths.append(folder / f"{name}.{kind}")
        write_atomically(paths[-1], content.getvalue())
    return paths
