"""The commonest fault of a copy of VOC: it holds VOC's own 1,464 training images, and not what SBD adds."""

from pathlib import Path

from bench.data.folder import MASK, missing_files
from bench.data.splits import get_again
from bench.data.voc import LISTS, MASKS, list_places, read_list
from protocols import InputError

OWN_TRAIN = 1464  # training images with a mask in VOC 2012 itself


def sbd_missing(folder: Path, root: str | Path, train: tuple[str, ...] | None) -> tuple[str, str] | None:
    """How a copy shows that SBD is missing, and how that is mended; None if it does not.

    folder: VOC2012, at or in `root`. train: the names in train_aug.txt, None where that cannot be read.
    """
    get = f"`bench data get voc data.root={root}` fetches SBD and merges it"
    if not (folder / MASKS).is_dir():
        return f"there is no {MASKS}, the masks of VOC and SBD merged", get
    if train is None:
        if any(place.exists() for place in list_places(folder, LISTS["train"])):
            return None
        return f"there is no {LISTS['train']}, the list of the images of VOC and SBD", get
    again = get_again("voc", folder, root, merged=True)
    if set(train) <= _own_images(folder) or len(train) == OWN_TRAIN:
        return f"{LISTS['train']} names VOC's own {len(train):,} images alone", again
    absent = len(missing_files(folder / MASKS, train, MASK))
    if 2 * absent > len(train):
        return f"{absent:,} of {len(train):,} training masks are not in {MASKS}", again
    return None


def _own_images(folder: Path) -> set[str]:
    """The images with a mask in VOC itself, as far as its lists are here."""
    names: set[str] = set()
    for file in ("train.txt", "trainval.txt"):
        try:
            names |= set(read_list(folder, file))
        except InputError:
            continue
    return names
