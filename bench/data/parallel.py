"""The same small thing done to thousands of files, by several processes."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from protocols.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

FEW = 256  # this many are done here, before other processes would have started
CHUNK = 32  # handed to a process at a time


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], processes: int | None = None
) -> Iterator[Result]:
    """function(item) of every item, in order.

    function: of a module that imports no torch: each process imports that module anew (they are spawned, since a
    process with threads, or with a GPU, does not survive a fork). processes: default: one for each CPU that this
    process may use. What the function raises reaches the caller as it is; InputError: a process was killed.
    """
    processes = usable_cpus() if processes is None else processes
    if processes == 1 or len(items) <= FEW or multiprocessing.current_process().daemon:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_leave_interrupts_to_the_parent)
    try:
        yield from pool.map(function, items, chunksize=CHUNK)
    except BrokenProcessPool as fault:
        raise InputError(
            f"one of the {processes} processes that read the files was killed: if memory ran out, run "
            "`bench data index` with --processes 1 first"
        ) from fault
    finally:
        pool.shutdown(cancel_futures=True)


def usable_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
