"""From overrides to finished runs: compose, plan, and hand over to Hydra's multirun."""

import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace

import hydra
import torch
from omegaconf import DictConfig

from bench.ablation import check_one_recipe_each, variants_of
from bench.config import configurations, runs
from bench.engine import Engine, Outcome
from bench.machine import Machine
from bench.manifest import COMMAND
from bench.plan import RunPlan, make_plan
from bench.progress import Reporter, announce
from bench.spec import RunSpec, resolve
from bench.workspace import Workspace, workspace_of
from methods.nn.network import build
from protocols.errors import InputError
from results.ablation import report_ablation
from results.groups import group_runs
from results.measures import convention_named
from results.render import report
from results.schema import read_runs

_outcomes: dict[str, Outcome] = {}
QUIET = ("hydra.output_subdir=null", "hydra/job_logging=none", "hydra/hydra_logging=none")


@dataclass(frozen=True)
class Prepared:
    """The runs of one command: the plans of those that can run, each once, and why the others cannot."""

    workspace: Workspace
    plans: list[RunPlan]
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
    plans = {plan.run_id: plan for plan in (make_plan(spec, workspace) for spec in specs if not spec.unsupported)}
    if not plans:
        raise InputError("nothing to run: " + "; ".join(f"{spec.found.label}: {why}" for spec, why in skipped))
    return Prepared(workspace, list(plans.values()), skipped)


def specs_of(overrides: Sequence[str], references: Sequence[str]) -> list[RunSpec]:
    """Every run that the overrides describe, checked as far as that needs no data and no weights. Raises InputError."""
    specs = [resolve(config) for config in configurations(overrides, references)]
    if len({(spec.config.store, spec.config.device, spec.config.threads) for spec in specs}) > 1:
        raise InputError("store, device and threads cannot be swept: give one value each")
    return specs


def check_networks(plans: Sequence[RunPlan]) -> None:
    """Builds every network once, for training and for evaluation, so that what does not fit is known at the start."""
    for network, side in {(plan.spec.network, plan.spec.config.evaluation.side) for plan in plans}:
        build(network)
        if side is not None:
            with torch.device("meta"):
                build(replace(network, pretrained="none", image_size=side))


def launch(overrides: Sequence[str], references: Sequence[str]) -> int:
    """Runs everything and prints the table. Returns the exit code: that of the worst run."""
    prepared = prepare(overrides, references)
    outcomes = run_all(prepared, overrides)
    store = prepared.workspace.store
    print(report(store, runs=[outcome.run_id for outcome in outcomes]))
    print(f"\nfiles: {store}/<run>/ with manifest.json, counts.npz, cells.csv, log.csv, for the runs")
    for outcome in outcomes:
        print(f"  {outcome.run_id}")
    return max(outcome.exit_code for outcome in outcomes)


def launch_ablation(overrides: Sequence[str], references: Sequence[str], convention: str) -> int:
    """Runs a method and its variants, prints the table of what each of them changes, and writes it to files."""
    convention_named(convention)
    prepared = prepare(overrides, references)
    check_one_recipe_each([plan.spec for plan in prepared.plans])
    outcomes = run_all(prepared, overrides)
    store, method = prepared.workspace.store, prepared.plans[0].spec.found.method
    stored, _ = read_runs(store)
    runs = [run for run in stored if run.manifest["run"] in {outcome.run_id for outcome in outcomes}]
    for group in group_runs(runs):
        text, paths = report_ablation(
            f"{prepared.plans[0].spec.found.name} and its variants",
            variants_of([plan.spec for plan in prepared.plans], method.components),
            group.runs,
            store / "reports",
            convention,
        )
        print(text)
        for path in paths:
            print(f"written: {path}")
    return max(outcome.exit_code for outcome in outcomes)


def run_all(prepared: Prepared, overrides: Sequence[str]) -> list[Outcome]:
    """Trains and evaluates every prepared run, and says how each ended."""
    check_networks(prepared.plans)
    for spec, why in prepared.skipped:
        announce(f"skipped {spec.found.label} on {spec.protocol.name}: {why}")
    if "track=paper" in overrides:  # recipes differ by method and protocol, which one sweep cannot say
        for run in runs(overrides):
            multirun(run)
    else:
        multirun(overrides)
    outcomes = [_outcomes[plan.run_id] for plan in prepared.plans]
    for outcome in outcomes:
        if outcome.error:
            announce(f"{outcome.run_id} failed: {outcome.error}")
    return outcomes


def multirun(overrides: Sequence[str]) -> None:
    """Hydra's sweep over the overrides: one call of `job` for each combination."""
    original = sys.argv
    os.environ[COMMAND] = shlex.join(original)
    with tempfile.TemporaryDirectory(prefix="ciss-bench-") as scratch:  # Hydra writes its own record of the sweep
        sys.argv = ["bench", "--multirun", *overrides, *QUIET, f"hydra.sweep.dir={scratch}"]
        try:
            hydra.main(version_base="1.3", config_path="pkg://bench.conf", config_name="bench")(job)()
        finally:
            sys.argv = original


def job(config: DictConfig) -> None:
    """One run, as Hydra calls it; how it ended is kept for the command that waits for it."""
    spec = resolve(config)
    if spec.unsupported:
        return
    workspace = workspace_of(spec.config.store)
    plan = make_plan(spec, workspace)
    reporter = Reporter(f"{spec.found.label} {spec.protocol.name} seed {spec.seed}", len(spec.protocol.steps))
    _outcomes[plan.run_id] = Engine(plan, workspace, Machine.of(spec.config), reporter).run()
