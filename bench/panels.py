"""Panels of a group of comparable runs: what their networks of the last step, from the cache, make of a few images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.cache import CorruptEntry
from bench.data.views import Batches, make_eval_loader
from bench.evaluate import predict
from bench.learner import Learner
from bench.machine import Machine
from bench.plan import RunPlan
from bench.predictions import PALETTE
from bench.progress import announce, counting
from bench.recall import plan_of
from bench.workspace import workspace_of
from protocols import VOID, InputError
from results.figures.files import Drawn, paper, rendered
from results.figures.panels import Panel, draw_panels
from results.groups import Group, rows_of
from results.naming import named

RULE = "the images with the largest share of pixels that not all methods predict alike"


@dataclass(frozen=True)
class Panels:
    """What is shown, and how it was chosen."""

    panels: list[Panel]
    notes: list[str]


def panels_of(group: Group, count: int, ids: Sequence[str] = ()) -> Panels:
    """Panels of `count` images by RULE (earlier ones win ties), or of the images named `ids`.

    One run for each row of the group's table, the one of its lowest seed. Runs whose networks cannot be loaded are left
    out, with a note. InputError: no run is left, or an image that is not evaluated.
    """
    notes, plans = [], {}
    for row in rows_of(group):
        try:
            plans[row.label] = _loadable(plan_of(row.used[0]))
        except InputError as fault:
            notes.append(f"no panels of {row.label}: {fault}")
    if not plans:
        raise InputError(f"no networks for panels of {group.title}: " + "; ".join(notes))
    first = next(iter(plans.values()))
    names = [first.evaluation.data.ids[i] for i in first.evaluation_view.indices]
    unknown_ids = [name for name in ids if name not in names]
    if unknown_ids:
        raise InputError(f"{unknown_ids[0]} is no evaluated image: choose from {names[0]} ... {names[-1]}")
    rows = np.array([names.index(name) for name in ids]) if ids else _disagreement(plans)[:count]
    shown = {label: [slots for _, slots in _pass(plan, rows)] for label, plan in plans.items()}
    slot_ids = np.full(256, VOID, dtype=np.uint8)
    slot_ids[: len(first.spec.protocol.slot_ids)] = first.spec.protocol.slot_ids
    pictures = (
        (image, truth) for raw in _loader(first, rows) for image, truth in zip(raw.images, raw.labels, strict=True)
    )
    panels = [
        Panel(
            names[row],
            image.permute(1, 2, 0).numpy(),
            slot_ids[truth.numpy()],
            {label: slot_ids[slots[place]] for label, slots in shown.items()},
        )
        for place, (row, (image, truth)) in enumerate(zip(rows, pictures, strict=True))
    ]
    seeds = sorted({plan.spec.seed for plan in plans.values()})
    how = "images as asked for" if ids else f"chosen by rule: {RULE}"
    return Panels(panels, [f"{how}; networks of the last step, seed {', '.join(map(str, seeds))}", *notes])


def _loadable(plan: RunPlan) -> RunPlan:
    last = plan.steps[-1]
    if not workspace_of(plan.spec.config.store).cache.has(last.key):
        raise InputError(f"step {last.position} of {plan.run_id} is not in the cache: run its command again")
    return plan


def _disagreement(plans: dict[str, RunPlan]) -> np.ndarray:
    """Rows of the evaluated images, those on which the methods disagree most first. int64 (N,)."""
    reference: list[np.ndarray] = []
    differ: list[np.ndarray] = []
    for label, plan in plans.items():
        with counting(f"predictions of {label}") as progress:
            for place, (truth, slots) in enumerate(_pass(plan)):
                if len(reference) == place:
                    reference.append(slots)
                    differ.append(np.zeros(slots.shape, dtype=bool))
                differ[place] |= (slots != reference[place]) & (truth != VOID)
                progress(place + 1, len(plan.evaluation_view))
    return np.argsort([-pixels.mean() for pixels in differ], kind="stable")


def _pass(plan: RunPlan, rows: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ground truth and predicted slots, uint8 (H, W) each, of the evaluated images in `rows` (None: of all)."""
    machine = Machine.of(plan.spec.config)
    try:
        method = Learner(plan, workspace_of(plan.spec.config.store).cache, machine).hold(len(plan.steps) - 1)
    except CorruptEntry as fault:
        raise InputError(f"{fault}: run the command of {plan.run_id} again") from fault
    normalise = machine.normaliser(method.network.mean, method.network.std)
    for batch, slots in predict(method, _loader(plan, rows), machine, normalise):
        for truth, one in zip(batch.labels.cpu().numpy(), slots.cpu().numpy(), strict=True):
            yield truth.astype(np.uint8), one.astype(np.uint8)


def _loader(plan: RunPlan, rows: np.ndarray | None) -> Batches:
    """The evaluated images in `rows` (None: all) as the engine evaluates them."""
    view, section = plan.evaluation_view, plan.spec.config.evaluation
    chosen = view if rows is None else replace(view, indices=view.indices[rows])
    return make_eval_loader(chosen, section.size, section.batch, workers=plan.spec.config.workers or 0)


def draw_groups(
    groups: Sequence[Group], formats: Sequence[str], count: int, ids: Sequence[str] = ()
) -> list[list[Drawn]]:
    """Panels of every group, drawn in the formats given; says how they were chosen.

    A group without networks, such as one of predictions from elsewhere, has none, and that is said. InputError: no
    group has any.
    """
    drawn: list[list[Drawn]] = []
    faults = []
    for group in groups:
        try:
            made = panels_of(group, count, ids)
        except InputError as fault:
            faults.append(str(fault))
            drawn.append([])
            continue
        for note in made.notes:
            announce(f"panels of {group.title}: {note}")
        names = {row.label: named(row["method"], row.label) for row in rows_of(group)}
        shown = [
            replace(panel, predictions={names[label]: found for label, found in panel.predictions.items()})
            for panel in made.panels
        ]
        with paper():
            figure = draw_panels(shown, group["class_names"], PALETTE)
            drawn.append([rendered(figure, "panels", _says(made), formats, group.title, made.notes)])
    if not any(drawn):
        raise InputError("; ".join(faults))
    for fault in faults:
        announce(fault)
    return drawn


def _says(made: Panels) -> str:
    names = ", ".join(panel.name for panel in made.panels)
    return f"Image, ground truth and predictions at the last step: {names} ({'; '.join(made.notes)})."
