"""Runs one run: a chain of steps, each taken from the cache or trained once, then evaluated into counts."""

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import distributed, interruption
from bench.cache import CorruptEntry
from bench.config import EvaluationSection, TrainSection
from bench.data.transforms import AUGMENTATIONS
from bench.data.views import Share, iterations_per_epoch, make_eval_loader, make_loader
from bench.evaluate import evaluate, image_scopes
from bench.keys import derived_seed
from bench.learner import NETWORK, Learner
from bench.machine import Machine, Normaliser
from bench.manifest import hardware, manifest
from bench.plan import RunPlan, StepPlan
from bench.progress import Reporter
from bench.rolling import Position
from bench.source import changed_modules, code_record
from bench.train import NonFiniteLoss, StepTraining, check_weights, train_step
from bench.workspace import Workspace
from methods.base import Batch, Method
from protocols.errors import InputError
from results.schema import read_run, write_run

MOST_DAMAGED = 3  # times that one file may be found damaged: made anew, it must be sound
ROW = ("images", "iterations", "seconds", "images_per_second", "peak_memory_mb", "trainable_parameters", "hardware")


class OutOfMemory(RuntimeError):
    """The device has too little memory for the run."""


@dataclass
class Outcome:
    """How a run ended: exit code 0, 1 (a fault of the run) or 2 (wrong input found on the way)."""

    run_id: str
    error: str | None = None
    exit_code: int = 0


@dataclass
class Progress:
    """What a run has so far: its manifest, the counts and the training log of its steps."""

    record: dict[str, Any]
    kept: bool = False  # whether the same run is complete in the store: nothing less may take its place
    counts: dict[int, np.ndarray] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)

    def restart(self) -> None:
        self.record["steps"].clear()
        self.counts.clear()
        self.log.clear()


class Engine:
    """One run on one machine, one of `jobs` side by side there."""

    def __init__(self, plan: RunPlan, workspace: Workspace, machine: Machine, reporter: Reporter, jobs: int = 1):
        self.plan, self.machine, self.reporter = plan, machine, reporter
        self.cache = distributed.shared_cache(workspace.cache)
        self.folder = workspace.store / plan.run_id
        self.learner = Learner(plan, self.cache, machine)
        self.workers = machine.loading_processes(plan.spec.config.data.name, jobs)
        self.pin = machine.device.type == "cuda"

    def run(self) -> Outcome:
        """Trains what is missing, evaluates every step, and writes the run after each step that was trained.

        A fault on the way (a non-finite loss, a broken image) ends this run alone; its finished steps are kept.
        """
        outcome = Outcome(self.plan.run_id)
        record = {**manifest(self.plan, self.machine), "status": "running", "error": None, "steps": []}
        progress = Progress(record, kept=distributed.main_only(self._finished_before))
        damaged: Counter[Path] = Counter()
        try:
            while True:
                try:
                    self._steps(progress)
                    break
                except CorruptEntry as fault:  # it is in quarantine now, and is trained again
                    damaged[fault.path] += 1
                    if damaged[fault.path] == MOST_DAMAGED:
                        raise InputError(
                            f"{fault}, {MOST_DAMAGED} times by now: memory or disk of this machine do not keep what "
                            "is written; find out which, or name another folder with store=PATH"
                        ) from fault
                    self.reporter.say(f"{self.reporter.label}: {fault}; training that step again")
                    progress.restart()
        except Exception as fault:  # whatever it is, it ends this run alone
            expected = isinstance(fault, NonFiniteLoss | InputError | OutOfMemory)
            if not expected:
                traceback.print_exc()
            outcome.error = str(fault) if expected else f"{type(fault).__name__}: {fault}"
            outcome.exit_code = 2 if isinstance(fault, InputError) else 1
            self._keep_finished(progress, outcome.error)
            if not distributed.everywhere(fault):
                distributed.leave(fault, outcome.error, outcome.exit_code)
        return outcome

    def _steps(self, progress: "Progress") -> None:
        for index, step in enumerate(self.plan.steps):
            with _memory_for(f"training step {step.position}", _smaller_parts(self.plan.spec.config.train)):
                trained = self._obtain(index, step)
            with _memory_for(f"evaluating step {step.position}", _smaller_batch(self.plan.spec.config.evaluation)):
                progress.counts[step.position] = self._counts(index, step)
            progress.record["steps"].append(self._row(step, trained))
            progress.log += self.cache.log(step.base_key or step.key)
            last = index + 1 == len(self.plan.steps)
            if last:
                rows = progress.record["steps"]
                progress.record["status"] = "complete"
                progress.record["seconds"] = round(sum(row["seconds"] for row in rows), 3)
                progress.record["trainable_parameters"] = rows[-1]["trainable_parameters"]
            if last or (trained and not progress.kept):
                distributed.main_only(lambda: self._write(progress))
            self.reporter.step_done(step, trained)
        self._report_other_code(progress.record["steps"])

    def _report_other_code(self, rows: list[dict[str, Any]]) -> None:
        """Says so where cached steps were trained by other code than today's, though no version was raised."""
        steps = [str(row["index"]) for row in rows if row["changed_modules"]]
        if steps:
            modules = sorted({name for row in rows for name in row["changed_modules"]})
            self.reporter.say(
                f"{self.reporter.label}: warning: step {', '.join(steps)} came from the cache and was trained by other "
                f"code of the same version ({', '.join(modules)} changed since): if results change with it, raise "
                "the version of the method; it is a part of the keys"
            )

    def _finished_before(self) -> bool:
        """Whether the store has this run complete and sound, its trained steps apart."""
        try:
            return read_run(self.folder).manifest["status"] == "complete"
        except InputError:
            return False

    def _keep_finished(self, progress: "Progress", error: str) -> None:
        progress.record.update(status="failed", error=error)
        if distributed.rank() > 0 or progress.kept:
            return
        try:
            self._write(progress)
        except InputError as fault:  # a full disk, say: the cache still has every finished step
            self.reporter.say(f"{self.reporter.label}: {fault}")

    def _write(self, progress: "Progress") -> None:
        slot_ids = np.array(self.plan.spec.protocol.slot_ids)
        with interruption.postponed():  # its files belong together
            write_run(self.folder, progress.record, slot_ids, progress.counts, progress.log)

    def _row(self, step: StepPlan, trained: bool) -> dict[str, Any]:
        """The step as the manifest tells it."""
        meta = self.cache.meta(step.base_key or step.key)
        return {
            "index": step.position,
            "new": list(step.step.new),
            "old": list(step.step.old),
            "key": step.key,
            "base_key": step.base_key,
            "counts_key": step.counts_key,
            "cache": "miss" if trained else "hit",
            **{name: meta[name] for name in ROW},
            "changed_modules": [] if trained else changed_modules(meta, self.plan.spec.found),
            "note": "no training images: the network grew and was not trained" if meta["images"] == 0 else None,
        }

    def _obtain(self, index: int, step: StepPlan) -> bool:
        """Makes sure that the finished state of the step is in the cache; says whether it was trained now."""
        trained = self._once(step.base_key or step.key, index, lambda: self._train(index, step))
        if step.base_key not in (None, step.key):
            self._once(step.key, index, lambda: self._complete_base(step))
        return trained

    def _once(self, key: str, index: int, produce: Callable[[], None]) -> bool:
        """Calls `produce` unless `key` is published, here or by another process meanwhile; says whether it did."""
        if self.cache.has(key):
            self.cache.discard_rolling(key)  # its process may have been killed between the two
            return False
        with self.cache.lock(key, lambda: self.reporter.waiting(index)):
            if self.cache.has(key):
                return False
            produce()
            return True

    def _train(self, index: int, step: StepPlan) -> None:
        """Trains a step and publishes it: the network alone for step 0, the whole state after an increment."""
        method = self.learner.enter(index)
        spec, recipe = self.plan.spec, self.plan.spec.config.train
        key = step.base_key or step.key
        training_seed = derived_seed(spec.seed, "training", step.view.digest)
        torch.manual_seed(training_seed)
        if self.machine.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        normalise = self.machine.normaliser(method.network.mean, method.network.std)
        share = Share(distributed.rank(), distributed.world(), recipe.accumulate)
        training = StepTraining(
            recipe,
            spec.phase(step.step.index),
            step.iterations,
            lambda first: self._batches(step, first, step.due, share),
            self.cache.rolling_path(key),
            step.limit,
        )
        if step.iterations:
            method.train()
            with self.machine.autocast(cache_enabled=False):  # it may train: a cached cast would be of old weights
                method.prepare(step.step, OnePass(self, step, normalise))
        # Whatever `prepare` drew, equal base recipes must train equally; processes of one run draw for other images.
        torch.manual_seed(training_seed + distributed.rank())
        with interruption.postponed():
            position = Position()
            if step.iterations:
                with self.reporter.training(step) as progress:
                    position = train_step(method, training, self.machine, normalise, progress)
                if step.base_key is None:
                    self._end_step(method, step, normalise)
            tensors = method.state_dict()
            if step.base_key is not None:
                tensors = {name: value for name, value in tensors.items() if name.startswith(NETWORK)}
            check_weights(tensors, step.step.index)
            self.cache.publish(key, tensors, self._meta(method, step, position.seconds), position.log)
        if step.base_key is None:
            self.learner.at = index  # after step 0 it is loaded instead: training and a cache hit go on from the same

    def _complete_base(self, step: StepPlan) -> None:
        """What a method does at the end of step 0 on top of the shared base network: published under its own key."""
        method = self.learner.enter(0)
        self.learner.load(step.base_key)
        if step.iterations:
            self._end_step(method, step, self.machine.normaliser(method.network.mean, method.network.std))
        meta = {**self._meta(method, step, 0.0), "base": step.base_key}
        self.cache.publish(step.key, method.state_dict(), meta, [])
        self.learner.at = 0

    def _end_step(self, method: Method, step: StepPlan, normalise: Normaliser) -> None:
        method.train()
        with self.machine.autocast(cache_enabled=False):
            method.end_step(step.step, OnePass(self, step, normalise))
        distributed.equalise(method)

    def _meta(self, method: Method, step: StepPlan, seconds: float) -> dict[str, Any]:
        """What the cache remembers of a trained step besides its tensors."""
        cuda = self.machine.device.type == "cuda"
        images = step.due * self.plan.spec.config.train.batch
        return {
            "method": self.plan.spec.found.label,
            "network": self.plan.spec.config.network.name,
            "protocol": self.plan.spec.protocol.name,
            "step": step.position,
            "seed": self.plan.spec.seed,
            "images": len(step.view.indices),
            "iterations": step.due,
            "seconds": round(seconds, 3),
            "images_per_second": round(images / seconds, 2) if seconds else None,
            "peak_memory_mb": round(torch.cuda.max_memory_allocated() / 2**20, 1) if cuda else None,
            "trainable_parameters": sum(p.numel() for p in method.parameters() if p.requires_grad),
            "hardware": hardware(self.machine),
            "code": code_record(self.plan.spec.found.method),
        }

    def _batches(self, step: StepPlan, first: int, iterations: int, share: Share) -> Iterator:
        recipe = self.plan.spec.config.train
        transform = AUGMENTATIONS[recipe.augmentation](recipe.crop, tuple(recipe.scale), recipe.flip, recipe.padding)
        return make_loader(
            step.view, transform, self.plan.spec.seed, recipe.batch, first, iterations, self.workers, self.pin, share
        )

    def _counts(self, index: int, step: StepPlan) -> np.ndarray:
        """The counts of the step's network, from the cache or by evaluating it."""
        try:
            counts = self.cache.load_counts(step.counts_key)
        except CorruptEntry as fault:  # they are in quarantine now
            self.reporter.say(f"{self.reporter.label}: {fault}; evaluating that step again")
            counts = None
        if counts is not None:
            return counts
        images, section = self.plan.evaluation, self.plan.spec.config.evaluation
        method = self.learner.hold(index)
        part = distributed.part_of(len(images.indices), section.batch)
        view = replace(self.plan.evaluation_view, indices=self.plan.evaluation_view.indices[part])
        loader = make_eval_loader(view, section.side, section.batch, self.workers, self.pin)
        normalise = self.machine.normaliser(method.network.mean, method.network.std)
        scopes = image_scopes(images.rows, step.step)[part][loader.order]
        slots, crop = len(self.plan.spec.protocol.slot_ids), self.plan.spec.window
        with self.reporter.evaluating(step, len(view)) as progress:
            counts = evaluate(method, loader, scopes, slots, self.machine, normalise, progress, crop)
        self.cache.publish_counts(step.counts_key, counts)
        return counts


@contextmanager
def _memory_for(what: str, remedy: str | None) -> Iterator[None]:
    """Raises OutOfMemory, in one line, where PyTorch does so in many."""
    try:
        yield
    except torch.OutOfMemoryError as fault:
        raise OutOfMemory(f"out of memory while {what}: {remedy or 'it needs a GPU with more of it'}") from fault


def _smaller_parts(train: TrainSection) -> str | None:
    """What to give so that training takes less memory."""
    parts = next((n for n in range(train.accumulate + 1, train.batch + 1) if train.batch % n == 0), None)
    return parts and f"train.accumulate={parts} computes each batch in {parts} parts, which makes another recipe"


def _smaller_batch(evaluation: EvaluationSection) -> str | None:
    """What to give so that evaluation takes less memory."""
    half = evaluation.batch // 2
    return f"evaluation.batch={half} (now {evaluation.batch}) changes nothing but memory" if half else None


class OnePass:
    """The training batches of a step, one epoch of them each time it is iterated: what `prepare` and `end_step` see.

    Whole batches, in every process of a run: what they learn from them may be no sum.
    """

    def __init__(self, engine: Engine, step: StepPlan, normalise: Normaliser):
        self.engine, self.step, self.normalise = engine, step, normalise

    def __len__(self) -> int:
        whole = iterations_per_epoch(len(self.step.view.indices), self.engine.plan.spec.config.train.batch)
        return whole if self.step.limit is None else min(whole, self.step.limit)

    def __iter__(self) -> Iterator[Batch]:
        return map(self.normalise, self.engine._batches(self.step, 0, len(self), Share()))
