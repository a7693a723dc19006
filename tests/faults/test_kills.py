"""A run that is ended thirty times and more, at random moments, and started again with the same command."""

import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.conftest import run_arguments
from tests.faults.stores import check_same, check_sound, clear, files, phase, published, tally

# Bit-equality holds for one device and one number of threads: both are in SMALL. Three steps, a checkpoint every 20
# iterations, an evaluation after each step.
RUN = [*run_arguments("mib"), "train.base.iterations=80", "train.increment.iterations=40", "checkpoint_seconds=0"]
REPORT = ["report", "--format", "md,csv,latex,html,png"]
STEPS = 3
SECONDS = 300
START = 2.0  # seconds in which an interpreter may still be starting
HOW = ("at a time", "at a change", "within a step")
LAST_CHANGES = 8  # of files, at least, from the last published step to the end


class Command:
    """A command with its own outputs, which can be ended at any moment."""

    def __init__(self, spawn: Callable[..., subprocess.Popen], words: list[str], folder: Path):
        self.spawn, self.words, self.folder = spawn, words, folder

    def whole(self) -> tuple[float, int]:
        """Runs to its end; the seconds that took, and how often the files of its folder were seen to change."""
        start = time.monotonic()
        process = self.spawn(*self.words)
        changes = self.follow(process, None)
        output, _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, output
        return time.monotonic() - start, changes

    def ended_after(self, seconds: float, number: int) -> tuple[int, str]:
        """Sends a signal after some time, or lets it end first."""
        process = self.spawn(*self.words)
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        output, _ = process.communicate(timeout=SECONDS)
        return process.returncode, output

    def ended_at_change(self, change: int, number: int) -> tuple[int, str]:
        """Sends a signal as soon as the files of its folder have changed so many times: while it writes."""
        process = self.spawn(*self.words)
        self.follow(process, change)
        return self._end(process, number)

    def ended_within(self, step: int, number: int) -> tuple[int, str]:
        """Sends a signal as soon as so many steps are published and it has written a checkpoint of the next."""
        left = checkpoints(self.folder)  # by whoever was ended before
        process = self.spawn(*self.words)
        while process.poll() is None:
            if len(published(self.folder)) >= step and checkpoints(self.folder) - left:
                break
            time.sleep(0.001)
        return self._end(process, number)

    def _end(self, process: subprocess.Popen, number: int) -> tuple[int, str]:
        if process.poll() is None:
            process.send_signal(number)
        output, _ = process.communicate(timeout=SECONDS)
        return process.returncode, output

    def follow(self, process: subprocess.Popen, last: int | None) -> int:
        """Waits for the last of so many changes of the files, or for the end of the process; the changes seen."""
        before, changes = state(self.folder), 0
        while process.poll() is None and changes != last:
            now = state(self.folder)
            changes += now != before
            before = now
        return changes


def checkpoints(folder: Path) -> set[tuple[str, int]]:
    """The checkpoints within steps: file and time of each."""
    found = set()
    for path in (folder / "cache" / "rolling").rglob("[!.]*"):
        try:
            found.add((path.name, path.stat().st_mtime_ns))
        except OSError:
            continue
    return found


def state(folder: Path) -> dict[str, int]:
    sizes = {}
    for name, path in files(folder).items():
        try:
            sizes[name] = path.stat().st_size
        except OSError:
            continue
    return sizes


class Pair(NamedTuple):
    """The run and the report of it, and for each the seconds and the changes of files that it takes undisturbed; and
    the seconds that the run takes when nothing is left to do."""

    run: Command
    report: Command
    run_takes: tuple[float, int]
    report_takes: tuple[float, int]
    idle: float

    def takes(self, command: Command, store: Path) -> tuple[float, int]:
        """Seconds and changes that a command takes from here on, with what is published already."""
        if command is self.report:
            return self.report_takes
        left = 1 - len(published(store)) / STEPS
        seconds, changes = self.run_takes
        return self.idle + left * max(0.0, seconds - self.idle), max(LAST_CHANGES, round(left * changes))


@pytest.fixture
def pair(spawn, tmp_path) -> Pair:
    """Both have gone through undisturbed in the store `whole` and the folder `whole-out`."""
    whole = Command(spawn, [*RUN, "store=whole"], tmp_path / "whole")
    run_takes, (idle, _) = whole.whole(), whole.whole()
    report_takes = Command(spawn, [*REPORT, "--store", "whole", "--out", "whole-out"], tmp_path / "whole-out").whole()
    run = Command(spawn, [*RUN, "store=runs"], tmp_path / "runs")
    report = Command(spawn, [*REPORT, "--store", "runs", "--out", "out"], tmp_path / "out")
    return Pair(run, report, run_takes, report_takes, idle)


def endure(pair: Pair, tmp_path: Path, number: int, times: int, code: int, seed: int) -> list[str]:
    """Ends run and report `times` times, in as many rounds as it takes; every round must end as if nothing had been.

    A third of the moments are random times, a third random changes of the files, a third training of a random step, all
    drawn from what is left to do; one a round is of the report. Returns what was on disk at each moment.
    """
    store, out = tmp_path / "runs", tmp_path / "out"
    draw, moments = random.Random(seed), []
    while len(moments) < times:
        clear(store, out)
        made: dict[str, tuple[int, int]] = {}
        for command in (pair.run, pair.report):
            done, most = False, times if command is pair.run else min(times, len(moments) + 1)
            while not done and len(moments) < most:
                seconds, changes = pair.takes(command, store)
                steps, how, after = len(published(store)), draw.choice(HOW), seconds
                if how == "within a step" and command is pair.run and steps < STEPS:
                    returned, output = command.ended_within(draw.randrange(steps, STEPS), number)
                elif how == "at a change":
                    returned, output = command.ended_at_change(draw.randint(1, changes), number)
                else:
                    after = draw.uniform(0.0, seconds)
                    returned, output = command.ended_after(after, number)
                # Before the program has begun, and once it has said its last, a signal is the interpreter's.
                unborn = after < START and returned == -number != -signal.SIGKILL
                done = returned == 0 or ("written: " in output if command is pair.report else "files: runs/" in output)
                if done:
                    assert returned in (0, code, -number), f"{returned}: {output}"
                elif not unborn:
                    assert returned == code, f"{returned}: {output}"
                    if number != signal.SIGKILL:
                        assert "the same command goes on from here" in output and "Traceback" not in output, output
                    moments.append("report" if command is pair.report else phase(store))
                check_sound(store)
                now = published(store)
                assert {key: now[key] for key in made} == made, "a published step was trained again"
                made = now
            command.whole()
        assert len(published(store)) == STEPS and published(store).items() >= made.items()
        check_same(store, tmp_path / "whole")
        check_same(out, tmp_path / "whole-out")
    return moments


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("number", "times", "code"),
    [(signal.SIGKILL, 30, -signal.SIGKILL), (signal.SIGTERM, 12, 143), (signal.SIGINT, 12, 130)],
    ids=["SIGKILL", "SIGTERM", "Ctrl-C"],
)
def test_ended_at_random_moments(pair, tmp_path, capsys, number, times, code):
    moments = endure(pair, tmp_path, number, times, code, seed=0)
    with capsys.disabled():
        print(f"\n{times} x {signal.Signals(number).name}:\n{tally(moments)}")
    assert len(set(moments)) >= 4, "the moments were all alike"
    assert "report" in moments and len({moment.split(":")[0] for moment in moments}) >= 3
    if number == signal.SIGKILL:  # the others wait until a write is done
        written = {name for moment in moments for name in moment.partition("writing ")[2].split(", ") if name}
        assert "rolling" in written and written & {"steps", "counts", "run"}, moments
