"""Which classes each image holds: one pass over the masks, which also finds what is broken; kept in a
file."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from bench.data.base import SegmentationData, known_labels, stamp
from bench.progress import announce
from protocols import VOID, InputError, dataset
from protocols.files import replacing, written
from protocols.integrity import Damaged, read_npz

FORMAT = 1  # of the file; part of its name


@dataclass(frozen=True, eq=False)
class Presence:
    """matrix: bool (N, n_classes + 1), column = class id, 0 background; N in the order of the data's ids.
    digest: hex sha256 over the names and the content of every image and mask."""

    matrix: np.ndarray
    digest: str


class UnknownLabel(InputError):
    """A mask with a label that is no class id."""


def presence(
    data: SegmentationData,
    cache_dir: str | Path,
    progress: Callable[[int, int], None] | None = None,
    processes: int | None = None,
) -> Presence:
    """Presence matrix and digest of a data set, from `cache_dir` if they are there for these very files.

    progress: called with (images done, images in all) during the pass. processes: that read the files; default:
    one for each CPU. Raises InputError, naming the file, for an image or mask that is broken, sizes that differ,
    a label that is no class id, and a cache that cannot be written.
    """
    fingerprint = data.fingerprint()
    path = _path(data, cache_dir, fingerprint)
    found = _read(path, fingerprint, (len(data), _columns(data)))
    if found is None:
        found = read_presence(data, _refuse, progress, processes)
        _write(path, fingerprint, found)
    return found


def keep_presence(data: SegmentationData, cache_dir: str | Path, found: Presence) -> None:
    """Puts what `read_presence` found, without faults, where `presence` looks for it. InputError: it cannot be
    written."""
    fingerprint = data.fingerprint()
    _write(_path(data, cache_dir, fingerprint), fingerprint, found)


def read_presence(
    data: SegmentationData,
    on_fault: Callable[[int, InputError], None],
    progress: Callable[[int, int], None] | None = None,
    processes: int | None = None,
) -> Presence:
    """One pass over all files. on_fault: called with an index and what is wrong with that image or its mask; if it
    returns, the pass goes on, and neither that row of the matrix nor the digest means anything."""
    known = known_labels(data.label_space)
    matrix = np.zeros((len(data), _columns(data)), dtype=bool)
    digest = sha256(f"{data.name} {data.split}\n".encode())
    turned = []
    for index, found in enumerate(data.inspections(processes)):
        if isinstance(found, InputError):
            on_fault(index, found)
        else:
            strange = np.flatnonzero((found.pixels > 0) & ~known)
            if strange.size:
                on_fault(index, UnknownLabel(_unknown_label(data, index, int(strange[0]), bool(known[VOID]))))
            matrix[index] = found.pixels[: matrix.shape[1]] > 0
            digest.update(f"{data.ids[index]}\n".encode() + found.digest)
            turned += [data.ids[index]] * found.turned
        if progress is not None:
            progress(index + 1, len(data))
    if turned:
        announce(
            f"{data.name} {data.split}: {len(turned)} images have an EXIF orientation, {turned[0]} first. It is not "
            "applied: their masks must fit the pixels as they are stored"
        )
    return Presence(matrix, digest.hexdigest())


def _refuse(index: int, fault: InputError) -> None:
    raise fault


def _columns(data: SegmentationData) -> int:
    return len(dataset(data.label_space).class_names)


def _path(data: SegmentationData, cache_dir: str | Path, fingerprint: str) -> Path:
    return Path(cache_dir) / f"presence-{data.name}-{data.split}-{stamp(FORMAT, fingerprint)[:16]}.npz"


def _unknown_label(data: SegmentationData, index: int, label: int, has_void: bool) -> str:
    known = f"0 to {_columns(data) - 1}" + (f" and {VOID} (void)" if has_void else "")
    return (
        f"{data.describe(index)} holds the unknown label {label}: labels of {data.label_space} are {known}; "
        "replace that mask"
    )


def _read(path: Path, fingerprint: str, shape: tuple[int, int]) -> Presence | None:
    """What the file holds, or None if it cannot be read, is damaged or of other data: the masks say it again."""
    try:
        arrays = read_npz(path, limit=int(np.prod(shape)) + 2**16)
        matrix, digest, check = arrays["matrix"], str(arrays["digest"]), str(arrays["check"])
    except (OSError, Damaged, KeyError):
        return None
    if matrix.shape != shape or matrix.dtype != bool or check != _check(matrix, digest, fingerprint):
        return None
    return Presence(matrix, digest)


def _write(path: Path, fingerprint: str, found: Presence) -> None:
    """Writes aside and renames, so that no reader ever sees half a file."""
    check = _check(found.matrix, found.digest, fingerprint)
    with written(path), replacing(path) as aside, open(aside, "wb") as file:
        np.savez_compressed(file, matrix=found.matrix, digest=found.digest, check=check)


def _check(matrix: np.ndarray, digest: str, fingerprint: str) -> str:
    return stamp(sha256(matrix.tobytes()).hexdigest(), digest, fingerprint)
