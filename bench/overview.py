"""What a command would do, as a table: cached steps, shared steps, steps to train, and what they take."""

from collections.abc import Iterable
from dataclasses import asdict
from functools import reduce
from statistics import median

from rich.console import Console
from rich.table import Table

from bench.launch import Prepared
from bench.plan import RunPlan, StepPlan
from bench.spec import RunSpec
from methods.published import settings_for

CACHED, SHARED, TRAIN, EMPTY = "●", "=", "+", "○"
LEGEND = f"{CACHED} cached   {SHARED} trained by a run above   {TRAIN} to train   {EMPTY} no training images"


def print_overview(prepared: Prepared, keys: bool) -> None:
    """Prints one line a run, one sign a step; then what is to be trained in all."""
    console = Console()
    cache = prepared.workspace.cache
    table = Table("run", "seed", "steps", "to train", "iterations")
    promised: dict[str, tuple[RunPlan, StepPlan]] = {}
    total = 0
    for plan in prepared.plans:
        signs, due = "", []
        for step in plan.steps:
            key = step.base_key or step.key
            if cache.has(key):
                signs += CACHED
            elif key in promised:
                signs += SHARED
            else:
                signs += TRAIN if len(step.view) else EMPTY
                promised[key] = (plan, step)
                due.append(step)
        total += len(plan.steps)
        name = f"{plan.spec.found.label} {plan.spec.protocol.name} {plan.spec.protocol.setting}"
        table.add_row(name, str(plan.spec.seed), signs, str(len(due)), str(sum(step.iterations for step in due)))
    console.print(table)
    console.print(LEGEND, style="dim", soft_wrap=True)
    for spec, why in prepared.skipped:
        console.print(f"skipped: {spec.found.label} on {spec.protocol.name}: {why}", markup=False)
    iterations = sum(step.iterations for _, step in promised.values())
    disk = sum(plan.state_bytes * len(plan_steps(promised, plan)) / len(plan.steps) for plan in prepared.plans)
    console.print(
        f"{total} steps: {len(promised)} to train ({iterations} iterations), {total - len(promised)} cached or shared; "
        f"disk for them: about {disk / 2**20:.0f} MB",
        soft_wrap=True,
    )
    console.print(_time_estimate(prepared, promised.values()), soft_wrap=True)
    for plan in {(plan.spec.found.name, plan.spec.protocol.name): plan for plan in prepared.plans}.values():
        if plan.spec.config.track == "paper":
            console.print(_published(plan.spec))
    if keys:
        for plan in prepared.plans:
            for step in plan.steps:
                images = len(step.view.indices)
                console.print(
                    f"{plan.spec.found.label} s{plan.spec.seed} step {step.position}: {images} images, "
                    f"{step.iterations} iterations, key {step.key[:16]}",
                    highlight=False,
                )


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


def plan_steps(promised: dict[str, tuple[RunPlan, StepPlan]], plan: RunPlan) -> list[StepPlan]:
    """The steps that `plan` is the first to need."""
    return [step for owner, step in promised.values() if owner is plan]


def _time_estimate(prepared: Prepared, due: Iterable[tuple[RunPlan, StepPlan]]) -> str:
    """From the seconds that steps of this store took; a method that was never trained is guessed from the same
    network."""
    seconds: dict[tuple[str, str | None], list[float]] = {}
    for meta in prepared.workspace.cache.metas().values():
        if meta["iterations"] and meta["seconds"]:
            each = meta["seconds"] / meta["iterations"]
            for label in (meta["method"], None):
                seconds.setdefault((meta["network"], label), []).append(each)
    total = 0.0
    for plan, step in due:
        network = plan.spec.config.network.name
        known = seconds.get((network, plan.spec.found.label)) or seconds.get((network, None))
        if known is None:
            return "time: unknown until a step of this network has been trained in this store"
        total += median(known) * step.iterations
    return f"training time: about {total / 60:.1f} minutes, judged by the steps trained in this store so far"
