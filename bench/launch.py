"""From overrides to finished runs: compose, plan, and hand over to Hydra's multirun."""

import json
import os
import shlex
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig
from rich.console import Console

from bench import distributed, interruption
from bench.ablation import check_one_recipe_each, variants_of
from bench.commands.arguments import quoted
from bench.config import configurations, expand, one_line, unregister
from bench.engine import Engine, Outcome
from bench.launchers import Launcher
from bench.machine import Machine
from bench.manifest import COMMAND
from bench.plan import RunPlan, make_plan
from bench.progress import Reporter, announce
from bench.seats import Seats
from bench.spec import RunSpec, resolve
from bench.workspace import Workspace, workspace_of
from methods.nn.network import build
from protocols.errors import InputError
from protocols.files import expanded
from results.ablation import report_ablation
from results.groups import group_runs
from results.measures import convention_named
from results.render import report
from results.schema import read_runs

_outcomes: dict[str, Outcome] = {}
JOBS = "jobs.json"  # what the jobs of a command are, for whichever process gets one
FULL_ERROR = "HYDRA_FULL_ERROR"
QUIET = ("hydra.output_subdir=null", "hydra/job_logging=none", "hydra/hydra_logging=none")


@dataclass(frozen=True)
class Prepared:
    """The runs of one command: the plans of those that can run, each once, and why the others cannot."""

    workspace: Workspace
    plans: list[RunPlan]
    overrides: list[list[str]]  # of the plans
    skipped: list[tuple[RunSpec, str]]


def prepare(overrides: Sequence[str], references: Sequence[str]) -> Prepared:
    """Composes, checks and plans every run that the overrides describe.

    Raises InputError before anything is trained.
    """
    specs = specs_of(overrides, references)
    skipped = [(spec, spec.unsupported) for spec in specs if spec.unsupported]
    Machine.of(specs[0].config)
    workspace = workspace_of(specs[0].config.store)
    workspace.check_writable()
    plans: dict[str, RunPlan] = {}
    described: dict[str, list[str]] = {}
    for spec, run in zip(specs, expand(overrides), strict=True):
        if not spec.unsupported:
            plan = make_plan(spec, workspace)
            distributed.check_batch(spec.config.train.batch, spec.config.train.accumulate)
            plans[plan.run_id], described[plan.run_id] = plan, run
    if not plans:
        raise InputError("nothing to run: " + "; ".join(f"{spec.found.label}: {why}" for spec, why in skipped))
    return Prepared(workspace, list(plans.values()), list(described.values()), skipped)


def specs_of(overrides: Sequence[str], references: Sequence[str]) -> list[RunSpec]:
    """Every run that the overrides describe, checked as far as that needs no data and no weights. Raises InputError."""
    specs = [resolve(config) for config in configurations(overrides, references)]
    if len({(spec.config.store, spec.config.device, spec.config.threads) for spec in specs}) > 1:
        raise InputError("store, device and threads cannot be swept: give one value each")
    return specs


def check_networks(plans: Sequence[RunPlan]) -> None:
    """Builds every network once, for training and for evaluation, so that what does not fit is known at the start."""
    device = Machine.of(plans[0].spec.config).device
    for network, side in {(plan.spec.network, plan.spec.config.evaluation.side) for plan in plans}:
        distributed.check_network(build(network), device)
        if side is not None:
            with torch.device("meta"):
                build(replace(network, pretrained="none", image_size=side))


def launch(overrides: Sequence[str], references: Sequence[str], launcher: Launcher) -> int:
    """Runs everything and prints the table. Returns the exit code: that of the worst run."""

    def show(prepared: Prepared, outcomes: list[Outcome]) -> None:
        store = prepared.workspace.store
        print(report(store, runs=[outcome.run_id for outcome in outcomes]))
        print(f"\nfiles: {store}/<run>/ with manifest.json, counts.npz, cells.csv, log.csv, for the runs")
        for outcome in outcomes:
            print(f"  {outcome.run_id}")

    return _launch(overrides, references, launcher, show)


def launch_ablation(
    overrides: Sequence[str], references: Sequence[str], convention: str, launcher: Launcher, out: str | None = None
) -> int:
    """Runs a method and its variants, prints the table of what each of them changes, and writes it to files in the
    folder `out` (None: STORE/reports)."""
    convention_named(convention)

    def show(prepared: Prepared, outcomes: list[Outcome]) -> None:
        store, method = prepared.workspace.store, prepared.plans[0].spec.found.method
        stored, _ = read_runs(store)
        mine = [run for run in stored if run.manifest["run"] in {outcome.run_id for outcome in outcomes}]
        for group in group_runs(mine):
            text, paths = report_ablation(
                f"{prepared.plans[0].spec.found.name} and its variants",
                variants_of([plan.spec for plan in prepared.plans], method.components),
                group.runs,
                store / "reports" if out is None else expanded(out),
                convention,
            )
            print(text)
            for path in paths:
                print(f"written: {path}")

    def check(prepared: Prepared) -> None:
        check_one_recipe_each([plan.spec for plan in prepared.plans])

    return _launch(overrides, references, launcher, show, check)


def _launch(
    overrides: Sequence[str],
    references: Sequence[str],
    launcher: Launcher,
    show: Callable[[Prepared, list[Outcome]], None],
    check: Callable[[Prepared], None] = lambda prepared: None,
) -> int:
    """Prepares, checks, runs and shows; on several processes rank 0 alone shows."""

    def ready() -> Prepared:
        prepared = prepare(overrides, references)
        check(prepared)
        check_networks(prepared.plans)
        return prepared

    with distributed.session():
        prepared = distributed.main_first(ready)
        outcomes = run_all(prepared, references, launcher)
        if distributed.rank() == 0:
            show(prepared, outcomes)
        return max(outcome.exit_code for outcome in outcomes)


def run_all(prepared: Prepared, references: Sequence[str], launcher: Launcher) -> list[Outcome]:
    """Trains and evaluates every prepared run, and says how each ended."""
    speaks = distributed.rank() == 0
    for spec, why in prepared.skipped if speaks else ():
        announce(f"skipped {spec.found.label} on {spec.protocol.name}: {why}")
    multirun(prepared, references, launcher)
    outcomes = [_outcomes[plan.run_id] if launcher.here else stored_outcome(plan) for plan in prepared.plans]
    for outcome in outcomes if speaks else ():
        if outcome.error:
            announce(f"{outcome.run_id} failed: {outcome.error}")
    return outcomes


def stored_outcome(plan: RunPlan) -> Outcome:
    """How a run ended in another process, by what it left in the store."""
    try:
        text = (Path(plan.spec.config.store) / plan.run_id / "manifest.json").read_text()
        record = json.loads(text)
    except (OSError, ValueError):
        record = {"status": "running"}
    if record["status"] == "complete":
        return Outcome(plan.run_id)
    cut = "its process ended before the run did; the same command goes on from there"
    return Outcome(plan.run_id, record["error"] if record["status"] == "failed" else cut, 1)


def multirun(prepared: Prepared, references: Sequence[str], launcher: Launcher) -> None:
    """Hydra's sweep over the prepared runs: one call of `job` for each, wherever the launcher takes it."""
    config, store = prepared.plans[0].spec.config, prepared.workspace.store
    os.environ[COMMAND] = shlex.join(sys.argv)
    with tempfile.TemporaryDirectory(prefix="ciss-bench-") as scratch:  # Hydra writes its own record of the sweep
        folder = launcher.folder(Path(scratch), store, [plan.run_id for plan in prepared.plans]).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        jobs = launcher.jobs_at_once(len(prepared.plans), config.device, config.threads)
        order = range(len(prepared.plans)) if launcher.here else _spread(prepared.plans)
        seats = jobs if launcher.name == "joblib" else None
        described = {"runs": prepared.overrides, "references": list(references), "seats": seats}
        (folder / JOBS).write_text(json.dumps({**described, "here": launcher.here}))
        ConfigStore.instance().store(name="jobs", node={"folder": str(folder), "run": 0})
        unregister()
        sweep = ["run=" + ",".join(map(str, order)), f"hydra.sweep.dir={quoted(str(folder))}"]
        arguments = [*sweep, *QUIET, *launcher.overrides(jobs, config.device)]
        farewell = Seats(folder, seats).dismiss if seats else None
        try:
            with interruption.obeyed(farewell), _as_arguments(arguments):
                hydra.main(version_base="1.3", config_path=None, config_name="jobs")(job)()
        except HydraException as fault:
            raise InputError(f"--launcher {launcher.name}: {one_line(fault)}") from fault
        except Exception as fault:
            if launcher.here:
                raise
            announce(f"bench: --launcher {launcher.name}: {type(fault).__name__}: {str(fault).strip()}")


@contextmanager
def _as_arguments(arguments: Sequence[str]) -> Iterator[None]:
    """What Hydra's main function reads, for the block: the arguments, and the wish to see errors as they are."""
    original, full = sys.argv, os.environ.get(FULL_ERROR)
    sys.argv, os.environ[FULL_ERROR] = ["bench", "--multirun", *arguments], "1"
    try:
        yield
    finally:
        sys.argv = original
        os.environ.pop(FULL_ERROR) if full is None else os.environ.update({FULL_ERROR: full})


def _spread(plans: Sequence[RunPlan]) -> list[int]:
    """An order in which runs that share step 0 are far apart: side by side they would wait for each other."""
    seen: Counter[str | None] = Counter()
    turns = []
    for plan in plans:
        base = plan.steps[0].base_key
        turns.append(seen[base])
        seen[base] += 1
    return sorted(range(len(plans)), key=turns.__getitem__)


def job(config: DictConfig) -> None:
    """One run, as Hydra calls it, in this process or another; how it ended is kept for a command in the same one."""
    folder = Path(config.folder)
    described = json.loads((folder / JOBS).read_text())
    (composed,) = configurations(described["runs"][config.run], described["references"])
    spec = resolve(composed)
    device, threads, seats = spec.config.device, spec.config.threads, described["seats"]
    seat = Seats(folder, seats).taken(device, threads) if seats else nullcontext()
    with seat, interruption.obeyed():
        workspace = workspace_of(spec.config.store)
        plan = make_plan(spec, workspace)
        label = f"{spec.found.label} {spec.protocol.name} seed {spec.seed}"
        reporter = Reporter(label, len(spec.protocol.steps), _console(described["here"]))
        _outcomes[plan.run_id] = Engine(plan, workspace, Machine.of(spec.config), reporter, jobs=seats or 1).run()


def _console(here: bool) -> Console | None:
    """Where a run tells of itself: bars in the terminal of its command, lines from other processes, nothing from the
    further processes of one run."""
    if distributed.rank() > 0:
        return Console(quiet=True)
    return None if here else Console(stderr=True, highlight=False, force_terminal=False)
