"""Real data in folders: the usual layouts, and every fault a user's copy can have, named with its file."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import protocols
from bench.data.base import SegmentationData, open_data
from bench.data.presence import presence
from protocols import InputError

SIZE = (40, 24)  # width, height


def jpeg(size: tuple[int, int] = SIZE, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return encoded(Image.fromarray(pixels), "JPEG")


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def png(labels: tuple[int, ...], size: tuple[int, int] = SIZE) -> bytes:
    """A palette mask whose columns take the labels in turn."""
    columns = np.array(labels, dtype=np.uint8)[np.arange(size[0]) % len(labels)]
    mask = Image.fromarray(np.broadcast_to(columns, (size[1], size[0])).copy())
    mask.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
    return encoded(mask, "PNG")


def make_voc(root: Path, lists: str = "ImageSets/Segmentation") -> Path:
    """Two training images and one validation image in VOC's layout."""
    for folder in ("JPEGImages", "SegmentationClassAug", lists):
        (root / folder).mkdir(parents=True)
    masks = {"2007_000001": (0, 3, 255), "2007_000002": (0, 15, 20), "2007_000003": (7,)}
    for seed, (name, labels) in enumerate(masks.items()):
        (root / "JPEGImages" / f"{name}.jpg").write_bytes(jpeg(seed=seed))
        (root / "SegmentationClassAug" / f"{name}.png").write_bytes(png(labels))
    (root / lists / "train_aug.txt").write_text("2007_000001\n2007_000002\n")
    (root / lists / "val.txt").write_text("2007_000003\n")
    return root


def make_ade(root: Path) -> Path:
    for split, count in (("training", 2), ("validation", 1)):
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True)
        for i in range(count):
            name = f"ADE_{split}_{i:08d}"
            (root / "images" / split / f"{name}.jpg").write_bytes(jpeg(seed=i))
            (root / "annotations" / split / f"{name}.png").write_bytes(png((0, 150 - i)))
    return root


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    return make_voc(tmp_path / "VOC2012")


@pytest.fixture
def ade(tmp_path: Path) -> Path:
    return make_ade(tmp_path / "ADEChallengeData2016")


def refusal(data: SegmentationData, tmp_path: Path) -> str:
    """The one line with which a pass over the data refuses them; nothing is left behind."""
    with pytest.raises(InputError) as caught:
        presence(data, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("lists", ["ImageSets/Segmentation", "ImageSets"])
@pytest.mark.parametrize("around", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_voc_is_found_in_its_usual_layouts(tmp_path: Path, lists: str, around: str) -> None:
    make_voc(tmp_path / around, lists)
    data = open_data("voc", "train", root=tmp_path)
    assert data.ids == ("2007_000001", "2007_000002")
    image, mask = data.load(0)
    assert (tuple(image.shape), tuple(mask.shape)) == ((3, 24, 40), (24, 40))
    assert mask[5, :6].tolist() == [0, 3, 255, 0, 3, 255]
    assert open_data("voc", "val", root=tmp_path).ids == ("2007_000003",)


def test_an_image_keeps_its_rows_and_channels(voc: Path) -> None:
    pixels = np.zeros((24, 40, 3), dtype=np.uint8)
    pixels[:12, :, 0] = 250
    (voc / "JPEGImages" / "2007_000001.jpg").write_bytes(encoded(Image.fromarray(pixels), "JPEG"))
    image, _ = open_data("voc", "train", root=voc).load(0)
    assert image[0, 2, 20] > 240 and image[0, 20, 20] < 10 and image[1:, 2, 20].max() < 10


def test_a_grey_image_becomes_rgb(voc: Path) -> None:
    grey = Image.new("L", SIZE, 77)
    (voc / "JPEGImages" / "2007_000001.jpg").write_bytes(encoded(grey, "JPEG"))
    image, _ = open_data("voc", "train", root=voc).load(0)
    assert tuple(image.shape) == (3, 24, 40) and (image == 77).all()


def test_lists_may_hold_the_paths_of_image_and_mask(voc: Path) -> None:
    path = voc / "ImageSets" / "Segmentation" / "train_aug.txt"
    path.write_text("/JPEGImages/2007_000002.jpg /SegmentationClassAug/2007_000002.png\n\n")
    assert open_data("voc", "train", root=voc).ids == ("2007_000002",)


@pytest.mark.parametrize("inside", [True, False])
def test_ade_is_found_in_its_usual_layout(ade: Path, tmp_path: Path, inside: bool) -> None:
    data = open_data("ade", "train", root=ade if inside else tmp_path, label_space="ade")
    assert data.ids == ("ADE_training_00000000", "ADE_training_00000001")
    assert data.load(1)[1][0, :2].tolist() == [0, 149]
    matrix = presence(data, tmp_path / "cache").matrix
    assert matrix.shape == (2, 151)
    assert np.argwhere(matrix).tolist() == [[0, 0], [0, 150], [1, 0], [1, 149]]


def test_presence_of_voc_leaves_void_out(voc: Path, tmp_path: Path) -> None:
    found = presence(open_data("voc", "train", root=voc), tmp_path / "cache")
    assert found.matrix.shape == (2, 21) and found.matrix.dtype == bool
    assert np.argwhere(found.matrix).tolist() == [[0, 0], [0, 3], [1, 0], [1, 15], [1, 20]]


def test_the_digest_follows_content_not_time_or_place(tmp_path: Path) -> None:
    one, two = (open_data("voc", "train", root=make_voc(tmp_path / name)) for name in "ab")
    first = presence(one, tmp_path / "cache")
    assert presence(two, tmp_path / "cache").digest == first.digest
    (tmp_path / "b" / "JPEGImages" / "2007_000002.jpg").write_bytes(jpeg(seed=99))
    changed = open_data("voc", "train", root=tmp_path / "b")
    assert presence(changed, tmp_path / "cache").digest != first.digest


@pytest.mark.parametrize(
    ("name", "breakage", "words"),
    [
        ("voc", None, ["data.root=", "--track demo"]),
        ("ade", None, ["data.root=", "--track demo"]),
        ("voc", "nowhere", ["nowhere", "data.root=", "--track demo"]),
        ("voc", "JPEGImages", ["JPEGImages", "data.root="]),
        ("voc", "SegmentationClassAug", ["SegmentationClassAug", "SBD"]),
        ("voc", "ImageSets/Segmentation/train_aug.txt", ["train_aug.txt", "ImageSets/Segmentation"]),
        ("voc", "JPEGImages/2007_000002.jpg", ["JPEGImages", "1 of 2", "2007_000002.jpg"]),
        ("voc", "SegmentationClassAug/2007_000001.png", ["1 of 2", "2007_000001.png"]),
        ("ade", "images", ["images", "data.root="]),
        ("ade", "annotations/training", ["annotations/training"]),
        ("ade", "annotations/training/ADE_training_00000001.png", ["ADE_training_00000001.png"]),
    ],
)
def test_what_is_missing_is_named(voc: Path, ade: Path, name: str, breakage: str | None, words: list[str]) -> None:
    root: Path | None = {"voc": voc, "ade": ade}[name]
    if breakage is None:
        root = None
    elif breakage == "nowhere":
        root = voc / breakage
    else:
        (root / breakage).rename(root / "elsewhere")
    with pytest.raises(InputError) as caught:
        open_data(name, "train", root=root, label_space=name)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("content", "word"), [("", "empty"), ("2007_000001\n2007_000001\n", "twice")])
def test_a_list_that_makes_no_sense_is_refused(voc: Path, content: str, word: str) -> None:
    (voc / "ImageSets" / "Segmentation" / "train_aug.txt").write_text(content)
    with pytest.raises(InputError, match=f"train_aug.txt.* {word}"):
        open_data("voc", "train", root=voc)


@pytest.mark.parametrize("keep", [0, 10, 0.6, -2])
def test_a_truncated_jpeg_is_found(voc: Path, tmp_path: Path, keep: float) -> None:
    path = voc / "JPEGImages" / "2007_000002.jpg"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else int(keep)])
    data = open_data("voc", "train", root=voc)
    assert str(path) in refusal(data, tmp_path)
    with pytest.raises(InputError, match=path.name):
        data.load(1)


def test_bytes_after_the_end_of_a_jpeg_are_no_fault(voc: Path, tmp_path: Path) -> None:
    path = voc / "JPEGImages" / "2007_000002.jpg"
    path.write_bytes(path.read_bytes() + b"\0" * 500)
    assert presence(open_data("voc", "train", root=voc), tmp_path / "cache").matrix.any()


BROKEN_MASKS = {
    "another size": (png((0, 3), size=(24, 40)), ["24x40", "40x24", "2007_000002.jpg"]),
    "unknown label": (png((0, 15, 21)), ["unknown label 21", "0 to 20 and 255"]),
    "16 bits": (encoded(Image.fromarray(np.full((24, 40), 3, np.uint16)), "PNG"), ["16-bit", "palette"]),
    "RGB": (encoded(Image.new("RGB", SIZE, (128, 0, 0)), "PNG"), ["RGB", "palette"]),
    "truncated": (png((0, 3))[:-30], ["truncated or broken"]),
    "no image": (b"mask", ["not an image"]),
    "empty": (b"", ["is empty"]),
}


@pytest.mark.parametrize("fault", BROKEN_MASKS)
def test_a_broken_mask_is_found(voc: Path, tmp_path: Path, fault: str) -> None:
    content, words = BROKEN_MASKS[fault]
    path = voc / "SegmentationClassAug" / "2007_000002.png"
    path.write_bytes(content)
    message = refusal(open_data("voc", "train", root=voc), tmp_path)
    assert str(path) in message
    assert all(word in message for word in words), message


def test_ade_has_no_void(ade: Path, tmp_path: Path) -> None:
    """255 in an ADE mask is a mask whose labels were shifted by one: training on it would be silently wrong."""
    (ade / "annotations" / "training" / "ADE_training_00000000.png").write_bytes(png((255, 0, 1)))
    message = refusal(open_data("ade", "train", root=ade, label_space="ade"), tmp_path)
    assert "ADE_training_00000000.png holds the unknown label 255: labels of ade are 0 to 150;" in message


def test_unknown_names_are_refused_with_the_choices(voc: Path) -> None:
    with pytest.raises(InputError, match="unknown data 'vok'.*voc"):
        open_data("vok", "train", root=voc)
    with pytest.raises(InputError, match="unknown split 'test'.*val"):
        open_data("voc", "test", root=voc)
    with pytest.raises(InputError, match="cannot serve a ade protocol|cannot serve an ade protocol"):
        open_data("voc", "train", root=voc, label_space="ade")


def test_the_fingerprint_changes_with_a_file(voc: Path) -> None:
    data = open_data("voc", "train", root=voc)
    before = data.fingerprint()
    assert open_data("voc", "train", root=voc).fingerprint() == before
    (voc / "SegmentationClassAug" / "2007_000002.png").write_bytes(png((0, 15, 20, 4)))
    assert data.fingerprint() != before


def test_real_voc_images(shared: Path, tmp_path: Path) -> None:
    """Steps of voc_15-1 on a small cut of VOC without aeroplanes."""
    data = open_data("voc", "train", root=shared / "voc_mini")
    assert (len(data), len(open_data("voc", "val", root=shared / "voc_mini"))) == (484, 126)
    image, mask = data.load(0)
    assert min(image.shape[1:]) == 256 and image.shape[1:] == mask.shape
    images = presence(data, tmp_path).matrix.sum(axis=0)
    assert images[1] == 0 and images[15] == 233 and (images[2:] > 0).all()
    matrix = presence(data, tmp_path).matrix
    protocol = protocols.load("voc_15-1")
    counts = [len(protocols.step_images(matrix, step, "overlapped")) for step in protocol.steps]
    assert counts[1:] == images[16:].tolist() and counts[0] <= 484


def test_real_voc_image_classes_are_those_of_the_published_list(shared: Path, tmp_path: Path) -> None:
    data = open_data("voc", "val", root=shared / "voc_mini")
    matrix = presence(data, tmp_path).matrix
    published = {}
    for line in (shared / "lists" / "voc_val_classes.txt").read_text().splitlines():
        name, *classes = line.split()
        published[name] = {int(number) + 1 for number in classes}
    for name, row in zip(data.ids, matrix, strict=True):
        assert set(np.flatnonzero(row[1:]) + 1) <= published[name]
