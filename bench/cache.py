"""The step cache: trained steps and evaluation counts under the address of what determines them.

    cache/steps/<key>/    weights.safetensors, log.csv, meta.json (written last; names the sha256 of all three)
    cache/counts/<key>.npz             with their own sha256
    cache/rolling/<key>.safetensors    where training within a step stands
    cache/locks/<key>.lock             held by the process that trains the step
    cache/quarantine/                  what was found damaged; never used again

An entry is written aside and renamed into place, so it is there whole or not at all. A failure is never cached.
Entries from before meta.json and counts had a sha256 are used as they are, and get one when they are next written.
"""

import csv
import errno
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from safetensors.torch import load_file
from torch import Tensor

from bench.tensors import write_tensors
from protocols.errors import InputError
from protocols.files import (
    NOT_THE_FILE,
    aside_of,
    file_digest,
    fsync_file,
    fsync_folder,
    read_bytes,
    remove,
    remove_left,
    replacing,
    written,
)
from protocols.integrity import DIGEST, Damaged, check_seal, npz_bytes, read_npz, sealed
from results.schema import csv_text

WEIGHTS, LOG, META = "weights.safetensors", "log.csv", "meta.json"
META_BYTES, COUNTS_BYTES = 2**22, 2**24  # far more than either ever takes


class CorruptEntry(Exception):
    """An entry whose content is not what its record says. path: the file."""

    def __init__(self, path: Path, what: str):
        super().__init__(path, what)  # both, so that it can travel between processes
        self.path = path

    def __str__(self) -> str:
        return "{} {}".format(*self.args)


class StepCache:
    """The cache of one store. Reading needs no lock: entries never change once they are there."""

    def __init__(self, root: Path):
        self.root = root

    def step_folder(self, key: str) -> Path:
        return self.root / "steps" / key

    def rolling_path(self, key: str) -> Path:
        return self.root / "rolling" / f"{key}.safetensors"

    def has(self, key: str) -> bool:
        return (self.step_folder(key) / META).is_file()

    def keys(self) -> list[str]:
        """The keys of all published steps, sorted."""
        return sorted(path.parent.name for path in self.root.glob(f"steps/*/{META}"))

    def counts_keys(self) -> list[str]:
        """The keys of all published counts, sorted."""
        return sorted(path.stem for path in self.root.glob("counts/[!.]*.npz"))

    def metas(self) -> dict[str, dict[str, Any]]:
        """The records of all published steps by key; those that are damaged or cannot be read are left out."""
        found = {}
        for key in self.keys():
            try:
                found[key] = self._meta(key)
            except (CorruptEntry, InputError):
                continue
        return found

    def meta(self, key: str) -> dict[str, Any]:
        """The record of an entry. Raises CorruptEntry, with the entry in quarantine, if it is damaged."""
        with self._quarantining(key):
            return self._meta(key)

    def load(self, key: str) -> dict[str, Tensor]:
        """The tensors of a published step, on the CPU."""
        return load_file(self.step_folder(key) / WEIGHTS)

    def log(self, key: str) -> list[dict[str, str]]:
        """The rows of its training log. Raises CorruptEntry, with the entry in quarantine, if it is damaged."""
        with self._quarantining(key):
            self._check_file(key, self._meta(key), LOG)
            return read_rows(self.step_folder(key) / LOG)

    def verify_or_quarantine(self, key: str) -> None:
        """Raises CorruptEntry for a damaged entry, and puts it into quarantine, so that it is trained again."""
        with self._quarantining(key):
            self.verify(key)

    def verify(self, key: str) -> dict[str, Any]:
        """The record of an entry whose files all have the sha256 that it names; raises CorruptEntry otherwise."""
        meta = self._meta(key)
        for name in (WEIGHTS, LOG):
            self._check_file(key, meta, name)
        return meta

    def quarantine(self, key: str) -> Path:
        """Moves a damaged entry out of the way, to `cache/quarantine`."""
        return self._set_aside(self.step_folder(key))

    def _set_aside(self, path: Path) -> Path:
        aside = Path(tempfile.mkdtemp(prefix=f"{path.stem}-", dir=self._folder("quarantine"))) / "entry"
        with suppress(FileNotFoundError):  # another process has found the damage, too
            os.replace(path, aside)
        return aside

    @contextmanager
    def _quarantining(self, key: str) -> Iterator[None]:
        try:
            yield
        except CorruptEntry:
            self.quarantine(key)
            raise

    def _meta(self, key: str) -> dict[str, Any]:
        path = self.step_folder(key) / META
        try:
            with _readable(path):
                meta = json.loads(read_bytes(path, META_BYTES))
            check_seal(meta)
        except (ValueError, AttributeError, RecursionError) as fault:
            raise CorruptEntry(path, f"is damaged: {fault}") from fault
        return meta

    def _check_file(self, key: str, meta: Mapping[str, Any], name: str) -> None:
        path = self.step_folder(key) / name
        try:
            with _readable(path):
                digest = file_digest(path)
            if digest != meta[DIGEST][name]:
                raise CorruptEntry(path, "does not have the sha256 of its record")
        except (KeyError, TypeError) as fault:
            raise CorruptEntry(path, f"cannot be checked: its record names no sha256 ({fault!r})") from fault

    def publish(self, key: str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], log: list[dict]) -> None:
        """Makes a trained step available to every run. Its rolling checkpoint is no longer needed and goes.

        Raises InputError if the store cannot be written; what is published is whole all the same.
        """
        with written(self.step_folder(key)):
            self._publish(key, tensors, meta, log)
        self.discard_rolling(key)

    def _publish(self, key: str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], log: list[dict]) -> None:
        self._folder("steps")
        if self.step_folder(key).exists():  # an entry that lost its record
            self.quarantine(key)
        aside = aside_of(self.step_folder(key))
        remove(aside)
        aside.mkdir()
        try:
            write_tensors(tensors, aside / WEIGHTS)
            (aside / LOG).write_text(csv_text(log))
            digests = {name: file_digest(aside / name) for name in (WEIGHTS, LOG)}
            (aside / META).write_text(json.dumps(sealed({**meta, "key": key}, digests), indent=1, sort_keys=True))
            for name in (WEIGHTS, LOG, META):
                fsync_file(aside / name)
            fsync_folder(aside)
            os.replace(aside, self.step_folder(key))
            fsync_folder(aside.parent)
        finally:
            remove(aside)

    def discard_rolling(self, key: str) -> None:
        """Removes the checkpoint of a published step, and what a killed process left half-written of it."""
        with suppress(OSError):  # somebody else's, or the disk has become read-only: it does no harm
            self.rolling_path(key).unlink(missing_ok=True)
            remove_left(self.rolling_path(key))

    def load_counts(self, key: str) -> np.ndarray | None:
        """Published counts, int64 (3, true slots, predicted slots); None if there are none.

        Raises CorruptEntry, with the file in quarantine, if they are damaged.
        """
        try:
            return self.verify_counts(key)
        except CorruptEntry:
            self.quarantine_counts(key)
            raise

    def verify_counts(self, key: str) -> np.ndarray | None:
        """As `load_counts`, but leaves damaged counts where they are."""
        path = self._counts_path(key)
        try:
            return read_npz(path, COUNTS_BYTES)["counts"]
        except FileNotFoundError:  # never there, or removed this moment
            return None
        except (Damaged, KeyError) as fault:
            raise CorruptEntry(path, f"is damaged: {fault}") from fault
        except OSError as fault:
            raise _refused(path, fault) from fault

    def quarantine_counts(self, key: str) -> Path:
        """Moves damaged counts out of the way, to `cache/quarantine`."""
        return self._set_aside(self._counts_path(key))

    def publish_counts(self, key: str, counts: np.ndarray) -> None:
        with written(self._counts_path(key)), replacing(self._counts_path(key)) as aside:
            aside.write_bytes(npz_bytes({"counts": counts}))

    def _counts_path(self, key: str) -> Path:
        return self.root / "counts" / f"{key}.npz"

    @contextmanager
    def lock(self, key: str, waiting) -> Iterator[None]:
        """Holds the step, so that it is trained once; calls `waiting()` if another process holds it first.

        Where a process that holds it is killed, the next one gets it. On a file system without flock the lock is a file
        that says who holds it: of a process killed on another machine it stays, and has to be removed by hand.
        """
        path = self.root / "locks" / f"{key}.lock"
        with written(path):
            lock = FileLock(self._folder("locks") / path.name)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                waiting()
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Tells damage from what is no fault of the file: a missing file, or something else in its place, raises
    CorruptEntry; a read that the system refuses (rights, open files, a network drive) InputError."""
    try:
        yield
    except OSError as fault:
        if fault.errno in (errno.ENOENT, *NOT_THE_FILE):
            raise CorruptEntry(path, f"is lost: {fault.strerror}") from fault
        raise _refused(path, fault) from fault


def _refused(path: Path, fault: OSError) -> InputError:
    return InputError(f"{path} cannot be read ({fault.strerror}): mend that; nothing was changed")


def read_rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
