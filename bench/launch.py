"""From overrides to finished runs: compose, plan, and hand over to Hydra's multirun."""

import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import hydra
from omegaconf import DictConfig

from bench.config import configurations
from bench.engine import Engine
from bench.machine import Machine
from bench.manifest import COMMAND
from bench.plan import RunPlan, make_plan
from bench.progress import Reporter, announce
from bench.spec import RunSpec, resolve
from bench.workspace import Workspace, workspace_of
from protocols.errors import InputError
from results.render import report
from results.schema import read_run

QUIET = ("hydra.output_subdir=null", "hydra/job_logging=none", "hydra/hydra_logging=none")


@dataclass(frozen=True)
class Prepared:
    """The runs of one command: the plans of those that can run, each once, and why the others cannot."""

    workspace: Workspace
    plans: list[RunPlan]
    skipped: list[tuple[RunSpec, str]]


def prepare(overrides: Sequence[str], references: Sequence[str]) -> Prepared:
    """Composes, checks and plans every run that the overrides describe. Raises InputError before anything is
    written."""
    specs = [resolve(config) for config in configurations(overrides, references)]
    skipped = [(spec, spec.unsupported) for spec in specs if spec.unsupported]
    workspace = workspace_of(specs[0].config.store)
    workspace.check_writable()
    Machine.of(specs[0].config)
    plans = {plan.run_id: plan for plan in (make_plan(spec, workspace) for spec in specs if not spec.unsupported)}
    if not plans:
        raise InputError("nothing to run: " + "; ".join(f"{spec.found.label}: {why}" for spec, why in skipped))
    return Prepared(workspace, list(plans.values()), skipped)


def launch(overrides: Sequence[str], references: Sequence[str]) -> int:
    """Runs everything and prints the table. Returns the exit code: that of the worst run."""
    prepared = prepare(overrides, references)
    for spec, why in prepared.skipped:
        announce(f"skipped {spec.found.label} on {spec.protocol.name}: {why}")
    multirun(overrides)
    store = prepared.workspace.store
    code = 0
    for plan in prepared.plans:
        manifest = read_run(store / plan.run_id).manifest
        if manifest["status"] != "complete":
            announce(f"{manifest['label']} seed {manifest['seed']} {manifest['status']}: {manifest['error']}")
            code = max(code, manifest.get("exit_code", 1))
    print(report(store, runs=[plan.run_id for plan in prepared.plans]))
    print(f"\nfiles: {store}/<run>/ with manifest.json, counts.npz, cells.csv, log.csv, for the runs")
    for plan in prepared.plans:
        print(f"  {plan.run_id}")
    return code


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
    """One run, as Hydra calls it."""
    spec = resolve(config)
    if spec.unsupported:
        return
    workspace = workspace_of(spec.config.store)
    plan = make_plan(spec, workspace)
    reporter = Reporter(f"{spec.found.label} {spec.protocol.name} seed {spec.seed}", len(spec.protocol.steps))
    Engine(plan, workspace, Machine.of(spec.config), reporter).run()
