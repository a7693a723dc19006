"""Runs of the command line on tiny networks and a handful of rendered scenes."""

import os
import signal
import subprocess
import sys

import pytest

from bench.cli import main
from tests.small_archives import archives, merged, server, whole  # noqa: F401 (fixtures)

SMALL = [
    "--track", "demo", "--backbone", "deeplab", "train.crop=32", "train.batch=4", "train.base.iterations=4",
    "train.increment.iterations=3", "data.train_images=80", "data.val_images=20", "device=cpu", "threads=1",
]  # fmt: skip


@pytest.fixture
def bench(tmp_path, capsys, monkeypatch):
    """Calls the command line in this process, in an empty folder: bench("run", ...) -> (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def spawn(tmp_path):
    """Starts the command line as a process of its own, and group, in an empty folder. What still runs at the end is
    killed."""
    started = []

    def start(*arguments: str, program: tuple[str, str] = ("-m", "bench")) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, *program, *map(str, arguments)],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"}, preexec_fn=_hears_ctrl_c, process_group=0,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _hears_ctrl_c() -> None:
    """Shells start what runs in the background deaf to Ctrl-C, and so would be the tests' commands."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_arguments(methods: str, *more: str, protocol: str = "voc_10-5") -> list[str]:
    return ["run", "--methods", methods, "--protocol", protocol, *SMALL, *more]
