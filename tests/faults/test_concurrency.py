"""Several processes at work on one store, with flock and on file systems that have none."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from safetensors import SafetensorError, safe_open

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
def start(request, spawn) -> Callable[..., subprocess.Popen]:
    """Starts the command line, also as it is where the file system answers ENOSYS to flock."""
    return spawn if request.param == "flock" else partial(spawn, program=("-c", WITHOUT_FLOCK))


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


def newest(rolling: Path) -> tuple[int, str, int]:
    """Time of the newest checkpoint, the step it is of, and the iteration that it holds."""
    found = (0, "", 0)
    for path in rolling.glob("[!.]*.safetensors"):
        with suppress(OSError, SafetensorError):
            written = path.stat().st_mtime_ns
            with safe_open(path, "pt") as file:
                iteration = json.loads(file.metadata()["json"])["position"]["iteration"]
            if path.stat().st_mtime_ns == written:  # else it was replaced meanwhile: the next look sees which it is
                found = max(found, (written, path.stem, iteration))
    return found


def test_who_waits_takes_over_within_a_minute_of_a_kill(start, tmp_path):
    """Three in a row are killed while they hold the step; the fourth ends it. Each goes on where the last was."""
    words = [*RUN, "train.base.iterations=300", "train.increment.iterations=100"]
    ends([start(*words, "store=whole")])
    rolling = tmp_path / "runs" / "cache" / "rolling"

    def next_after(before: tuple[int, str, int], process: subprocess.Popen, seconds: float):
        begun = time.monotonic()
        while (now := newest(rolling)) <= before:
            assert time.monotonic() - begun < seconds and process.poll() is None, "nobody took over"
            time.sleep(0.01)
        return now, time.monotonic() - begun

    holder, taken = start(*words, "store=runs"), []
    next_after((0, "", 0), holder, 300)
    for _ in range(3):
        holder.send_signal(signal.SIGSTOP)  # it holds the lock, and gets no further
        waiter = start(*words, "store=runs")
        while "waiting for it" not in waiter.stdout.readline():
            assert waiter.poll() is None
        before = newest(rolling)
        holder.kill()
        holder.communicate()  # without it the process would still be there, as a zombie
        now, seconds = next_after(before, waiter, 60)
        assert now[1] != before[1] or now[2] > before[2], "it began the step anew"
        taken.append(seconds)
        holder = waiter
    print(f"taken over after {', '.join(f'{seconds:.1f}' for seconds in taken)} s")
    ends([holder])
    check_same(tmp_path / "runs", tmp_path / "whole")
