"""Predictions as files: written from a run, scored again, and every fault of a folder named."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from results.schema import cells, read_run, read_runs
from tests.e2e.conftest import run_arguments

SHAPES = ["--data", "shapes", "data.val_images=20"]


def only_run(store: Path):
    (run,), problems = read_runs(store)
    assert not problems
    return run


def dump(bench, tmp_path, *more, methods="mib", protocol="voc_10-5") -> Path:
    assert bench(*run_arguments(methods, *more, protocol=protocol))[0] == 0
    code, out, _ = bench("predict", only_run(tmp_path / "runs").path, "--out", "maps")
    assert code == 0 and "written: maps" in out
    return tmp_path / "maps"


@pytest.mark.parametrize("more", [[], ["--setting", "disjoint", "order=random:3"]])
def test_scoring_the_predictions_of_a_run_gives_its_counts_bit_for_bit(bench, tmp_path, more):
    dump(bench, tmp_path, *more)
    own = only_run(tmp_path / "runs")
    same = ["--setting", "disjoint", "--order", "random:3"] if more else []
    code, out, _ = bench("score", "maps", "--protocol", "voc_10-5", *same, *SHAPES, "--name", "theirs", "store=scored")
    assert code == 0 and "theirs" in out and "external track" in out
    scored = only_run(tmp_path / "scored")
    assert sorted(scored.counts) == sorted(own.counts) == [0, 1, 2]
    assert (own.counts[0].sum((0, 1)) > 0).sum() > 1  # predictions are not all of one class
    assert all(np.array_equal(scored.counts[step], own.counts[step]) for step in own.counts)
    assert (scored.path / "counts.npz").read_bytes() == (own.path / "counts.npz").read_bytes()

    manifest = scored.manifest
    assert manifest["track"] == manifest["network"] == manifest["backbone"] == "external" and manifest["external"]
    assert (manifest["method"], manifest["status"], manifest["data"]) == ("theirs", "complete", "shapes")
    for key in ("protocol", "protocol_digest", "setting", "order", "class_names", "step_classes", "evaluation"):
        assert manifest[key] == own.manifest[key]
    stored = pd.read_csv(scored.path / "cells.csv", keep_default_na=False, na_values={"iou": [""]})
    assert (stored[["tp", "fp", "fn"]] == cells(own)[["tp", "fp", "fn"]]).all(axis=None)


def test_joint_training_has_one_folder_and_is_an_upper_bound(bench, tmp_path):
    maps = dump(bench, tmp_path, methods="joint")
    assert [path.name for path in maps.iterdir()] == ["joint"]
    code, out, _ = bench("score", "maps", "--protocol", "voc_10-5", *SHAPES, "--name", "theirs", "store=scored")
    assert code == 0 and "theirs: all classes learned in one step, an upper bound" in out
    own, scored = only_run(tmp_path / "runs"), only_run(tmp_path / "scored")
    assert scored.manifest["single_step"] and not scored.missing_steps
    assert (scored.path / "counts.npz").read_bytes() == (own.path / "counts.npz").read_bytes()

    (maps / "joint").rename(maps / "step_02")
    code, _, err = bench("score", "maps", "--protocol", "voc_10-5", *SHAPES)
    assert code == 2 and "has no folder step_00" in err and "name maps/step_02 joint" in err
    shutil.copytree(maps / "step_02", maps / "joint")
    code, _, err = bench("score", "maps", "--protocol", "voc_10-5", *SHAPES)
    assert code == 2 and "maps/joint lies beside step_02: score joint training apart" in err


def test_an_external_run_is_reported_and_listed_and_shares_no_table_with_others(bench, tmp_path):
    dump(bench, tmp_path)
    bench("score", "maps", "--protocol", "voc_10-5", *SHAPES)
    bench("score", "maps", "--protocol", "voc_10-5", *SHAPES, "seed=1")
    runs, _ = read_runs(tmp_path / "runs")
    assert sorted(run.manifest["method"] for run in runs) == ["maps", "maps", "mib"]  # named after the folder
    code, out, _ = bench("report")
    assert code == 0 and out.count("mIoU (%) at the last step\n") == 2
    assert "0, 1" in out  # seeds of one name are averaged
    assert bench("list", "runs")[1].count("maps_voc_10-5_overlapped") == 2
    code, out, _ = bench("report", "--compare", "published")
    assert code == 0 and "ours are predictions from elsewhere" in out


def test_the_maps_are_palette_images_of_class_ids(bench, tmp_path):
    maps = dump(bench, tmp_path)
    assert sorted(path.name for path in maps.iterdir()) == ["step_00", "step_01", "step_02"]
    files = sorted((maps / "step_02").iterdir())
    assert len(files) == 20 and files[0].name == "shapes_val_00000.png"
    image = Image.open(files[0])
    assert (image.mode, image.size) == ("P", (32, 32))
    assert image.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]  # VOC: background, aeroplane, bicycle


def test_real_images_are_compared_whole_or_as_the_crop_that_the_engine_evaluates(bench, tmp_path, shared):
    root = shared / "voc_mini"
    small = ["--backbone", "deeplab", "--track", "demo", "--data", "voc", f"data.root={root}", "workers=0"]
    lengths = ["train.crop=32", "train.batch=4", "train.base.iterations=2", "train.increment.iterations=2"]
    arguments = ["--methods", "finetune", "--protocol", "voc_19-1", *small, *lengths, "device=cpu", "threads=1"]
    assert bench("run", *arguments)[0] == 0
    own = only_run(tmp_path / "runs")
    bench("predict", own.path, "--out", "maps")
    real = ["--protocol", "voc_19-1", f"data.root={root}"]
    assert bench("score", "maps", *real, "store=scored")[0] == 0
    scored = only_run(tmp_path / "scored")
    assert scored.manifest["evaluation"] == own.manifest["evaluation"]
    assert all(np.array_equal(scored.counts[step], own.counts[step]) for step in own.counts)

    names = [path.stem for path in (tmp_path / "maps" / "step_00").iterdir()]
    masks = {name: np.array(Image.open(root / "SegmentationClassAug" / f"{name}.png")) for name in names}
    for step, unseen in enumerate(([20], [])):
        folder = tmp_path / "perfect" / str(step)
        folder.mkdir(parents=True)
        for name, mask in masks.items():
            Image.fromarray(np.where(np.isin(mask, [255, *unseen]), 0, mask).astype(np.uint8)).save(
                folder / f"{name}.png"
            )
    assert bench("score", "perfect", *real, "store=whole")[0] == 0
    perfect = only_run(tmp_path / "whole")
    assert perfect.manifest["evaluation"] == {"split": "val", "size": "native", "images": len(names)}
    pixels = np.bincount(np.concatenate([mask.ravel() for mask in masks.values()]), minlength=256)[:21]
    assert np.array_equal(perfect.counts[1].sum(0), np.diag(pixels))
    assert perfect.counts[0][:, 20, 0].sum() == pixels[20]

    code, _, err = bench("score", "perfect", *real, "store=crops", "evaluation.size=128")
    assert code == 2 and "not 128x128: at evaluation.size=128" in err and "step_00" not in err
    assert not list((tmp_path / "crops").glob("*/manifest.json"))


@pytest.fixture
def few(tmp_path, shared) -> Path:
    """A VOC tree of 30 training and 9 val images, of several sizes."""
    root, mini = tmp_path / "few", shared / "voc_mini"
    (root / "ImageSets").mkdir(parents=True)
    for folder in ("JPEGImages", "SegmentationClassAug"):
        (root / folder).symlink_to(mini / folder)
    for name, count in (("train_aug", 30), ("val", 9)):
        lines = (mini / "ImageSets" / f"{name}.txt").read_text().splitlines()[:count]
        (root / "ImageSets" / f"{name}.txt").write_text("\n".join(lines))
    return root


def test_whole_images_are_evaluated_predicted_shown_and_scored_at_their_own_size(bench, tmp_path, few):
    lengths = ["train.crop=128", "train.batch=2", "train.base.iterations=1", "train.increment.iterations=1"]
    arguments = ["--methods", "mib", "--protocol", "voc_19-1", "--backbone", "deeplab", "--track", "demo", *lengths]
    arguments += ["--data", "voc", f"data.root={few}", "workers=0", "device=cpu", "threads=1"]
    assert bench("run", *arguments, "evaluation.size=native", "evaluation.batch=4")[0] == 0
    own = only_run(tmp_path / "runs")
    assert own.manifest["evaluation"] == {"split": "val", "size": "native", "images": 9}
    names = [Path(line.split()[0]).stem for line in (few / "ImageSets" / "val.txt").read_text().splitlines()]
    masks = [np.array(Image.open(few / "SegmentationClassAug" / f"{name}.png")) for name in names]
    assert len({mask.shape for mask in masks}) > 2 and max(max(mask.shape) for mask in masks) > 256
    pixels = np.bincount(np.concatenate([mask.ravel() for mask in masks]), minlength=256)
    assert np.array_equal(own.counts[1].sum((0, 2)), pixels[:21])

    assert bench("predict", own.path, "--out", "maps")[0] == 0
    for name, mask in zip(names, masks, strict=True):
        assert np.array(Image.open(tmp_path / "maps" / "step_01" / f"{name}.png")).shape == mask.shape
    assert bench("score", "maps", "--protocol", "voc_19-1", f"data.root={few}", "store=scored")[0] == 0
    scored = only_run(tmp_path / "scored")
    assert scored.manifest["evaluation"] == own.manifest["evaluation"]
    assert all(np.array_equal(scored.counts[step], own.counts[step]) for step in own.counts)
    assert bench("report", "--panels", "2")[0] == 0

    assert bench("run", *arguments)[0] == 0  # squares of the crop: the same networks, other counts
    steps = {run.manifest["evaluation"]["size"]: run.manifest["steps"] for run in read_runs(tmp_path / "runs")[0]}
    assert [step["cache"] for step in steps[128]] == ["hit", "hit"]
    assert all(a["counts_key"] != b["counts_key"] for a, b in zip(steps[128], steps["native"], strict=True))


def test_scenes_are_scored_whole_too(bench, tmp_path):
    dump(bench, tmp_path, "evaluation.size=native", "data.image_size=48")
    own = only_run(tmp_path / "runs")
    code, _, _ = bench(
        "score", "maps", "--protocol", "voc_10-5", *SHAPES, "evaluation.size=native", "store=scored"
    )  # fmt: skip
    scored = only_run(tmp_path / "scored")
    assert code == 0 and scored.manifest["evaluation"] == own.manifest["evaluation"]
    assert own.counts[0].sum() == 20 * 48 * 48
    assert all(np.array_equal(scored.counts[step], own.counts[step]) for step in own.counts)


@pytest.fixture
def folder(bench, tmp_path):
    """Label maps of background for 3 scenes and voc_19-1, from elsewhere."""
    for step in range(2):
        (tmp_path / "maps" / f"step_{step:02d}").mkdir(parents=True)
        for index in range(3):
            Image.fromarray(np.zeros((32, 32), np.uint8)).save(place(tmp_path / "maps", step, index))
    return tmp_path / "maps"


def place(folder: Path, step: int, index: int) -> Path:
    return folder / f"step_{step:02d}" / f"shapes_val_{index:05d}.png"


def arguments(*more: str) -> list[str]:
    return ["score", "maps", "--protocol", "voc_19-1", "--data", "shapes", "data.val_images=3", *more]


def test_all_background_is_all_background(bench, tmp_path, folder):
    assert bench(*arguments())[0] == 0
    run = only_run(tmp_path / "runs")
    assert [counts.shape for counts in run.counts.values()] == [(3, 21, 20), (3, 21, 21)]
    assert all(counts[:, :, 0].sum() == counts.sum() == 3 * 32 * 32 for counts in run.counts.values())
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    assert bench(*arguments())[0] == 0  # again: the same run
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before


@pytest.mark.parametrize("names", [("0", "1"), ("00", "01"), ("step0", "step1"), ("Step-0", "step_1")])
def test_other_names_of_steps_are_understood(bench, tmp_path, folder, names):
    for step, name in enumerate(names):
        (folder / f"step_{step:02d}").rename(folder / f"{name}_")
        (folder / f"{name}_").rename(folder / name)
    (folder / "logs").mkdir()
    assert bench(*arguments())[0] == 0
    assert sorted(only_run(tmp_path / "runs").counts) == [0, 1]


def map_of(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path)


def with_label(label: int) -> np.ndarray:
    pixels = np.zeros((32, 32), np.uint8)
    pixels[5, 7] = label
    return pixels


FAULTS = {
    "a missing step": (lambda f: shutil.rmtree(f / "step_01"), ["maps has no folder step_01", "2 steps"]),
    "a step too many": (lambda f: shutil.copytree(f / "step_01", f / "step_02"), ["step_02 is one step too many"]),
    "a step twice": (lambda f: shutil.copytree(f / "step_01", f / "1"), ["1 and ", "are both step 1"]),
    "a missing image": (
        lambda f: place(f, 1, 2).unlink(),
        ["shapes_val_00002.png is missing", "1 of the 3 val images"],
    ),
    "an unknown image": (
        lambda f: shutil.copy(place(f, 1, 0), f / "step_01" / "2007_000033.png"),
        ["2007_000033.png is no val image"],
    ),
    "a future class": (
        lambda f: map_of(place(f, 0, 2), with_label(20)),
        ["step_00/shapes_val_00002.png holds class 20 (tv monitor), which is learned at step 1"],
    ),
    "no class": (
        lambda f: map_of(place(f, 1, 1), with_label(21)),
        ["step_01/shapes_val_00001.png holds label 21, which is no class id (0 to 20)"],
    ),
    "void": (lambda f: map_of(place(f, 1, 1), with_label(255)), ["shapes_val_00001.png holds label 255"]),
    "another size": (
        lambda f: map_of(place(f, 1, 2), np.zeros((32, 40), np.uint8)),
        ["step_01/shapes_val_00002.png is 40x32, not 32x32", "evaluation.size=32"],
    ),
    "16 bits": (
        lambda f: map_of(place(f, 0, 0), np.zeros((32, 32), np.uint16)),
        ["step_00/shapes_val_00000.png is a 16-bit mask", "8-bit"],
    ),
    "colours": (
        lambda f: map_of(place(f, 0, 1), np.zeros((32, 32, 3), np.uint8)),
        ["step_00/shapes_val_00001.png is a RGB mask"],
    ),
    "a truncated file": (
        lambda f: place(f, 1, 1).write_bytes(place(f, 1, 1).read_bytes()[:40]),
        ["step_01/shapes_val_00001.png", "broken"],
    ),
    "no folder": (lambda f: shutil.rmtree(f), ["there is no folder maps"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_file_and_leaves_no_run(bench, tmp_path, folder, fault):
    spoil, words = FAULTS[fault]
    spoil(folder)
    code, out, err = bench(*arguments())
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert all(word in err for word in words), err
    assert not list((tmp_path / "runs").glob("*/*.json")) and not list((tmp_path / "runs").glob("*/counts.npz"))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["evaluation.size=8"], ["evaluation.size=8: give a whole number of at least 16 or native"]),
        (["evaluation.sise=32"], ["unknown key 'evaluation.sise'", "evaluation.size"]),
        (["seed=-1"], ["seed=-1: give a whole number"]),
        (["--name", "a/b"], ["--name 'a/b'"]),
        (["--data", "vok"], ["unknown data 'vok'", "voc"]),
        (["--setting", "overlaped"], ["unknown setting 'overlaped'"]),
    ],
)
def test_wrong_arguments_are_one_line(bench, folder, more, words):
    code, _, err = bench(*arguments(*more))
    assert code == 2 and err.count("\n") == 1 and all(word in err for word in words), err


def test_predictions_need_a_run_whose_networks_are_there(bench, tmp_path, folder):
    assert bench(*run_arguments("finetune", protocol="voc_15-5"))[0] == 0
    run = only_run(tmp_path / "runs")
    code, _, err = bench("predict", run.path, "--out", "maps")
    assert code == 2 and "maps exists already" in err
    assert bench(*arguments("store=scored"))[0] == 0
    code, _, err = bench("predict", only_run(tmp_path / "scored").path, "--out", "out")
    assert code == 2 and "no network can be loaded" in err

    manifest = json.loads((run.path / "manifest.json").read_text())
    (run.path / "manifest.json").write_text(json.dumps(manifest | {"run": "another", "sha256": {}}))
    code, _, err = bench("predict", run.path, "--out", "out")
    assert code == 2 and "another would be finetune_voc_15-5" in err
    (run.path / "manifest.json").write_text(json.dumps(manifest))
    shutil.rmtree(tmp_path / "runs" / "cache" / "steps" / manifest["steps"][1]["key"])
    code, _, err = bench("predict", run.path, "--out", "out")
    assert code == 2 and "step 1 of finetune" in err and "is not in" in err
    assert not (tmp_path / "out").exists()
    assert read_run(run.path).counts.keys() == {0, 1}
