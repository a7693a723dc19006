"""An image and its mask as two files: reading them, and telling what is wrong with them.

Pixels are taken as they are stored, as PIL and the published code bases take them: an EXIF orientation is not applied,
since masks have none. Where it decides whether image and mask fit together, the pair is refused; where sizes cannot
tell, `inspect_pair` finds it, and the pass over the data says so. Transparency is dropped.

No torch here: the processes that go through a whole data set start in a moment (see `parallel`).
"""

import warnings
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

from protocols.errors import InputError
from protocols.files import read_bytes

JPEG_END = b"\xff\xd9"
IMAGE_FORMATS, MASK_FORMATS = ("JPEG", "PNG"), ("PNG",)  # no other decoder ever sees a file
MAX_PIXELS = 2**26  # 8192 x 8192: 0.2 GB decoded; the largest image of ADE20K has 5 million
MAX_RATIO = 64  # of the sides: resized to 512 pixels, a thin strip would be as long as it likes
MAX_BYTES = 2**28
DEEP_MODES = ("I", "F")  # how the names of modes of more than 8 bits start: conversion would clip them to white

# What PIL warns of is refused here, in a line that names the file.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class Inspection(NamedTuple):
    """What one pass over an image and its mask finds.

    pixels: of every label value, int64 (256,). digest: sha256 of image and mask. turned: whether the image says that it
    is to be shown turned or mirrored (EXIF), which is not done, since its mask cannot say so.
    """

    pixels: np.ndarray
    digest: bytes
    turned: bool = False


class Unreadable(InputError):
    """A file that is missing, empty, cut short, or no image."""


class ColourMask(InputError):
    """A mask of colours instead of class ids."""


class WrongDepth(InputError):
    """A mask of one channel that is not 8 bits deep."""


class SizeMismatch(InputError):
    """An image and a mask of different sizes."""


def inspect_pair(pair: tuple[Path, Path]) -> Inspection:
    """What is to be known of an image and its mask before any training. Raises one of the errors above, naming the
    file."""
    image_path, mask_path = pair
    image_bytes, mask_bytes = _read(image_path), _read(mask_path)
    # Decoding 10,000 JPEGs to find one that was cut short takes minutes; the end marker tells at once.
    whole = JPEG_END in image_bytes[-64:]
    image = (_open if whole else _decode)(image_path, image_bytes, IMAGE_FORMATS)
    mask = _label_map(mask_path, mask_bytes)
    _same_size(image_path, image, mask_path, mask)
    digest = sha256(sha256(image_bytes).digest() + sha256(mask_bytes).digest()).digest()
    return Inspection(np.bincount(mask.ravel(), minlength=256), digest, _orientation(image) != 1)


def outcome_of_pair(pair: tuple[Path, Path]) -> Inspection | InputError:
    """`inspect_pair`, with what it raises as a value: for passes that go on after a fault."""
    try:
        return inspect_pair(pair)
    except InputError as fault:
        return fault


def load_pair(image_path: Path, mask_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 (H, W, 3) in RGB and mask uint8 (H, W) of class ids. Raises one of the errors above."""
    image = _decode(image_path, _read(image_path), IMAGE_FORMATS)
    mask = read_label_map(mask_path)
    _same_size(image_path, image, mask_path, mask)
    return np.array(image.convert("RGB")), mask


def read_label_map(path: Path) -> np.ndarray:
    """Class ids, uint8 (H, W), of an 8-bit palette or grey image. Raises InputError, naming the file, for any other."""
    return _label_map(path, _read(path))


def label_map_shape(path: Path) -> tuple[int, int]:
    """Height and width of a mask, from its header. Raises InputError, naming the file, for what is no such image."""
    mask = _open(path, _read(path), MASK_FORMATS)
    return mask.height, mask.width


def unreadable(path: Path, error: OSError) -> Unreadable:
    """What to say of a file that cannot be opened."""
    return Unreadable(f"{path} cannot be read ({error.strerror}): copy it again")


def _read(path: Path) -> bytes:
    try:
        content = read_bytes(path, MAX_BYTES)
    except OSError as error:
        raise unreadable(path, error) from error
    if not content:
        raise Unreadable(f"{path} is empty: copy it again")
    return content


def _open(path: Path, content: bytes, formats: tuple[str, ...]) -> Image.Image:
    """Reads the header only."""
    try:
        image = Image.open(BytesIO(content), formats=formats)
    except Image.DecompressionBombError as error:
        raise Unreadable(f"{path} claims more than {MAX_PIXELS} pixels: replace it") from error
    except Exception as error:  # PIL's decoders fail in many ways
        raise Unreadable(f"{path} is not an image ({' or '.join(formats)}), or broken: copy it again") from error
    if image.width * image.height > MAX_PIXELS:
        raise Unreadable(f"{path} claims {image.width}x{image.height}, more than {MAX_PIXELS} pixels: replace it")
    if max(image.size) > MAX_RATIO * min(image.size):
        raise Unreadable(
            f"{path} is {image.width}x{image.height}, more than {MAX_RATIO} times as long as wide: replace it"
        )
    if image.mode.startswith(DEEP_MODES) and formats is IMAGE_FORMATS:
        raise Unreadable(f"{path} has more than 8 bits a channel: convert it to 8 bits")
    return image


def _decode(path: Path, content: bytes, formats: tuple[str, ...]) -> Image.Image:
    image = _open(path, content, formats)
    try:
        image.load()
    except Exception as error:  # as above
        raise Unreadable(f"{path} is truncated or broken ({error}): copy it again") from error
    return image


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; 1 where there is none, or none that can be read."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # EXIF is a format of its own inside the image; broken, it turns nothing
        return 1
    return value if value in range(2, 9) else 1


def _label_map(path: Path, content: bytes) -> np.ndarray:
    """Class ids, uint8 (H, W): the indices of a palette image, or the values of an 8-bit grey one."""
    mask = _decode(path, content, MASK_FORMATS)
    if mask.mode not in ("P", "L"):
        deep = mask.mode.startswith("I")
        raise (WrongDepth if deep or mask.mode == "1" else ColourMask)(
            f"{path} is a {'16-bit' if deep else mask.mode} mask: "
            "masks must be 8-bit palette or grey images whose values are class ids"
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
    raise SizeMismatch(
        f"{mask_path} is {width}x{height} but its image {image_path.name} is {image.width}x{image.height}: {fix}"
    )
