"""PASCAL VOC 2012 with the masks of SBD: 10,582 training, 1,449 validation images, 20 classes, void 255."""

from collections import Counter
from pathlib import Path

from bench.data.folder import FolderData, find_root
from protocols import InputError
from protocols.files import read_bytes

LISTS = {"train": "train_aug.txt", "val": "val.txt"}
IMAGES, MASKS = "JPEGImages", "SegmentationClassAug"
OWN_MASKS = "SegmentationClass"  # of VOC itself, without SBD
INSIDE = ("VOC2012", "VOCdevkit/VOC2012")  # folders in which VOC is found, too
LIST_BYTES = 2**26  # a million images; VOC has ten thousand


class VocData(FolderData):
    """The usual layout: JPEGImages, SegmentationClassAug, and lists in ImageSets/Segmentation or ImageSets.

    root: that folder (VOC2012), or the one or two folders around it (VOCdevkit).
    """

    name = label_space = "voc"

    def __init__(self, split: str, root: str | Path | None) -> None:
        folder = find_voc(root)
        if not (folder / MASKS).is_dir():
            raise InputError(
                f"{folder} holds no {MASKS}, the masks of VOC and SBD merged: "
                f"`bench data get voc data.root={folder}` adds it"
            )
        super().__init__(split, read_list(folder, LISTS[split]), folder / IMAGES, folder / MASKS)


def find_voc(root: str | Path | None) -> Path:
    """The folder VOC2012 at or in `root`. Raises InputError if there is none."""
    needs = f"{IMAGES}, {MASKS} and ImageSets"
    return find_root("voc", root, IMAGES, INSIDE, needs)


def list_places(folder: Path, file: str) -> tuple[Path, Path]:
    """Where a list of images may lie, the usual place first."""
    return folder / "ImageSets" / "Segmentation" / file, folder / "ImageSets" / file


def read_list(folder: Path, file: str) -> tuple[str, ...]:
    """Image names of a list: one a line, plain or as paths of image and mask. Raises InputError: there is no such list,
    it is empty, or names an image twice."""
    places = list_places(folder, file)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise InputError(f"the list {file} is missing: put it at {places[0]}")
    try:
        lines = read_bytes(path, LIST_BYTES).decode("utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"the list {path} cannot be read ({error.strerror}): copy it again") from error
    names = tuple(Path(line.split()[0]).stem for line in lines if line.strip())
    if not names:
        raise InputError(f"the list {path} is empty: copy it again")
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"the list {path} names {twice} twice: remove one of the lines")
    return names
