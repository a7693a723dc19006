"""How long runs will take: from a trial on this machine, or from what was trained in the store before."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench import distributed
from bench.launch import Prepared
from bench.plan import RunPlan, StepPlan


@dataclass(frozen=True)
class Rates:
    """Seconds of an iteration and of an evaluated image at steps 0, 1, ... (None: unknown). Later steps take what the
    last known one did."""

    iteration: Sequence[float | None]
    image: Sequence[float | None]


@dataclass(frozen=True)
class Due:
    """What a command has to train: each step once, with the first run that needs it."""

    steps: dict[str, tuple[RunPlan, StepPlan]]  # by key

    def of(self, plan: RunPlan) -> list[StepPlan]:
        """The steps that `plan` is the first to need."""
        return [step for owner, step in self.steps.values() if owner is plan]

    @property
    def iterations(self) -> int:
        return sum(step.iterations for _, step in self.steps.values())


def due_steps(prepared: Prepared) -> Due:
    """The steps that are neither cached nor trained by a run before."""
    due: dict[str, tuple[RunPlan, StepPlan]] = {}
    for plan in prepared.plans:
        for step in plan.steps:
            key = step.base_key or step.key
            if not prepared.workspace.cache.has(key):
                due.setdefault(key, (plan, step))
    return Due(due)


def total_seconds(rates: Rates, plan: RunPlan, steps: Sequence[StepPlan]) -> float | None:
    """Training and evaluation of these steps of `plan`, by the processes there are; None where nothing is known that
    they need."""
    total = 0.0
    images = distributed.part_of(len(plan.evaluation_view), plan.spec.config.evaluation.batch).stop
    for step in steps:
        index = plan.steps.index(step)
        iteration, image = (_at(known, index) for known in (rates.iteration, rates.image))
        if image is None or (iteration is None and step.iterations):
            return None
        total += (iteration or 0.0) * step.iterations + image * images
    return total


def _at(known: Sequence[float | None], index: int) -> float | None:
    """The rate of step `index`, or of the last step before it whose rate is known."""
    return next((rate for rate in reversed(known[: index + 1]) if rate is not None), None)


def from_store(prepared: Prepared, due: Due) -> float | None:
    """Seconds of training, from those that steps of this store took; a method that was never trained is guessed from
    the same network. None where that is unknown, too."""
    seconds: dict[tuple[str, str | None], list[float]] = {}
    for meta in prepared.workspace.cache.metas().values():
        if meta["iterations"] and meta["seconds"]:
            each = meta["seconds"] / meta["iterations"]
            for label in (meta["method"], None):
                seconds.setdefault((meta["network"], label), []).append(each)
    total = 0.0
    for plan, step in due.steps.values():
        network = plan.spec.config.network.name
        known = seconds.get((network, plan.spec.found.label)) or seconds.get((network, None))
        if known is None:
            return None
        total += median(known) * step.iterations
    return total
