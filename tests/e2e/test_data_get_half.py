"""`bench data get` where something is there already: half a copy, a cut, masks without their list."""

import os
import shutil
from pathlib import Path

import pytest

from tests.http_files import Files
from tests.small_archives import MERGED, TRAIN_AUG, VOC, assert_voc


def listing(folder: Path) -> dict[Path, int]:
    """What is in a folder, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and ".bench" not in path.name}


def refused(bench, server: Files, tmp_path: Path, name: str, away: str) -> str:
    """What `get` says about half a copy: one line, without a request, and nothing in the copy is touched."""
    before = listing(tmp_path)
    code, out, err = bench("data", "get", name)
    assert code == 2 and not out and err.count("\n") == 1 and not server.asked
    assert "is there but not whole (" in err and f"): move {away} away, then run this again" in err
    assert listing(tmp_path) == before
    return err


@pytest.mark.parametrize(
    ("name", "folder", "words"),
    [
        ("voc", "VOCdevkit/VOC2012", "train_aug.txt is missing"),
        ("voc", "VOCdevkit/VOC2012/JPEGImages", "JPEGImages holds 0 files, fewer than 7"),
        ("ade", "ADEChallengeData2016", "images/training is missing"),
        ("ade", "ADEChallengeData2016/images/training", "annotations/training is missing"),
    ],
)
def test_an_empty_folder_is_not_the_data(bench, server, tmp_path: Path, name: str, folder: str, words: str) -> None:
    (tmp_path / "data" / folder).mkdir(parents=True)
    top = VOC if name == "voc" else "data/ADEChallengeData2016"
    assert words in refused(bench, server, tmp_path, name, top)
    os.renames(tmp_path / top, tmp_path / "away")
    assert bench("data", "get", name)[0] == 0 and "nothing to do" in bench("data", "get", name)[2]


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("images/training/ADE_train_00000002.jpg", "its train has 2 images, not 3"),
        ("images/validation/ADE_val_00000001.jpg", "images/validation holds no .jpg files"),
        ("annotations/training/ADE_train_00000002.png", "1 of 3 train masks are not in"),
        ("annotations/validation/ADE_val_00000001.png", "1 of 1 val masks are not in"),
    ],
)
def test_half_of_ade_is_not_ade(bench, server: Files, whole, tmp_path: Path, lost: str, words: str) -> None:
    (whole[1] / lost).unlink()
    assert words in refused(bench, server, tmp_path, "ade", "data/ADEChallengeData2016")


@pytest.mark.parametrize("lost", ["images", "annotations"])
def test_the_folder_itself_without_one_of_its_two_is_half(bench, server: Files, whole, tmp_path, lost: str) -> None:
    shutil.rmtree(whole[1] / lost)
    code, _, err = bench("data", "get", "ade", f"data.root={whole[1]}")
    assert code == 2 and f"{whole[1]} is there but not whole" in err and f"{lost}/training" in err and not server.asked


@pytest.mark.parametrize(
    ("lost", "words", "away"),
    [
        ("JPEGImages/2008_000006.jpg", "1 of 5 train images are not in", VOC),
        ("JPEGImages/2007_000003.jpg", "1 of 2 val images are not in", VOC),
        ("ImageSets/Segmentation/val.txt", "val.txt is missing", VOC),
        ("SegmentationClassAug/2008_000006.png", "1 of 5 train masks are not in", MERGED),
        ("SegmentationClassAug/2007_000003.png", "1 of 2 val masks are not in", MERGED),
    ],
)
def test_half_of_voc_is_not_voc(
    bench, server: Files, merged: Path, tmp_path: Path, lost: str, words: str, away: str
) -> None:
    (merged / lost).unlink()
    assert words in refused(bench, server, tmp_path, "voc", away)


@pytest.mark.parametrize("own", [True, False])
def test_a_cut_is_not_the_whole_and_stays(bench, server: Files, merged: Path, tmp_path: Path, own: bool) -> None:
    (merged / "ImageSets/Segmentation/train_aug.txt").write_text("2007_000001\n2008_000005\n")
    if not own:
        shutil.rmtree(merged / "SegmentationClass")
    err = refused(bench, server, tmp_path, "voc", MERGED if own else VOC)
    check = "bench data check voc --subset data.root=data"
    assert "its train has 2 images, not 5" in err and f"if it is a cut on purpose, `{check}` checks it" in err
    assert bench(*check.split()[1:])[0] == 0


def test_what_check_says_mends_half_of_voc(bench, server: Files, merged: Path, tmp_path: Path) -> None:
    (merged / "SegmentationClassAug/2008_000006.png").unlink()
    (merged / "ImageSets/Segmentation/train_aug.txt").write_text("2007_000001\n2008_000005\n2008_000006\n")
    code, out, _ = bench("data", "check", "voc")
    mend = f"move {MERGED} away, then `bench data get voc data.root=data`"
    assert code == 2 and f"train: 3 images, not 5 -> {mend}, or give --subset" in out
    assert f"-> copy them there, or {mend}" in out
    for name in ("SegmentationClassAug", "ImageSets/Segmentation/train_aug.txt"):
        (merged / name).rename(tmp_path / Path(name).name)
    assert bench("data", "get", "voc")[0] == 0
    assert_voc(merged)


@pytest.mark.parametrize("half", [False, True])
def test_a_list_that_is_missing_beside_the_masks_is_added(
    bench, server: Files, merged: Path, tmp_path: Path, half: bool
) -> None:
    """As after a kill between the two. The masks are not written again; half of them are none."""
    (merged / "ImageSets/Segmentation/train_aug.txt").unlink()
    if half:
        (merged / "SegmentationClassAug/2008_000006.png").unlink()
        assert "holds 6 files, fewer than 7" in refused(bench, server, tmp_path, "voc", "SegmentationClassAug")
        return
    written = listing(merged / "SegmentationClassAug")
    assert bench("data", "get", "voc")[0] == 0 and server.asked == [None]
    assert (merged / "ImageSets/Segmentation/train_aug.txt").read_text().split() == TRAIN_AUG
    assert listing(merged / "SegmentationClassAug") == written
