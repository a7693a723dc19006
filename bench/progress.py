"""What a person sees while runs go on: bars in a terminal, one line a step elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

if TYPE_CHECKING:
    from bench.plan import StepPlan


class Reporter:
    """Tells of one run, on standard error."""

    def __init__(self, label: str, steps: int, console: Console | None = None):
        self.label, self.steps = label, steps
        self.console = console or Console(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, soft_wrap=True, markup=False)

    def waiting(self, index: int) -> None:
        """Another process is training the step that this run needs."""
        self.say(f"{self.label}: step {index} is being trained by another process; waiting for it")

    def step_done(self, step: "StepPlan", trained: bool) -> None:
        """A step is finished: trained now, or taken from the cache."""
        if len(step.view) == 0:
            how = "no training images: the network grew and was not trained"
        else:
            how = f"{step.iterations} iterations on {len(step.view.indices)} images" if trained else "from the cache"
        if trained or not self.console.is_terminal:
            self.say(f"{self.label}: step {step.position} of {self.steps - 1}: {how}")

    @contextmanager
    def training(self, step: "StepPlan") -> Iterator[Callable[[int, dict[str, float], float], None]]:
        """A bar over the iterations of a step, with losses and images a second."""
        with _bar(self.console, f"{self.label} step {step.position}", step.iterations) as advance:

            def progress(iteration: int, losses: dict[str, float], images_per_second: float) -> None:
                text = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
                advance(iteration, f"{text}  {images_per_second:.0f} images/s")

            yield progress

    @contextmanager
    def evaluating(self, step: "StepPlan", images: int) -> Iterator[Callable[[int], None]]:
        """A bar over the evaluated images."""
        with _bar(self.console, f"{self.label} step {step.position} evaluation", images) as advance:
            yield lambda done: advance(done, "")


@contextmanager
def counting(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar for a pass over files; calls of the callback give (done, total, or None).
    Nothing is shown outside a terminal."""
    with _bar(Console(stderr=True), title, None) as advance:
        yield lambda done, total: advance(done, "", total)


@contextmanager
def transferring(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar for a download; calls of the callback give (bytes done, bytes in all or None). Nothing is shown outside a
    terminal."""
    with _bar(Console(stderr=True), title, None, (DownloadColumn(), TransferSpeedColumn())) as advance:
        yield lambda done, total: advance(done, "", total)


@contextmanager
def _bar(
    console: Console, title: str, total: int | None, amount: tuple[ProgressColumn, ...] = (MofNCompleteColumn(),)
) -> Iterator[Callable[..., None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        *amount,
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(title, total=total, text="")
        yield lambda done, text, total=total: bars.update(task, completed=done, text=text, total=total)


def announce(text: str) -> None:
    """A line on standard error outside any run."""
    print(text, file=sys.stderr, flush=True)
