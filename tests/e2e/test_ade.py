"""ADE20K's classes through the command line, on rendered scenes: every method, tables per group, what cannot run."""

import json

import numpy as np

TINY = [
    "--track", "demo", "train.crop=32", "train.batch=4", "train.base.iterations=3", "train.increment.iterations=2",
    "data.train_images=60", "data.val_images=12", "device=cpu", "threads=1",
]  # fmt: skip


def test_every_method_of_the_demo_runs_on_ade_and_lbd_is_skipped_with_the_reason(bench, tmp_path):
    code, out, err = bench("run", "--methods", "finetune,mib,plop,mbs,lbd", "--protocol", "ade_50-50", *TINY)
    assert code == 0, err
    assert "skipped lbd on ade_50-50: the tiny CLIP has no word 'wall' nor 144 others" in " ".join(err.split())
    stored = {(one := json.loads(path.read_text()))["label"]: one for path in tmp_path.glob("runs/*/manifest.json")}
    assert sorted(stored) == ["finetune", "mbs", "mib", "plop"]
    assert len({run["steps"][0]["base_key"] for run in stored.values()}) == 1  # one step 0 for all of them
    for run in stored.values():
        assert run["status"] == "complete" and not run["background_evaluated"]
        with np.load(tmp_path / "runs" / run["run"] / "counts.npz") as counts:
            assert [counts[f"step_{t:02d}"].shape for t in range(3)] == [(3, 151, 51), (3, 151, 101), (3, 151, 151)]
    assert "over the classes of each step" in out  # as papers print ADE
    assert all(head in out for head in ("1-50", "51-100", "101-150", "1-150")) and "0-150" not in out

    code, out, _ = bench("report", "--convention", "plop")
    assert code == 0 and "0-150" in out  # PLOP counts label 0


def test_lbd_alone_on_ade_has_nothing_to_run(bench):
    code, _, err = bench("run", "--methods", "lbd", "--protocol", "ade_100-50", *TINY)
    assert code == 2 and "nothing to run" in err and "no word 'wall'" in " ".join(err.split())


def test_one_command_runs_protocols_of_both_data_sets(bench, tmp_path):
    code, _, err = bench("run", "--methods", "finetune", "--protocol", "voc_19-1,ade_100-50", *TINY)
    assert code == 0, err
    spaces = {json.loads(path.read_text())["protocol"] for path in tmp_path.glob("runs/*/manifest.json")}
    assert spaces == {"voc_19-1", "ade_100-50"}
