"""What a run will do, before it does it: its steps, their images, their keys. Equal keys are trained once."""

from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from bench import evaluate, windows
from bench.config import NATIVE
from bench.data.views import StepView, iterations_per_epoch, step_view
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
        """The size on disk of all steps of the run, from the shapes of the method's state."""
        if self.recipe not in _state_bytes:
            _state_bytes[self.recipe] = self._measure_state()
        return _state_bytes[self.recipe]

    def _measure_state(self) -> int:
        config = self.spec.network
        with torch.device("meta"):
            method = self.spec.found.method(self.spec.options, build(replace(config, pretrained="none")))
            total = 0
            for plan in self.steps:
                method.begin_step(plan.step)
                total += sum(value.numel() * value.element_size() for value in method.state_dict().values())
        return total


def make_plan(spec: RunSpec, workspace: Workspace) -> RunPlan:
    """Opens the data and addresses every step of the run. Trains nothing."""
    training, evaluation = workspace.training_images(spec), workspace.evaluation_images(spec)
    protocol = spec.protocol
    data_digest = digest([training.presence.digest, evaluation.presence.digest])
    evaluation_view = step_view(
        evaluation.data, evaluation.indices, protocol.evaluation_table(), evaluation.presence.digest
    )
    steps: list[StepPlan] = []
    for position, step in _steps(spec):
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
        iterations = _iterations(spec, step.index, len(images))
        steps.append(StepPlan(position, step.visible(), view, iterations, base_key, key, counts_key))
    recipe, run_id = spec.recipe_digest(data_digest), spec.run_id(data_digest)
    return RunPlan(spec, run_id, recipe, tuple(steps), evaluation, evaluation_view)


def _steps(spec: RunSpec) -> list[tuple[int, ProtocolStep]]:
    """The steps to train, each with the position in the protocol that its counts stand for."""
    protocol = spec.protocol
    if spec.joint:
        return [(len(protocol.steps) - 1, protocol.joint_step())]
    return [(step.index, step) for step in protocol.steps]


def _iterations(spec: RunSpec, index: int, n_images: int) -> int:
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
