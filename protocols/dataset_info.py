"""What a protocol needs to know of a dataset: the names of its classes and the rules of its labels."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from protocols.errors import unknown
from protocols.yaml_file import read_yaml

_FOLDER = Path(__file__).parent / "datasets"


@dataclass(frozen=True)
class DatasetInfo:
    """The label space of a dataset. Label 0 is the background ("other" in ADE20K)."""

    name: str
    title: str  # as written in captions
    class_names: tuple[str, ...]  # index = class id, 0 = "background"
    has_void: bool  # the masks may hold 255
    background_counted: bool  # the mean IoU over all classes includes label 0

    @property
    def n_classes(self) -> int:
        """Number of classes without the background; class ids are 1 to `n_classes`."""
        return len(self.class_names) - 1


def datasets() -> tuple[str, ...]:
    """Names of the datasets with protocols, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


@cache
def dataset(name: str) -> DatasetInfo:
    """The dataset of that name ("voc" or "ade").

    Raises:
        InputError: there is no such dataset.
    """
    if name not in datasets():
        raise unknown("dataset", name, datasets())
    fields = read_yaml(_FOLDER / f"{name}.yaml")
    return DatasetInfo(
        name=fields["name"],
        title=fields["title"],
        class_names=("background", *fields["classes"]),
        has_void=fields["has_void"],
        background_counted=fields["background_counted"],
    )
