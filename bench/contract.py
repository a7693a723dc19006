"""The contract between engine and method, as tests that anyone can run on any method (`bench check`).

Each check is a function of a `Trial`; it raises `Broken` with what is wrong and what the engine relies on.
"""

import copy
import traceback
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from omegaconf import OmegaConf
from rich.console import Console
from torch import Tensor

import methods
import protocols
from bench.config import BACKBONES
from bench.distributed import as_terms
from bench.train import loss_values, split
from methods.base import Batch, Method, Term
from methods.finetune import Finetune
from methods.nn.network import NetworkConfig, build, sibling
from protocols.protocol import VOID

SIZE, IMAGES, ITERATIONS = 64, 4, 3


class Broken(AssertionError):
    """The method breaks the contract; the message says how."""


@dataclass(frozen=True)
class Trial:
    """One method on one tiny backbone, with a protocol of three steps."""

    found: methods.Found
    backbone: str

    @property
    def steps(self) -> list[protocols.Step]:
        return [step.visible() for step in protocols.load("voc_10-5").steps]

    def fresh(self, method_class: type[Method] | None = None, seed: int = 0) -> Method:
        """The method before its first step, with initial weights from `seed`."""
        torch.manual_seed(seed)
        name = sibling(f"{self.backbone}-tiny", (method_class or self.found.method).family)
        network = build(NetworkConfig(name, "default", SIZE))
        if method_class is not None:
            return method_class(method_class.Config(), network)
        options = OmegaConf.merge(OmegaConf.structured(self.found.method.Config), self.found.options)
        return self.found.method(OmegaConf.to_object(options), network)

    def enter(self, method: Method, index: int) -> Method:
        """Begins step `index`, in training mode."""
        torch.manual_seed(100 + index)
        method.begin_step(self.steps[index])
        return method.train()

    def batch(self, index: int, seed: int = 0, void: bool = False) -> Batch:
        """Random images with blocks of every new class of the step, background, and a void border (or void alone)."""
        generator = torch.Generator().manual_seed(1000 * index + seed)
        images = torch.randn(IMAGES, 3, SIZE, SIZE, generator=generator)
        step = self.steps[index]
        choices = torch.tensor([0, 0, *range(step.n_old_slots, step.n_slots)])
        blocks = choices[torch.randint(len(choices), (IMAGES, 8, 8), generator=generator)]
        labels = blocks.repeat_interleave(SIZE // 8, 1).repeat_interleave(SIZE // 8, 2)
        labels[:, :2] = VOID
        if void:
            labels = torch.full_like(labels, VOID)
        return Batch(images, labels, tuple(f"image {i}" for i in range(IMAGES)))

    def train(self, method: Method, index: int, iterations: int = ITERATIONS) -> Method:
        """A few iterations of SGD in the current step, then its end, as the engine does it."""
        step = self.steps[index]
        loader = [self.batch(index, seed) for seed in range(2)]
        torch.manual_seed(200 + index)
        method.prepare(step, loader)
        groups = [{"params": list(group["params"])} for group in method.parameter_groups(step)]
        optimiser = torch.optim.SGD(groups, lr=0.01, momentum=0.9)
        torch.manual_seed(200 + index)
        for i in range(iterations):
            sum(loss_values(method(self.batch(index, i))).values()).backward()
            optimiser.step()
            optimiser.zero_grad()
        method.end_step(step, loader)
        return method

    def trained(self, index: int, seed: int = 0) -> Method:
        """The method after a few iterations of each step up to `index`."""
        method = self.fresh(seed=seed)
        for i in range(index + 1):
            self.train(self.enter(method, i), i)
        return method


def check_options(trial: Trial) -> None:
    """Every variant changes options that exist."""
    known = {field.name for field in fields(trial.found.method.Config)}
    for variant, options in trial.found.method.variants.items():
        if not set(options) <= known:
            raise Broken(f"variant {variant} changes {sorted(set(options) - known)}, which Config does not have")


def check_losses(trial: Trial) -> None:
    """Losses are named, finite scalars with a gradient, in step 0 and later."""
    method = trial.fresh()
    for index in range(2):
        trial.enter(method, index)
        method.prepare(trial.steps[index], [trial.batch(index)])
        terms = method(trial.batch(index))
        if not isinstance(terms, dict) or not terms or not all(isinstance(name, str) for name in terms):
            raise Broken(f"forward must return a dict of named terms, not {type(terms).__name__} ({terms!r:.80})")
        values = loss_values(terms)
        for name, value in values.items():
            if value.shape != () or not torch.isfinite(value):
                raise Broken(f"the term {name} of step {index} is no finite scalar: {value}")
        if not sum(values.values()).requires_grad:
            raise Broken(f"the losses of step {index} carry no gradient")


def check_void_batch(trial: Trial) -> None:
    """A batch without a labelled pixel gives finite losses: random crops do that."""
    method = trial.trained(0)
    trial.enter(method, 1)
    method.prepare(trial.steps[1], [trial.batch(1)])
    values = loss_values(method(trial.batch(1, void=True)))
    if values.keys() != method(trial.batch(1)).keys():
        raise Broken("the names of the terms depend on the labels: several devices could not add them up")
    for name, value in values.items():
        if not torch.isfinite(value):
            raise Broken(f"the term {name} is {value} on a batch whose labels are all 255")


def check_gradient(trial: Trial) -> None:
    """The gradient of an increment reaches what the new classes brought."""
    method = trial.trained(0)
    before = {name for name, _ in method.named_parameters()}
    trial.enter(method, 1)
    new = {name: p for name, p in method.named_parameters() if name not in before and p.requires_grad}
    if not new:
        raise Broken("begin_step added no trainable parameter for the new classes")
    method.prepare(trial.steps[1], [trial.batch(1)])
    sum(loss_values(method(trial.batch(1))).values()).backward()
    if not any(p.grad is not None and p.grad.abs().sum() > 0 for p in new.values()):
        raise Broken(f"no gradient reaches the parameters of the new classes: {', '.join(new)}")


def check_halves(trial: Trial) -> None:
    """The terms of a batch are those of its halves, sums and counts added up: several devices share a batch out."""
    method = trial.trained(0)
    trial.enter(method, 1)
    batch = trial.batch(1)
    method.prepare(trial.steps[1], [batch])
    for module in method.modules():
        if not any(module.children()):
            module.eval()  # batch norms have statistics over devices; dropout differs from call to call
    batch.labels[0], batch.labels[1] = VOID, 0  # halves of unequal counts and contents
    torch.manual_seed(400)
    whole = loss_values(method(batch))
    halves = []
    for half in split(batch, 2):
        torch.manual_seed(400)
        halves.append(as_terms(method(half)))
    for name, value in whole.items():
        one, other = (half[name] for half in halves)
        added = Term(one.sum + other.sum, one.count + other.count, one.weight).value
        if not torch.allclose(value, added, rtol=1e-4, atol=1e-6):
            raise Broken(
                f"the term {name} of a batch is {value.item():.6g}, its halves give {added.item():.6g}: "
                "return Term(sum, count), or take means over images with methods.nn.whole_batch"
            )


def check_growth(trial: Trial) -> None:
    """Growing keeps what is there: old slots stay where they are, and only the background may start anew."""
    method = trial.trained(0)
    before = copy.deepcopy(method.state_dict())
    trial.enter(method, 1)
    after = method.state_dict()
    for name, value in before.items():
        if name not in after or after[name].shape != value.shape:
            raise Broken(f"begin_step removed or reshaped {name}: old slots must keep their place")
        if not torch.equal(after[name][1:], value[1:]) if value.ndim else not torch.equal(after[name], value):
            raise Broken(
                f"begin_step changed {name} beyond its first row, the background's: old classes lose their meaning"
            )
    if method.network.n_slots != trial.steps[1].n_slots:
        raise Broken(f"the network has {method.network.n_slots} slots in a step of {trial.steps[1].n_slots}")


def check_teacher(trial: Trial) -> None:
    """A teacher is the network of the step before, to the last buffer, through a whole step of training."""
    method = trial.trained(0)
    before = copy.deepcopy(method.network.state_dict())
    trial.enter(method, 1)
    if method.teacher is None:
        if trial.found.method.uses_teacher:
            raise Broken(
                "uses_teacher is set, but there is no teacher in step 1: begin_step must call the base class's"
            )
        return
    trial.train(method, 1)
    _same(before, method.teacher.state_dict(), "the teacher changed while its student was trained")
    if method.teacher.training or any(p.requires_grad for p in method.teacher.parameters()):
        raise Broken("the teacher must be in eval mode and need no gradient")
    teacher_tensors = {id(p) for p in method.teacher.parameters()}
    if any("teacher" in name for name in method.state_dict()) or any(
        id(p) in teacher_tensors for p in method.parameters()
    ):
        raise Broken("the teacher is part of the method's parameters or state: keep it with keep_teacher()")


def check_batch_untouched(trial: Trial) -> None:
    """Neither forward nor predict changes the batch in place."""
    method = trial.trained(0)
    trial.enter(method, 1)
    batch = trial.batch(1)
    method.prepare(trial.steps[1], [batch])
    images, labels = batch.images.clone(), batch.labels.clone()
    method(batch)
    method.eval().predict(batch._replace(labels=None))
    if not (torch.equal(images, batch.images) and torch.equal(labels, batch.labels)):
        raise Broken("the batch was changed in place: clone labels before writing pseudo-labels into them")


def check_predictions(trial: Trial) -> None:
    """predict gives an integer slot of the current step for every pixel, without seeing labels."""
    method = trial.fresh()
    for index in range(2):
        trial.train(trial.enter(method, index), index)
        batch = trial.batch(index)._replace(labels=None)
        with torch.inference_mode():
            slots = method.eval().predict(batch)
        if slots.shape != (IMAGES, SIZE, SIZE) or slots.dtype != torch.int64:
            raise Broken(f"predict must give int64 {(IMAGES, SIZE, SIZE)}, not {slots.dtype} {tuple(slots.shape)}")
        if slots.min() < 0 or slots.max() >= trial.steps[index].n_slots:
            raise Broken(f"predict gave slot {slots.max()} in a step of {trial.steps[index].n_slots} slots")


def check_round_trip(trial: Trial) -> None:
    """A state loads back by replaying begin_step, and trains on as if nothing had happened."""
    method = trial.trained(0)
    after_base = copy.deepcopy(method.state_dict())
    trial.train(trial.enter(method, 1), 1)
    state = {name: value.clone() for name, value in method.state_dict().items()}
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise Broken("state_dict must hold tensors only: they are stored as safetensors")
    loaded = trial.enter(trial.fresh(seed=7), 0)
    loaded.load_state_dict(after_base)
    trial.enter(loaded, 1).load_state_dict(state)
    torch.manual_seed(300)
    expected = loss_values(method.train()(trial.batch(1)))
    torch.manual_seed(300)
    got = loss_values(loaded.train()(trial.batch(1)))
    for name, value in expected.items():
        if not torch.equal(value, got[name]):
            raise Broken(
                f"after a round trip the term {name} is {got[name].item()} instead of {value.item()}: "
                "everything learned must be in parameters or buffers"
            )


def check_base_state(trial: Trial) -> None:
    """What step 0 teaches lies in the network, or is made by end_step: the shared base is the network alone."""
    trained = trial.trained(0)
    loaded = trial.enter(trial.fresh(), 0)
    loaded.network.load_state_dict(trained.network.state_dict())
    if type(loaded).end_step is not Method.end_step:
        loaded.end_step(trial.steps[0], [trial.batch(0, seed) for seed in range(2)])
    _same(
        trained.state_dict(), loaded.state_dict(),
        "step 0 leaves something outside the network that a method loaded from the shared base would lack",
    )  # fmt: skip


def check_shared_base(trial: Trial) -> None:
    """With the base recipe of fine-tuning, step 0 is bit-equal to that of fine-tuning: they share one network."""
    method = trial.fresh()
    if method.base_recipe(method.config) != Finetune.base_recipe(Finetune.Config()):
        return
    reference = trial.fresh(Finetune)
    for learner in (method, reference):
        trial.train(trial.enter(learner, 0), 0)
    complaint = "step 0 differs from fine-tuning's although the base recipes are equal: declare it in base_recipe"
    _same(reference.network.state_dict(), method.network.state_dict(), complaint)


def check_repeatable(trial: Trial) -> None:
    """The same seed gives the same run."""
    _same(trial.trained(1).state_dict(), trial.trained(1).state_dict(), "two runs with one seed differ")


CHECKS: tuple[Callable[[Trial], None], ...] = (
    check_options,
    check_losses,
    check_void_batch,
    check_gradient,
    check_halves,
    check_growth,
    check_teacher,
    check_batch_untouched,
    check_predictions,
    check_round_trip,
    check_base_state,
    check_shared_base,
    check_repeatable,
)


def print_checks(found: methods.Found) -> int:
    """Runs every check on every backbone that the method supports; 1 if one fails."""
    console = Console(highlight=False)
    failed = 0
    for backbone in BACKBONES:
        reason = found.method.unsupported(backbone, "overlapped")
        if reason:
            console.print(f"{found.label} on {backbone}: skipped, {reason}", markup=False)
            continue
        console.print(f"{found.label} on {backbone}")
        for check in CHECKS:
            fault = explain(check, Trial(found, backbone))
            failed += fault is not None
            console.print(f"  {'✗' if fault else '✓'} {check.__doc__.strip()}", markup=False, soft_wrap=True)
            if fault:
                console.print(f"      {fault}", markup=False, soft_wrap=True)
    console.print(f"{failed} checks failed" if failed else "the method keeps the contract")
    return 1 if failed else 0


def explain(check: Callable[[Trial], None], trial: Trial) -> str | None:
    """What is wrong, in a sentence; None if the check passes."""
    try:
        check(trial)
    except Broken as fault:
        return str(fault)
    except Exception as fault:  # the method's own error is the explanation
        place = traceback.extract_tb(fault.__traceback__)[-1]
        return f"{type(fault).__name__} in {place.name} ({place.filename}, line {place.lineno}): {fault}"
    return None


def _same(expected: dict[str, Tensor], got: dict[str, Tensor], complaint: str) -> None:
    for name, value in expected.items():
        if name not in got or not torch.equal(value, got[name]):
            raise Broken(f"{complaint} (first at {name})")
