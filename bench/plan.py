"""What a run will do, before it does it: its steps, their images, their keys. Equal keys are trained once."""

from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from bench import evaluate, windows
from bench.config import NATIVE
from bench.data.views import StepView, iterations_per_epoch, places_by_shape, step_view
from bench.keys import digest
from bench.spec import RunSpec
from bench.workspace import Images, Workspace
from methods.base import BaseRecipe, Method
from methods.nn.network import build
from protocols.protocol import ProtocolStep, Step
from protocols.split import protocol_images

_state_bytes: dict[str, int] = {}  # by recipe: runs that differ in their seeds alone have states of one size


@dataclass(frozen=True)
class StepPlan:
    """One step of a run."""

    position: int  # the step of the protocol that its counts stand for
    step: Step  # what the method sees
    view: StepView  # images and labels
    iterations: int
    base_key: str | None  # step 0: the key of the network that methods with equal base recipes share
    key: str  # the key of the method's whole state after the step
    counts_key: str
    limit: int | None = None  # of a dry run: iterations that are done, and batches of each pass over the images

    @property
    def due(self) -> int:
        """Iterations that are done: all of the recipe's, but in a dry run."""
        return self.iterations if self.limit is None else min(self.iterations, self.limit)


@dataclass(frozen=True)
class RunPlan:
    """A run with all its keys."""

    spec: RunSpec
    run_id: str
    recipe: str
    steps: tuple[StepPlan, ...]
    evaluation: Images
    evaluation_view: StepView

    @property
    def state_bytes(self) -> int:
        """The size on disk of all steps of the run."""
        if self.recipe not in _state_bytes:
            _state_bytes[self.recipe] = state_bytes(self.spec)
        return _state_bytes[self.recipe]


def state_bytes(spec: RunSpec) -> int:
    """The size on disk of all steps of a run, from the shapes of the method's state: no data and no weights needed."""
    with torch.device("meta"):
        method = spec.found.method(spec.options, build(replace(spec.network, pretrained="none")))
        total = 0
        for _, step in protocol_steps(spec):
            method.begin_step(step.visible())
            total += sum(value.numel() * value.element_size() for value in method.state_dict().values())
    return total


def cut_short(plan: RunPlan, limit: int, processes: int) -> RunPlan:
    """The same run for a dry run: `limit` iterations of every step and `limit` batches of evaluation in each process
    of the run (the largest images, where they are evaluated whole), under keys that no real run has."""
    steps = tuple(
        replace(step, limit=limit, **{name: _dry(getattr(step, name)) for name in ("base_key", "key", "counts_key")})
        for step in plan.steps
    )
    section, view = plan.spec.config.evaluation, plan.evaluation_view
    places = np.arange(len(view)) if section.side else np.concatenate(places_by_shape(view))
    indices = view.indices[np.sort(places[: limit * processes * section.batch])]
    images = replace(plan.evaluation, indices=indices)
    return replace(plan, steps=steps, evaluation=images, evaluation_view=replace(view, indices=indices))


def _dry(key: str | None) -> str | None:
    return None if key is None else digest({"dry run of": key})


def make_plan(spec: RunSpec, workspace: Workspace) -> RunPlan:
    """Opens the data and addresses every step of the run. Trains nothing."""
    training, evaluation = workspace.images(spec)
    protocol = spec.protocol
    data_digest = digest([training.presence.digest, evaluation.presence.digest])
    evaluation_view = step_view(
        evaluation.data, evaluation.indices, protocol.evaluation_table(), evaluation.presence.digest
    )
    steps: list[StepPlan] = []
    for position, step in protocol_steps(spec):
        listed = protocol_images(protocol, step, training.presence.matrix, training.data.ids)
        images = np.intersect1d(listed, training.indices)
        table = protocol.training_table(step, spec.config.train.void)
        view = step_view(training.data, images, table, training.presence.digest)
        base_key, key = _keys(spec, step, view, steps[-1].key if steps else None)
        counts_key = digest(
            {
                "step": key,
                "view": evaluation_view.digest,
                "size": spec.config.evaluation.side or [NATIVE, windows.VERSION],
                "prediction": spec.method_recipe if spec.own_prediction else None,
                "seen": list(step.seen),
                "version": evaluate.VERSION,
            }
        )
        iterations = iterations_of(spec, step.index, len(images))
        steps.append(StepPlan(position, step.visible(), view, iterations, base_key, key, counts_key))
    recipe, run_id = spec.recipe_digest(data_digest), spec.run_id(data_digest)
    return RunPlan(spec, run_id, recipe, tuple(steps), evaluation, evaluation_view)


def protocol_steps(spec: RunSpec) -> list[tuple[int, ProtocolStep]]:
    """The steps to train, each with the position in the protocol that its counts stand for."""
    protocol = spec.protocol
    if spec.joint:
        return [(len(protocol.steps) - 1, protocol.joint_step())]
    return [(step.index, step) for step in protocol.steps]


def iterations_of(spec: RunSpec, index: int, n_images: int) -> int:
    """How long a step is trained: 0 where it has no images."""
    phase = spec.phase(index)
    if n_images == 0:
        return 0
    if phase.iterations is not None:
        return phase.iterations
    return phase.epochs * iterations_per_epoch(n_images, spec.config.train.batch)


def _keys(spec: RunSpec, step: Step, view: StepView, previous: str | None) -> tuple[str | None, str]:
    """The key of the shared base network (step 0 only), and that of the method's state after the step."""
    if previous is not None:
        return None, digest(
            {
                "previous": previous,
                "method": spec.method_recipe,
                "training": spec.training_recipe(step.index),
                "names": _new_names(step),
                "view": view.digest,
                "seed": spec.seed,
            }
        )
    own_base = spec.base != BaseRecipe()  # what another method may not define for us
    base = digest(
        {
            "base": asdict(spec.base),
            "method": spec.method_identity if own_base else None,
            "network": spec.network_recipe,
            "training": spec.training_recipe(0),
            "names": _new_names(step),
            "view": view.digest,
            "seed": spec.seed,
        }
    )
    if spec.found.method.end_step is Method.end_step:
        return base, base
    return base, digest({"base": base, "method": spec.method_recipe})


def _new_names(step: Step) -> list[str]:
    """The names of the step's classes: a method may read them as text."""
    return [step.names[class_id] for class_id in step.new]
