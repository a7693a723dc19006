"""How fast methods train on the device at hand, and how much of it they use."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from bench.dry import Trial, ready, try_out
from bench.machine import Machine
from bench.manifest import hardware, versions
from bench.meter import Measured
from bench.progress import announce, output
from protocols.errors import InputError
from results.schema import csv_text, write_atomically

PEAK_TFLOPS = {  # dense bf16, NVIDIA's data sheets; by a part of the card's name, of which the longest that fits holds
    "H200": 989,
    "H200 NVL": 835,
    "H100": 989,
    "H100 NVL": 835,
    "H100 PCIe": 756,
    "A100": 312,
    "L40S": 362,
    "RTX 4090": 165,
}


@dataclass(frozen=True)
class Speed:
    """One method in one step: a row of the file. peak_memory_gib is the GPU's, or the process's so far; mfu the share
    of the card's bf16 peak that forward and backward passes reach, empty where that peak is not known.

    PyTorch's counter counts a fused attention's backward with the scores that it computes again, a fifth of it: on
    ViT-B/16 at 512 x 512 the operations, and so mfu, are 3 % more than those of the model at step 0, and 2 % more
    beside a teacher.
    """

    device: str
    torch: str
    method: str
    network: str
    weights: str
    data: str
    protocol: str
    step: int
    slots: int
    crop: int
    batch: int
    precision: str
    compiled: bool
    iterations: int
    seconds_per_iteration: float
    images_per_second: float
    peak_memory_gib: float
    tflop_per_iteration: float
    mfu: float | None


def measure(overrides: Sequence[str], references: Sequence[str], iterations: int, path: Path) -> int:
    """Trains `iterations` of step 0 and of the first increment of every run that the overrides describe, prints what
    they took, and writes it to `path` as CSV. Nothing enters the store. Returns the exit code: that of the worst run.

    InputError: as `prepare`; the file cannot be written.
    """
    prepared = ready(overrides, references)
    speeds, worst = [], 0
    for plan in prepared.plans:
        trial = try_out(plan, prepared.workspace, iterations, steps=2, count=True)
        worst = max(worst, trial.exit_code)
        if trial.error:
            announce(f"{plan.spec.found.label} failed in step {len(trial.steps)}: {trial.error}")
        speeds += [_speed(trial, place, iterations) for place, one in enumerate(trial.steps) if one.iteration]
    if not speeds:
        raise InputError("nothing was measured: no run came through step 0")
    write_atomically(path, csv_text([asdict(speed) for speed in speeds]).encode())
    _print(speeds)
    announce(f"written: {path}")
    return worst


def _speed(trial: Trial, place: int, iterations: int) -> Speed:
    """What the step at `place` of a trial took."""
    spec, measured, step = trial.plan.spec, trial.steps[place], trial.plan.steps[place]
    train, found = spec.config.train, hardware(Machine.of(spec.config))
    name = found["name"]
    return Speed(
        device=name if found["device"] == "cuda" else f"{name}, {found['threads']} threads",
        torch=versions()["torch"],
        method=spec.found.label,
        network=spec.network.name,
        weights="random" if spec.network.pretrained == "none" else spec.network.pretrained,
        data=spec.config.data.name,
        protocol=spec.protocol.name,
        step=step.position,
        slots=step.step.n_slots,
        crop=train.crop,
        batch=train.batch,
        precision=train.precision,
        compiled="compile" in found,
        iterations=min(iterations, step.iterations),
        seconds_per_iteration=round(measured.iteration, 4),
        images_per_second=round(train.batch / measured.iteration, 2),
        peak_memory_gib=round(measured.memory / 2**30, 2),
        tflop_per_iteration=round(measured.flops / 1e12, 4),
        mfu=_utilisation(measured, name, train.precision),
    )


def _utilisation(measured: Measured, device: str, precision: str) -> float | None:
    card = max((card for card in PEAK_TFLOPS if card in device), key=len, default=None)
    if card is None or precision != "bf16":
        return None
    return round(measured.flops / measured.iteration / (PEAK_TFLOPS[card] * 1e12), 3)


def _print(speeds: Sequence[Speed]) -> None:
    table = Table(
        "method", "network", "precision", "step", "slots", "batch", "images/s", "peak memory", "TFLOP/s", "MFU"
    )
    table.title = f"{speeds[0].device}, crop {speeds[0].crop}, {speeds[0].iterations} iterations"
    for one in speeds:
        rate = one.tflop_per_iteration / one.seconds_per_iteration
        table.add_row(
            one.method,
            one.network,
            one.precision,
            str(one.step),
            str(one.slots),
            str(one.batch),
            f"{one.images_per_second:.1f}",
            f"{one.peak_memory_gib:.2f} GiB",
            f"{rate:.3g}",
            "" if one.mfu is None else f"{100 * one.mfu:.1f} %",
        )
    output().print(table)
