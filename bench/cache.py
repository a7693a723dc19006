"""The step cache: trained steps and evaluation counts under the address of what determines them.

    cache/steps/<key>/    weights.safetensors, log.csv, meta.json (written last; names the sha256 of the others)
    cache/counts/<key>.npz
    cache/rolling/<key>.safetensors    where training within a step stands
    cache/locks/<key>.lock             held by the process that trains the step

An entry is written aside and renamed into place, so it is there whole or not at all. A failure is never cached.
"""

import csv
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save_file
from torch import Tensor

from protocols.files import aside_of, file_digest, fsync_file, fsync_folder, remove, replacing
from results.schema import csv_text

WEIGHTS, LOG, META = "weights.safetensors", "log.csv", "meta.json"


class CorruptEntry(Exception):
    """An entry whose content is not what its record says."""


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

    def metas(self) -> dict[str, dict[str, Any]]:
        """The records of all published steps by key; those that cannot be read are left out."""
        found = {}
        for key in self.keys():
            try:
                found[key] = self.meta(key)
            except (OSError, ValueError):
                continue
        return found

    def meta(self, key: str) -> dict[str, Any]:
        """The record of an entry, unchecked."""
        return json.loads((self.step_folder(key) / META).read_text())

    def load(self, key: str) -> dict[str, Tensor]:
        """The tensors of a published step, on the CPU."""
        return load_file(self.step_folder(key) / WEIGHTS)

    def log(self, key: str) -> list[dict[str, str]]:
        """The rows of its training log."""
        return read_rows(self.step_folder(key) / LOG)

    def verify_or_quarantine(self, key: str) -> None:
        """Raises CorruptEntry for a damaged entry, and puts it into quarantine, so that it is trained again."""
        try:
            self.verify(key)
        except CorruptEntry:
            self.quarantine(key)
            raise

    def verify(self, key: str) -> dict[str, Any]:
        """The record of an entry whose files all have the sha256 that it names; raises CorruptEntry otherwise."""
        folder = self.step_folder(key)
        try:
            meta = self.meta(key)
            expected = meta["sha256"]
            for name in (WEIGHTS, LOG):
                if file_digest(folder / name) != expected[name]:
                    raise CorruptEntry(f"{folder / name} does not have the sha256 of its record")
        except (OSError, ValueError, KeyError, TypeError) as fault:
            raise CorruptEntry(f"{folder} cannot be read: {fault}") from fault
        return meta

    def quarantine(self, key: str) -> Path:
        """Moves a damaged entry out of the way, to `cache/quarantine`."""
        aside = Path(tempfile.mkdtemp(prefix=f"{key}-", dir=self._folder("quarantine"))) / "entry"
        os.replace(self.step_folder(key), aside)
        return aside

    def publish(self, key: str, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], log: list[dict]) -> None:
        """Makes a trained step available to every run. Its rolling checkpoint is no longer needed and goes."""
        self._folder("steps")
        if self.step_folder(key).exists():  # an entry that lost its record
            self.quarantine(key)
        aside = aside_of(self.step_folder(key))
        remove(aside)
        aside.mkdir()
        try:
            save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, aside / WEIGHTS)
            (aside / LOG).write_text(csv_text(log))
            digests = {name: file_digest(aside / name) for name in (WEIGHTS, LOG)}
            (aside / META).write_text(json.dumps({**meta, "key": key, "sha256": digests}, indent=1, sort_keys=True))
            for name in (WEIGHTS, LOG, META):
                fsync_file(aside / name)
            fsync_folder(aside)
            os.replace(aside, self.step_folder(key))
            fsync_folder(aside.parent)
        finally:
            remove(aside)
        self.rolling_path(key).unlink(missing_ok=True)

    def load_counts(self, key: str) -> np.ndarray | None:
        """Published counts, int64 (3, true slots, predicted slots); None if there are none or they are damaged."""
        path = self.root / "counts" / f"{key}.npz"
        try:
            with np.load(path, allow_pickle=False) as archive:
                return archive["counts"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            path.unlink(missing_ok=True)
            return None

    def publish_counts(self, key: str, counts: np.ndarray) -> None:
        with replacing(self.root / "counts" / f"{key}.npz") as aside, open(aside, "wb") as file:
            np.savez_compressed(file, counts=counts)

    @contextmanager
    def lock(self, key: str, waiting) -> Iterator[None]:
        """Holds the step, so that it is trained once; calls `waiting()` if another process holds it first."""
        lock = FileLock(self._folder("locks") / f"{key}.lock")
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


def read_rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
