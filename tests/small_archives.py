"""Small archives of VOC, SBD and ADE20K in the published layout, a server for them, and what comes out of them."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data import download, sources
from bench.data.expected import PUBLISHED, Published, names_digest
from bench.data.sources import Archive
from tests import trees
from tests.http_files import Files, serving

# SBD holds images of all of VOC's lists, and its own two splits do not respect them, as in the published archives.
OWN_TRAIN = {"2007_000001": (3,), "2007_000002": (15, 20)}
OWN_VAL = {"2007_000003": (7,), "2007_000004": (1, 2)}
SBD_TRAIN = {"2007_000001": (4,), "2007_000003": (8,), "2008_000005": (9, 10)}
SBD_VAL = {"2007_000004": (2,), "2008_000006": (11,), "2008_000007": (5, 6)}
TRAIN_AUG = ["2007_000001", "2007_000002", "2008_000005", "2008_000006", "2008_000007"]
ADE = ({f"ADE_train_0000000{i}": (i, 150) for i in (1, 2, 3)}, {"ADE_val_00000001": (7,)})
VOC, MERGED = "data/VOCdevkit/VOC2012", "SegmentationClassAug and train_aug.txt"
VOC_TAR, SBD_TGZ, ADE_ZIP = "VOCtrainval_11-May-2012.tar", "benchmark.tgz", "ADEChallengeData2016.zip"


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    """A folder with the three archives, small."""
    folder = tmp_path / "archives"
    folder.mkdir()
    others = {name: ids for name, ids in {**SBD_TRAIN, **SBD_VAL}.items() if name.startswith("2008")}
    trees.voc_tar(folder / VOC_TAR, OWN_TRAIN, OWN_VAL, others)
    trees.sbd_tgz(folder / SBD_TGZ, SBD_TRAIN, SBD_VAL)
    trees.ade_zip(folder / ADE_ZIP, *ADE)
    return folder


@pytest.fixture
def server(archives: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    """The same behind a server that stands for the official ones."""
    with serving({path.name: path.read_bytes() for path in archives.iterdir()}) as files:
        for function, file in (("voc_archive", VOC_TAR), ("sbd_archive", SBD_TGZ), ("ade_archive", ADE_ZIP)):
            content = (archives / file).read_bytes()
            made = Archive(file, (f"{files.url}/{file}",), "md5", hashlib.md5(content).hexdigest(), len(content), 10**6)
            monkeypatch.setattr(sources, function, lambda made=made: made)
        for name, splits in {"voc": (TRAIN_AUG, OWN_VAL), "ade": ADE}.items():
            published = [Published(len(ids), names_digest(ids)) for ids in splits]
            monkeypatch.setitem(PUBLISHED, name, dict(zip(("train", "val"), published, strict=True)))
        monkeypatch.setattr(download, "PAUSE", 0.0)
        monkeypatch.setattr(download, "BLOCK", 2000)
        yield files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def ids_of(path: Path) -> list[int]:
    with Image.open(path) as mask:
        assert mask.mode == "P"
        return np.array(mask)[0].tolist()


def assert_voc(folder: Path) -> None:
    masks = folder / "SegmentationClassAug"
    assert names(masks) == [f"{name}.png" for name in sorted({*TRAIN_AUG, *OWN_VAL})]
    assert (folder / "ImageSets" / "Segmentation" / "train_aug.txt").read_text().split() == TRAIN_AUG
    for name, ids in {**OWN_TRAIN, **OWN_VAL}.items():  # VOC's own, though SBD says something else
        assert (masks / f"{name}.png").read_bytes() == trees.png(ids)
    assert ids_of(masks / "2008_000005.png") == [0, 9, 10]
    assert ids_of(masks / "2008_000006.png") == [0, 11]


@pytest.fixture
def whole(server: Files, archives: Path, tmp_path: Path) -> tuple[Path, Path]:
    """VOC without SBD and ADE20K, as they come out of their archives, and a server that has not been asked."""
    for file in (VOC_TAR, ADE_ZIP):
        shutil.unpack_archive(archives / file, tmp_path / "data")
    return tmp_path / "data/VOCdevkit/VOC2012", tmp_path / "data/ADEChallengeData2016"


@pytest.fixture
def merged(whole: tuple[Path, Path]) -> Path:
    """VOC with SegmentationClassAug and train_aug.txt."""
    voc = whole[0]
    (voc / "SegmentationClassAug").mkdir()
    for name, ids in {**SBD_TRAIN, **SBD_VAL, **OWN_TRAIN, **OWN_VAL}.items():
        (voc / "SegmentationClassAug" / f"{name}.png").write_bytes(trees.png(ids))
    (voc / "ImageSets/Segmentation/train_aug.txt").write_text("\n".join(TRAIN_AUG))
    return voc
