"""Images and masks as files: reading them, and finding out what is wrong with them."""

import os
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.data.base import SegmentationData, stamp
from protocols import InputError

JPEG_END = b"\xff\xd9"


class FolderData(SegmentationData):
    """Pairs of a JPEG image and a PNG mask of class ids, in two folders, matched by name."""

    def __init__(self, split: str, ids: tuple[str, ...], images: Path, masks: Path) -> None:
        """ids: file names without their endings. Raises InputError if any file is missing."""
        self.split, self.ids = split, ids
        self._images, self._masks = images, masks
        for folder, ending in ((images, ".jpg"), (masks, ".png")):
            present = set(os.listdir(folder))
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
        image = np.array(_decode(image_path, _read(image_path)).convert("RGB"))
        mask = _mask(mask_path, _read(mask_path))
        _same_size(image_path, (image.shape[1], image.shape[0]), mask_path, mask)
        return torch.from_numpy(image).permute(2, 0, 1).contiguous(), torch.from_numpy(mask)

    def shape(self, index: int) -> tuple[int, int]:
        path = self._mask_path(index)
        try:
            with Image.open(path) as mask:  # reads the header alone
                return mask.height, mask.width
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f"{path} cannot be read as an image: copy it again") from error

    def inspect(self, index: int) -> tuple[np.ndarray, bytes]:
        image_path, mask_path = self._image_path(index), self._mask_path(index)
        image_bytes, mask_bytes = _read(image_path), _read(mask_path)
        # Decoding 10,000 JPEGs to find one that was cut short takes minutes; the end marker tells at once.
        whole = JPEG_END in image_bytes[-64:]
        image = _open(image_path, image_bytes) if whole else _decode(image_path, image_bytes)
        mask = _mask(mask_path, mask_bytes)
        _same_size(image_path, image.size, mask_path, mask)
        digest = sha256(sha256(image_bytes).digest() + sha256(mask_bytes).digest()).digest()
        return np.bincount(mask.ravel(), minlength=256), digest

    def fingerprint(self) -> str:
        files = []
        for index, name in enumerate(self.ids):
            for path in (self._image_path(index), self._mask_path(index)):
                status = os.stat(path)
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
    root = Path(root).expanduser()
    if not root.is_dir():
        raise InputError(f"data {name!r}: there is no folder {root}: give {remedy}")
    for candidate in (root, *(root / folder for folder in inside)):
        if (candidate / marker).is_dir():
            return candidate
    raise InputError(f"data {name!r}: {root} holds no {marker}: it must hold {needs}; give {remedy}")


def read_label_map(path: Path) -> np.ndarray:
    """Class ids, uint8 (H, W), of an 8-bit palette or grey image. Raises InputError, naming the file, for any other."""
    return _mask(path, _read(path))


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): copy it again") from error
    if not content:
        raise InputError(f"{path} is empty: copy it again")
    return content


def _open(path: Path, content: bytes) -> Image.Image:
    """Reads the header only."""
    try:
        return Image.open(BytesIO(content))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path} is not an image, or broken: copy it again") from error


def _decode(path: Path, content: bytes) -> Image.Image:
    image = _open(path, content)
    try:
        image.load()
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{path} is truncated or broken ({error}): copy it again") from error
    return image


def _mask(path: Path, content: bytes) -> np.ndarray:
    """Class ids, uint8 (H, W): the indices of a palette image, or the values of an 8-bit grey one."""
    mask = _decode(path, content)
    if mask.mode not in ("P", "L"):
        kind = "16-bit" if mask.mode.startswith("I") else mask.mode
        raise InputError(
            f"{path} is a {kind} mask: masks must be 8-bit palette or grey images whose values are class ids"
        )
    return np.array(mask)


def _same_size(image_path: Path, size: tuple[int, int], mask_path: Path, mask: np.ndarray) -> None:
    height, width = mask.shape
    if size != (width, height):
        raise InputError(
            f"{mask_path} is {width}x{height} but its image {image_path.name} is {size[0]}x{size[1]}: "
            "replace the one that was resized"
        )
