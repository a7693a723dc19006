"""The main job: runs, what they leave, and what a second command does."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from results.schema import cells, read_run, read_runs
from tests.e2e.conftest import SMALL, run_arguments


def steps_of(run) -> list[tuple[int, str]]:
    return [(step["index"], step["cache"]) for step in run.manifest["steps"]]


def by_label(store: Path) -> dict:
    runs, problems = read_runs(store)
    assert not problems
    return {f"{run.manifest['label']} s{run.manifest['seed']}": run for run in runs}


def test_a_run_leaves_counts_cells_log_and_manifest_and_prints_its_table(bench, tmp_path):
    code, out, _ = bench(*run_arguments("finetune,mib,joint"))
    assert code == 0
    assert all(word in out for word in ("finetune", "mib", "joint", "0-10", "11-20", "forgetting", "shapes"))
    runs = by_label(tmp_path / "runs")
    assert list(runs) == ["finetune s0", "joint s0", "mib s0"]

    mib = runs["mib s0"]
    assert mib.path.name in out
    assert sorted(mib.counts) == [0, 1, 2]
    assert [counts.shape for counts in mib.counts.values()] == [(3, 21, 11), (3, 21, 16), (3, 21, 21)]
    assert all(counts.sum() == 20 * 32 * 32 for counts in mib.counts.values())  # shapes have no void
    assert steps_of(mib) == [(0, "hit"), (1, "miss"), (2, "miss")]
    assert steps_of(runs["finetune s0"]) == [(0, "miss"), (1, "miss"), (2, "miss")]
    assert steps_of(runs["joint s0"]) == [(2, "miss")] and sorted(runs["joint s0"].counts) == [2]

    stored = pd.read_csv(mib.path / "cells.csv", keep_default_na=False, na_values={"iou": [""]})
    again = cells(mib)
    assert len(stored) == len(again) == 11 + 16 + 21
    assert (stored["tp"] == again["tp"]).all()
    log = pd.read_csv(mib.path / "log.csv")
    assert log["step"].tolist() == [0, 1, 2] and log["kd"].notna().tolist() == [False, True, True]
    manifest = mib.manifest
    assert manifest["status"] == "complete" and manifest["config"]["mib"]["kd"] == 10.0
    assert manifest["versions"]["torch"] and manifest["hardware"]["threads"] == 1
    assert all(step["seconds"] >= 0 and step["images"] > 0 for step in manifest["steps"])


def test_the_same_command_again_trains_nothing_and_a_new_method_or_seed_only_what_is_new(bench, tmp_path):
    bench(*run_arguments("finetune"))
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "cache" / "steps").rglob("*")}
    before = (by_label(tmp_path / "runs")["finetune s0"].path / "counts.npz").read_bytes()

    code, out, err = bench(*run_arguments("finetune"))
    assert code == 0 and "iterations on" not in err
    assert steps_of(by_label(tmp_path / "runs")["finetune s0"]) == [(0, "hit"), (1, "hit"), (2, "hit")]
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert (by_label(tmp_path / "runs")["finetune s0"].path / "counts.npz").read_bytes() == before

    bench(*run_arguments("finetune,mib", "--seeds", "0,1"))
    runs = by_label(tmp_path / "runs")
    assert steps_of(runs["finetune s0"]) == [(0, "hit"), (1, "hit"), (2, "hit")]
    assert steps_of(runs["mib s0"]) == [(0, "hit"), (1, "miss"), (2, "miss")]
    assert steps_of(runs["finetune s1"]) == [(0, "miss"), (1, "miss"), (2, "miss")]
    assert steps_of(runs["mib s1"]) == [(0, "hit"), (1, "miss"), (2, "miss")]
    assert len(list((tmp_path / "runs" / "cache" / "steps").iterdir())) == 2 * (3 + 2)


def test_equal_base_recipes_train_equal_networks_apart(bench, tmp_path):
    """What the shared step 0 rests on: without sharing, two methods come to the same network."""
    for method in ("finetune", "mib"):
        assert bench(*run_arguments(method, f"store={method}"))[0] == 0
    (one,), (other,) = (read_runs(tmp_path / method)[0] for method in ("finetune", "mib"))
    assert one.manifest["steps"][0]["cache"] == other.manifest["steps"][0]["cache"] == "miss"
    key = one.manifest["steps"][0]["key"]
    paths = [tmp_path / method / "cache" / "steps" / key / "weights.safetensors" for method in ("finetune", "mib")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert np.array_equal(one.counts[0], other.counts[0])


COUNTING = '''
"""A method with all that the interface offers: a pass before each step, a buffer, an end of each step."""

import torch

from methods.base import Method, Term, cross_entropy


class Counting(Method):
    uses_teacher = True

    def __init__(self, config, network):
        super().__init__(config, network)
        self.register_buffer("pixels", torch.zeros(()))
        self.register_buffer("ends", torch.zeros(()))

    def prepare(self, step, loader):
        torch.rand(7)
        if step.index > 0:
            self.pixels.fill_(sum((batch.labels >= step.n_old_slots).sum() for batch in loader))

    def end_step(self, step, loader):
        self.ends += sum(len(batch.ids) for batch in loader)

    def forward(self, batch):
        term = cross_entropy(self.logits(batch.images), batch.labels)
        scale = 1.0 + self.ends / 1000 + self.pixels / 100000 if self.step.index else 1.0
        return {"ce": Term(term.sum * scale, term.count)}
'''


def test_passes_before_and_after_a_step_survive_cache_and_sharing(bench, tmp_path):
    (tmp_path / "counting.py").write_text(COUNTING)
    method = "counting.py:Counting"
    assert bench(*run_arguments(method, "store=alone"))[0] == 0
    bench(*run_arguments("finetune", "store=shared"))  # trains the base that both share
    assert bench(*run_arguments(method, "store=shared"))[0] == 0
    (alone,) = read_runs(tmp_path / "alone")[0]
    shared = by_label(tmp_path / "shared")["counting s0"]
    assert steps_of(alone) == [(0, "miss"), (1, "miss"), (2, "miss")]
    assert steps_of(shared) == [(0, "hit"), (1, "miss"), (2, "miss")]
    assert all(np.array_equal(alone.counts[step], shared.counts[step]) for step in range(3))
    state = load_file(
        tmp_path / "shared" / "cache" / "steps" / shared.manifest["steps"][2]["key"] / "weights.safetensors"
    )
    images = [max(1, step["images"] // 4) * 4 for step in shared.manifest["steps"]]
    assert state["ends"] == sum(images) and state["pixels"] > 0

    shutil.rmtree(tmp_path / "shared" / "cache" / "steps" / shared.manifest["steps"][2]["key"])
    assert bench(*run_arguments(method, "store=shared"))[0] == 0  # step 2 again, from step 1 of the cache
    again = by_label(tmp_path / "shared")["counting s0"]
    assert steps_of(again) == [(0, "hit"), (1, "hit"), (2, "miss")]


def test_a_finished_run_stays_whole_while_its_command_runs_again(bench, tmp_path, monkeypatch):
    bench(*run_arguments("finetune"))
    written = []
    monkeypatch.setattr("bench.engine.write_run", lambda folder, record, *rest: written.append(record["status"]))
    bench(*run_arguments("finetune"))
    assert written == ["complete"]


def test_protocols_with_the_same_first_classes_share_step_0(bench, tmp_path):
    bench(*run_arguments("finetune", protocol="voc_15-5"))
    code, out, _ = bench("plan", *run_arguments("finetune", protocol="voc_15-5,voc_15-1")[1:])
    assert code == 0
    signs = [line.split("│")[3].strip() for line in out.splitlines() if line.startswith("│ finetune")]
    assert signs == ["●●", "●+++++"]
    bench(*run_arguments("finetune", protocol="voc_15-1"))
    runs = {run.manifest["protocol"]: run for run in read_runs(tmp_path / "runs")[0]}
    assert steps_of(runs["voc_15-1"])[:2] == [(0, "hit"), (1, "miss")]
    assert runs["voc_15-1"].manifest["steps"][0]["key"] == runs["voc_15-5"].manifest["steps"][0]["key"]


def test_a_plan_trains_nothing_and_shows_what_is_shared(bench, tmp_path):
    code, out, _ = bench("plan", *run_arguments("finetune,mib")[1:])
    assert code == 0
    signs = [line.split("│")[3].strip() for line in out.splitlines() if line.startswith("│ ")]
    assert signs == ["+++", "=++"]
    assert "6 steps: 5 to train (16 iterations), 1 cached or shared" in out
    assert not (tmp_path / "runs" / "cache" / "steps").exists()


def test_settings_orders_variants_sweeps_and_options_make_runs_of_their_own(bench, tmp_path):
    bench(*run_arguments("mib-no_init", "--setting", "disjoint", "order=b"))
    bench(*run_arguments("mib", "mib.kd=1,2"))
    runs = read_runs(tmp_path / "runs")[0]
    assert len({run.manifest["recipe"] for run in runs}) == 3
    described = {(run.manifest["label"], run.manifest["setting"], run.manifest["order"]) for run in runs}
    assert described == {("mib-no_init", "disjoint", "b"), ("mib", "overlapped", "default")}
    assert sorted(run.manifest["config"]["mib"]["kd"] for run in runs) == [1.0, 2.0, 10.0]


def test_tuning_on_dev_holds_its_images_out_of_training(bench, tmp_path):
    bench(*run_arguments("joint"))
    bench(*run_arguments("joint", "evaluation.split=dev"))
    runs = {run.manifest["evaluation"]["split"]: run.manifest for run in read_runs(tmp_path / "runs")[0]}
    assert runs["val"]["steps"][0]["images"] == 80 and runs["val"]["evaluation"]["images"] == 20
    held_out = runs["dev"]["evaluation"]["images"]
    assert 0 < held_out < 30 and runs["dev"]["steps"][0]["images"] == 80 - held_out


def test_a_step_without_images_is_reported_and_the_run_goes_on(bench, tmp_path):
    (tmp_path / "sparse.yaml").write_text(
        "name: sparse\ndataset: voc\nclasses_per_step: [18, 1, 1]\nimages: [[0, 1, 2, 3, 4], [], [5, 6, 7]]\n"
    )
    code, out, err = bench(*run_arguments("mib", protocol="sparse.yaml"))
    assert code == 0 and "step 1 of 2: no training images" in err
    (run,) = read_runs(tmp_path / "runs")[0]
    step = run.manifest["steps"][1]
    assert step["images"] == step["iterations"] == 0 and "not trained" in step["note"]
    assert run.counts[1].shape == (3, 21, 20)
    assert "no training images" in bench("plan", *run_arguments("mib", protocol="sparse.yaml")[1:])[1]


def test_a_method_in_a_file_of_the_users_own_runs(bench, tmp_path):
    (tmp_path / "mine.py").write_text(
        '"""Mine."""\nfrom dataclasses import dataclass\n'
        "from methods.base import Method, MethodConfig, cross_entropy\n\n\n"
        "@dataclass\nclass MyConfig(MethodConfig):\n    weight: float = 1.0\n\n\n"
        "class MyMethod(Method):\n    Config = MyConfig\n\n    def forward(self, batch):\n"
        "        term = cross_entropy(self.logits(batch.images), batch.labels)\n"
        "        return {'ce': term._replace(weight=self.config.weight if self.step.index else 1.0)}\n"
    )
    code, _, _ = bench(*run_arguments("finetune,mine.py:MyMethod", "my_method.weight=0.5"))
    assert code == 0
    runs = by_label(tmp_path / "runs")
    assert runs["my_method s0"].manifest["config"]["my_method"] == {"weight": 0.5}
    assert steps_of(runs["my_method s0"]) == [(0, "hit"), (1, "miss"), (2, "miss")]


def test_report_and_lists_read_the_store(bench, tmp_path):
    bench(*run_arguments("finetune"))
    code, out, _ = bench("report", "--format", "terminal,csv", "--out", "tables")
    assert code == 0 and "finetune" in out
    (main_csv,) = tmp_path.glob("tables/main-*.csv")
    assert pd.read_csv(main_csv)["method"].tolist() == ["finetune"]
    code, out, _ = bench("report", "--format", "md,latex", "--explain", "--out", "paper")
    (run,) = read_runs(tmp_path / "runs")[0]
    assert code == 0 and run.path.name in out and run.manifest["command"].partition(" ")[2] in out
    assert "mIoU" not in out and f"written: {Path('paper') / 'report.tex'}" in out
    assert {path.name for path in (tmp_path / "paper").glob("report*")} == {"report.md", "report.tex", "report.bib"}
    code, _, err = bench("report", "--format", "latx")
    assert code == 2 and "did you mean 'latex'" in err
    assert "complete" in bench("list", "runs")[1]
    assert "mib" in bench("list", "methods")[1]
    assert "voc_10-1" in bench("list", "protocols")[1]


def test_the_cache_is_listed_verified_and_cleared_of_what_no_run_needs(bench, tmp_path):
    bench(*run_arguments("finetune"))
    steps = tmp_path / "runs" / "cache" / "steps"
    assert "3 trained steps" in bench("cache", "list")[1]
    assert bench("cache", "verify")[0] == 0
    assert "0 things" in bench("cache", "gc")[1]

    victim = sorted(steps.iterdir())[0] / "weights.safetensors"
    victim.write_bytes(victim.read_bytes()[:-1] + b"\x00\x01")
    code, out, _ = bench("cache", "verify")
    assert code == 1 and victim.parent.name in out
    expected = read_run(next(path for path in (tmp_path / "runs").glob("finetune*"))).counts
    assert bench(*run_arguments("finetune"))[0] == 0  # trained again, to the same counts
    (run,) = read_runs(tmp_path / "runs")[0]
    assert all(np.array_equal(run.counts[step], expected[step]) for step in expected)
    assert bench("cache", "verify")[0] == 0

    for file in run.path.iterdir():
        file.unlink()
    run.path.rmdir()
    left = tmp_path / "runs" / ".dry-run.some-node-123"  # of a process that was killed, on another machine
    (left / "cache").mkdir(parents=True)
    assert "would remove" in bench("cache", "gc", "--dry-run")[1]
    assert len(list(steps.iterdir())) == 3 and left.exists()
    bench("cache", "gc")
    assert list(steps.iterdir()) == [] and not left.exists()


@pytest.mark.parametrize("protocol", ["voc_15-1"])
def test_real_voc_images_go_through_all_steps(bench, tmp_path, shared, protocol):
    arguments = [argument for argument in SMALL if not argument.startswith("data.")]
    code, out, _ = bench(
        "run", "--methods", "finetune,mib", "--protocol", protocol, *arguments, "--data", "voc",
        f"data.root={shared / 'voc_mini'}", "workers=0",
    )  # fmt: skip
    assert code == 0 and "voc" in out
    runs = by_label(tmp_path / "runs")
    assert [sorted(run.counts) for run in runs.values()] == [list(range(6))] * 2
    images = [step["images"] for step in runs["mib s0"].manifest["steps"]]
    assert len(images) == 6 and images[0] > images[1] > 0
    assert json.dumps(runs["mib s0"].manifest["evaluation"]["images"]) == "126"
