"""Trees of tiny images in the layout of the real data sets, whose masks hold the classes that a list gives them."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

Classes = dict[str, tuple[int, ...]]  # class ids of every image by its name, in order


def read_classes(path: Path) -> Classes:
    """A list of the reference data: an image a line, then its classes counted from 0."""
    rows = (line.split() for line in path.read_text().splitlines())
    return {name: tuple(int(number) + 1 for number in numbers) for name, *numbers in rows}


def jpeg(width: int, height: int = 2) -> bytes:
    """A grey RGB JPEG."""
    return _encoded(Image.new("RGB", (width, height), (90, 120, 60)), "JPEG")


def mask_of(ids: tuple[int, ...], height: int = 2) -> np.ndarray:
    """A column of each of the class ids after one of background, uint8 (height, len(ids) + 1)."""
    return np.tile(np.array((0, *ids), dtype=np.uint8), (height, 1))


def png(ids: tuple[int, ...]) -> bytes:
    """`mask_of` as a palette PNG."""
    mask = Image.fromarray(mask_of(ids))
    mask.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
    return _encoded(mask, "PNG")


def write_voc(folder: Path, train: Classes, val: Classes) -> Path:
    """VOC2012 with SegmentationClassAug, train_aug.txt and val.txt, as it is used."""
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for file, classes in (("train_aug.txt", train), ("val.txt", val)):
        (lists / file).write_text("".join(f"{name}\n" for name in classes))
    _write_pairs(folder / "JPEGImages", folder / "SegmentationClassAug", {**train, **val})
    return folder


def write_ade(folder: Path, train: Classes, val: Classes) -> Path:
    """ADEChallengeData2016."""
    for split, classes in (("training", train), ("validation", val)):
        _write_pairs(folder / "images" / split, folder / "annotations" / split, classes)
    return folder


def _write_pairs(images: Path, masks: Path, classes: Classes) -> None:
    jpegs: dict[int, bytes] = {}
    for folder in (images, masks):
        folder.mkdir(parents=True)
    for name, ids in classes.items():
        width = len(ids) + 1
        if width not in jpegs:
            jpegs[width] = jpeg(width)
        (images / f"{name}.jpg").write_bytes(jpegs[width])
        (masks / f"{name}.png").write_bytes(png(ids))


def voc_tar(path: Path, train: Classes, val: Classes, others: Classes) -> Path:
    """VOC's own archive: images of all, masks and lists of its own train and val."""
    files = {f"JPEGImages/{name}.jpg": jpeg(len(ids) + 1) for name, ids in {**train, **val, **others}.items()}
    files |= {f"SegmentationClass/{name}.png": png(ids) for name, ids in {**train, **val}.items()}
    for file, classes in (("train.txt", train), ("val.txt", val)):
        files[f"ImageSets/Segmentation/{file}"] = "".join(f"{name}\n" for name in classes).encode()
    return _tar(path, "w", {f"VOCdevkit/VOC2012/{name}": content for name, content in files.items()})


def sbd_tgz(path: Path, train: Classes, val: Classes) -> Path:
    """SBD's archive: .mat files with GTcls, a list of each split, and images, which nobody needs."""
    files = {"img/unneeded.jpg": jpeg(3)}
    for file, classes in (("train.txt", train), ("val.txt", val)):
        files[file] = "".join(f"{name}\n" for name in classes).encode()
        files |= {f"cls/{name}.mat": sbd_mat(mask_of(ids)) for name, ids in classes.items()}
    return _tar(path, "w:gz", {f"benchmark_RELEASE/dataset/{name}": content for name, content in files.items()})


def sbd_mat(ids: np.ndarray) -> bytes:
    """One of SBD's .mat files: a struct GTcls with a field Segmentation."""
    buffer = io.BytesIO()
    savemat(buffer, {"GTcls": {"Segmentation": ids, "CategoriesPresent": np.unique(ids)}}, do_compression=True)
    return buffer.getvalue()


def ade_zip(path: Path, train: Classes, val: Classes) -> Path:
    """ADE20K's archive."""
    with zipfile.ZipFile(path, "w") as archive:
        for split, classes in (("training", train), ("validation", val)):
            for name, ids in classes.items():
                archive.writestr(f"ADEChallengeData2016/images/{split}/{name}.jpg", jpeg(len(ids) + 1))
                archive.writestr(f"ADEChallengeData2016/annotations/{split}/{name}.png", png(ids))
    return path


def _tar(path: Path, kind: str, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, kind) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()
