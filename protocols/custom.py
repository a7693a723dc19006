"""A protocol of the user's own, written in a YAML file.

name: ade_100-50-mib           # default: the name of the file
dataset: ade                   # voc or ade
classes_per_step: [100, 50]    # adds up to the number of classes
order: b                       # default: the dataset's own; else a published name, random:<seed>, or all ids
setting: overlapped            # default: that of the command
images:                        # default: by the rule of the setting; otherwise one entry per step:
  - train-0.npy                #   a .npy or text file (one image a line), beside this file or absolute,
  - [3, 5, 17]                 #   or a list. Images are names, or 0-based indices into the training list.
"""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from protocols import grammar
from protocols.dataset_info import dataset
from protocols.errors import InputError, unknown
from protocols.files import expanded, read_bytes
from protocols.integrity import Damaged, npy_array
from protocols.orders import resolve
from protocols.protocol import Images, Protocol, build
from protocols.yaml_file import read_yaml

_KEYS = ("name", "dataset", "classes_per_step", "order", "setting", "images")
_REQUIRED = ("dataset", "classes_per_step")
LIST_BYTES = 2**26  # of a file with the images of a step


def load_file(path: Path, setting: str = "overlapped", order: str | Iterable[int] | None = None) -> Protocol:
    """The protocol of a YAML file, whose form is told above.

    Args:
        path: the file.
        setting: for files that state none. A file's own setting stands against the default, "overlapped"; any
            other one that contradicts it is an error.
        order: for files that state none.

    Raises:
        InputError: a fault of the file; the line names the file and the key.
    """
    fields = read_yaml(path)
    if not isinstance(fields, dict):
        raise InputError(f"{path}: expected keys and values: {', '.join(_KEYS)}")
    for key in fields:
        if key not in _KEYS:
            raise InputError(f"{path}: {unknown('key', key, _KEYS)}")
    for key in _REQUIRED:
        if fields.get(key) is None:
            raise InputError(f"{path}: the key {key} is missing")
    try:
        return _protocol(path, fields, setting, order)
    except InputError as error:
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from None


def _protocol(path: Path, fields: dict, setting: str, order: str | Iterable[int] | None) -> Protocol:
    name = _name(fields.get("name") or path.stem)
    info = dataset(str(fields["dataset"]))
    sizes = fields["classes_per_step"]
    if not isinstance(sizes, list) or not all(type(size) is int for size in sizes):
        raise InputError(f"classes_per_step must be whole numbers, such as [15, 1, 1, 1, 1, 1], not {sizes!r}")

    stated = fields.get("setting")
    if stated is not None and setting not in (stated, "overlapped"):
        raise InputError(f"the file states the setting {stated}, the command {setting}: change one of them")
    if fields.get("order") is not None and order is not None:
        raise InputError("the file states a class order, and so does the command: drop one of them")
    ids, _ = resolve(info, fields["order"] if fields.get("order") is not None else order)

    images = fields.get("images")
    lists = None if images is None else _image_lists(images, len(sizes), path.parent)
    return build(name, info, setting if stated is None else str(stated), ids, sizes, lists)


def _name(name: object) -> str:
    name = str(name)
    if grammar.is_name(name):
        raise InputError(f"{name!r} names a built-in protocol: give this one its own with the key name")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise InputError(f"bad name {name!r}: give one of up to 64 letters, digits, '.', '_' and '-' with the key name")
    return name


def _image_lists(entries: object, n_steps: int, folder: Path) -> tuple[Images, ...]:
    if not isinstance(entries, list) or len(entries) != n_steps:
        found = f"{len(entries)} entries" if isinstance(entries, list) else repr(entries)
        raise InputError(f"images must hold one entry per step ({n_steps}), not {found}")
    return tuple(_image_list(entry, step, folder) for step, entry in enumerate(entries))


def _image_list(entry: object, step: int, folder: Path) -> Images:
    """Names or indices, sorted: the order of a list means nothing."""
    where = f"images of step {step}"
    if isinstance(entry, str):
        file = folder / expanded(entry)
        where = f"{where} ({file})"
        images = _from_npy(file, where) if file.suffix == ".npy" else _from_text(file, where)
    elif isinstance(entry, list):
        images = entry
    else:
        raise InputError(f"{where}: give a list of images or the path of a .txt or .npy file, not {entry!r}")

    if not (all(type(image) is str for image in images) or all(type(image) is int for image in images)):
        raise InputError(f"{where}: give names only or 0-based indices only (quote names made of digits)")
    repeated = next((image for image, count in Counter(images).items() if count > 1), None)
    if repeated is not None:
        raise InputError(f"{where}: image {repeated} is listed twice")
    images = tuple(sorted(images))
    if images and type(images[0]) is int and images[0] < 0:
        raise InputError(f"{where}: image index {images[0]} is negative; indices are 0-based")
    return images


def _missing(where: str) -> InputError:
    return InputError(f"{where}: no such file; put the list there, or change its path in the protocol's file")


def _from_npy(file: Path, where: str) -> list:
    try:
        array = npy_array(read_bytes(file, LIST_BYTES))
    except FileNotFoundError:
        raise _missing(where) from None
    except (OSError, Damaged) as error:
        raise InputError(f"{where}: not a readable .npy file: {error}") from None
    if array.ndim != 1 or array.dtype.kind not in "iuU":
        found = f"{array.dtype} of shape {array.shape}"
        raise InputError(f"{where}: expected one row of indices or names, found {found}")
    return array.tolist()


def _from_text(file: Path, where: str) -> list:
    try:
        lines = [line.strip() for line in read_bytes(file, LIST_BYTES).decode("utf-8").splitlines()]
    except FileNotFoundError:
        raise _missing(where) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: not a readable text file: {error}") from None
    lines = [line for line in lines if line]
    if all(re.fullmatch(r"0|[1-9]\d*", line) for line in lines):
        return [int(line) for line in lines]
    return lines
