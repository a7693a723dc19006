"""What goes wrong: one clear line, exit code 2, nothing half-written; kills, and losses that are not finite."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.config import EvaluationSection, TrainSection
from bench.engine import _smaller_batch, _smaller_parts
from results.schema import read_runs
from tests.e2e.conftest import SMALL, run_arguments


def refused(result: tuple[int, str, str]) -> str:
    """The one line of an input error."""
    code, _, err = result
    lines = [line for line in err.splitlines() if line.startswith("bench: ")]
    assert code == 2 and err.strip().splitlines() == lines and len(lines) == 1, err
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (run_arguments("mbi"), ["unknown method 'mbi'", "did you mean 'mib'"]),
        (run_arguments("mib-no_kd"), ["unknown variant of mib 'no_kd'", "no_unkd"]),
        (run_arguments("nowhere.py:Mine"), ["no method file nowhere.py"]),
        (run_arguments("mib", protocol="voc_10-3"), ["voc_10-3", "voc_10-1"]),
        (run_arguments("mib", protocol="coco_10-1"), ["coco"]),
        (run_arguments("mib", "--setting", "overlaped"), ["overlaped", "did you mean 'overlapped'"]),
        (run_arguments("mib", "mib.kdd=1"), ["unknown key 'mib.kdd'", "did you mean 'mib.kd'"]),
        (run_arguments("mib", "trian.batch=8"), ["unknown key 'trian.batch'", "train.batch"]),
        (run_arguments("mib", "mib.kd=high"), ["mib.kd", "high", "Float"]),
        (run_arguments("mib", "train.batch=0"), ["train.batch=0"]),
        (run_arguments("mib", "train.optimiser=adam"), ["unknown train.optimiser 'adam'", "adamw"]),
        (run_arguments("mib", "train.base.iterations=null"), ["train.base has no length"]),
        (run_arguments("mib", "network.name=deeplab-tny"), ["deeplab-tiny"]),
        (run_arguments("mib", "network.pretrained=no/such.safetensors"), ["no/such.safetensors"]),
        (run_arguments("mib", "--seeds", "0,one"), ["--seeds 0,one"]),
        (run_arguments("mib", "batch"), ["'batch' is no override"]),
        (run_arguments("mib", "mib.kd=nan"), ["mib.kd=nan", "finite"]),
        (run_arguments("mib", "train.batch=???"), ["train.batch", "no value"]),
        (run_arguments("mib", "train.batch=${nope}"), ["nope"]),
        (run_arguments("mib", "~train.batch"), ["train.batch"]),
        (run_arguments("mib", "+train.bacth=8"), ["unknown key 'train.bacth'", "train.batch"]),
        (run_arguments("mib", "train.accumulate=3"), ["train.accumulate=3", "train.batch=4"]),
        (run_arguments("mib", "train.batch=1"), ["deeplab needs at least 2 images"]),
        (run_arguments("mib", "threads=0"), ["threads=0"]),
        (run_arguments("mib", "store=a,b"), ["store", "swept"]),
        (run_arguments("mib", "network.name=segmenter-tiny"), ["segmenter-tiny is no deeplab"]),
        (["run", "--methods", "mib", "--protocol", "voc_10-1"], ["data.root", "--track demo"]),
        (["run", "--protocol", "voc_10-1"], ["--methods", "bench run --help"]),
        (["run", "--methods", "mib", "--protocol", "voc_10-1", "--tarck", "demo"], ["--tarck"]),
        (["report", "--format", "word"], ["unknown format 'word'"]),
        (run_arguments("mib", "device=tpu"), ["unknown device 'tpu'"]),
        (run_arguments("mib", "--data", "coco"), ["unknown data.name 'coco'"]),
        (run_arguments("mib", "--data", "voc", "data.root=nowhere"), ["nowhere", "data.root"]),
        (["check", "mbi"], ["unknown method 'mbi'"]),
        (["report"], ["no store at runs"]),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) and len(value) > 3 else None,
)
def test_bad_input_is_one_line_with_the_fix(bench, tmp_path, arguments, expected):
    line = refused(bench(*arguments))
    assert all(text in line for text in expected), line
    assert not list(tmp_path.glob("runs/*_*"))


def test_real_data_that_is_missing_names_the_fix(bench, tmp_path):
    line = refused(bench("run", "--methods", "mib", "--protocol", "voc_15-1", "network.pretrained=none"))
    assert "data.root" in line and "--track demo" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere: see the store under a file below")
def test_a_store_without_permission_is_refused(bench, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert "locked" in refused(bench(*run_arguments("mib", "store=locked/runs")))


def test_a_store_that_cannot_be_made_is_refused(bench, tmp_path):
    (tmp_path / "file").write_text("")
    line = refused(bench(*run_arguments("mib", "store=file/runs")))
    assert "file/runs cannot be written" in line and "store=PATH" in line


def voc_tree(root: Path, images: int = 12) -> Path:
    """A VOC tree whose images hold a block of classes each."""
    rng = np.random.default_rng(0)
    for folder in ("JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    names = [f"2007_{i:06d}" for i in range(images)]
    for i, name in enumerate(names):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(root / "JPEGImages" / f"{name}.jpg")
        mask = np.zeros((40, 50), dtype=np.uint8)
        mask[:20, :25], mask[20:, 25:], mask[0] = 1 + i % 20, 1 + (7 * i) % 20, 255
        Image.fromarray(mask).save(root / "SegmentationClassAug" / f"{name}.png")
    for split, part in (("train_aug", names[:-3]), ("val", names[-3:])):
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(part) + "\n")
    return root


VOC = [argument for argument in SMALL if not argument.startswith("data.")] + ["--data", "voc", "workers=0"]


def voc_arguments(root: Path, *more: str) -> list[str]:
    return ["run", "--methods", "finetune", "--protocol", "voc_15-5", *VOC, f"data.root={root}", *more]


def truncate_image(root):
    path = root / "JPEGImages" / "2007_000003.jpg"
    path.write_bytes(path.read_bytes()[:-200])


def resize_mask(root):
    Image.new("L", (50, 41)).save(root / "SegmentationClassAug" / "2007_000003.png")


def unknown_label(root):
    Image.new("L", (50, 40), 21).save(root / "SegmentationClassAug" / "2007_000003.png")


def remove_mask(root):
    (root / "SegmentationClassAug" / "2007_000003.png").unlink()


def test_an_image_that_is_trained_on_and_evaluated_is_refused(bench, tmp_path):
    root = voc_tree(tmp_path / "voc")
    with open(root / "ImageSets" / "Segmentation" / "train_aug.txt", "a") as file:
        file.write("2007_000011\n2007_000010\n")
    line = refused(bench(*voc_arguments(root)))
    assert "2 images of voc would be trained on and evaluated, 2007_000010 first" in line
    assert not (tmp_path / "runs" / "cache" / "steps").exists()
    code, out, _ = bench("plan", *voc_arguments(root)[1:])
    assert code == 2 and "MISSING" in out and "2007_000010 first" in out


@pytest.mark.parametrize("damage", [truncate_image, resize_mask, unknown_label, remove_mask])
def test_a_broken_data_set_is_refused_before_anything_is_trained(bench, tmp_path, damage):
    root = voc_tree(tmp_path / "voc")
    damage(root)
    line = refused(bench(*voc_arguments(root)))
    assert "2007_000003" in line
    assert not (tmp_path / "runs" / "cache" / "steps").exists()


def test_an_image_that_breaks_during_a_run_ends_it_and_keeps_finished_steps(bench, tmp_path):
    root = voc_tree(tmp_path / "voc")
    assert bench(*voc_arguments(root, "--seeds", "0"))[0] == 0
    path = root / "JPEGImages" / "2007_000003.jpg"
    stat, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:100] + b"\x00" * (len(content) - 100))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # nothing to see from outside
    code, out, err = bench(*voc_arguments(root, "--seeds", "1"))
    assert code == 2 and "2007_000003" in err and "Traceback" not in err
    failed = next(run for run in read_runs(tmp_path / "runs")[0] if run.manifest["seed"] == 1)
    assert failed.manifest["status"] == "failed" and "2007_000003" in failed.manifest["error"]


def test_a_loss_that_is_not_finite_ends_that_run_alone(bench, tmp_path):
    code, out, err = bench(*run_arguments("mib,finetune", "mib.kd=1e39"))
    assert code == 1 and "not finite" in err and "Traceback" not in err
    runs = {run.manifest["label"]: run for run in read_runs(tmp_path / "runs")[0]}
    assert runs["finetune"].manifest["status"] == "complete"
    assert runs["mib"].manifest["status"] == "failed" and sorted(runs["mib"].counts) == [0]
    assert "1 of 3 steps, failed" in " ".join(out.split())
    assert len(list((tmp_path / "runs" / "cache" / "steps").iterdir())) == 3  # the failure is not cached


FULL = '''
"""Methods for which the GPU's memory does not suffice in step 1."""

import torch

from methods.finetune import Finetune


def allocate(step):
    if step.index == 1:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1.00 GiB in all")


class Trains(Finetune):
    def forward(self, batch):
        allocate(self.step)
        return super().forward(batch)


class Evaluates(Finetune):
    def predict(self, batch):
        allocate(self.step)
        return super().predict(batch)
'''


def test_too_little_memory_is_one_line_with_the_remedy_and_ends_that_run_alone(bench, tmp_path):
    (tmp_path / "full.py").write_text(FULL)
    methods = "full.py:Trains,full.py:Evaluates,finetune"
    code, _, err = bench(*run_arguments(methods, "evaluation.batch=8", protocol="voc_15-5"))
    assert code == 1 and "Traceback" not in err
    remedy = "train.accumulate=2 computes each batch in 2 parts, which makes another recipe"
    assert f" failed: out of memory while training step 1: {remedy}\n" in err
    remedy = "evaluation.batch=4 (now 8) changes nothing but memory"
    assert f" failed: out of memory while evaluating step 1: {remedy}\n" in err
    runs = {run.manifest["label"]: run for run in read_runs(tmp_path / "runs")[0]}
    status = {label: run.manifest["status"] for label, run in runs.items()}
    assert status == {"trains": "failed", "evaluates": "failed", "finetune": "complete"}
    assert sorted(runs["trains"].counts) == sorted(runs["evaluates"].counts) == [0]
    assert len(list((tmp_path / "runs" / "cache" / "steps").iterdir())) == 3  # step 0 once; step 1 of two methods


def test_parts_divide_the_batch_and_no_batch_is_below_one_image():
    assert "accumulate=3 " in _smaller_parts(TrainSection(batch=9))
    assert "batch=1 " in _smaller_batch(EvaluationSection(batch=3))
    assert _smaller_parts(TrainSection(batch=4, accumulate=4)) is None
    assert _smaller_batch(EvaluationSection(batch=1)) is None


def test_a_size_that_the_network_cannot_evaluate_is_refused_before_training(bench, tmp_path):
    small = ["segmenter" if argument == "deeplab" else argument for argument in SMALL]
    result = bench("run", "--methods", "mib", "--protocol", "voc_10-5", *small, "evaluation.size=50")
    assert "50" in refused(result) and not (tmp_path / "runs" / "cache" / "steps").exists()


def test_a_method_file_whose_name_is_taken_is_refused(bench, tmp_path):
    for name in ("Mib", "Train"):
        (tmp_path / f"{name}_file.py").write_text(
            "from dataclasses import dataclass\nfrom methods.base import MethodConfig\n"
            "from methods.finetune import Finetune\n"
            f"\n@dataclass\nclass Own(MethodConfig):\n    x: int = 1\n\nclass {name}(Finetune):\n    Config = Own\n"
        )
        assert "rename the class" in refused(bench(*run_arguments(f"{name}_file.py:{name}")))


def test_a_damaged_step_is_trained_again_to_the_same_counts(bench, tmp_path):
    assert bench(*run_arguments("mib"))[0] == 0
    (run,) = read_runs(tmp_path / "runs")[0]
    expected = (run.path / "counts.npz").read_bytes()
    key = run.manifest["steps"][1]["key"]
    weights = tmp_path / "runs" / "cache" / "steps" / key / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00\x01")
    for counts in (tmp_path / "runs" / "cache" / "counts").iterdir():
        counts.unlink()
    code, _, err = bench(*run_arguments("mib"))
    assert code == 0 and "sha256" in err and "training that step again" in err
    assert (run.path / "counts.npz").read_bytes() == expected
    assert len(list((tmp_path / "runs" / "cache" / "quarantine").iterdir())) == 1


def test_ctrl_c_says_how_to_go_on(spawn, tmp_path):
    process = spawn(*run_arguments("finetune", "train.base.iterations=100000", "checkpoint_seconds=0"))
    rolling = tmp_path / "runs" / "cache" / "rolling"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (rolling.exists() and list(rolling.glob("*.safetensors"))):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "interrupted; the same command goes on from here" in output and "Traceback" not in output
