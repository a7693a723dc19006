"""Several processes at work on one store, with flock and on file systems that have none."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from results.schema import read_runs
from tests.e2e.conftest import run_arguments
from tests.faults.stores import check_same, check_sound

pytestmark = pytest.mark.timeout(900)

RUN = [*run_arguments("mib"), "train.base.iterations=60", "train.increment.iterations=40", "checkpoint_seconds=0"]
WITHOUT_FLOCK = """
import errno, fcntl, os, sys

def flock(descriptor, operation):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

fcntl.flock = flock
from bench.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(params=["flock", "no flock"])
def start(request, spawn, tmp_path) -> Callable[..., subprocess.Popen]:
    """Starts the command line, also as it is where the file system answers ENOSYS to flock."""
    if request.param == "flock":
        return spawn
    return lambda *words: subprocess.Popen(
        [sys.executable, "-c", WITHOUT_FLOCK, *map(str, words)],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ends(processes: list[subprocess.Popen]) -> list[str]:
    outputs = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return outputs


def trained(outputs: list[str]) -> list[str]:
    """The method and step of each training that some process tells of."""
    return sorted(
        f"{method} {step}"
        for output in outputs
        for method, step in re.findall(r"^(\w+) \S+ seed \d+: step (\d+) of \d+: \d+ iterations on", output, re.M)
    )


def test_four_processes_with_one_command_train_each_step_once(start, tmp_path):
    ends([start(*RUN, "store=whole")])
    outputs = ends([start(*RUN, "store=runs") for _ in range(4)])
    assert trained(outputs) == ["mib 0", "mib 1", "mib 2"], outputs
    tables = {output[output.index("mIoU (%) at the last step") :] for output in outputs}
    assert len(tables) == 1, "they do not end with the same result"
    check_same(tmp_path / "runs", tmp_path / "whole")


def test_four_commands_that_share_a_base_train_it_once(start, tmp_path):
    methods = ("finetune", "lwf", "ilt", "mib")
    commands = [[*run_arguments(name), "train.base.iterations=60"] for name in methods]
    outputs = ends([start(*words) for words in commands])
    bases = [one for one in trained(outputs) if one.endswith(" 0")]
    assert len(bases) == 1 and len(trained(outputs)) == 1 + 2 * len(methods), outputs
    runs = read_runs(tmp_path / "runs")[0]
    assert sorted(run.manifest["steps"][0]["cache"] for run in runs) == ["hit", "hit", "hit", "miss"]
    check_sound(tmp_path / "runs")


def test_who_waits_takes_over_within_a_minute_of_a_kill(start, tmp_path):
    """Three in a row are killed while they hold the step; the fourth ends it from where they were."""
    ends([start(*RUN, "store=whole")])
    rolling = tmp_path / "runs" / "cache" / "rolling"

    def checkpoint() -> float:
        return max((path.stat().st_mtime for path in rolling.glob("[!.]*.safetensors")), default=0.0)

    def advance(since: float, process: subprocess.Popen, seconds: float) -> float:
        begun = time.monotonic()
        while checkpoint() <= since:
            assert time.monotonic() - begun < seconds and process.poll() is None, "nobody took over"
            time.sleep(0.01)
        return time.monotonic() - begun

    holder, taken = start(*RUN, "store=runs"), []
    advance(0.0, holder, 300)
    for _ in range(3):
        holder.send_signal(signal.SIGSTOP)  # it holds the lock, and gets no further
        waiter = start(*RUN, "store=runs")
        while "waiting for it" not in waiter.stdout.readline():
            assert waiter.poll() is None
        last = checkpoint()
        holder.kill()
        holder.communicate()  # without it the process would still be there, as a zombie
        taken.append(advance(last, waiter, 60))
        holder = waiter
    print(f"taken over after {', '.join(f'{seconds:.1f}' for seconds in taken)} s")
    ends([holder])
    check_same(tmp_path / "runs", tmp_path / "whole")
