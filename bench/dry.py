"""Trying runs out: a few iterations of their steps, of the real recipe, in a store that is thrown away."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import distributed
from bench.data.views import RawBatch, Share
from bench.engine import Engine
from bench.estimate import Due, Rates, due_steps, total_seconds
from bench.launch import Prepared, check_networks, prepare
from bench.machine import Machine
from bench.meter import Measured, Meter, duration, memory_text
from bench.plan import RunPlan, StepPlan, cut_short
from bench.progress import announce, output
from bench.workspace import DRY_RUN, Workspace
from protocols.files import aside_of, remove

ITERATIONS = 2  # of a dry run: the second is where optimiser state exists and a schedule has moved
PROBE = {"cuda": 30, "cpu": 4}  # iterations of a probe, by device: on a GPU until loading processes set the pace


@dataclass(frozen=True)
class Trial:
    """A run that was tried: its steps as far as they came, and why it did not come further."""

    plan: RunPlan
    steps: list[Measured]
    error: str | None
    exit_code: int

    @property
    def rates(self) -> Rates:
        """What the steps take; steps that were not tried take what the last one did."""
        return Rates([step.iteration for step in self.steps], [step.image for step in self.steps])


class _TimedEngine(Engine):
    """An engine that tells its reporter of every iteration."""

    def _batches(self, step: StepPlan, first: int, iterations: int, share: Share) -> Iterator[RawBatch]:
        for batch in super()._batches(step, first, iterations, share):
            with self.reporter.iteration():
                yield batch


def ready(overrides: Sequence[str], references: Sequence[str]) -> Prepared:
    """The runs that the overrides describe, planned, with networks that can be built. InputError: as `prepare`."""
    prepared = prepare(overrides, references)
    check_networks(prepared.plans)
    return prepared


def dry_run(overrides: Sequence[str], references: Sequence[str]) -> int:
    """Tries every step of every run that the overrides describe, one run after the other, in this process (or those of
    torchrun), and prints what whole runs would take.

    Nothing enters the store. Returns the exit code: that of the worst run. InputError: as `prepare`.
    """

    with distributed.session():
        prepared = distributed.main_first(lambda: ready(overrides, references))
        speaks = distributed.rank() == 0
        for spec, why in prepared.skipped if speaks else ():
            announce(f"skipped {spec.found.label} on {spec.protocol.name}: {why}")
        trials = []
        for plan in prepared.plans:
            trial = try_out(plan, prepared.workspace, ITERATIONS)
            trials.append(trial)
            if trial.error and speaks:
                announce(f"{_name(plan)}: step {_failed_at(trial)} failed: {trial.error}")
        if speaks:
            _print(prepared, trials)
        return max(trial.exit_code for trial in trials)


def try_out(
    plan: RunPlan, workspace: Workspace, iterations: int, steps: int | None = None, count: bool = False
) -> Trial:
    """Runs `iterations` of each of the first `steps` steps (default: of all), and as many batches of evaluation, in a
    folder beside the runs of the store, which is removed whatever happens. count: floating-point operations, too."""
    machine = Machine.of(plan.spec.config)
    quiet = Console(quiet=True) if distributed.rank() > 0 else None
    meter = Meter(_name(plan), len(plan.spec.protocol.steps), machine, quiet, count)
    short = cut_short(replace(plan, steps=plan.steps[:steps]), iterations, distributed.world())
    with _passing_store(workspace.store) as store:
        outcome = _TimedEngine(short, Workspace(store), machine, meter).run()
    return Trial(plan, meter.measured, outcome.error, outcome.exit_code)


@contextmanager
def _passing_store(store: Path) -> Iterator[Path]:
    """A hidden folder in the store, so that it lies on the same disk; one for all processes of a run. What a killed
    process left is removed, too."""
    folder = distributed.main_only(lambda: aside_of(store / DRY_RUN))
    try:
        yield folder
    finally:
        if distributed.rank() == 0:
            remove(folder)


def probed_time(prepared: Prepared, due: Due) -> str:
    """How long the steps in `due` will take, in words, by a short trial of each method on each network; two steps of
    one run stand for all runs of its recipe."""
    trials: dict[tuple, Trial] = {}
    total, told = 0.0, []
    for plan in prepared.plans:
        if not due.of(plan):
            continue
        train = plan.spec.config.train
        kind = (plan.spec.found.label, plan.spec.network, train.batch, train.accumulate, plan.spec.protocol.dataset)
        if kind not in trials:
            device = Machine.of(plan.spec.config).device.type
            trials[kind] = try_out(plan, prepared.workspace, PROBE[device], steps=2)
            told.append(_told(trials[kind]))
        seconds = total_seconds(trials[kind].rates, plan, due.of(plan))
        if seconds is None or trials[kind].error:
            return f"time: unknown, {_name(plan)} failed in the probe: {trials[kind].error}"
        total += seconds
    return (
        f"time: about {duration(total)} with evaluation, by a probe on this machine, without a method's own passes "
        f"over the images\n  {'; '.join(told)}"
    )


def _told(trial: Trial) -> str:
    first, later = _iteration_texts(trial.steps)
    label, network = trial.plan.spec.found.label, trial.plan.spec.network.name
    return f"{label} ({network}): {first} s an iteration at step 0{f', {later} later' if later else ''}"


def _name(plan: RunPlan) -> str:
    return f"{plan.spec.found.label} {plan.spec.protocol.name} seed {plan.spec.seed}"


def _failed_at(trial: Trial) -> int:
    """The step of the protocol in which a run ended."""
    return trial.plan.steps[len(trial.steps)].position


def _print(prepared: Prepared, trials: Sequence[Trial]) -> None:
    console = output()
    where = "GPU" if Machine.of(trials[0].plan.spec.config).device.type == "cuda" else "process"
    table = Table("run", "steps", "s at step 0", "s at later steps", "memory", "whole run")
    table.caption = f"s: an iteration; memory: peak of the {where}; whole run: estimate, nothing cached or shared"
    table.caption_justify = "left"
    for trial in trials:
        seconds = total_seconds(trial.rates, trial.plan, trial.plan.steps)
        table.add_row(
            _name(trial.plan),
            f"{len(trial.steps)} of {len(trial.plan.steps)}" + (" (failed)" if trial.error else ""),
            *_iteration_texts(trial.steps),
            memory_text(max(step.memory for step in trial.steps)) if trial.steps else "",
            "unknown" if seconds is None or trial.error else duration(seconds),
        )
    console.print(table)
    if any(trial.error for trial in trials):
        console.print("not all steps work: nothing was stored, and nothing should be run before the faults are mended")
        return
    due = due_steps(prepared)
    seconds = [total_seconds(trial.rates, trial.plan, due.of(trial.plan)) for trial in trials]
    total = "unknown" if None in seconds else duration(sum(seconds))
    console.print(
        f"every step works; nothing was stored. Estimate for all runs: {total}, "
        "without steps that are cached or shared; judged by the second iteration of each step, with evaluation and "
        "without a method's own passes over the images",
        soft_wrap=True,
    )


def _iteration_texts(steps: Sequence[Measured]) -> tuple[str, str]:
    """Seconds of an iteration in step 0, and the range of the later steps."""
    first = [step.iteration for step in steps[:1] if step.iteration is not None]
    later = [step.iteration for step in steps[1:] if step.iteration is not None]
    span = f"{min(later):.3g}" + (f" to {max(later):.3g}" if len(later) > 1 else "") if later else ""
    return (f"{first[0]:.3g}" if first else ""), span
