"""Predictions as files: one folder a step (`step_00`, `step_01`, ...), in it a PNG of class ids for every val image.

Joint training, which learns all classes in one step, has one folder, `joint`.

What `bench predict` writes and `bench score` reads, from this or any other code base.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from bench.data.pairs import read_label_map
from protocols import VOID, InputError, Protocol, ProtocolStep

JOINT = "joint"
_STEP = re.compile(r"(?:step[_-]?)?(\d+)", re.IGNORECASE)


def step_folder(step: int) -> str:
    """The name of a step's folder, as it is written; `find_maps` also takes `0`, `00`, `step0` and `step-0`."""
    return f"step_{step:02d}"


@dataclass(frozen=True)
class LabelMaps:
    """The label maps of one step: a file for every val image."""

    step: ProtocolStep
    folder: Path
    protocol: Protocol

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.png"

    def read(self, name: str) -> np.ndarray:
        """The predicted slots of image `name`, uint8 (H, W).

        InputError, naming the file: no image of 8 bits, or a label that the step has not learned.
        """
        path = self.path(name)
        ids = read_label_map(path)
        slots = self._table.take(ids)
        if (slots == VOID).any():
            raise InputError(self._unknown(path, int(ids[slots == VOID][0])))
        return slots

    @cached_property
    def _table(self) -> np.ndarray:
        """Class id -> slot of what the step has learned, uint8 (256,); 255 for everything else."""
        table = self.protocol.evaluation_table()
        table[list(self.step.future)] = VOID
        return table

    def _unknown(self, path: Path, label: int) -> str:
        seen = f"step {self.step.index} of {self.protocol.name} predicts 0 and the {len(self.step.seen)} classes seen"
        if label in self.step.future:
            name = self.protocol.class_names[label]
            later = next(step.index for step in self.protocol.steps if label in step.new)
            return f"{path} holds class {label} ({name}), which is learned at step {later}: {seen}"
        last = len(self.protocol.class_names) - 1
        return f"{path} holds label {label}, which is no class id (0 to {last}): {seen}"


def find_maps(folder: Path, protocol: Protocol, names: Iterable[str]) -> list[LabelMaps]:
    """The label maps of every step of the protocol, found under `folder`; no file is opened.

    Of joint training, which has a folder JOINT and no others, they are those of the last step alone. names: the val
    images. InputError: a step without a folder, or with two; a step that the protocol does not have; a val image
    without a map; a map of no val image.
    """
    if not folder.is_dir():
        raise InputError(
            f"there is no folder {folder}: give the one that holds {step_folder(0)}, {step_folder(1)}, ..."
        )
    expected = {f"{name}.png" for name in names}
    folders = _step_folders(folder)
    if (folder / JOINT).is_dir():
        if folders:
            raise InputError(f"{folder / JOINT} lies beside {folders[min(folders)].name}: score joint training apart")
        _check_names(folder / JOINT, expected)
        return [LabelMaps(protocol.steps[-1], folder / JOINT, protocol)]
    count = len(protocol.steps)
    missing = [step for step in range(count) if step not in folders]
    if missing:
        only_last = list(folders) == [count - 1] and count > 1
        hint = f"; if all classes were learned at once, name {folders[count - 1]} {JOINT}" if only_last else ""
        raise InputError(
            f"{folder} has no folder {step_folder(missing[0])}: {protocol.name} has {count} steps, "
            f"{step_folder(0)} to {step_folder(count - 1)}{hint}"
        )
    if max(folders) >= count:
        raise InputError(f"{folders[max(folders)]} is one step too many: {protocol.name} has {count} steps, from 0 on")
    for step in range(count):
        _check_names(folders[step], expected)
    return [LabelMaps(step, folders[step.index], protocol) for step in protocol.steps]


def _step_folders(folder: Path) -> dict[int, Path]:
    """The folders named after steps. InputError: two of one step."""
    folders: dict[int, Path] = {}
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        match = _STEP.fullmatch(path.name)
        if match and folders.setdefault(int(match[1]), path) != path:
            raise InputError(f"{path} and {folders[int(match[1])].name} are both step {int(match[1])}: remove one")
    return folders


def _check_names(folder: Path, expected: set[str]) -> None:
    found = {path.name for path in folder.iterdir() if path.suffix.lower() == ".png" and not path.name.startswith(".")}
    missing, strange = sorted(expected - found), sorted(found - expected)
    if missing:
        raise InputError(f"{folder / missing[0]} is missing, one of {len(missing)} of the {len(expected)} val images")
    if strange:
        raise InputError(f"{folder / strange[0]} is no val image: remove it, or check the data set and its val list")


def write_map(path: Path, ids: np.ndarray) -> None:
    """Writes class ids, uint8 (H, W), as a PNG with VOC's palette. InputError: it cannot be written."""
    image = Image.fromarray(ids)
    image.putpalette(PALETTE.tobytes())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror or error}): choose another folder") from error


def _palette() -> np.ndarray:
    """VOC's colours, uint8 (256, 3): the bits of a label, three at a time, are high bits of red, green and blue."""
    labels = np.arange(256)[:, None] >> np.array([0, 1, 2])  # (256, 3)
    return sum(((labels >> 3 * bit) & 1) << (7 - bit) for bit in range(8)).astype(np.uint8)


PALETTE = _palette()
