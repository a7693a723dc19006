"""One run on two processes, as torchrun starts them: the losses, counts and steps of one process."""

import csv
import os
import shutil
import subprocess
import sys

import pytest

from results.schema import Run, read_runs
from tests.e2e.conftest import SMALL, run_arguments

pytestmark = pytest.mark.timeout(900)  # several processes that each start PyTorch, on a machine that may be busy

SEGMENTER = ["segmenter" if argument == "deeplab" else argument for argument in SMALL]
EXACT = ["train.precision=fp32", "train.optimiser=sgd", "train.base.lr=0.001", "train.increment.lr=0.001"]


def arguments(methods: str, *more: str) -> list[str]:
    """A run of voc_15-5 on a network without batch statistics."""
    return ["run", "--methods", methods, "--protocol", "voc_15-5", *SEGMENTER, *EXACT, *more]


@pytest.fixture
def torchrun(tmp_path):
    """Starts the command line in two processes, in an empty folder."""

    def start(*words: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
             "-m", "bench", *words],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    return start


def runs_of(store) -> dict[str, Run]:
    runs, problems = read_runs(store)
    assert not problems
    return {run.manifest["label"]: run for run in runs}


def losses(run: Run) -> list[dict[str, float]]:
    """The rows of the log, without the terms that a step does not have."""
    with open(run.path / "log.csv", newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def test_two_processes_have_the_losses_of_one_and_its_counts_from_its_weights(bench, torchrun, tmp_path):
    """Losses within 1e-4 (rounding, through a few iterations), in parts of a batch, too; counts exactly. PLOP has a
    pass before the step, LBD here a mean over the whole batch within a loss; `bench check` holds all methods to it."""
    words = arguments("plop,lbd", "lbd.mmbd_on=decoded", "train.accumulate=2")
    assert bench(*words, "store=one")[0] == 0
    output, _ = (process := torchrun(*words, "store=two")).communicate(timeout=400)
    assert process.returncode == 0, output
    one, two = runs_of(tmp_path / "one"), runs_of(tmp_path / "two")
    assert list(one) == list(two) == ["lbd", "plop"]
    for label, run in one.items():
        assert run.manifest["run"] == two[label].manifest["run"]
        for row, other in zip(losses(run), losses(two[label]), strict=True):
            assert other == pytest.approx(row, rel=1e-4, abs=1e-6), label
    assert two["lbd"].manifest["hardware"]["processes"] == 2 and "processes" not in one["lbd"].manifest["hardware"]
    assert output.count("mIoU (%) at") == 1 and output.count("lbd voc_15-5 seed 0: step 1 of 1:") == 1, output

    shutil.copytree(tmp_path / "one" / "cache" / "steps", tmp_path / "three" / "cache" / "steps")
    output, _ = (process := torchrun(*words, "store=three", "evaluation.batch=8")).communicate(timeout=400)
    assert process.returncode == 0 and "iterations on" not in output, output
    for label, run in runs_of(tmp_path / "three").items():
        assert (run.path / "counts.npz").read_bytes() == (one[label].path / "counts.npz").read_bytes(), label


def test_a_dry_run_on_two_processes_tries_every_step_and_estimates_the_whole(torchrun, tmp_path):
    """Also where there are fewer batches of evaluation than processes."""
    words = arguments("mib", "--dry", "evaluation.batch=1000", "store=runs")
    output, _ = (process := torchrun(*words)).communicate(timeout=400)
    assert process.returncode == 0, output
    assert output.count("step 0 of 1 is fine") == output.count("step 1 of 1 is fine") == 1, output
    assert "every step works; nothing was stored" in output and "unknown" not in output, output
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"cache"}
    assert {path.name for path in (tmp_path / "runs" / "cache").iterdir()} == {"presence"}


def test_what_cannot_be_divided_is_refused_in_one_line(torchrun):
    cases = [
        (arguments("mib", "train.batch=3"), "train.batch=3 cannot be shared equally by 2 processes"),
        (run_arguments("mib"), "networks with batch norm need GPUs to run on several processes"),
    ]
    for words, expected in cases:
        output, _ = (process := torchrun(*words)).communicate(timeout=400)
        lines = [line for line in output.splitlines() if line.startswith("bench: ")]
        assert process.returncode != 0 and len(lines) == 1 and expected in lines[0], output


FRAIL = '''
"""Fails in the second process alone, in step 1."""

import os

from methods.finetune import Finetune


class Frail(Finetune):
    def forward(self, batch):
        if self.step.index == 1 and os.environ.get("RANK") == "1":
            raise RuntimeError("no more")
        return super().forward(batch)
'''


def test_a_fault_in_one_process_ends_all_and_the_run_goes_on_without_it(bench, torchrun, tmp_path):
    (tmp_path / "frail.py").write_text(FRAIL)
    words = arguments("frail.py:Frail")
    output, _ = (process := torchrun(*words)).communicate(timeout=400)
    assert process.returncode != 0 and "bench: process 1 of 2 ends: RuntimeError: no more" in output, output
    (run,) = runs_of(tmp_path / "runs").values()
    assert sorted(run.counts) == [0] and run.manifest["status"] in ("failed", "running")
    assert bench(*words)[0] == 0  # nothing is locked or half-written
    (run,) = runs_of(tmp_path / "runs").values()
    assert [step["cache"] for step in run.manifest["steps"]] == ["hit", "miss"]


def test_a_loss_that_is_not_finite_ends_that_run_alone(torchrun, tmp_path):
    output, _ = (process := torchrun(*arguments("mib,finetune", "mib.kd=1e39"))).communicate(timeout=400)
    assert process.returncode != 0 and "not finite" in output and "ends:" not in output, output
    runs = runs_of(tmp_path / "runs")
    assert runs["finetune"].manifest["status"] == "complete" and runs["mib"].manifest["status"] == "failed"
