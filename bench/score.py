"""`bench score`: label maps from any code base, counted as the engine counts its own, into a run like every other."""

import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.base import DATA, SegmentationData, open_data
from bench.data.pairs import read_label_map
from bench.data.presence import presence
from bench.data.transforms import EvalTransform
from bench.evaluate import SCOPES, image_scopes
from bench.keys import digest
from bench.manifest import described, git_revision, versions
from bench.predictions import JOINT, LabelMaps, find_maps
from bench.progress import counting
from protocols import InputError, Protocol, unknown
from results.schema import CACHE_FOLDER, SCHEMA_VERSION, Run, write_run

EXTERNAL = "external"
NATIVE = "native"


@dataclass(frozen=True)
class Request:
    """What is scored, and against what."""

    folder: Path
    protocol: Protocol
    name: str
    data: str
    root: str | None = None
    val_images: int = 300  # scenes of the data `shapes`
    size: int | str | None = None  # shorter side and centre crop in pixels, or NATIVE; None: what the maps say
    seed: int = 0
    store: Path = Path("runs")


def score_folder(request: Request) -> Run:
    """Counts the label maps against the val masks and stores the run; nothing is stored unless all of them fit.

    InputError, naming the file: a missing step, a missing or unknown image, a wrong size, an unknown label, a
    file that is no 8-bit label map.
    """
    if request.data not in DATA:
        raise unknown("data", request.data, DATA)
    if not re.fullmatch(r"\w[\w.+-]*", request.name):
        raise InputError(f"--name {request.name!r}: use letters, digits and . + - _ alone, it names a folder")
    data = _open(request)
    maps = find_maps(request.folder, request.protocol, data.ids)
    size = _compared_size(request.size, data, maps[0].path(data.ids[0]))
    if data.name == "shapes":  # scenes are drawn at the size at which they are compared
        data = _open(request, size)
    with counting(f"indexing {data.name} val") as progress:
        index = presence(data, request.store / CACHE_FOLDER / "presence", progress)
    with counting(f"scoring {request.name}") as progress:
        counts = count(data, maps, index.matrix, size, progress)
    evaluation = {"split": "val", "size": size or NATIVE, "images": len(data)}
    manifest = _manifest(request, evaluation, index.digest, joint=maps[0].folder.name == JOINT)
    return write_run(request.store / manifest["run"], manifest, request.protocol.slot_ids, counts)


def _open(request: Request, image_size: int = 64) -> SegmentationData:
    """The val images; image_size: pixels a side, of rendered scenes alone."""
    return open_data(
        request.data, "val", root=request.root, label_space=request.protocol.dataset,
        val_images=request.val_images, image_size=image_size,
    )  # fmt: skip


def _compared_size(size: int | str | None, data: SegmentationData, first: Path) -> int | None:
    """The shorter side whose centre crop is compared, None for whole images; where it is not given the map `first`
    decides: as large as its image, or a square crop."""
    if isinstance(size, int):
        return size
    if data.name == "shapes":
        return read_label_map(first).shape[0]
    if size == NATIVE:
        return None
    shape, whole = read_label_map(first).shape, tuple(data.load(0)[1].shape)
    if shape == whole:
        return None
    if shape[0] == shape[1]:
        return shape[0]
    raise InputError(
        f"{first} is {_pixels(shape)}, but its image is {_pixels(whole)}: write maps of the size of the image, "
        "or of a square centre crop (evaluation.size is its side)"
    )


def count(
    data: SegmentationData,
    maps: Sequence[LabelMaps],
    presence_matrix: np.ndarray,
    size: int | None,
    progress: Callable[[int, int], None],
) -> dict[int, np.ndarray]:
    """The counts of every step, int64 (3 scopes, true slot in the full protocol order, predicted slot).

    maps: of all steps. presence_matrix: bool (N, n_classes + 1). size: as `EvalTransform`. progress: called with
    (images done, images in all). InputError: a map that does not fit, by its file.
    """
    scopes = [image_scopes(presence_matrix, one.step) for one in maps]  # (N,) each
    totals = [np.zeros(_shape(one), dtype=np.int64) for one in maps]

    def one_image(index: int) -> list[np.ndarray]:
        return _count_image(data, maps, [of_step[index] for of_step in scopes], size, index)

    # Threads: decoding files and counting pixels both release the interpreter lock.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for done, counted in enumerate(pool.map(one_image, range(len(data))), start=1):
            for total, of_image in zip(totals, counted, strict=True):
                total += of_image
            progress(done, len(data))
    return {one.step.index: total for one, total in zip(maps, totals, strict=True)}


def _count_image(
    data: SegmentationData, maps: Sequence[LabelMaps], scopes: Sequence[int], size: int | None, index: int
) -> list[np.ndarray]:
    """The counts of one image at every step; scopes: its scope at each."""
    _, labels = EvalTransform(size)(*data.load(index), maps[0].protocol.evaluation_table())  # (H, W) slots
    labels = labels.numpy().astype(np.uint16)
    counts = []
    for one, scope in zip(maps, scopes, strict=True):
        slots = one.read(data.ids[index])
        if slots.shape != labels.shape:
            raise InputError(_wrong_size(one.path(data.ids[index]), slots.shape, labels.shape, size))
        counted = np.zeros(_shape(one), dtype=np.int64)
        counted[scope] = pixels_by_slots(labels, slots, *counted.shape[1:])
        counts.append(counted)
    return counts


def pixels_by_slots(labels: np.ndarray, predictions: np.ndarray, n_true: int, n_predicted: int) -> np.ndarray:
    """Pixels by (true slot, predicted slot), int64 (n_true, n_predicted): one image of `evaluate.count_confusion`.

    labels: uint16 of slots below n_true, or 255: ignored. predictions: uint8 of slots below n_predicted. Both of one
    shape. Two bytes hold every index (256 x 255 < 2^16), which takes a quarter of the time of eight.
    """
    pairs = np.bincount((labels * np.uint16(n_predicted) + predictions).ravel(), minlength=256 * n_predicted)
    return pairs.reshape(-1, n_predicted)[:n_true]  # the row of 255 is cut off with those that nothing is in


def _shape(maps: LabelMaps) -> tuple[int, int, int]:
    return SCOPES, len(maps.protocol.slot_ids), maps.step.n_slots


def _wrong_size(path: Path, shape: tuple[int, int], wanted: tuple[int, int], size: int | None) -> str:
    how = (
        "whole images are compared (for square crops give evaluation.size=THEIR_SIDE)"
        if size is None
        else f"at evaluation.size={size} the shorter side is resized to {size} and the centre {size}x{size} compared "
        f"(for whole images give evaluation.size={NATIVE})"
    )
    return f"{path} is {_pixels(shape)}, not {_pixels(wanted)}: {how}"


def _pixels(shape: tuple[int, int]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _manifest(request: Request, evaluation: dict[str, Any], data_digest: str, joint: bool) -> dict[str, Any]:
    protocol = request.protocol
    scored = {"external": request.name, "protocol": protocol.digest, "data": data_digest, "evaluation": evaluation}
    recipe = digest(scored | ({"joint": True} if joint else {}))
    parts = [request.name, protocol.name, protocol.setting, EXTERNAL, request.data, f"s{request.seed}"]
    return {
        "schema_version": SCHEMA_VERSION,
        "run": "_".join([*parts, digest([recipe, request.seed])[:8]]),
        "method": request.name,
        "variant": None,
        "label": request.name,
        "method_note": "predictions from elsewhere, scored as they came",
        "backbone": EXTERNAL,
        "network": EXTERNAL,
        "pretrained": "unknown",
        "track": EXTERNAL,
        "external": True,
        "data": request.data,
        **described(protocol),
        "seed": request.seed,
        "recipe": recipe,
        "single_step": joint,
        "evaluation": evaluation,
        "command": shlex.join(sys.argv),
        "predictions": str(request.folder),
        "versions": versions(),
        "git_revision": git_revision(),
        "status": "complete",
        "error": None,
        "steps": [],
    }
