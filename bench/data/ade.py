"""ADE20K (ADEChallengeData2016): 20,210 training and 2,000 validation images, 150 classes, 0 is "other"."""

from pathlib import Path

from bench.data.folder import FolderData, find_root
from protocols import InputError

FOLDERS = {"train": "training", "val": "validation"}


class AdeData(FolderData):
    """The usual layout: images/{training,validation} and annotations/{training,validation}, sorted by name.

    root: that folder (ADEChallengeData2016), or the one around it.
    """

    name = label_space = "ade"

    def __init__(self, split: str, root: str | Path | None) -> None:
        folder = find_ade(root)
        super().__init__(split, list_images(folder, split), *ade_folders(folder, split))


def find_ade(root: str | Path | None) -> Path:
    """The folder ADEChallengeData2016 at or in `root`. Raises InputError if there is none."""
    return find_root("ade", root, "images", ("ADEChallengeData2016",), "images and annotations")


def ade_folders(folder: Path, split: str) -> tuple[Path, Path]:
    """The folders of the images and of the masks of a split."""
    return folder / "images" / FOLDERS[split], folder / "annotations" / FOLDERS[split]


def list_images(folder: Path, split: str) -> tuple[str, ...]:
    """The names of the images of a split, sorted. Raises InputError: a folder is missing, or has no images."""
    images, masks = ade_folders(folder, split)
    for needed in (images, masks):
        if not needed.is_dir():
            raise InputError(f"the folder {needed} is missing: copy it from ADEChallengeData2016")
    names = tuple(sorted(path.stem for path in images.glob("*.jpg")))
    if not names:
        raise InputError(f"{images} holds no .jpg files: copy them from ADEChallengeData2016")
    return names
