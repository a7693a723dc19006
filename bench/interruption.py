"""Signals that ask a command to end: while a step is trained, it ends once the rolling checkpoint is written.

A cluster's scheduler sends them before it takes a machine away. Whoever installed a handler before (submitit, which
puts the job back into the queue) is asked last, once the checkpoint is safe.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))


class Stopped(SystemExit):
    """The command ends because a signal asked for it; its code is 128 and the signal's number."""


_previous: dict[int, object] = {}  # the handlers before ours, while ours are installed
_farewell: Callable[[int], None] | None = None  # what is done first
_asked: int | None = None  # the signal that came
_busy = 0  # blocks that must not be cut


@contextmanager
def obeyed(farewell: Callable[[int], None] | None = None) -> Iterator[None]:
    """Obeys signals within the block; in threads it does nothing.

    farewell: called with the signal before the command ends, to pass it on to other processes.
    """
    global _farewell
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    outermost, outer_farewell = not _previous, _farewell
    _farewell = farewell or outer_farewell
    if outermost:
        for number in SIGNALS:
            _previous[number] = signal.signal(number, _receive)
    try:
        if _asked is not None:  # it came between two jobs of one process
            stop()
        yield
    finally:
        _farewell = outer_farewell
        if outermost:
            for number, handler in _previous.items():
                signal.signal(number, handler)
            _previous.clear()


@contextmanager
def postponed() -> Iterator[None]:
    """Within the block a signal is only noted: the block looks with `asked` and calls `stop` where it is safe; else the
    command ends at the end of the block."""
    global _busy
    _busy += 1
    try:
        yield
    finally:
        _busy -= 1
    if _asked is not None and not _busy:
        stop()


def asked() -> bool:
    """Whether a signal has come."""
    return _asked is not None


def stop() -> None:
    """Ends the command: says so, asks whoever handled the signal before, and raises Stopped."""
    number = _asked if _asked is not None else signal.SIGTERM  # without one of our own: another process got it
    name = signal.Signals(number).name
    print(f"bench: ended by {name}; the same command goes on from here", file=sys.stderr, flush=True)
    if _farewell is not None:
        _farewell(number)
    before = _previous.get(number)
    if callable(before):
        before(number, None)
    raise Stopped(128 + number)


def _receive(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = number
    if not _busy:
        stop()
