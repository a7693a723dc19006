"""Trying runs out before they are run: every step for a moment, nothing stored; and what a plan tells beforehand."""

import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import SMALL, run_arguments

FAULTY = '''
"""A method that fails, or is interrupted, in the last step."""

from methods.finetune import Finetune
from methods.base import Term


class Faulty(Finetune):
    def forward(self, batch):
        if self.step.index == 2:
            raise FAULT
        return super().forward(batch)
'''


def left_over(store: Path) -> list[str]:
    """What a command left in a store, without the index of the masks, which every command makes."""
    names = {path.relative_to(store) for path in store.rglob("*") if path.parent.name != "presence"}
    return sorted(map(str, names - {Path("cache"), Path("cache/presence")}))


def test_a_dry_run_tries_every_step_of_every_run_and_stores_nothing(bench, tmp_path):
    code, out, err = bench(*run_arguments("mib,plop,joint", "--seeds", "0,1", "--dry"))
    assert code == 0, err
    fine = [line for line in err.splitlines() if "is fine" in line]
    assert len(fine) == 2 * (3 + 3 + 1)
    assert fine[0].startswith("mib voc_10-5 seed 0: step 0 of 2 is fine: ") and "s an iteration, peak " in fine[0]
    assert sum(line.startswith("plop voc_10-5 seed 1: step 2 of 2") for line in fine) == 1
    assert out.count("3 of 3") == 4 and out.count("1 of 1") == 2
    assert "every step works; nothing was stored" in out
    assert left_over(tmp_path / "runs") == []
    assert bench("list", "runs")[1].count("voc_10-5") == 0


def test_a_dry_run_leaves_a_store_with_results_as_it_is(bench, tmp_path):
    assert bench(*run_arguments("mib"))[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    code, out, err = bench(*run_arguments("mib", "--dry"))
    assert code == 0 and err.count("is fine") == 3  # cached steps are tried like others
    assert "Estimate for all runs: 0.0 s" in out  # and nothing is left to do
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    assert files == before


def test_a_fault_in_the_last_step_is_named_the_others_are_tried_and_the_folder_goes(bench, tmp_path):
    (tmp_path / "faulty.py").write_text(FAULTY.replace("FAULT", "ZeroDivisionError('by zero')"))
    code, out, err = bench(*run_arguments("faulty.py:Faulty,finetune", "--dry"))
    assert code == 1
    assert "faulty voc_10-5 seed 0: step 2 failed: ZeroDivisionError: by zero" in err
    assert err.count("is fine") == 2 + 3
    assert "2 of 3 (failed)" in out and "3 of 3" in out and "not all steps work" in out
    assert left_over(tmp_path / "runs") == []


def test_an_interrupted_dry_run_leaves_nothing(bench, tmp_path):
    (tmp_path / "faulty.py").write_text(FAULTY.replace("FAULT", "KeyboardInterrupt"))
    assert bench(*run_arguments("faulty.py:Faulty", "--dry"))[0] == 130
    assert left_over(tmp_path / "runs") == []


def test_an_ablation_is_tried_out_with_all_its_variants(bench, tmp_path):
    code, out, err = bench("ablate", "mib", "--variants", "full,no_init", "--protocol", "voc_19-1", "--dry", *SMALL)
    assert code == 0 and err.count("is fine") == 4
    assert "mib-no_init voc_19-1" in out


def test_a_dry_run_of_whole_images_tries_the_largest_ones(bench, tmp_path, shared):
    real = ["--data", "voc", f"data.root={shared / 'voc_mini'}", "workers=0", "evaluation.size=native"]
    small = [argument for argument in SMALL if not argument.startswith("data.")]
    arguments = ["run", "--methods", "finetune", "--protocol", "voc_19-1", *small, *real, "evaluation.batch=1"]
    code, _, err = bench(*arguments, "--dry")
    assert code == 0 and err.count("is fine") == 2


def test_a_plan_looks_for_data_weights_device_and_disk(bench, tmp_path):
    code, out, _ = bench("plan", *run_arguments("finetune")[1:])
    assert code == 0
    found = {line.split()[1]: line for line in out.splitlines()[:4]}
    assert found["data"].startswith("ok") and "80 training and 20 images of evaluation" in found["data"]
    assert "scenes of 32x32 pixels" in found["data"]
    assert found["weights"].startswith("note") and "random" in found["weights"]
    assert found["device"].startswith("ok") and "CPU" in found["device"]
    assert found["disk"].startswith("ok") and "free in runs" in found["disk"]
    assert "iterations of each step, finetune voc_10-5 overlapped: 4 3 3" in out
    assert "--probe measures it" in out


def test_a_plan_without_data_tells_what_the_protocol_alone_tells(bench, tmp_path):
    arguments = ["plan", "--track", "paper", "--methods", "mib,joint", "network.pretrained=none", "device=cpu"]
    code, out, err = bench(*arguments, "--protocol", "voc_10-1")
    assert code == 2 and "cannot start yet: data voc" in err
    assert "MISSING" in out and "data.root=" in out and "bench data check voc" in out
    # the images of each step of the whole data set, over batches of 24, 30 times: 6139 // 24 * 30 = 7650 at step 0
    assert "mib voc_10-1 overlapped: 7650 660 1470 540 600 4860 600 360 600 600 660" in out
    assert "unknown without the data" in out  # joint training: its images are not pinned
    assert "mib as published for voc_10-1" in out and "MiB, README" in out
    assert left_over(tmp_path / "runs") == []


def test_a_plan_names_weights_that_are_missing(bench, tmp_path):
    code, out, err = bench("plan", *run_arguments("finetune", "network.pretrained=no/such.safetensors")[1:])
    assert code == 2 and "cannot start yet: weights deeplab-tiny" in err
    assert "no/such.safetensors: no such file" in out


def test_a_plan_notes_where_a_copy_differs_from_what_is_known(bench, tmp_path, shared):
    code, out, _ = bench(
        "plan", "--methods", "finetune", "--protocol", "voc_15-1", "--data", "voc", f"data.root={shared / 'voc_mini'}",
        "--track", "demo", "--backbone", "deeplab",
    )  # fmt: skip
    line = next(line for line in out.splitlines() if "data voc" in line)
    assert code == 0 and line.startswith("note") and "training images where 9,568 are known" in line


def test_a_plan_whose_runs_do_not_fit_on_the_disk_says_so(bench, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    code, out, _ = bench("plan", *run_arguments("finetune")[1:])
    line = next(line for line in out.splitlines() if line.split()[1:2] == ["disk"])
    assert code == 2 and line.startswith("MISSING") and "make room" in line


def test_a_probe_measures_two_steps_of_each_method_and_stores_nothing(bench, tmp_path):
    code, out, err = bench("plan", *run_arguments("finetune,mib", "--seeds", "0,1", "--probe")[1:])
    assert code == 0 and err.count("is fine") == 2 * 2
    line = next(line for line in out.splitlines() if line.startswith("time: about"))
    assert "by a probe on this machine" in line
    assert "finetune (deeplab-tiny): " in out and "mib (deeplab-tiny): " in out
    assert left_over(tmp_path / "runs") == []


@pytest.mark.parametrize("command", ["run", "ablate"])
def test_help_tells_of_dry_runs(bench, command, capsys):
    with pytest.raises(SystemExit):
        bench(command, "--help")
    assert "--dry" in capsys.readouterr().out
