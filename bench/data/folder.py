"""Images and masks as files in two folders."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from bench.data.base import SegmentationData, stamp
from bench.data.pairs import Inspection, inspect_pair, load_pair, outcome_of_pair, unreadable
from bench.data.parallel import parallel_map
from protocols import InputError
from protocols.files import expanded

IMAGE, MASK = ".jpg", ".png"


class FolderData(SegmentationData):
    """Pairs of a JPEG image and a PNG mask of class ids, in two folders, matched by name."""

    def __init__(self, split: str, ids: tuple[str, ...], images: Path, masks: Path) -> None:
        """ids: file names without their endings. Raises InputError if any file is missing."""
        self.split, self.ids = split, ids
        self._images, self._masks = images, masks
        for folder, ending in ((images, IMAGE), (masks, MASK)):
            missing = missing_files(folder, ids, ending)
            if missing:
                raise InputError(
                    f"{folder} is incomplete: {len(missing)} of {len(ids)} {split} files are missing, "
                    f"{missing[0]} first; copy them there, or point data.root= at a whole copy"
                )

    def describe(self, index: int) -> str:
        return str(self._mask_path(index))

    def load(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = load_pair(self._image_path(index), self._mask_path(index))
        return torch.from_numpy(image).permute(2, 0, 1).contiguous(), torch.from_numpy(mask)

    def inspect(self, index: int) -> Inspection:
        return inspect_pair(self._pair(index))

    def inspections(self, processes: int | None = None) -> Iterator[Inspection | InputError]:
        return parallel_map(outcome_of_pair, [self._pair(index) for index in range(len(self))], processes)

    def fingerprint(self) -> str:
        files = []
        for index, name in enumerate(self.ids):
            for path in self._pair(index):
                try:
                    status = os.stat(path)
                except OSError as error:  # a link to nowhere, or to itself
                    raise unreadable(path, error) from error
                files.append((name, status.st_size, status.st_mtime_ns))
        return stamp(self.name, self.split, files)

    def _pair(self, index: int) -> tuple[Path, Path]:
        return self._image_path(index), self._mask_path(index)

    def _image_path(self, index: int) -> Path:
        return self._images / f"{self.ids[index]}{IMAGE}"

    def _mask_path(self, index: int) -> Path:
        return self._masks / f"{self.ids[index]}{MASK}"


def missing_files(folder: Path, ids: Iterable[str], ending: str) -> list[str]:
    """The names of files, id and ending, that the folder does not hold, in the order of the ids."""
    try:
        present = set(os.listdir(folder))
    except OSError as error:
        raise InputError(f"{folder} cannot be listed ({error.strerror}): let it be read") from error
    return [name for name in (f"{id}{ending}" for id in ids) if name not in present]


def find_root(name: str, root: str | Path | None, marker: str, inside: tuple[str, ...], needs: str) -> Path:
    """The folder that holds `marker`: root itself, or one of the usual folders inside it.

    needs: what the folder must hold, in words. Raises InputError if there is none.
    """
    remedy = (
        f"data.root=/path/to/{inside[0]} (`bench data get {name}` fetches it), or --track demo for the embedded data"
    )
    if root is None:
        raise InputError(f"data {name!r} needs the folder of its files: give {remedy}")
    root = expanded(root)
    if not root.is_dir():
        raise InputError(f"data {name!r}: there is no folder {root}: give {remedy}")
    for candidate in (root, *(root / folder for folder in inside)):
        if (candidate / marker).is_dir():
            return candidate
    raise InputError(f"data {name!r}: {root} holds no {marker}: it must hold {needs}; give {remedy}")
