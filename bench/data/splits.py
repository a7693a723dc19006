"""The splits of a copy of VOC or ADE20K as its lists and folders have them, held against the published names."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.data import ade, voc
from bench.data.base import SPLITS
from bench.data.expected import differing
from bench.data.folder import IMAGE, MASK, FolderData, missing_files
from protocols import InputError


@dataclass(frozen=True)
class Split:
    """One split as a copy has it: names, and the folders of images and masks."""

    name: str
    ids: tuple[str, ...]
    images: Path
    masks: Path

    @property
    def pairs(self) -> FolderData:
        """Those of its images that are there with a mask, to be inspected."""
        absent = {Path(name).stem for name in missing_files(self.images, self.ids, IMAGE)}
        absent |= {Path(name).stem for name in missing_files(self.masks, self.ids, MASK)}
        return FolderData(self.name, tuple(id for id in self.ids if id not in absent), self.images, self.masks)

    def missing(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """Where files are missing: "images" or "masks", how many in words, the names of the files."""
        for kind, folder, ending in (("images", self.images, IMAGE), ("masks", self.masks, MASK)):
            files = tuple(missing_files(folder, self.ids, ending))
            if files:
                text = f"{len(files):,} of {len(self.ids):,} {self.name} {kind} are not in {folder}, {files[0]} first"
                yield kind, text, files


def read_split(name: str, folder: Path, split: str) -> Split:
    """A split of the copy of `name` ("voc" or "ade") in `folder`. Raises InputError: no list, no folder, no images."""
    if name == "voc":
        return Split(split, voc.read_list(folder, voc.LISTS[split]), folder / voc.IMAGES, folder / voc.MASKS)
    return Split(split, ade.list_images(folder, split), *ade.ade_folders(folder, split))


def find_lack(name: str, folder: Path) -> tuple[str, str] | None:
    """What the copy of `name` in `folder` lacks of the published one, first of all, and what of the copy must be moved
    away for `bench data get` to make it anew. None: nothing. No file is read but VOC's lists."""
    splits = []
    for split in SPLITS:
        try:
            splits.append(read_split(name, folder, split))
            for kind, text, _ in splits[-1].missing():
                return text, in_the_way(name, folder, merged=kind == "masks")
        except InputError as fault:  # its last words say how that is mended by hand
            return str(fault).rpartition(": ")[0], in_the_way(name, folder, merged=split == "train")
    for split in splits:
        but = differing(name, split.name, split.ids)
        if but:
            text = f"its {split.name} has {len(split.ids):,} images, {but}"
            return text, in_the_way(name, folder, merged=split.name == "train")
    return None


def in_the_way(name: str, folder: Path, merged: bool) -> str:
    """What of a copy must be moved away for `bench data get` to make it anew.

    merged: what is wrong is in what was made of VOC and SBD, which is made again where VOC's own masks are there.
    """
    if name == "voc" and merged and all((folder / part).is_dir() for part in (voc.IMAGES, voc.OWN_MASKS)):
        return f"{voc.MASKS} and {voc.LISTS['train']}"
    return str(folder)


def get_again(name: str, folder: Path, root: str | Path, merged: bool = False) -> str:
    """How the copy of `name` in `folder`, at or in `root`, is made anew. merged: see `in_the_way`."""
    return f"move {in_the_way(name, folder, merged)} away, then `bench data get {name} data.root={root}`"
