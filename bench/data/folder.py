"""Images and masks as files: reading them, and finding out what is wrong with them.

Pixels are taken as they are stored, as PIL and the published code bases take them: an EXIF orientation is not applied,
since masks have none. Where it decides whether image and mask fit together, the pair is refused; where sizes cannot
tell, `inspect` finds it, and the pass over the data says so. Transparency is dropped.
"""

import os
import warnings
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from bench.data.base import Inspection, SegmentationData, stamp
from protocols import InputError
from protocols.files import expanded, read_bytes

JPEG_END = b"\xff\xd9"
IMAGE_FORMATS, MASK_FORMATS = ("JPEG", "PNG"), ("PNG",)  # no other decoder ever sees a file
MAX_PIXELS = 2**26  # 8192 x 8192: 0.2 GB decoded; the largest image of ADE20K has 5 million
MAX_BYTES = 2**28
DEEP_MODES = ("I", "F")  # how the names of modes of more than 8 bits start: conversion would clip them to white

# What PIL warns of is refused here, in a line that names the file.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class FolderData(SegmentationData):
    """Pairs of a JPEG image and a PNG mask of class ids, in two folders, matched by name."""

    def __init__(self, split: str, ids: tuple[str, ...], images: Path, masks: Path) -> None:
        """ids: file names without their endings. Raises InputError if any file is missing."""
        self.split, self.ids = split, ids
        self._images, self._masks = images, masks
        for folder, ending in ((images, ".jpg"), (masks, ".png")):
            present = set(_names(folder))
            missing = [f"{name}{ending}" for name in ids if f"{name}{ending}" not in present]
            if missing:
                raise InputError(
                    f"{folder} is incomplete: {len(missing)} of {len(ids)} {split} files are missing, "
                    f"{missing[0]} first; copy them there, or point data.root= at a whole copy"
                )

    def describe(self, index: int) -> str:
        return str(self._mask_path(index))

    def load(self, index: int) -> tuple[Tensor, Tensor]:
        image_path, mask_path = self._image_path(index), self._mask_path(index)
        opened = _decode(image_path, _read(image_path), IMAGE_FORMATS)
        mask = _mask(mask_path, _read(mask_path))
        _same_size(image_path, opened, mask_path, mask)
        image = np.array(opened.convert("RGB"))
        return torch.from_numpy(image).permute(2, 0, 1).contiguous(), torch.from_numpy(mask)

    def inspect(self, index: int) -> Inspection:
        image_path, mask_path = self._image_path(index), self._mask_path(index)
        image_bytes, mask_bytes = _read(image_path), _read(mask_path)
        # Decoding 10,000 JPEGs to find one that was cut short takes minutes; the end marker tells at once.
        whole = JPEG_END in image_bytes[-64:]
        image = (_open if whole else _decode)(image_path, image_bytes, IMAGE_FORMATS)
        mask = _mask(mask_path, mask_bytes)
        _same_size(image_path, image, mask_path, mask)
        digest = sha256(sha256(image_bytes).digest() + sha256(mask_bytes).digest()).digest()
        return Inspection(np.bincount(mask.ravel(), minlength=256), digest, _orientation(image) != 1)

    def fingerprint(self) -> str:
        files = []
        for index, name in enumerate(self.ids):
            for path in (self._image_path(index), self._mask_path(index)):
                try:
                    status = os.stat(path)
                except OSError as error:  # a link to nowhere, or to itself
                    raise _unreadable(path, error) from error
                files.append((name, status.st_size, status.st_mtime_ns))
        return stamp(self.name, self.split, files)

    def _image_path(self, index: int) -> Path:
        return self._images / f"{self.ids[index]}.jpg"

    def _mask_path(self, index: int) -> Path:
        return self._masks / f"{self.ids[index]}.png"


def find_root(name: str, root: str | Path | None, marker: str, inside: tuple[str, ...], needs: str) -> Path:
    """The folder that holds `marker`: root itself, or one of the usual folders inside it.

    needs: what the folder must hold, in words. Raises InputError if there is none.
    """
    remedy = f"data.root=/path/to/{inside[0]}, or --track demo for the embedded data"
    if root is None:
        raise InputError(f"data {name!r} needs the folder of its files: give {remedy}")
    root = expanded(root)
    if not root.is_dir():
        raise InputError(f"data {name!r}: there is no folder {root}: give {remedy}")
    for candidate in (root, *(root / folder for folder in inside)):
        if (candidate / marker).is_dir():
            return candidate
    raise InputError(f"data {name!r}: {root} holds no {marker}: it must hold {needs}; give {remedy}")


def read_label_map(path: Path) -> np.ndarray:
    """Class ids, uint8 (H, W), of an 8-bit palette or grey image. Raises InputError, naming the file, for any other."""
    return _mask(path, _read(path))


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be listed ({error.strerror}): let it be read") from error


def _read(path: Path) -> bytes:
    try:
        content = read_bytes(path, MAX_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not content:
        raise InputError(f"{path} is empty: copy it again")
    return content


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} cannot be read ({error.strerror}): copy it again")


def _open(path: Path, content: bytes, formats: tuple[str, ...]) -> Image.Image:
    """Reads the header only."""
    try:
        image = Image.open(BytesIO(content), formats=formats)
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} claims more than {MAX_PIXELS} pixels: replace it") from error
    except Exception as error:  # PIL's decoders fail in many ways
        raise InputError(f"{path} is not an image ({' or '.join(formats)}), or broken: copy it again") from error
    if image.width * image.height > MAX_PIXELS:
        raise InputError(f"{path} claims {image.width}x{image.height}, more than {MAX_PIXELS} pixels: replace it")
    if image.mode.startswith(DEEP_MODES) and formats is IMAGE_FORMATS:
        raise InputError(f"{path} has more than 8 bits a channel: convert it to 8 bits")
    return image


def _decode(path: Path, content: bytes, formats: tuple[str, ...]) -> Image.Image:
    image = _open(path, content, formats)
    try:
        image.load()
    except Exception as error:  # as above
        raise InputError(f"{path} is truncated or broken ({error}): copy it again") from error
    return image


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; 1 where there is none, or none that can be read."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # EXIF is a format of its own inside the image; broken, it turns nothing
        return 1
    return value if value in range(2, 9) else 1


def _mask(path: Path, content: bytes) -> np.ndarray:
    """Class ids, uint8 (H, W): the indices of a palette image, or the values of an 8-bit grey one."""
    mask = _decode(path, content, MASK_FORMATS)
    if mask.mode not in ("P", "L"):
        kind = "16-bit" if mask.mode.startswith("I") else mask.mode
        raise InputError(
            f"{path} is a {kind} mask: masks must be 8-bit palette or grey images whose values are class ids"
        )
    return np.array(mask)


def _same_size(image_path: Path, image: Image.Image, mask_path: Path, mask: np.ndarray) -> None:
    height, width = mask.shape
    if image.size == (width, height):
        return
    orientation = _orientation(image)
    fix = "replace the one that was resized"
    if orientation != 1:
        fix = (
            f"the image has the EXIF orientation {orientation}, which is not applied: store it turned, without the tag"
        )
    raise InputError(
        f"{mask_path} is {width}x{height} but its image {image_path.name} is {image.width}x{image.height}: {fix}"
    )
