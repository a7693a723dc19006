"""What a step takes on the device at hand, measured while it is tried out."""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from bench.machine import Machine
from bench.plan import StepPlan
from bench.progress import Reporter

MIB = 2**20


@dataclass(frozen=True)
class Measured:
    """One step that was tried: seconds of one iteration and of one evaluated image (None where there were none), of the
    whole trial with loading and saving, the peak of memory so far in bytes (of the GPU, or of the process), and, where
    they were counted, the floating-point operations of an iteration (a multiplication and an addition are two)."""

    position: int
    iteration: float | None
    image: float | None
    trial: float
    memory: int
    flops: int | None = None


class Clock:
    """Time that each of `total` units of work takes. The first of several portions is left out: in it kernels are
    chosen, memory is taken for the first time and loading processes start. warm_up: how many are.

    The device is waited for at the end of those and of all, and not between: the host runs ahead of it, as in a run.
    """

    def __init__(self, device: torch.device, total: int, warm_up: int = 1) -> None:
        self._device, self._total, self._warm_up = device, total, warm_up
        self._done = [(time.monotonic(), 0)]  # when so many units were

    def done(self, units: int = 1) -> None:
        """Another portion of `units` is done, or in the queue of the device."""
        so_far = self._done[-1][1] + units
        if self._device.type == "cuda" and (len(self._done) == self._warm_up or so_far == self._total):
            torch.cuda.synchronize(self._device)
        self._done.append((time.monotonic(), so_far))

    @property
    def seconds(self) -> float | None:
        """Of one unit; None if nothing was done."""
        warm = len(self._done) > self._warm_up + 1
        (began, before), (ended, after) = self._done[self._warm_up if warm else 0], self._done[-1]
        return (ended - began) / (after - before) if after > before else None


class Meter(Reporter):
    """The reporter of a run that is tried out: measures every step, and tells it in one line.

    count: also the floating-point operations of an iteration, in the first one of each step, which takes longer so.
    The second is where torch.compile compiles, which does nothing while operations are counted.
    """

    def __init__(
        self, label: str, steps: int, machine: Machine, console: Console | None = None, count: bool = False
    ) -> None:
        super().__init__(label, steps, console)
        self.device, self.count = machine.device, count
        self._warm_up = 2 if machine.compile else 1
        self.measured: list[Measured] = []
        self._clock: Clock | None = None  # of the training that goes on
        self._next()

    def _next(self) -> None:
        self._began = time.monotonic()
        self._iteration = self._image = self._flops = None

    @contextmanager
    def iteration(self) -> Iterator[None]:
        """Around an iteration. Outside of training, in a method's own passes over the images, nothing is measured."""
        if self._clock is None:
            yield
            return
        if self.count and self._flops is None:
            with FlopCounterMode(display=False) as counter:
                yield
            self._flops = counter.get_total_flops()
        else:
            yield
        self._clock.done()

    @contextmanager
    def training(self, step: StepPlan) -> Iterator[Callable[[int, dict[str, float], float], None]]:
        self._clock = Clock(self.device, step.due, self._warm_up)
        try:
            with super().training(step) as progress:
                yield progress
            self._iteration = self._clock.seconds
        finally:
            self._clock = None

    @contextmanager
    def evaluating(self, step: StepPlan, images: int) -> Iterator[Callable[[int], None]]:
        clock, before = Clock(self.device, images), 0
        with super().evaluating(step, images) as progress:

            def portion(done: int) -> None:
                nonlocal before
                clock.done(done - before)
                before = done
                progress(done)

            yield portion
        self._image = clock.seconds

    def step_done(self, step: StepPlan, trained: bool) -> None:
        trial = time.monotonic() - self._began
        found = Measured(step.position, self._iteration, self._image, trial, peak_memory(self.device), self._flops)
        self.measured.append(found)
        each = "no training images" if found.iteration is None else f"{found.iteration:.3g} s an iteration"
        self.say(
            f"{self.label}: step {step.position} of {self.steps - 1} is fine: {trial:.1f} s in all, {each}, "
            f"peak {memory_text(found.memory)}{'' if self.device.type == 'cuda' else ' of the process so far'}"
        )
        self._next()


def peak_memory(device: torch.device) -> int:
    """Bytes: on a GPU what PyTorch had allocated at most since the step began, else the peak of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory_text(amount: float) -> str:
    """Bytes as a person reads them."""
    return f"{amount / 2**30:.1f} GiB" if amount >= 2**30 else f"{amount / MIB:.0f} MiB"


def duration(seconds: float) -> str:
    """Seconds as a person reads them."""
    for limit, unit, size in ((90, "s", 1), (90 * 60, "min", 60), (48 * 3600, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86400:.1f} days"
