"""Figures as files: equal figures give equal bytes, whatever the reader's settings of matplotlib."""

import base64
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from results.figures.style import COLUMN, PAPER
from results.schema import write_atomically


@dataclass(frozen=True)
class Drawn:
    """A figure that is drawn once and shown wherever it is wanted. content: the bytes of its files, by format."""

    name: str  # of its files, without ending
    says: str  # a sentence for those who look at it, or cannot
    wide: bool  # made for both columns of a page, not for one
    content: Mapping[str, bytes]

    @property
    def pixels(self) -> tuple[int, int]:
        """Width and height of its PNG."""
        return Image.open(io.BytesIO(self.content["png"])).size

    def data_uri(self) -> str:
        """Its PNG, pixel for pixel, as lossless WebP in a data URI, which takes half the room."""
        content = io.BytesIO()
        image = Image.open(io.BytesIO(self.content["png"])).convert("RGB")
        image.save(content, "WEBP", lossless=True, method=2)  # higher methods take longer and save 1%
        return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"


@contextmanager
def paper() -> Iterator[None]:
    """The style in which every figure is made and saved, and nothing of the reader's own matplotlibrc."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(PAPER)
        yield


def rendered(figure: Figure, name: str, says: str, formats: Iterable[str], title: str, notes: Sequence[str]) -> Drawn:
    """A figure in the formats given ("png", "pdf"), with what it shows in the files' metadata; within `paper`."""
    said = "; ".join(notes)
    metadata = {
        "pdf": {"Title": title, "Subject": said, "CreationDate": None},
        "png": {"Title": title, "Description": said, "Software": None},
    }
    files = {}
    for kind in formats:
        content = io.BytesIO()
        figure.savefig(content, format=kind, metadata=metadata[kind])
        files[kind] = content.getvalue()
    return Drawn(name, says, figure.get_size_inches()[0] > COLUMN, files)


def write_figures(drawn: Iterable[Drawn], folder: Path, formats: Sequence[str]) -> list[Path]:
    """Writes FOLDER/NAME.FORMAT for each figure and format and returns the paths. InputError: it cannot be written."""
    paths = []
    for figure in drawn:
        for kind in formats:
            paths.append(folder / f"{figure.name}.{kind}")
            write_atomically(paths[-1], figure.content[kind])
    return paths
