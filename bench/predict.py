"""`bench predict`: what the networks of a stored run predict, as label maps that anyone can look at."""

import os
import tempfile
from pathlib import Path

import numpy as np

from bench.cache import CorruptEntry
from bench.data.views import make_eval_loader
from bench.evaluate import predict
from bench.learner import Learner
from bench.machine import Machine
from bench.predictions import JOINT, step_folder, write_map
from bench.progress import announce, counting
from bench.recall import plan_of
from bench.workspace import workspace_of
from protocols import InputError
from results.schema import read_run


def write_predictions(run: Path, out: Path) -> None:
    """Writes the label map of every evaluated image at every step of the run in `run` to out/step_XX/<image>.png.

    Joint training has one folder, out/joint. The maps hold class ids and have the size of the evaluation. Nothing is
    at `out` before all are written.
    InputError: no such run, a step that is not in the cache (any more), or `out` exists.
    """
    if out.exists():
        raise InputError(f"{out} exists already: remove it, or choose another folder with --out")
    stored = read_run(run)
    plan, single = plan_of(stored), stored.manifest["single_step"]
    cache = workspace_of(plan.spec.config.store).cache
    gone = [step.position for step in plan.steps if not cache.has(step.key)]
    if gone:
        raise InputError(f"step {gone[0]} of {plan.run_id} is not in {cache.root}: run its command again")
    learner = Learner(plan, cache, Machine.of(plan.spec.config))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as aside:
            for index, step in enumerate(plan.steps):
                _write_step(learner, index, Path(aside) / "maps" / (JOINT if single else step_folder(step.position)))
                announce(f"{plan.run_id}: step {step.position} predicted")
            os.replace(Path(aside) / "maps", out)
    except CorruptEntry as fault:
        raise InputError(f"{fault}: run the command of {plan.run_id} again") from fault
    except OSError as error:
        raise InputError(f"cannot write {out} ({error.strerror or error}): choose another with --out") from error


def _write_step(learner: Learner, index: int, folder: Path) -> None:
    plan, machine = learner.plan, learner.machine
    section, ids = plan.spec.config.evaluation, np.array(plan.spec.protocol.slot_ids, dtype=np.uint8)
    method = learner.hold(index)
    loader = make_eval_loader(plan.evaluation_view, section.size, section.batch, workers=machine.workers or 0)
    normalise = machine.normaliser(method.network.mean, method.network.std)
    done, images = 0, len(plan.evaluation_view)
    with counting(f"step {plan.steps[index].position}") as progress:
        for batch, slots in predict(method, loader, machine, normalise):
            for name, one in zip(batch.ids, slots.cpu().numpy(), strict=True):
                write_map(folder / f"{name}.png", ids[one])
            done += len(batch.ids)
            progress(done, images)
