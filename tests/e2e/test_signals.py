"""Signals and kills: what a process that is told to end leaves, and what goes on without it."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from results.schema import read_runs
from tests.e2e.conftest import SMALL, run_arguments
from tests.e2e.test_faults import voc_tree

pytestmark = pytest.mark.timeout(900)  # several processes that each start PyTorch, on a machine that may be busy

LONG = ["train.base.iterations=70", "train.increment.iterations=30", "checkpoint_seconds=1000"]


def wait_for(condition, process: subprocess.Popen, seconds: float = 400):
    """What the condition gives once it is true; the process must be running until then."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    raise AssertionError("it took too long")


def rolling(store: Path) -> list[Path]:
    return list((store / "cache" / "rolling").glob("[!.]*.safetensors"))


def is_training(store: Path, step: int) -> bool:
    """Whether step number `step` of the run holds its lock (a lock file is made when its step begins)."""
    return len(list((store / "cache" / "locks").glob("*.lock"))) > step


@pytest.mark.parametrize(("number", "code", "step"), [(signal.SIGTERM, 143, 0), (signal.SIGUSR1, 138, 1)])
def test_a_signal_writes_the_checkpoint_and_the_same_command_ends_bit_equal(bench, spawn, tmp_path, number, code, step):
    """Whatever iteration it comes in, between two rows of the log too: the checkpoint holds their sums."""
    assert bench(*run_arguments("mib", *LONG, "store=whole"))[0] == 0
    process = spawn(*run_arguments("mib", *LONG, "store=told"))
    wait_for(lambda: is_training(tmp_path / "told", step), process)
    time.sleep(0.3)  # into the step
    process.send_signal(number)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == code, output
    assert f"ended by {number.name}; the same command goes on from here" in output and "Traceback" not in output
    assert len(rolling(tmp_path / "told")) == 1
    assert bench(*run_arguments("mib", *LONG, "store=told"))[0] == 0
    (whole,), (told,) = (read_runs(tmp_path / name)[0] for name in ("whole", "told"))
    assert (whole.path / "counts.npz").read_bytes() == (told.path / "counts.npz").read_bytes()
    assert (whole.path / "log.csv").read_text() == (told.path / "log.csv").read_text()
    assert not rolling(tmp_path / "told")


def test_a_signal_to_every_process_of_a_job_ends_it_as_one_to_the_first(spawn, tmp_path):
    """As a scheduler sends it: the processes that load images get it, too."""
    real = ["--data", "voc", f"data.root={voc_tree(tmp_path / 'voc')}", "workers=2", "train.base.iterations=100000"]
    small = [argument for argument in SMALL if not argument.startswith(("data.", "train.base.iterations"))]
    words = ["run", "--methods", "finetune", "--protocol", "voc_15-5", *small, *real, "checkpoint_seconds=1000"]
    process = spawn(*words)
    wait_for(lambda: is_training(tmp_path / "runs", 0) and len(children(process.pid)) >= 2, process)
    time.sleep(2)  # into the step
    os.killpg(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 143, output
    assert output.count("ended by SIGTERM; the same command goes on from here") == 1, output
    assert "Traceback" not in output and "Error" not in output, output
    assert len(rolling(tmp_path / "runs")) == 1


def children(process: int) -> list[int]:
    """The processes that a process has started, and that run."""
    listed = Path(f"/proc/{process}/task/{process}/children")
    return [int(number) for number in listed.read_text().split()] if listed.exists() else []


def test_who_waits_for_a_step_goes_on_with_it_when_its_trainer_is_killed(bench, spawn, tmp_path):
    eager = [*LONG, "checkpoint_seconds=0"]
    assert bench(*run_arguments("mib", *eager, "store=whole"))[0] == 0
    trainer = spawn(*run_arguments("mib", *eager, "store=shared"))
    wait_for(lambda: rolling(tmp_path / "shared"), trainer)
    trainer.send_signal(signal.SIGSTOP)  # it holds the lock, and gets no further
    waiter = spawn(*run_arguments("mib", *eager, "store=shared"))
    line = waiter.stdout.readline()
    assert "step 0 is being trained by another process; waiting for it" in line
    trainer.kill()
    trainer.wait()
    output, _ = waiter.communicate(timeout=400)
    assert waiter.returncode == 0, output
    (whole,), (shared,) = (read_runs(tmp_path / name)[0] for name in ("whole", "shared"))
    assert (whole.path / "counts.npz").read_bytes() == (shared.path / "counts.npz").read_bytes()
    assert (whole.path / "log.csv").read_text() == (shared.path / "log.csv").read_text()


def test_two_commands_at_once_train_each_shared_step_once(spawn, tmp_path):
    processes = [spawn(*run_arguments("finetune", *LONG)), spawn(*run_arguments("lwf", *LONG))]
    outputs = [process.communicate(timeout=400)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    bases = [line for output in outputs for line in output.splitlines() if "step 0 of 2: 70 iterations" in line]
    assert len(bases) == 1, outputs
    assert len(list((tmp_path / "runs" / "cache" / "steps").iterdir())) == 1 + 2 * 2
    hits = sorted(run.manifest["steps"][0]["cache"] for run in read_runs(tmp_path / "runs")[0])
    assert hits == ["hit", "miss"]
