"""Images, masks and lists of any content: read, or refused in one line that names the file, in bounded memory."""

import os
import struct
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.data.base import open_data
from bench.data.pairs import MAX_PIXELS, read_label_map
from bench.data.presence import presence
from protocols import InputError
from tests.unit.test_data_folder import SIZE, jpeg, make_voc, png

NAME = "2007_000001"
pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # as bench.data.pairs does


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def oriented(value: int, size: tuple[int, int] = SIZE) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    return encoded(Image.new("RGB", size, (90, 0, 0)), "JPEG", exif=exif)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, bits: int = 8, rows: bytes = b"") -> bytes:
    """A grey PNG that claims a size, whatever there is of it."""
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    return make_voc(tmp_path / "VOC2012")


def image_path(voc: Path) -> Path:
    return voc / "JPEGImages" / f"{NAME}.jpg"


def mask_path(voc: Path) -> Path:
    return voc / "SegmentationClassAug" / f"{NAME}.png"


def refused(voc: Path, path: Path) -> str:
    """The line with which data are refused by every reader, which names the file."""
    data = open_data("voc", "train", root=voc)
    lines = set()
    for read in (lambda: data.load(0), lambda: presence(data, voc / "cache")):
        with pytest.raises(InputError) as caught:
            read()
        assert path.name in str(caught.value) and str(caught.value).isprintable()
        lines.add(str(caught.value))
    return lines.pop()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\xff\xd8", "not an image"),
        (b"GIF89a" + bytes(50), "not an image"),
        (encoded(Image.new("RGB", SIZE), "BMP"), "not an image (JPEG or PNG)"),
        (encoded(Image.fromarray(np.full(SIZE[::-1], 40_000, np.uint16)), "PNG"), "more than 8 bits"),
        (png_of(2**31 - 1, 2**31 - 1), "claims more than"),
        (png_of(20_000, 5_000), "claims 20000x5000"),
        (png_of(8_192, 8_193), "claims 8192x8193"),
        (png_of(65_000, 8), "is 65000x8, more than 64 times as long as wide"),
        (png_of(0, 5), "not an image"),
        (png_of(*SIZE), "truncated or broken"),
    ],
)
def test_images_that_are_none(voc: Path, content: bytes, words: str) -> None:
    image_path(voc).write_bytes(content)
    assert words in refused(voc, image_path(voc))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_images_of_every_mode_of_8_bits_become_rgb(voc: Path, mode: str) -> None:
    image_path(voc).write_bytes(encoded(Image.new("RGB", SIZE, (255, 255, 255)).convert(mode), "PNG"))
    image, _ = open_data("voc", "train", root=voc).load(0)
    assert image.shape == (3, *SIZE[::-1]) and (image == 255).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (jpeg(), "not an image (PNG)"),  # its labels would be those of its compression
        (encoded(Image.new("RGBA", SIZE), "PNG"), "RGBA mask"),
        (encoded(Image.new("LA", SIZE), "PNG"), "LA mask"),
        (encoded(Image.new("1", SIZE), "PNG"), "1 mask"),
        (png_of(*SIZE, bits=16, rows=bytes(49 * 81)), "16-bit mask"),
        (png_of(60_000, 60_000), "claims more than"),
        (png_of(8_192, 8_193), "claims 8192x8193"),
        (png_of(65_000, 8), "is 65000x8, more than 64 times as long as wide"),
    ],
)
def test_masks_that_are_none(voc: Path, content: bytes, words: str) -> None:
    mask_path(voc).write_bytes(content)
    assert words in refused(voc, mask_path(voc))
    with pytest.raises(InputError, match=NAME):
        read_label_map(mask_path(voc))


def test_a_bomb_is_refused_by_its_header(voc: Path) -> None:
    """20 kB that would be 90 million pixels."""
    mask_path(voc).write_bytes(png_of(9_500, 9_500, rows=bytes(9_501 * 2_000)))
    tracemalloc.start()
    try:
        assert f"more than {MAX_PIXELS} pixels" in refused(voc, mask_path(voc))
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_pixels_are_taken_as_stored_and_orientations_are_told(voc: Path, tmp_path: Path, capsys) -> None:
    image_path(voc).write_bytes(oriented(3))
    data = open_data("voc", "train", root=voc)
    assert data.load(0)[0].shape == (3, *SIZE[::-1])
    presence(data, tmp_path / "cache")
    (line,) = capsys.readouterr().err.splitlines()
    assert "1 images have an EXIF orientation" in line and NAME in line and "not applied" in line


def test_an_orientation_that_parts_image_and_mask_is_refused(voc: Path) -> None:
    """The mask was drawn over the image as a viewer turns it."""
    image_path(voc).write_bytes(oriented(6))
    mask_path(voc).write_bytes(png((0, 3), size=SIZE[::-1]))
    line = refused(voc, image_path(voc))
    assert "EXIF orientation 6, which is not applied: store it turned" in line and "24x40" in line


def test_an_upright_orientation_is_none(voc: Path, tmp_path: Path, capsys) -> None:
    image_path(voc).write_bytes(oriented(1))
    presence(open_data("voc", "train", root=voc), tmp_path / "cache")
    assert capsys.readouterr().err == ""


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def link_to_nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", [link_to_itself, link_to_nowhere, Path.mkdir, os.mkfifo])
@pytest.mark.parametrize("of", [image_path, mask_path])
def test_what_is_no_file(voc: Path, make, of) -> None:
    of(voc).unlink()
    make(of(voc))
    assert "cannot be read" in refused(voc, of(voc))


def test_a_data_folder_that_links_to_itself(tmp_path: Path) -> None:
    link_to_itself(tmp_path / "loop")
    with pytest.raises(InputError, match="there is no folder"):
        open_data("voc", "train", root=tmp_path / "loop")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\n", b"../../etc/passwd\n", b"a" * 5000, b"\0\n", b" \n\n"])
def test_lists_of_any_content(voc: Path, content: bytes) -> None:
    (voc / "ImageSets" / "Segmentation" / "train_aug.txt").write_bytes(content)
    with pytest.raises(InputError, match="train_aug.txt|is incomplete"):
        open_data("voc", "train", root=voc)


SOUND_IMAGES = [jpeg(), oriented(6), oriented(1), encoded(Image.new("RGBA", SIZE), "PNG")]
SOUND_MASKS = [png((0, 3, 255)), encoded(Image.new("L", SIZE, 7), "PNG")]


@st.composite
def damaged(draw, sound: list[bytes]) -> bytes:
    """A file with some bytes changed, added or cut off; half of the PNGs with checksums that fit again."""
    content = bytearray(draw(st.sampled_from(sound)))
    for place, kind, what in draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 2), st.binary(max_size=6)), max_size=4)
    ):
        content[place : place + (len(what), 0, 1000)[kind]] = what
    return with_checksums(bytes(content)) if draw(st.booleans()) else bytes(content)


def with_checksums(content: bytes) -> bytes:
    """A PNG as far as it has chunks, each with the checksum of its content; anything else as it is."""
    if content[:8] != b"\x89PNG\r\n\x1a\n":
        return content
    made, place = content[:8], 8
    while place + 8 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        made += chunk(content[place + 4 : place + 8], content[place + 8 : place + 8 + length])
        place += 12 + length
    return made


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(image=damaged(SOUND_IMAGES), mask=damaged(SOUND_MASKS))
def test_damage_of_any_kind_is_refused_or_does_no_harm(voc: Path, image: bytes, mask: bytes) -> None:
    image_path(voc).write_bytes(image)
    mask_path(voc).write_bytes(mask)
    data = open_data("voc", "train", root=voc)
    for read in (data.load, data.inspect):
        try:
            found = read(0)
        except InputError as refusal:
            assert NAME in str(refusal) and str(refusal).isprintable()
        else:
            assert read != data.load or found[0].shape[1:] == found[1].shape
