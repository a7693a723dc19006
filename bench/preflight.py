"""Before anything is trained: are the data, the weights and the disk there that runs need, and what would they do?"""

import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table
from rich.text import Text

from bench.data.base import DATA
from bench.data.views import AHEAD, image_shape
from bench.machine import Machine
from bench.manifest import hardware, initial_weights
from bench.meter import memory_text
from bench.plan import iterations_of, protocol_steps, state_bytes
from bench.progress import output
from bench.spec import RunSpec
from bench.workspace import Workspace
from protocols import step_counts
from protocols.errors import InputError
from protocols.split import protocol_images

SHARED_MEMORY = Path("/dev/shm")  # through it loading processes hand over their batches (Linux)
SIGNS = {True: ("ok", "green"), False: ("MISSING", "bold red"), None: ("note", "yellow")}


@dataclass(frozen=True)
class Finding:
    """What was looked for and what was found. ok: True, False (nothing can run) or None (it can, but look at this)."""

    what: str
    ok: bool | None
    text: str


def look(specs: Sequence[RunSpec], workspace: Workspace) -> list[Finding]:
    """Data, weights and device of runs that share a store. Published weights that are not there are fetched, once."""
    data = {(*vars(spec.config.data).values(), spec.config.train.crop, spec.protocol): spec for spec in specs}
    found = [_data(spec, workspace) for spec in data.values()]
    found += [_weights(spec) for spec in {spec.network: spec for spec in specs}.values()]
    return [*dict.fromkeys(found), _device(specs[0]), *_shared_memory(specs, workspace)]


def print_findings(findings: Iterable[Finding]) -> None:
    """One line each."""
    findings = list(findings)
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        sign, style = SIGNS[finding.ok]
        line = Text(f"{sign:<9}", style=style).append(f"{finding.what:<{width}}  {finding.text}", style="default")
        output().print(line, soft_wrap=True)


def disk(needed: float, store: Path) -> Finding:
    """Whether `needed` bytes fit where the store is, or will be."""
    place = next(folder for folder in (store.absolute(), *store.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    text = f"about {memory_text(needed)} needed, {memory_text(free)} free in {store}"
    return Finding("disk", needed < free, text if needed < free else text + ": make room, or choose another store=PATH")


def _data(spec: RunSpec, workspace: Workspace) -> Finding:
    name, what = spec.config.data.name, f"data {spec.config.data.name}"
    try:
        training, evaluation = workspace.images(spec)
    except InputError as fault:
        more = f"; `bench data check {name}` tells what a copy lacks" if name in DATA and name != "shapes" else ""
        return Finding(what, False, f"{fault}{more}")
    numbers = f"{len(training.indices):,} training and {len(evaluation.indices):,} images of evaluation"
    if name == "shapes":
        height, width = training.data.shape(0)
        return Finding(what, True, f"{numbers}, rendered scenes of {width}x{height} pixels")
    odd = _unlike_published(spec, workspace)
    if odd:
        return Finding(what, None, f"{numbers}; {odd}: `bench data check {name}` says why")
    return Finding(what, True, f"{numbers}, every mask was read")


def _unlike_published(spec: RunSpec, workspace: Workspace) -> str | None:
    """The first step of a usual protocol whose training images are not as many as there should be."""
    protocol, images = spec.protocol, workspace.training_images(spec)
    counts = step_counts(protocol.name, protocol.setting)
    if counts is None or spec.config.evaluation.split == "dev":
        return None
    for step, expected in zip(protocol.steps, counts, strict=True):
        found = len(protocol_images(protocol, step, images.presence.matrix, images.data.ids))
        if found != expected:
            return f"step {step.index} of {protocol.name} has {found:,} training images where {expected:,} are known"
    return None


def _weights(spec: RunSpec) -> Finding:
    what = f"weights {spec.network.name}"
    try:
        weights = initial_weights(spec)
    except InputError as fault:
        return Finding(what, False, str(fault))
    if weights == "none":
        return Finding(what, None, "random: no published weights are used")
    return Finding(what, True, weights)


def _device(spec: RunSpec) -> Finding:
    found = hardware(Machine.of(spec.config))
    if found["device"] == "cuda":
        return Finding("device", True, f"{found['name']}, {found['cores']} CPU cores to load images")
    full = not spec.network.name.endswith("-tiny")
    slow = "; full-size networks need a GPU, days become weeks here" if full else ""
    threads = "1 thread" if found["threads"] == 1 else f"{found['threads']} threads"
    return Finding("device", None if full else True, f"CPU, {threads}: {found['name']}{slow}")


def _shared_memory(specs: Sequence[RunSpec], workspace: Workspace) -> list[Finding]:
    """A note where the batches of loading processes may not fit into shared memory: such a process dies of a bus
    error, in the middle of a run."""
    if not SHARED_MEMORY.is_dir():
        return []
    needs = []
    for spec in specs:
        workers = Machine.of(spec.config).loading_processes(spec.config.data.name)
        if workers:
            needs.append((workers * AHEAD * 4 * _batch_pixels(spec, workspace), workers))  # image and label: 4 bytes
    needed, workers = max(needs, default=(0, 0))
    size = shutil.disk_usage(SHARED_MEMORY).total
    if needed <= size:
        return []
    text = (
        f"{memory_text(size)} in {SHARED_MEMORY}, where {workers} loading processes may hold {memory_text(needed)} of "
        f"batches: start the container with --shm-size={math.ceil(needed / 2**30)}g, or give workers="
        f"{size * workers // needed}"
    )
    return [Finding("shared memory", None, text)]


def _batch_pixels(spec: RunSpec, workspace: Workspace) -> int:
    """Pixels of the largest batch of training or evaluation."""
    train, evaluation = spec.config.train, spec.config.evaluation
    trained = train.batch * train.crop**2
    if evaluation.side is not None:
        return max(trained, evaluation.batch * evaluation.side**2)
    try:
        images = workspace.evaluation_images(spec)
    except InputError:  # they are missing, which is a finding of its own
        return trained
    largest = max(math.prod(image_shape(images.data, index)) for index in images.indices.tolist())
    return max(trained, evaluation.batch * largest)


@dataclass(frozen=True)
class Sketch:
    """Runs that differ in their seeds alone, as known without data. lengths: iterations of each step."""

    name: str
    seeds: tuple[int, ...]
    steps: int
    lengths: list[int] | None
    bytes: int  # of all of them


def sketches(specs: Sequence[RunSpec]) -> list[Sketch]:
    """What runs would train on the whole data sets."""
    alike: dict[tuple[str, str, str], list[RunSpec]] = {}
    for spec in specs:
        alike.setdefault((spec.found.label, spec.protocol.name, spec.protocol.setting), []).append(spec)
    return [
        Sketch(
            " ".join(name),
            tuple(dict.fromkeys(spec.seed for spec in same)),
            len(protocol_steps(same[0])),
            published_iterations(same[0]),
            len(same) * state_bytes(same[0]),
        )
        for name, same in alike.items()
    ]


def print_sketches(runs: Iterable[Sketch]) -> None:
    """A line for each; then the lengths of the steps."""
    runs = list(runs)
    table = Table("run", "seeds", "steps", "iterations of a seed", "disk")
    for run in runs:
        total = "unknown without the data" if run.lengths is None else str(sum(run.lengths))
        seeds = ",".join(map(str, run.seeds))
        table.add_row(run.name, seeds, str(run.steps), total, memory_text(run.bytes))
    console = output()
    console.print(table)
    for run in runs:
        if run.lengths is not None:
            console.print(iterations_line(run.name, run.lengths), soft_wrap=True, highlight=False)


def published_iterations(spec: RunSpec) -> list[int] | None:
    """Iterations of every step on the whole data set; None where its images are not known without it."""
    counts = step_counts(spec.protocol.name, spec.protocol.setting)
    steps = protocol_steps(spec)
    fixed = all(spec.phase(step.index).iterations is not None for _, step in steps)
    if fixed:
        return [spec.phase(step.index).iterations for _, step in steps]
    if spec.joint or counts is None or spec.config.data.name != spec.protocol.dataset:
        return None
    return [iterations_of(spec, step.index, images) for (_, step), images in zip(steps, counts, strict=True)]


def iterations_line(name: str, iterations: Sequence[int]) -> str:
    """The lengths of all steps of a run."""
    return f"iterations of each step, {name}: {' '.join(map(str, iterations))}"
