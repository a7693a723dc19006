"""Training one step: the loop, the schedule, the optimiser. No synchronisation with the device but every LOG_EVERY
iterations."""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from bench import distributed, interruption, rolling
from bench.compiling import compiled
from bench.config import Phase, TrainSection
from bench.data.views import RawBatch
from bench.machine import Machine, Normaliser
from bench.rolling import Position
from methods.base import Batch, Method, Term

LOG_EVERY = 20  # iterations between two log rows: losses are averaged over them, on the device
SPARING = 100  # times as long as it took to write a checkpoint, training goes on before the next: 1 % of its time


class NonFiniteLoss(RuntimeError):
    """A loss became NaN or infinite: the step is given up, never published."""

    everywhere = True  # losses and weights are the same in all processes of a run


@dataclass(frozen=True)
class StepTraining:
    """What to train: the step's length, rates and batches."""

    recipe: TrainSection
    phase: Phase
    iterations: int
    batches: Callable[[int], Iterable[RawBatch]]  # the batches from a given iteration on
    checkpoint: Path
    stop: int | None = None  # leave off after that many iterations of the schedule (a dry run)


def rate(recipe: TrainSection, phase: Phase, iteration: int, iterations: int) -> float:
    """The learning rate of an iteration: linear warm-up, then constant or poly (1 - i/n)^power; restarted in each
    step."""
    warm = recipe.warmup * iterations
    rise = min(1.0, (iteration + 1) / warm) if warm > 0 else 1.0
    decay = (1 - iteration / iterations) ** recipe.power if recipe.schedule == "poly" else 1.0
    return phase.lr * rise * decay


def make_optimiser(
    recipe: TrainSection, groups: list[dict[str, Any]], encoder: Iterable[Tensor], device: torch.device
) -> Optimizer:
    """SGD with Nesterov momentum or AdamW over the method's groups; fused on CUDA.

    encoder: the parameters whose rate is scaled by recipe.encoder_lr, in whichever groups they are.
    """
    groups = [{"lr_scale": 1.0, **group, "params": list(group["params"])} for group in groups]
    if recipe.encoder_lr != 1.0:
        groups = _spare_encoder(groups, {id(p) for p in encoder}, recipe.encoder_lr)
    common = {"lr": 0.0, "weight_decay": recipe.weight_decay, "fused": device.type == "cuda"}
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(groups, **common)
    return torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=recipe.momentum > 0, **common)


def _spare_encoder(groups: list[dict[str, Any]], encoder: set[int], scale: float) -> list[dict[str, Any]]:
    """Each group in two: its parameters of the encoder at `scale` times its rate, and the others."""
    split_groups = []
    for group in groups:
        inside = [p for p in group["params"] if id(p) in encoder]
        outside = [p for p in group["params"] if id(p) not in encoder]
        split_groups.append({**group, "params": inside, "lr_scale": scale * group["lr_scale"]})
        split_groups.append({**group, "params": outside})
    return [group for group in split_groups if group["params"]]


def train_step(
    method: Method,
    training: StepTraining,
    machine: Machine,
    normalise: Normaliser,
    progress: Callable[[int, dict[str, float], float], None],
) -> Position:
    """Trains `method` through its current step, from the rolling checkpoint if there is one.

    `progress(iteration, mean losses, images a second)` is called at every log row. Returns the final position with the
    whole log. Raises NonFiniteLoss when a loss is not finite. When a signal asks for the end, it comes after the
    iteration at hand (on several processes, after the next log row), once the rolling checkpoint is written.
    """
    recipe, n = training.recipe, training.iterations
    end = n if training.stop is None else min(n, training.stop)
    encoder = method.network.encoder_parameters()
    optimiser = make_optimiser(recipe, method.parameter_groups(method.step), encoder, machine.device)
    position = rolling.load(training.checkpoint, method, optimiser)
    method.train()
    forward = distributed.parallel(method)
    losses_of = compiled(forward) if machine.compile else forward
    alone = distributed.world() == 1
    sums = position.sums
    started = saved = logged = time.monotonic()
    before, interval = position.seconds, machine.checkpoint_seconds
    for i, raw in enumerate(training.batches(position.iteration), position.iteration):
        now = rate(recipe, training.phase, i, n)
        for group in optimiser.param_groups:
            group["lr"] = now * group["lr_scale"]
        for number, part in enumerate(split(normalise(raw), recipe.accumulate), 1):
            with distributed.in_part(forward, last=number == recipe.accumulate):
                with machine.autocast():
                    values = loss_values(distributed.with_global_counts(losses_of(part)))
                (sum(values.values()) / recipe.accumulate).backward()
            for name, value in values.items():
                detached = value.detach() / recipe.accumulate
                sums[name] = sums[name] + detached if name in sums else detached
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        row_due = (i + 1) % LOG_EVERY == 0 or i + 1 == end
        if not row_due and not (alone and interruption.asked()):
            continue
        clock = time.monotonic()
        position.iteration, position.seconds, position.sums = i + 1, before + clock - started, sums
        if row_due:
            count = (i % LOG_EVERY) + 1
            means = distributed.add(torch.stack(list(sums.values())) / count)
            losses = dict(zip(sums, means.tolist(), strict=True))
            check_finite(losses, method, i + 1)
            sums = position.sums = {}
            position.log.append({"step": method.step.index, "iteration": i + 1, "lr": now, **losses})
            progress(i + 1, losses, count * recipe.batch / max(clock - logged, 1e-9))
            logged = clock
        due = clock - saved >= interval and i + 1 < end
        due, asked = distributed.agree(due, interruption.asked())
        if due or asked:
            writing = time.monotonic()
            rolling.save(training.checkpoint, method, optimiser, position)
            saved = time.monotonic()
            if machine.checkpoint_seconds:  # 0: one at every log row, whatever it takes
                interval = max(machine.checkpoint_seconds, SPARING * (saved - writing))
        if asked:
            interruption.stop()
    return position


def loss_values(terms: dict[str, Term | Tensor]) -> dict[str, Tensor]:
    """The weighted value of each named term, scalars with gradient."""
    return {name: term.value if isinstance(term, Term) else term for name, term in terms.items()}


def split(batch: Batch, parts: int) -> Iterator[Batch]:
    """The batch in `parts` of equal size (the last may be smaller)."""
    if parts == 1:
        yield batch
        return
    size = math.ceil(len(batch.ids) / parts)
    for start in range(0, len(batch.ids), size):
        piece = slice(start, start + size)
        maps = {name: value[piece] for name, value in batch.maps.items()}
        yield Batch(batch.images[piece], batch.labels[piece], batch.ids[piece], maps)


def check_finite(losses: dict[str, float], method: Method, iteration: int) -> None:
    wrong = [name for name, value in losses.items() if not math.isfinite(value)]
    if wrong:
        listing = ", ".join(f"{name}={value:.4g}" for name, value in losses.items())
        raise NonFiniteLoss(
            f"the loss {wrong[0]} is not finite in step {method.step.index} by iteration {iteration} ({listing}): "
            "a lower train.base.lr or train.increment.lr, or train.precision=fp32, may help"
        )


def check_weights(tensors: dict[str, Tensor], index: int) -> None:
    """Raises NonFiniteLoss if the last update of step `index` left a weight that is not finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise NonFiniteLoss(
                f"after the last iteration of step {index}, {name} is not finite: lower the learning rate"
            )
