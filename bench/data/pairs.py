"""An image and its mask as two files: reading them, and telling what is wrong with them.

No torch here: the processes that go through a whole data set start in a moment (see `parallel`).
"""

from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from protocols.errors import InputError

JPEG_END = b"\xff\xd9"

Inspection = tuple[np.ndarray, bytes]  # see `inspect_pair`


class Unreadable(InputError):
    """A file that is missing, empty, cut short, or no image."""


class ColourMask(InputError):
    """A mask of colours instead of class ids."""


class WrongDepth(InputError):
    """A mask of one channel that is not 8 bits deep."""


class SizeMismatch(InputError):
    """An image and a mask of different sizes."""


def inspect_pair(pair: tuple[Path, Path]) -> Inspection:
    """Pixels of every label value, int64 (256,), and the sha256 of a JPEG image and its mask.

    Raises one of the errors above, naming the file.
    """
    image_path, mask_path = pair
    image_bytes, mask_bytes = _read(image_path), _read(mask_path)
    # Decoding 10,000 JPEGs to find one that was cut short takes minutes; the end marker tells at once.
    whole = JPEG_END in image_bytes[-64:]
    image = _open(image_path, image_bytes) if whole else _decode(image_path, image_bytes)
    mask = _label_map(mask_path, mask_bytes)
    _same_size(image_path, image.size, mask_path, mask)
    digest = sha256(sha256(image_bytes).digest() + sha256(mask_bytes).digest()).digest()
    return np.bincount(mask.ravel(), minlength=256), digest


def outcome_of_pair(pair: tuple[Path, Path]) -> Inspection | InputError:
    """`inspect_pair`, with what it raises as a value: for passes that go on after a fault."""
    try:
        return inspect_pair(pair)
    except InputError as fault:
        return fault


def load_pair(image_path: Path, mask_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 (H, W, 3) in RGB and mask uint8 (H, W) of class ids. Raises one of the errors above."""
    image = np.array(_decode(image_path, _read(image_path)).convert("RGB"))
    mask = read_label_map(mask_path)
    _same_size(image_path, (image.shape[1], image.shape[0]), mask_path, mask)
    return image, mask


def read_label_map(path: Path) -> np.ndarray:
    """Class ids, uint8 (H, W), of an 8-bit palette or grey image. Raises InputError, naming the file, for any other."""
    return _label_map(path, _read(path))


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Unreadable(f"{path} cannot be read ({error.strerror}): copy it again") from error
    if not content:
        raise Unreadable(f"{path} is empty: copy it again")
    return content


def _open(path: Path, content: bytes) -> Image.Image:
    """Reads the header only."""
    try:
        return Image.open(BytesIO(content))
    except (OSError, SyntaxError, ValueError) as error:
        raise Unreadable(f"{path} is not an image, or broken: copy it again") from error


def _decode(path: Path, content: bytes) -> Image.Image:
    image = _open(path, content)
    try:
        image.load()
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise Unreadable(f"{path} is truncated or broken ({error}): copy it again") from error
    return image


def _label_map(path: Path, content: bytes) -> np.ndarray:
    """Class ids, uint8 (H, W): the indices of a palette image, or the values of an 8-bit grey one."""
    mask = _decode(path, content)
    if mask.mode not in ("P", "L"):
        deep = mask.mode.startswith("I")
        raise (WrongDepth if deep or mask.mode == "1" else ColourMask)(
            f"{path} is a {'16-bit' if deep else mask.mode} mask: "
            "masks must be 8-bit palette or grey images whose values are class ids"
        )
    return np.array(mask)


def _same_size(image_path: Path, size: tuple[int, int], mask_path: Path, mask: np.ndarray) -> None:
    height, width = mask.shape
    if size != (width, height):
        raise SizeMismatch(
            f"{mask_path} is {width}x{height} but its image {image_path.name} is {size[0]}x{size[1]}: "
            "replace the one that was resized"
        )
