"""Signals and kills: what a process that is told to end leaves, and what goes on without it."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from results.schema import read_runs
from tests.e2e.conftest import run_arguments

LONG = ["train.base.iterations=70", "train.increment.iterations=30", "checkpoint_seconds=1000"]


def wait_for(condition, process: subprocess.Popen, seconds: float = 180):
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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_a_signal_writes_the_checkpoint_and_the_same_command_ends_bit_equal(bench, spawn, tmp_path, number, code):
    """Whatever iteration it comes in, between two rows of the log too: the checkpoint holds their sums."""
    assert bench(*run_arguments("mib", *LONG, "store=whole"))[0] == 0
    store = tmp_path / "told"
    for step in (0, 1):
        process = spawn(*run_arguments("mib", *LONG, "store=told"))
        wait_for(lambda step=step: is_training(store, step), process)
        time.sleep(0.3)  # into the step
        process.send_signal(number)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == code, output
        assert f"ended by {number.name}; the same command goes on from here" in output and "Traceback" not in output
        assert len(rolling(store)) == 1 or step == 1  # the second may come after the step it was meant for
    output, _ = spawn(*run_arguments("mib", *LONG, "store=told")).communicate(timeout=240)
    (whole,), (told,) = (read_runs(tmp_path / name)[0] for name in ("whole", "told"))
    assert (whole.path / "counts.npz").read_bytes() == (told.path / "counts.npz").read_bytes(), output
    assert (whole.path / "log.csv").read_text() == (told.path / "log.csv").read_text()
    assert not rolling(store)


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
    output, _ = waiter.communicate(timeout=240)
    assert waiter.returncode == 0, output
    (whole,), (shared,) = (read_runs(tmp_path / name)[0] for name in ("whole", "shared"))
    assert (whole.path / "counts.npz").read_bytes() == (shared.path / "counts.npz").read_bytes()
    assert (whole.path / "log.csv").read_text() == (shared.path / "log.csv").read_text()


def test_two_commands_at_once_train_each_shared_step_once(spawn, tmp_path):
    processes = [spawn(*run_arguments("finetune", *LONG)), spawn(*run_arguments("lwf", *LONG))]
    outputs = [process.communicate(timeout=280)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    bases = [line for output in outputs for line in output.splitlines() if "step 0 of 2: 70 iterations" in line]
    assert len(bases) == 1, outputs
    assert len(list((tmp_path / "runs" / "cache" / "steps").iterdir())) == 1 + 2 * 2
    hits = sorted(run.manifest["steps"][0]["cache"] for run in read_runs(tmp_path / "runs")[0])
    assert hits == ["hit", "miss"]
