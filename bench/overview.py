"""What a command would do, as a table: cached steps, shared steps, steps to train, and what they take."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import reduce

from rich.table import Table

from bench import preflight
from bench.estimate import Due, due_steps, from_store
from bench.launch import Prepared, prepare, specs_of
from bench.meter import duration
from bench.plan import StepPlan
from bench.preflight import iterations_line
from bench.progress import announce, output
from bench.spec import RunSpec
from bench.workspace import workspace_of
from methods.published import settings_for

CACHED, SHARED, TRAIN, EMPTY = "●", "=", "+", "○"
LEGEND = f"{CACHED} cached   {SHARED} trained by a run above   {TRAIN} to train   {EMPTY} no training images"


def print_plan(overrides: Sequence[str], references: Sequence[str], keys: bool, probe: bool) -> int:
    """Prints what is there and what runs would do; returns the exit code: 2 if they could not start.

    keys: also every step with its key. probe: measures a few iterations for the estimate of time. Without data or
    weights it prints what the protocol alone tells. InputError: overrides that describe no runs.
    """
    specs = specs_of(overrides, references)
    workspace = workspace_of(specs[0].config.store)
    able = [spec for spec in specs if spec.unsupported is None] or specs
    findings = preflight.look(able, workspace)
    if any(finding.ok is False for finding in findings):
        runs = preflight.sketches(able)
        preflight.print_findings([*findings, preflight.disk(sum(run.bytes for run in runs), workspace.store)])
        preflight.print_sketches(runs)
        _print_published(able)
        missing = ", ".join(finding.what for finding in findings if finding.ok is False)
        announce(f"bench: these runs cannot start yet: {missing} (see above)")
        return 2
    prepared = prepare(overrides, references)
    due = due_steps(prepared)
    needed = sum(plan.state_bytes * len(due.of(plan)) / len(plan.steps) for plan in prepared.plans)
    room = preflight.disk(needed, workspace.store)
    preflight.print_findings([*findings, room])
    print_overview(prepared, due, probe, keys)
    return 0 if room.ok else 2


def print_overview(prepared: Prepared, due: Due, probe: bool, keys: bool) -> None:
    """One line a run, one sign a step; then what is to be trained in all, and how long that takes."""
    console = output()
    table = Table("run", "seed", "steps", "to train", "iterations")
    total = sum(len(plan.steps) for plan in prepared.plans)
    for plan in prepared.plans:
        own = due.of(plan)
        signs = "".join(_sign(prepared, step, step in own) for step in plan.steps)
        table.add_row(
            _name(plan.spec), str(plan.spec.seed), signs, str(len(own)), str(sum(step.iterations for step in own))
        )
    console.print(table)
    console.print(LEGEND, style="dim", soft_wrap=True)
    for spec, why in prepared.skipped:
        console.print(f"skipped: {spec.found.label} on {spec.protocol.name}: {why}", markup=False)
    console.print(
        f"{total} steps: {len(due.steps)} to train ({due.iterations} iterations), "
        f"{total - len(due.steps)} cached or shared",
        soft_wrap=True,
    )
    lines = [iterations_line(_name(plan.spec), [step.iterations for step in plan.steps]) for plan in prepared.plans]
    for line in dict.fromkeys(lines):
        console.print(line, soft_wrap=True, highlight=False)
    console.print(_time(prepared, due, probe), soft_wrap=True)
    _print_published([plan.spec for plan in prepared.plans])
    if keys:
        for plan in prepared.plans:
            for step in plan.steps:
                images = len(step.view.indices)
                console.print(
                    f"{plan.spec.found.label} s{plan.spec.seed} step {step.position}: {images} images, "
                    f"{step.iterations} iterations, key {step.key[:16]}",
                    highlight=False,
                )


def _name(spec: RunSpec) -> str:
    return f"{spec.found.label} {spec.protocol.name} {spec.protocol.setting}"


def _sign(prepared: Prepared, step: StepPlan, own: bool) -> str:
    if prepared.workspace.cache.has(step.base_key or step.key):
        return CACHED
    if not own:
        return SHARED
    return TRAIN if len(step.view) else EMPTY


def _time(prepared: Prepared, due: Due, probe: bool) -> str:
    if probe and due.steps:
        from bench.dry import probed_time  # here, because it builds on what a run needs

        return probed_time(prepared, due)
    seconds = from_store(prepared, due)
    if seconds is None:
        return "time: unknown until a step of this network has been trained in this store; --probe measures it"
    return f"training time: about {duration(seconds)}, judged by the steps trained in this store so far"


def _print_published(specs: Sequence[RunSpec]) -> None:
    for spec in {
        (spec.found.name, spec.protocol.name): spec for spec in specs if spec.config.track == "paper"
    }.values():
        output().print(_published(spec))


def _published(spec: RunSpec) -> Table:
    """The published recipe of a method on a protocol, each value with its source, and what the run changes in it."""
    title = f"{spec.found.label} as published for {spec.protocol.name}"
    columns = ("key", "published", "source", "this run")
    note = spec.found.method.note or None
    table = Table(*columns, title=title, title_justify="left", caption=note, caption_justify="left")
    used = {**asdict(spec.config), spec.found.name: asdict(spec.options)}
    for setting in settings_for(spec.found.method.published, spec.protocol):
        value = reduce(lambda node, key: node[key], setting.key.split("."), used)
        table.add_row(setting.key, str(setting.value), setting.source, "" if value == setting.value else str(value))
    return table
