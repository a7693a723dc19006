"""SegmentationClassAug and train_aug.txt, made from VOC's own masks and from SBD's.

No torch here: the masks are written by several processes (see `parallel`).
"""

import shutil
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from bench.data.parallel import parallel_map
from bench.predictions import write_map
from protocols.errors import InputError

CLASSES = 20


def train_names(train: set[str], val: set[str], sbd: set[str]) -> list[str]:
    """The names of train_aug, sorted: VOC's train and all of SBD, without VOC's val. 10,582 of the published lists."""
    return sorted((train | sbd) - val)


def write_masks(
    names: list[str],
    own: Path,
    sbd: Path,
    folder: Path,
    progress: Callable[[int, int], None],
    processes: int | None = None,
) -> None:
    """A palette PNG of class ids in `folder` for every name.

    own: SegmentationClass, whose masks are copied as they are, wherever there is one: they are finer, and know void.
    sbd: the folder of SBD's .mat files, for all others. progress: called with (masks written, masks in all). Raises
    InputError for a mask that is nowhere, or not what SBD publishes.
    """
    write = partial(_write_mask, own=own, sbd=sbd, folder=folder)
    folder.mkdir(parents=True, exist_ok=True)
    for done, _ in enumerate(parallel_map(write, names, processes), start=1):
        progress(done, len(names))


def _write_mask(name: str, own: Path, sbd: Path, folder: Path) -> None:
    source, target = own / f"{name}.png", folder / f"{name}.png"
    if source.is_file():
        shutil.copyfile(source, target)
    else:
        write_map(target, read_sbd(sbd / f"{name}.mat"))


def read_sbd(path: Path) -> np.ndarray:
    """Class ids, uint8 (H, W), of one of SBD's .mat files (GTcls.Segmentation). Raises InputError, naming the file."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise InputError(f"SBD has no mask {path.name}: its archive is not the published one, get it again")
    try:
        ids = loadmat(path, variable_names=["GTcls"])["GTcls"][0]["Segmentation"][0]
    except (MatReadError, KeyError, IndexError, ValueError, TypeError, OSError, zlib.error) as error:
        raise InputError(f"{path.name} is no mask of SBD ({error}): get its archive again") from error
    if ids.ndim != 2 or ids.dtype != np.uint8 or ids.max(initial=0) > CLASSES:
        raise InputError(f"{path.name} is no map of 0 to {CLASSES}: get the archive of SBD again")
    return ids
