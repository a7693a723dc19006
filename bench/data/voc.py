"""PASCAL VOC 2012 with the masks of SBD: 10,582 training, 1,449 validation images, 20 classes, void 255."""

from collections import Counter
from pathlib import Path

from bench.data.folder import FolderData, find_root
from protocols import InputError
from protocols.files import read_bytes

LISTS = {"train": "train_aug.txt", "val": "val.txt"}
MASKS = "SegmentationClassAug"
LIST_BYTES = 2**26  # a million images; VOC has ten thousand


class VocData(FolderData):
    """The usual layout: JPEGImages, SegmentationClassAug, and lists in ImageSets/Segmentation or ImageSets.

    root: that folder (VOC2012), or the one or two folders around it (VOCdevkit).
    """

    name = label_space = "voc"

    def __init__(self, split: str, root: str | Path | None) -> None:
        needs = f"JPEGImages, {MASKS} and ImageSets"
        folder = find_root("voc", root, "JPEGImages", ("VOC2012", "VOCdevkit/VOC2012"), needs)
        if not (folder / MASKS).is_dir():
            raise InputError(f"{folder} holds no {MASKS}: add that folder, the masks of VOC and SBD merged")
        super().__init__(split, _read_list(folder, LISTS[split]), folder / "JPEGImages", folder / MASKS)


def _read_list(folder: Path, file: str) -> tuple[str, ...]:
    """Image names of a list: one a line, plain or as paths of image and mask."""
    places = [folder / "ImageSets" / "Segmentation" / file, folder / "ImageSets" / file]
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
