"""`bench data check` and `index`: the published data as tiny trees, and every usual fault called by its name."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data.base import open_data
from bench.data.expected import PUBLISHED, Published, count_steps, names_digest
from bench.data.presence import presence
from tests import trees

TRAIN = {"2007_000001": (3,), "2008_000002": (15, 20), "2008_000005": (9, 10), "2008_000006": (11,)}
VAL = {"2007_000003": (7,), "2007_000004": (1, 2)}


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """A small cut of VOC, sound."""
    return trees.write_voc(tmp_path / "data" / "VOC2012", TRAIN, VAL)


@pytest.fixture
def ade(tmp_path: Path) -> Path:
    train = {f"ADE_train_{i:08d}": (i, 150) for i in (1, 2, 3)}
    return trees.write_ade(tmp_path / "data" / "ADEChallengeData2016", train, {"ADE_val_00000001": (7,)})


def check(bench, name: str, *more: str) -> tuple[int, list[str], str]:
    """Exit code, the lines that name faults, standard error."""
    code, out, err = bench("data", "check", name, *more)
    return code, [line for line in out.splitlines() if line.startswith("FAULT")], err


def only_fault(bench, name: str = "voc", *more: str) -> str:
    code, faults, err = check(bench, name, "--subset", *more)
    assert code == 2 and len(faults) == 1 and " -> " in faults[0]
    assert err.startswith("bench: ") and err.count("\n") == 1 and faults[0].split(":")[0].split(maxsplit=1)[1] in err
    return faults[0]


@pytest.mark.parametrize("name", ["voc", "ade"])
def test_a_sound_cut_has_no_fault_and_is_indexed(bench, voc: Path, ade: Path, tmp_path: Path, name: str) -> None:
    code, faults, err = check(bench, name, "--subset")
    assert (code, faults, err) == (0, [], "")
    code, out, _ = bench("data", "index", name)
    assert code == 0 and out.count("indexed before, nothing has changed since") == 2
    data = open_data(name, "train", "data", label_space=name)
    assert f"digest {presence(data, tmp_path / 'elsewhere').digest[:16]}" in out.splitlines()[0]


def test_a_cut_is_a_fault_unless_it_is_meant(bench, voc: Path) -> None:
    code, faults, _ = check(bench, "voc")
    assert code == 2 and len(faults) == 2
    assert "train: 4 images, not 10,582" in faults[0] and "--subset" in faults[0] and "not 1,449" in faults[1]


def own_list(voc: Path) -> None:
    lists = voc / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("2007_000001\n")
    (lists / "train_aug.txt").write_text("2007_000001\n")


def no_masks(voc: Path) -> None:
    (voc / "SegmentationClassAug").rename(voc / "SegmentationClass")


def no_list(voc: Path) -> None:
    (voc / "ImageSets" / "Segmentation" / "train_aug.txt").unlink()


def own_masks_alone(voc: Path) -> None:
    for name in list(TRAIN)[1:]:
        (voc / "SegmentationClassAug" / f"{name}.png").unlink()


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize(
    ("breakage", "words", "away"),
    [
        (own_list, "names VOC's own 1 images alone", True),
        (no_masks, "there is no SegmentationClassAug", False),
        (no_list, "there is no train_aug.txt", False),
        (own_masks_alone, "3 of 4 training masks are not in SegmentationClassAug", True),
    ],
)
def test_missing_sbd_is_called_by_its_name(bench, voc: Path, breakage, words: str, away: bool, own: bool) -> None:
    breakage(voc)
    if own:  # nothing but these masks can be merged with SBD
        (voc / "SegmentationClass").mkdir(exist_ok=True)
    fault = only_fault(bench)
    what = "SegmentationClassAug and train_aug.txt" if own else Path("data", "VOC2012")
    mend = f" -> {f'move {what} away, then ' if away else ''}`bench data get voc data.root=data`"
    assert fault.startswith("FAULT  SBD missing: ") and words in fault and mend in fault


def test_rgb_masks_are_called_by_their_name(bench, voc: Path) -> None:
    for name in ("2008_000002", "2008_000006"):
        path = voc / "SegmentationClassAug" / f"{name}.png"
        Image.open(path).convert("RGB").save(path)
    fault = only_fault(bench)
    assert "RGB masks: 2 of 4 train pairs hold colours instead of class ids, 2008_000002 first" in fault
    assert "palette PNGs" in fault


def test_overlap_of_train_and_val_is_called_by_its_name(bench, voc: Path) -> None:
    with (voc / "ImageSets" / "Segmentation" / "train_aug.txt").open("a") as file:
        file.write("2007_000004\n2007_000003\n")
    fault = only_fault(bench)
    assert "train/val overlap: 2 images are in train and in val, 2007_000003 first -> remove them from" in fault
    _, out, _ = bench("data", "check", "voc", "--subset", "--all")
    assert [line.strip() for line in out.splitlines() if line.startswith("    ")] == ["2007_000003", "2007_000004"]


def test_overlap_in_ade(bench, ade: Path) -> None:
    for kind, ending in (("images", "jpg"), ("annotations", "png")):
        content = (ade / kind / "validation" / f"ADE_val_00000001.{ending}").read_bytes()
        (ade / kind / "training" / f"ADE_val_00000001.{ending}").write_bytes(content)
    assert "train/val overlap: 1 images" in only_fault(bench, "ade")


def write_mask(values: np.ndarray):
    return lambda path: Image.fromarray(values).save(path)


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("voc", write_mask(np.zeros((2, 3), np.uint16)), "mask depth: 1 of 4 train pairs are not 8 bits deep"),
        ("voc", write_mask(np.zeros((3, 2), np.uint8)), "sizes: 1 of 4 train pairs have a mask of another size"),
        ("voc", write_mask(np.full((2, 3), 21, np.uint8)), "labels: 1 of 4 train pairs hold a label that is no class"),
        ("voc", lambda path: path.write_bytes(path.read_bytes()[:40]), "broken files: 1 of 4 train pairs"),
        ("voc", lambda path: path.unlink(), "missing masks: 1 of 4 train masks"),
        ("ade", write_mask(np.full((2, 3), 255, np.uint8)), "255 in all of them means that 1 was subtracted"),
    ],
)
def test_every_other_fault_is_named_with_its_first_file(
    bench, voc: Path, ade: Path, name: str, damage, words: str
) -> None:
    file = {
        "voc": voc / "SegmentationClassAug/2008_000002.png",
        "ade": ade / "annotations/training/ADE_train_00000001.png",
    }
    damage(file[name])
    fault = only_fault(bench, name)
    assert words in fault and f"{file[name].stem}" in fault
    code, _, err = bench("data", "index", name)
    assert code == 2 and file[name].name in err


def test_steps_are_not_counted_without_all_files(bench, voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = [Published(len(ids), names_digest(ids)) for ids in (TRAIN, VAL)]
    monkeypatch.setitem(PUBLISHED, "voc", dict(zip(("train", "val"), published, strict=True)))
    code, faults, _ = check(bench, "voc")
    assert code == 2 and len(faults) == 1 and faults[0].startswith("FAULT  steps: ")
    again = f"move {Path('data', 'VOC2012')} away, then `bench data get voc data.root=data`"
    assert faults[0].endswith(f"-> these are masks of another source than VOC and SBD: {again}")
    (voc / "SegmentationClassAug" / "2008_000002.png").unlink()
    code, faults, _ = check(bench, "voc")
    assert code == 2 and len(faults) == 1 and faults[0].startswith("FAULT  missing masks: ")


def test_faults_of_several_kinds_have_a_line_each(bench, voc: Path) -> None:
    masks = voc / "SegmentationClassAug"
    Image.open(masks / "2008_000002.png").convert("RGB").save(masks / "2008_000002.png")
    (masks / "2008_000005.png").write_bytes(b"")
    (masks / "2007_000003.png").unlink()
    code, faults, err = check(bench, "voc", "--subset")
    kinds = [fault.split(":")[0].removeprefix("FAULT  ") for fault in faults]
    assert code == 2 and sorted(kinds) == ["RGB masks", "broken files", "missing masks"]
    assert all(kind in err for kind in kinds)


def test_a_folder_of_something_else_is_said_in_one_line(bench, tmp_path: Path) -> None:
    code, out, err = bench("data", "check", "voc", f"data.root={tmp_path}")
    assert code == 2 and not out and "holds no JPEGImages" in err and "bench data get voc" in err


def test_voc_as_tiny_images_passes_and_one_wrong_mask_does_not(bench, shared, tmp_path: Path) -> None:
    train, val = (trees.read_classes(shared / "lists" / f"voc_{split}_classes.txt") for split in ("train", "val"))
    root = trees.write_voc(tmp_path / "data" / "VOC2012", train, val)
    code, out, err = bench("data", "check", "voc")
    assert (code, err) == (0, "")
    assert "train: 10,582 images, the published ones" in out and "val: 1,449 images, the published ones" in out
    assert "all 202 steps of 12 usual protocols, overlapped and disjoint, have their images" in out
    image, ids = next((name, (*ids, 17)) for name, ids in train.items() if ids == (16,))  # a sheep beside a plant
    (root / "SegmentationClassAug" / f"{image}.png").write_bytes(trees.png(ids))
    (root / "JPEGImages" / f"{image}.jpg").write_bytes(trees.jpeg(3))
    code, (fault,), _ = check(bench, "voc")
    assert code == 2 and "(sheep)" in fault and "300 images instead of 299" in fault


@pytest.mark.parametrize(("name", "n_classes", "steps"), [("voc", 20, 202), ("ade", 150, 56)])
def test_the_published_lists_have_the_published_names_and_steps(shared, name: str, n_classes: int, steps: int) -> None:
    for split, published in PUBLISHED[name].items():
        classes = trees.read_classes(shared / "lists" / f"{name}_{split}_classes.txt")
        assert (len(classes), names_digest(classes)) == (published.images, published.names)
        assert names_digest(reversed(classes)) == published.names != names_digest(list(classes)[1:])
    classes = trees.read_classes(shared / "lists" / f"{name}_train_classes.txt")
    matrix = np.zeros((len(classes), n_classes + 1), dtype=bool)
    for row, ids in zip(matrix, classes.values(), strict=True):
        row[list(ids)] = True
    with (shared / "lists" / "steps.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    listed = [(row["protocol"], row["setting"], int(row["step"]), int(row["train_images"])) for row in rows]
    counts = list(count_steps(name, matrix))
    assert all(count.found == count.expected for count in counts)
    found = {(count.protocol, count.setting, count.step, count.found) for count in counts}
    assert found == {row for row in listed if row[0].startswith(name)} and len(found) == steps
