"""The stored form of a run: a folder with manifest.json, counts.npz, cells.csv and log.csv.

* counts.npz: `slot_ids` (T,) the class id of every slot of the whole protocol (0 = background, then in the
  order learned), and per evaluated step `step_00`, `step_01`, ...: int64 (3 scopes, T true slots, P
  predicted slots), P = 1 + seen classes, scopes as `measures.SCOPES`. This is the result; everything else
  can be recomputed from it.
* manifest.json: provenance. Any key may be there; the ones in REQUIRED must be.

Both carry their sha256 (`protocols.integrity`), and the manifest that of counts.npz, so that a damaged or edited run is
refused. Runs from before there were digests are read as they are.

* cells.csv: one row per step and class, derived from the counts (`cells`).
* log.csv: the losses, as the engine logged them.

A run with `single_step` (joint training) learns all classes at once: it has counts of the protocol's last step alone.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from protocols.errors import InputError
from protocols.files import file_digest, read_bytes, replacing, replacing_all, written
from protocols.integrity import Damaged, check_seal, is_sealed, npz_bytes, read_npz, sealed
from results.measures import SCOPES, matrix

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
CACHE_FOLDER = "cache"
MANIFEST, COUNTS = "manifest.json", "counts.npz"
MANIFEST_BYTES = 2**26  # no run comes near, but a file that is none may
COUNTS_BYTES = 2**28  # 150 classes, one at a time: 42 MB

# What every report needs of a manifest, and the type it must have.
REQUIRED: dict[str, type | tuple[type, ...]] = {
    "schema_version": int,
    "run": str,
    "method": str,
    "variant": (str, type(None)),
    "label": str,  # what tables call it: the method, or method-variant
    "backbone": str,
    "network": str,  # the backbone in its size, such as deeplab-tiny
    "pretrained": str,  # the initial weights
    "track": str,
    "data": str,  # what the images came from: voc, ade, shapes
    "protocol": str,
    "dataset": str,  # whose label space
    "setting": str,
    "order": str,  # the name of the class order
    "seed": int,
    "recipe": str,  # hash of everything that determines training, the seed left out
    "status": str,  # complete | running | failed (then "error" says why)
    "class_names": list,  # by class id, 0 = background
    "single_step": bool,  # did it learn all classes at once, as joint training does
    "protocol_digest": str,
    "step_classes": list,  # per step of the protocol, the class ids it adds
    "background_evaluated": bool,  # is background a class in this dataset's evaluation (VOC: yes, ADE: no)
    "evaluation": dict,  # the settings of the evaluation, such as {"split": "val", "size": 512}
}

# What may be missing, as of predictions from elsewhere; None where it is not known.
OPTIONAL: dict[str, type | tuple[type, ...]] = {
    "steps": list,  # per evaluated step what STEP says, and more
    "config": dict,
    "versions": dict,
    "hardware": dict,
    "method_note": (str, type(None)),
    "command": (str, type(None)),
    "git_revision": (str, type(None)),
    "error": (str, type(None)),
    "trainable_parameters": (int, type(None)),
}
STEP: dict[str, type | tuple[type, ...]] = {
    "index": int,
    "key": str,
    "base_key": (str, type(None)),
    "counts_key": (str, type(None)),
    "iterations": int,
    "images": int,
    "seconds": (int, float),
    "images_per_second": (int, float, type(None)),
    "peak_memory_mb": (int, float, type(None)),
    "trainable_parameters": (int, type(None)),
    "hardware": dict,
    "changed_modules": list,
}

CELL_COLUMNS = (
    *("run", "method", "variant", "recipe", "backbone", "track", "data", "protocol", "setting", "seed"),
    *("step", "class_id", "class_name", "class_step", "tp", "fp", "fn", "iou"),
)


@dataclass(frozen=True)
class Run:
    """A run as stored. counts: step index -> int64 (3 scopes, T true slots, P predicted slots)."""

    path: Path
    manifest: dict[str, Any]
    slot_ids: np.ndarray  # (T,) class id of every slot
    counts: dict[int, np.ndarray]

    @property
    def n_steps(self) -> int:
        """Steps of the protocol."""
        return len(self.manifest["step_classes"])

    @property
    def expected_steps(self) -> tuple[int, ...]:
        """The steps whose counts make the run complete: all of them, or the last alone if it learned all at once."""
        last = self.n_steps - 1
        return (last,) if self.manifest["single_step"] else tuple(range(self.n_steps))

    @property
    def missing_steps(self) -> tuple[int, ...]:
        return tuple(step for step in self.expected_steps if step not in self.counts)

    def n_slots(self, step: int) -> int:
        """Slots of the model after a step: background and the classes seen."""
        return 1 + sum(len(classes) for classes in self.manifest["step_classes"][: step + 1])


def write_run(
    folder: Path | str,
    manifest: Mapping[str, Any],
    slot_ids: Iterable[int],
    counts: Mapping[int, np.ndarray],
    log_rows: Iterable[Mapping[str, Any]] | None = None,
) -> Run:
    """Store a run, or bring it up to date. Each file is replaced as a whole, one right after the other, manifest.json
    last.

    manifest: the keys of REQUIRED and whatever else is worth keeping (JSON types). counts: see the module.
    log_rows: dicts of one log line each, columns in order of first appearance; None leaves log.csv as it is.
    Equal counts give a byte-identical counts.npz. InputError: the folder cannot be written, or the run
    would not read back.
    """
    folder = Path(folder)
    arrays = {step: np.asarray(counts[step]).astype(np.int64, casting="same_kind") for step in sorted(counts)}
    slots = np.asarray(list(slot_ids), dtype=np.int64)
    packed = npz_bytes({"slot_ids": slots, **{f"step_{step:02d}": array for step, array in arrays.items()}})
    stored = sealed(manifest, {COUNTS: hashlib.sha256(packed).hexdigest()})
    run = Run(folder, stored, slots, arrays)
    _check_manifest(run.manifest, folder / MANIFEST)
    _check_counts(run, folder / COUNTS)

    contents = {COUNTS: packed, "cells.csv": cells(run).to_csv(index=False).encode()}
    if log_rows is not None:
        contents["log.csv"] = csv_text(log_rows).encode()
    contents[MANIFEST] = (json.dumps(run.manifest, indent=1) + "\n").encode()
    with written(folder), replacing_all(*(folder / name for name in contents)) as asides:
        for aside, content in zip(asides, contents.values(), strict=True):
            aside.write_bytes(content)
    return run


def read_run(folder: Path | str) -> Run:
    """Read a run and check it. InputError: what is wrong with which file, or a newer schema."""
    folder = Path(folder)
    manifest_file, counts_file = folder / MANIFEST, folder / COUNTS
    try:
        manifest = json.loads(read_bytes(manifest_file, MANIFEST_BYTES))
    except FileNotFoundError as error:
        raise InputError(f"{manifest_file} is missing: {_AGAIN}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{manifest_file} cannot be read ({error}): {_AGAIN}") from error
    _check_manifest(manifest, manifest_file)

    slots = [0] + [class_id for step in manifest["step_classes"] for class_id in step]
    slot_ids, counts = np.array(slots, dtype=np.int64), {}
    if counts_file.exists() or manifest["status"] == "complete":
        slot_ids, counts = _load_counts(counts_file)
    run = Run(folder, manifest, slot_ids, counts)
    _check_counts(run, counts_file)
    _check_digests(manifest, manifest_file, counts_file)  # last: what is wrong says more than that something is
    return run


def read_runs(store: Path | str) -> tuple[list[Run], list[str]]:
    """All runs of a store, by folder name, and one sentence for each that cannot be read (it is left out).

    A run is any folder with a manifest.json or a counts.npz; the step cache is not looked at.
    InputError: the store does not exist.
    """
    store = Path(store)
    if not store.is_dir():
        raise InputError(f"no store at {store}: run `bench run` first, or name the store with store=FOLDER")
    runs, problems = [], []
    for folder in sorted(store.iterdir()):
        is_run = (folder / MANIFEST).exists() or (folder / COUNTS).exists()
        if folder.name == CACHE_FOLDER or not is_run:
            continue
        try:
            runs.append(read_run(folder))
        except InputError as error:
            problems.append(str(error))
    return runs, problems


def cells(run: Run) -> "pd.DataFrame":
    """One row per evaluated step and seen class, default convention, columns CELL_COLUMNS.

    tp, fp, fn are pixels; iou is a fraction, NaN for a class absent from the ground truth; class_step is
    the step in which the class is learned (background: 0). Background has rows only where the dataset's
    evaluation counts it.
    """
    import pandas as pd  # on use: reading and writing counts must not wait for it

    manifest = run.manifest
    provenance = {key: manifest[key] for key in CELL_COLUMNS[:10]}
    provenance["variant"] = manifest["variant"] or ""
    learned = [0] + [step for step, classes in enumerate(manifest["step_classes"]) for _ in classes]
    rows = []
    for step in sorted(run.counts):
        square = matrix(run.counts[step], background_evaluated=manifest["background_evaluated"])
        truth, predicted, hit = square.sum(1), square.sum(0), np.diag(square)
        for slot in range(0 if manifest["background_evaluated"] else 1, len(square)):
            tp, fp, fn = int(hit[slot]), int(predicted[slot] - hit[slot]), int(truth[slot] - hit[slot])
            class_id = int(run.slot_ids[slot])
            rows.append(
                provenance
                | {"step": step, "class_id": class_id, "class_name": manifest["class_names"][class_id]}
                | {"class_step": learned[slot], "tp": tp, "fp": fp, "fn": fn}
                | {"iou": tp / (tp + fp + fn) if tp + fn else float("nan")}
            )
    return pd.DataFrame(rows, columns=list(CELL_COLUMNS))


def write_atomically(path: Path, content: bytes) -> None:
    """Write aside, flush to disk, rename: readers find the old file or the new one, never a part.

    InputError: the file cannot be written.
    """
    with written(path), replacing(path) as aside:
        aside.write_bytes(content)


_AGAIN = "delete that run's folder and run its command again"


def csv_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV, the columns in the order they first occur."""
    rows = list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _check_manifest(manifest: Any, file: Path) -> None:
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if not isinstance(version, int) or version < 1:
        raise InputError(f"{file} is not the manifest of a run (schema_version {version!r}): {_AGAIN}")
    if version > SCHEMA_VERSION:
        raise InputError(f"{file} has schema {version}, newer than {SCHEMA_VERSION}: upgrade ciss-bench to read it")
    missing = next((key for key in REQUIRED if key not in manifest), None)
    if missing:
        raise InputError(f"{file} lacks {missing!r}: {_AGAIN}")
    _check_types(manifest, {**REQUIRED, **OPTIONAL}, file)
    for row in manifest.get("steps", ()):
        if not isinstance(row, dict) or "index" not in row:
            raise InputError(f"{file} has {row!r} among its steps, which is none: {_AGAIN}")
        _check_types(row, STEP, file)
    texts = [*manifest["class_names"], *(value for key in REQUIRED if isinstance(value := manifest[key], str))]
    strange = [text for text in texts if not isinstance(text, str) or not text.isprintable()]
    if strange:  # a terminal would obey some of it
        raise InputError(f"{file} has the name {strange[0]!r}, which is no text: {_AGAIN}")
    steps = manifest["step_classes"]
    ids = [class_id for step in steps for class_id in step] if all(isinstance(s, list) for s in steps) else []
    if (
        not ids
        or not all(type(i) is int and 0 < i < len(manifest["class_names"]) for i in ids)
        or len(set(ids)) < len(ids)
    ):
        raise InputError(f"{file} has step_classes that are not lists of ids of class_names, each once: {_AGAIN}")


def _check_types(record: Mapping[str, Any], kinds: Mapping[str, type | tuple[type, ...]], file: Path) -> None:
    for key in record.keys() & kinds.keys():
        kind, value = kinds[key], record[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):  # a bool is an int to Python
            raise InputError(f"{file} has {key} = {value!r}, which is of the wrong type: {_AGAIN}")


def _check_digests(manifest: dict[str, Any], file: Path, counts_file: Path) -> None:
    try:
        check_seal(manifest)
    except Damaged as error:
        raise InputError(f"{file} was damaged or edited ({error}): {_AGAIN}") from error
    # A run that was killed while it went on may have newer counts than its manifest; they have a digest of their own.
    named = manifest["sha256"].get(COUNTS) if is_sealed(manifest) else None
    if named and manifest["status"] != "running" and counts_file.exists() and file_digest(counts_file) != named:
        raise InputError(f"{counts_file} does not have the sha256 that manifest.json names: {_AGAIN}")


def _load_counts(file: Path) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    try:
        arrays = read_npz(file, COUNTS_BYTES)
    except FileNotFoundError as error:
        raise InputError(f"{file} is missing: {_AGAIN}") from error
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): mend that, or {_AGAIN}") from error
    except Damaged as error:
        raise InputError(f"{file} is corrupt ({error}): {_AGAIN}") from error
    slot_ids = arrays.pop("slot_ids", None)
    if slot_ids is None or not all(re.fullmatch(r"step_\d{2,}", name) for name in arrays):
        raise InputError(f"{file} holds {sorted(arrays)}, not slot_ids and step_00, step_01, ...: {_AGAIN}")
    return slot_ids, {int(name[len("step_") :]): arrays[name] for name in sorted(arrays)}


def _check_counts(run: Run, file: Path) -> None:
    """Do the counts fit the protocol of the manifest?"""
    slots = [0] + [class_id for step in run.manifest["step_classes"] for class_id in step]
    if run.slot_ids.tolist() != slots:
        raise InputError(f"{file} and manifest.json disagree on the classes of the slots: {_AGAIN}")
    for step, array in run.counts.items():
        if not 0 <= step < run.n_steps:
            raise InputError(f"{file} has counts of step {step}, the protocol has {run.n_steps} steps: {_AGAIN}")
        expected = (len(SCOPES), len(slots), run.n_slots(step))
        if array.shape != expected or array.dtype.kind not in "iu":
            raise InputError(f"{file}: step {step} is {array.dtype} {array.shape}, not int64 {expected}: {_AGAIN}")
        if array.size and array.min() < 0:
            raise InputError(f"{file}: step {step} has negative counts: {_AGAIN}")
