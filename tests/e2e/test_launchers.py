"""Several runs at once: processes on this machine, and jobs as a cluster gets them."""

import importlib.util
import os
import signal
import time
from pathlib import Path

import pytest

from results.schema import read_runs
from tests.e2e.conftest import run_arguments

pytestmark = pytest.mark.timeout(900)  # several processes that each start PyTorch, on a machine that may be busy

LONG = ["train.base.iterations=70", "train.increment.iterations=5", "checkpoint_seconds=1000"]


def has(plugin: str) -> bool:
    try:
        return importlib.util.find_spec(f"hydra_plugins.{plugin}") is not None
    except ModuleNotFoundError:
        return False


needs_joblib = pytest.mark.skipif(not has("hydra_joblib_launcher"), reason="hydra-joblib-launcher is not installed")
needs_submitit = pytest.mark.skipif(not has("hydra_submitit_launcher"), reason="hydra-submitit-launcher is missing")

MINE = '''
"""A method in a file of the user's own, with an option: no other process can import it by name."""

from dataclasses import dataclass

from methods.base import MethodConfig
from methods.finetune import Finetune


@dataclass
class MineConfig(MethodConfig):
    weight: float = 1.0


class Mine(Finetune):
    Config = MineConfig

    def forward(self, batch):
        if self.config.weight < 0:
            raise ValueError("no negative weights")
        return super().forward(batch)
'''


def counts(store: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in store.glob("*/counts.npz")}


@needs_joblib
def test_runs_side_by_side_are_those_one_after_the_other(bench, spawn, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    words = run_arguments("finetune,mib,mine.py:Mine,joint", "mine.weight=2")
    assert bench(*words, "store=one")[0] == 0
    process = spawn(*words, "store=two", "--launcher", "joblib", "--jobs", "2")
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0 and output.count("mIoU (%) at the last step\n") == 1, output
    assert len(counts(tmp_path / "one")) == 4 and counts(tmp_path / "one") == counts(tmp_path / "two")
    steps = list((tmp_path / "two" / "cache" / "steps").iterdir())
    assert len(steps) == 1 + 3 * 2 + 1  # step 0 of three methods once


@needs_joblib
def test_a_run_that_fails_beside_others_fails_alone(spawn, tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    process = spawn(*run_arguments("finetune,mine.py:Mine", "mine.weight=-1"), "--launcher", "joblib", "--jobs", "2")
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 1 and "failed: ValueError: no negative weights" in output, output
    status = {run.manifest["label"]: run.manifest["status"] for run in read_runs(tmp_path / "runs")[0]}
    assert status == {"finetune": "complete", "mine": "failed"}


@needs_joblib
def test_a_signal_to_the_command_reaches_its_jobs(bench, spawn, tmp_path):
    words = run_arguments("finetune,joint", *LONG)
    assert bench(*words, "store=whole")[0] == 0
    process = spawn(*words, "store=told", "--launcher", "joblib", "--jobs", "2")
    deadline = time.monotonic() + 400
    while len(list(tmp_path.glob("told/cache/locks/*.lock"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 143, output
    assert len(list(tmp_path.glob("told/cache/rolling/[!.]*.safetensors"))) == 2, output
    assert bench(*words, "store=told")[0] == 0
    assert counts(tmp_path / "whole") == counts(tmp_path / "told")


@needs_submitit
def test_a_job_that_is_told_to_make_room_is_put_back_into_the_queue(bench, spawn, tmp_path):
    """What a cluster does before it takes a machine away: SIGUSR2 to the job, as submitit asks it to."""
    words = run_arguments("finetune", *LONG)
    assert bench(*words, "store=whole")[0] == 0
    process = spawn(*words, "store=told", "--launcher", "submitit")
    deadline = time.monotonic() + 400
    while not list(tmp_path.glob("told/cache/locks/*.lock")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    (job,) = tmp_path.glob("told/cache/jobs/*/.submitit/*/*_log.out")
    (trainer,) = children(int(job.parent.name))
    os.kill(trainer, signal.SIGUSR2)
    output, _ = process.communicate(timeout=400)
    log = job.read_text() + job.with_suffix(".err").read_text()
    assert process.returncode == 0, output + log
    assert "ended by SIGUSR2; the same command goes on from here" in log and "Requeued job" in log
    assert log.count("step 0 of 2: 70 iterations") == 1
    assert counts(tmp_path / "whole") == counts(tmp_path / "told")


def children(process: int) -> list[int]:
    """The processes that a process started (Linux)."""
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.skipif(has("hydra_joblib_launcher"), reason="hydra-joblib-launcher is installed")
def test_a_launcher_that_is_missing_is_one_line_with_the_fix(bench):
    code, _, err = bench(*run_arguments("mib"), "--launcher", "joblib")
    assert code == 2 and err.count("\n") == 1
    assert "--launcher joblib needs hydra-joblib-launcher: pip install -e '.[joblib]'" in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--jobs", "2"], "--jobs needs --launcher"),
        (["hydra.launcher.partition=gpu"], "hydra.launcher.partition=gpu needs --launcher"),
        (["--launcher", "joblib", "--jobs", "0"], "--jobs 0"),
        (["--launcher", "slrm"], "slurm"),
    ],
)
def test_wrong_launchers_are_one_line(bench, words, expected):
    code, _, err = bench(*run_arguments("mib"), *words)
    assert code == 2 and err.count("\n") == 1 and expected in err, err


@needs_joblib
def test_an_option_that_the_launcher_does_not_have_is_one_line(bench, tmp_path):
    code, _, err = bench(*run_arguments("mib"), "--launcher", "joblib", "hydra.launcher.n_job=2")
    assert code == 2 and "hydra.launcher.n_job" in err and "Traceback" not in err
    assert not (tmp_path / "runs" / "cache" / "steps").exists()
