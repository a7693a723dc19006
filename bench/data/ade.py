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
        folder = find_root("ade", root, "images", ("ADEChallengeData2016",), "images and annotations")
        images, masks = (folder / kind / FOLDERS[split] for kind in ("images", "annotations"))
        for needed in (images, masks):
            if not needed.is_dir():
                raise InputError(f"the folder {needed} is missing: copy it from ADEChallengeData2016")
        names = tuple(sorted(path.stem for path in images.glob("*.jpg")))
        if not names:
            raise InputError(f"{images} holds no .jpg files: copy them from ADEChallengeData2016")
        super().__init__(split, names, images, masks)
