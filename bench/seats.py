"""Jobs side by side on one machine: each takes a seat, which is a CUDA device or a share of the cores.

A seat is a lock that its job holds, so it is free again however the job ends; beside it lies the job's process id, so
that a signal to the command can be passed on to its jobs.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from bench.data.parallel import usable_cpus
from bench.machine import take_device

FAREWELL_SECONDS = 120.0  # that jobs get to write their checkpoints in


@dataclass(frozen=True)
class Seats:
    """`count` seats, kept in `folder`."""

    folder: Path
    count: int

    @contextmanager
    def taken(self, device: str, threads: int | None) -> Iterator[int]:
        """Holds a free seat for the block, and makes its device and its share of the cores those of this process.

        device: auto, cpu or cuda. threads: the CPU threads of PyTorch, where they are given.
        """
        number, lock = self._find()
        try:
            self._process(number).write_text(str(os.getpid()))
            if device != "cpu" and torch.cuda.is_available():
                take_device(number % torch.cuda.device_count(), 1)
            if threads is None:
                torch.set_num_threads(max(1, usable_cpus() // self.count))
            yield number
        finally:
            self._process(number).unlink(missing_ok=True)
            lock.release()
            torch.cuda.empty_cache()  # the process may get another seat next; nothing where CUDA was not used

    def dismiss(self, number: int) -> None:
        """Sends the signal `number` to every job and waits until they have ended."""
        for file in self.folder.glob("seat-*.process"):
            with suppress(OSError, ValueError):
                os.kill(int(file.read_text()), signal.Signals(number))
        deadline = time.monotonic() + FAREWELL_SECONDS
        while self._busy() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _find(self) -> tuple[int, FileLock]:
        while True:
            for number in range(self.count):
                with suppress(Timeout):
                    lock = self._lock(number)
                    lock.acquire(timeout=0)
                    return number, lock
            time.sleep(0.05)

    def _busy(self) -> bool:
        for number in range(self.count):
            try:
                with self._lock(number).acquire(timeout=0):
                    pass
            except Timeout:
                return True
        return False

    def _lock(self, number: int) -> FileLock:
        return FileLock(self.folder / f"seat-{number}.lock")

    def _process(self, number: int) -> Path:
        return self.folder / f"seat-{number}.process"
