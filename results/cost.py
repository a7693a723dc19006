"""What training cost, as the manifests recorded it: time, throughput, memory, parameters, hardware."""

import math
from collections.abc import Sequence

from results.groups import rows_of, the_group
from results.schema import Run
from results.statistics import summary
from results.table import Column, Table
from results.tables import SEEDS, line_of, n_complete, table_of

COLUMNS = (
    SEEDS,
    Column("step 0", "s", over="training"),
    Column("later steps", "s", over="training"),
    Column("total", "s", over="training"),
    Column("images/s"),
    Column("peak memory", "MB", digits=0),
    Column("parameters", "million", digits=2, spread=False),
)
HOW = (
    "training time only, each step counted in full even where its network was shared with another run; images/s over "
    "all steps; peak memory of an accelerator; trainable parameters at the last step",
)


def cost_table(runs: Sequence[Run], convention: str = "default") -> Table | None:
    """Seconds, images per second, peak memory and parameters of complete runs; None if no manifest records seconds.

    Nothing is marked as best: times of different machines do not compare. ValueError: the runs are not one group.
    """
    group = the_group(runs)
    rows = rows_of(group)
    if not any(_trained(run) for row in rows for run in row.used):
        return None
    lines, machines = [], {}
    for row in rows:
        costs = [_cost(run) if row.complete else [math.nan] * (len(COLUMNS) - 1) for run in row.used]
        machine = "; ".join(sorted({name for run in row.used for name in hardware(run)}))
        machines.setdefault(machine, []).append(row.label)
        lines.append(line_of(row, (n_complete(row), *map(summary, zip(*costs, strict=True))), hardware=machine))
    below = (*HOW, *_machine_notes(machines))
    return table_of(group, convention, "cost", "Cost of training", COLUMNS, lines, below=below)


def _trained(run: Run) -> list[dict]:
    """The records of the steps that were trained."""
    return [step for step in run.manifest.get("steps", ()) if step.get("seconds") and step.get("iterations")]


def _cost(run: Run) -> list[float]:
    """The cells of COLUMNS for one run, NaN for what its manifest does not say."""
    steps = _trained(run)
    if not steps:
        return [math.nan] * (len(COLUMNS) - 1)
    seconds = {step["index"]: step["seconds"] for step in steps}
    total = training_seconds(run)
    single = run.manifest["single_step"]
    rates = [step["images_per_second"] * step["seconds"] for step in steps if step.get("images_per_second")]
    memory = [step["peak_memory_mb"] for step in steps if step.get("peak_memory_mb")]
    parameters = run.manifest.get("trainable_parameters")
    return [
        math.nan if single else seconds.get(0, 0.0),
        math.nan if single else total - seconds.get(0, 0.0),
        total,
        sum(rates) / total if len(rates) == len(steps) else math.nan,
        max(memory, default=math.nan),
        parameters / 1e6 if parameters else math.nan,
    ]


def training_seconds(run: Run) -> float:
    """Seconds of training over all steps; NaN for an incomplete run and where its manifest has none."""
    steps = _trained(run)
    return sum(step["seconds"] for step in steps) if steps and not run.missing_steps else math.nan


def hardware(run: Run) -> set[str]:
    """What the steps of a run were trained on, as text."""
    machines = [step.get("hardware") or {} for step in _trained(run)]
    return {_machine(one) for one in machines if one.get("name")}


def _machine(known: dict) -> str:
    threads = f", {known['threads']} threads" if known.get("device") == "cpu" and "threads" in known else ""
    return f"{known['name']}{threads}"


def _machine_notes(machines: dict[str, list[str]]) -> list[str]:
    """One sentence if all rows ran on one kind of machine; otherwise one for each."""
    named = {machine or "not recorded": labels for machine, labels in machines.items()}
    if len(named) == 1:
        return [f"hardware: {next(iter(named))}"]
    return [f"hardware of {', '.join(labels)}: {machine}" for machine, labels in named.items()]
