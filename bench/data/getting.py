"""`bench data get`: VOC with SBD, or ADE20K, from their servers to a folder that can be trained on.

Everything is downloaded into ROOT/downloads, verified, unpacked aside and renamed, so a folder is there whole or not
at all; an archive is removed once it is unpacked. Whatever is there already is left alone: is it whole, by its names,
nothing is done; is it half, that is an error that says what is to be moved away.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bench.data import sources, voc
from bench.data.archives import unpack
from bench.data.aug_masks import train_names, write_masks
from bench.data.download import fetch, verify
from bench.data.expected import PUBLISHED
from bench.data.folder import MASK, missing_files
from bench.data.sources import GB, Archive
from bench.data.splits import find_lack
from bench.progress import announce, counting, transferring
from protocols.errors import InputError
from protocols.files import aside_of, fsync_folder, remove, replacing

DOWNLOADS = "downloads"
SBD, ADE = "benchmark_RELEASE/dataset", "ADEChallengeData2016"  # in their archives


def get(name: str, root: Path, place: str | None = None, processes: int | None = None) -> Path:
    """Leaves the data set `name` ("voc" or "ade") in `root`, and gives its folder.

    place: see `sources.places`. processes: that write masks. Raises InputError: half a data set or a cut of it is
    there, no room, no such archive, a wrong checksum, an archive that is refused, another call at work in `root`.
    """
    folder = {"voc": _find_voc, "ade": _find_ade}[name](root)
    if folder.exists() and not (name == "voc" and _lacks_sbd(folder)):
        _check_whole(name, folder, root)
        announce(f"{folder} is there already: nothing to do")
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".bench-data.lock", timeout=0):
            {"voc": _get_voc, "ade": _get_ade}[name](folder, root, place, processes)
    except Timeout as error:
        raise InputError(f"another `bench data get` is at work in {root}: wait for it") from error
    except OSError as error:
        raise InputError(f"cannot work in {root} ({error}): choose another folder with data.root=PATH") from error
    _check_whole(name, folder, root)
    return folder


def _find_voc(root: Path) -> Path:
    """The folder VOC2012 at or in `root`, which may not be there yet."""
    folders = (root, *(root / name for name in voc.INSIDE))
    return next((folder for folder in folders if (folder / voc.IMAGES).is_dir()), folders[-1])


def _find_ade(root: Path) -> Path:
    return root if any((root / part).is_dir() for part in ("images", "annotations")) else root / ADE


def _lacks_sbd(folder: Path) -> bool:
    """Whether VOC's folder is one to which masks or list of SBD are to be added."""
    listed = any(path.is_file() for path in voc.list_places(folder, voc.LISTS["train"]))
    return (folder / voc.IMAGES).is_dir() and not (listed and (folder / voc.MASKS).is_dir())


def _check_whole(name: str, folder: Path, root: Path) -> None:
    """Raises InputError unless all that was published is in `folder`, by its names."""
    lack = find_lack(name, folder)
    if lack:
        check = f"bench data check {name} --subset data.root={root}"
        raise _half(folder, *lack, f"; if it is a cut on purpose, `{check}` checks it")


def _half(folder: Path, lack: str, in_the_way: object, but: str = "") -> InputError:
    return InputError(f"{folder} is there but not whole ({lack}): move {in_the_way} away, then run this again{but}")


def _get_voc(folder: Path, root: Path, place: str | None, processes: int | None) -> None:
    own, sbd = sources.voc_archive(), sources.sbd_archive()
    has_own = (folder / voc.IMAGES).is_dir()
    _check_room(root, [sbd] if has_own else [own, sbd], place)
    if not has_own:
        _bring(own, place, root, "VOCdevkit/VOC2012", folder)
    _check_own(folder)
    wanted = tuple(f"{SBD}/{name}" for name in ("cls/", "train.txt", "val.txt"))
    with _unpacked(sbd, place, root, wanted) as unpacked:
        _merge(folder, unpacked / SBD, processes)


def _check_own(folder: Path) -> None:
    """Raises InputError unless VOC's own masks are all there: SBD's would take their place, which are coarser and know
    no void. And unless there are images enough, and masks of both where the list alone is missing."""
    total = sum(split.images for split in PUBLISHED["voc"].values())
    for part, in_the_way in ((voc.IMAGES, folder), (voc.MASKS, voc.MASKS)):
        if (folder / part).is_dir() and (there := len(os.listdir(folder / part))) < total:
            raise _half(folder, f"{part} holds {there:,} files, fewer than {total:,}", in_the_way)
    names = [name for file in ("train.txt", "val.txt") for name in voc.read_list(folder, file)]
    missing = missing_files(folder / voc.OWN_MASKS, names, MASK) if (folder / voc.OWN_MASKS).is_dir() else names
    if missing:
        raise InputError(
            f"{folder} lacks {len(missing):,} of the {len(names):,} masks of VOC itself in {voc.OWN_MASKS}: copy them "
            "there from VOC's archive, or move the folder away and all of it is fetched"
        )


def _merge(folder: Path, sbd: Path, processes: int | None) -> None:
    """Adds to VOC's folder what it lacks of SegmentationClassAug and train_aug.txt."""
    train, val = (set(voc.read_list(folder, file)) for file in ("train.txt", "val.txt"))
    added = {name for file in ("train.txt", "val.txt") for name in (sbd / file).read_text().split()}
    names, masks = train_names(train, val, added), folder / voc.MASKS
    if not masks.is_dir():
        aside = aside_of(masks)
        try:
            with counting(f"writing {voc.MASKS}") as progress:
                write_masks(sorted({*names, *val}), folder / voc.OWN_MASKS, sbd / "cls", aside, progress, processes)
            _publish(aside, masks)
        finally:
            remove(aside)
    with replacing(voc.list_places(folder, voc.LISTS["train"])[0]) as aside:
        aside.write_text("".join(f"{name}\n" for name in names))
    announce(f"{voc.LISTS['train']}: {len(names):,} images; {voc.MASKS}: {len(names) + len(val):,} masks")


def _get_ade(folder: Path, root: Path, place: str | None, processes: int | None) -> None:
    archive = sources.ade_archive()
    _check_room(root, [archive], place)
    _bring(archive, place, root, ADE, folder)


def _check_room(root: Path, wanted: list[Archive], place: str | None) -> None:
    """Raises InputError unless the disk holds what the archives need at the worst moment: one archive, what comes out
    of it, and what came out of those before."""
    kept = needed = 0
    for archive in wanted:
        local = isinstance(sources.places(archive, place), Path)
        kept += archive.unpacked
        needed = max(needed, kept + (0 if local else max(0, archive.size - _downloaded(root, archive))))
    free = shutil.disk_usage(root).free
    if free < needed:
        raise InputError(
            f"{root} has {free / GB:.1f} GB left and {needed / GB:.1f} GB are needed: make room, or choose another "
            "disk with data.root=PATH"
        )


def _downloaded(root: Path, archive: Archive) -> int:
    path = root / DOWNLOADS / archive.file
    return sum(one.stat().st_size for one in (path, path.with_name(path.name + ".part")) if one.exists())


def _bring(archive: Archive, place: str | None, root: Path, top: str, folder: Path) -> None:
    """Puts the folder `top` of an archive at `folder`."""
    if folder.exists():
        raise InputError(f"{folder} has appeared meanwhile: run this again")
    with _unpacked(archive, place, root, (f"{top}/",)) as unpacked:
        _publish(unpacked / top, folder)


@contextmanager
def _unpacked(archive: Archive, place: str | None, root: Path, wanted: tuple[str, ...]) -> Iterator[Path]:
    """A folder with what is wanted of an archive; it goes when the block ends, and what was downloaded goes with it if
    the block ends well."""
    where = sources.places(archive, place)
    path = where if isinstance(where, Path) else root / DOWNLOADS / archive.file
    if isinstance(where, Path):
        verify(path, archive, path)
    else:
        announce(f"getting {archive.file}, about {archive.size / GB:.1f} GB, from {where[0]}")
        with transferring(archive.file) as progress:
            fetch(archive, where, path, progress, announce)
    aside = aside_of(root / archive.file.partition(".")[0])
    try:
        with counting(f"unpacking {archive.file}") as progress:
            unpack(path, aside, wanted, progress)
        yield aside
    finally:
        remove(aside)
    if not isinstance(where, Path):
        remove(path)
        if not os.listdir(path.parent):
            path.parent.rmdir()


def _publish(aside: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    os.replace(aside, folder)
    fsync_folder(folder.parent)
