"""Tables that compare runs: one per group of comparable runs; a row per method and recipe, over its seeds.

Runs are comparable when they share track, backbone, initial weights, data, protocol, setting, class order
and evaluation, and were evaluated on the same ground truth (their counts say so). Only runs of one recipe
are averaged, and only runs that have every step: what is missing shows as a hole, with a note that says what.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from results.measures import convention_named
from results.schema import Run
from results.scores import group_slots, score

MEASURES = ("old", "new", "all", "avg", "forgetting")
GROUP_KEYS = ("protocol", "setting", "order", "track", "network", "pretrained", "data")


@dataclass(frozen=True)
class Group:
    """Comparable runs: the only ones that may share a table."""

    runs: tuple[Run, ...]

    @property
    def title(self) -> str:
        where = f"{self['track']} track | {self['network']}, weights {self['pretrained']} | {self['data']}"
        return f"{self['protocol']} {self['setting']} | {where}"

    def __getitem__(self, key: str):
        return self.runs[0].manifest[key]


@dataclass(frozen=True)
class Row:
    """The runs behind one row: one method, one recipe. `used` are averaged, at most one run a seed."""

    label: str  # as shown: with the start of the recipe's hash where one label has several
    recipe: str
    used: tuple[Run, ...]
    notes: tuple[str, ...]

    @property
    def joint(self) -> bool:
        return self.used[0].manifest["single_step"]

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.manifest["seed"] for run in self.used)


def group_runs(runs: Iterable[Run]) -> list[Group]:
    """Split runs into groups of comparable ones, ordered by GROUP_KEYS."""
    groups: dict[tuple, list[Run]] = {}
    for run in sorted(runs, key=lambda run: not run.counts):
        key = (_key(run), _truth(run))
        if not run.counts:  # nothing to compare yet: it goes beside the runs it will be compared with
            key = next((known for known in groups if known[0] == key[0]), key)
        groups.setdefault(key, []).append(run)
    return [Group(tuple(groups[key])) for key in sorted(groups)]


def _key(run: Run) -> tuple[str, ...]:
    manifest = run.manifest
    settings = [json.dumps(manifest[key], sort_keys=True) for key in ("protocol_digest", "step_classes", "evaluation")]
    return (*(manifest[key] for key in GROUP_KEYS), *settings)


def _truth(run: Run) -> tuple[int, ...]:
    """Ground-truth pixels per slot: equal wherever the same images were evaluated."""
    if not run.counts:
        return ()
    return tuple(run.counts[max(run.counts)].sum((0, 2)).tolist())


def rows_of(group: Group) -> list[Row]:
    """The rows of a table: methods by name, joint training last.

    One label with several recipes gives several rows, each labelled with the start of its recipe's hash.
    """
    by_row: dict[tuple[str, str], list[Run]] = {}
    for run in group.runs:
        by_row.setdefault((run.manifest["label"], run.manifest["recipe"]), []).append(run)
    recipes = {label: [recipe for other, recipe in by_row if other == label] for label, _ in by_row}
    rows = []
    for (label, recipe), runs in sorted(by_row.items()):
        shown = label if len(recipes[label]) == 1 else f"{label} [{_prefix(recipe, recipes[label])}]"
        rows.append(_row(shown, recipe, runs))
    return sorted(rows, key=lambda row: row.joint)


def _row(label: str, recipe: str, runs: Sequence[Run]) -> Row:
    """Choose what is averaged: the complete runs, one a seed; if there is none, the run that got farthest."""
    notes = []
    by_seed: dict[int, Run] = {}
    for run in sorted(runs, key=lambda run: (len(run.missing_steps), run.manifest["run"])):
        first = by_seed.setdefault(run.manifest["seed"], run)
        if first is not run:
            notes.append(
                f"{label}, seed {run.manifest['seed']}: {run.manifest['run']} repeats "
                f"{first.manifest['run']} and is left out"
            )
    candidates = [by_seed[seed] for seed in sorted(by_seed)]
    used = [run for run in candidates if not run.missing_steps]
    used = used or [min(candidates, key=lambda run: len(run.missing_steps))]
    for run in candidates:
        if run.missing_steps:
            total = len(run.expected_steps)
            why = f", failed ({run.manifest.get('error')})" if run.manifest["status"] == "failed" else ""
            fate = "its finished steps are shown" if run is used[0] else "left out"
            done = f"{total - len(run.missing_steps)} of {total} steps"
            notes.append(f"{label}, seed {run.manifest['seed']}: {done}{why}; {fate}")
    return Row(label, recipe, tuple(used), tuple(notes))


def _prefix(recipe: str, recipes: Sequence[str], shortest: int = 6) -> str:
    """The shortest start of a hash that tells it from the others."""
    return next(
        (
            recipe[:length]
            for length in range(shortest, len(recipe))
            if sum(other.startswith(recipe[:length]) for other in recipes) == 1
        ),
        recipe,
    )


def heads(group: Group, convention: str = "default") -> dict[str, str]:
    """Column heads by measure: "old 0-10", "new 11-20", "all 0-20" (class ids), "avg", "forgetting"."""
    run = group.runs[0]
    rules = convention_named(convention)
    old, new = (run.slot_ids[list(slots)].tolist() for slots in group_slots(run, convention))
    with_background = rules.counts_background("all", run.manifest["background_evaluated"])
    everything = run.slot_ids[0 if with_background else 1 :].tolist()
    return {
        "old": f"old {id_ranges(old)}",
        "new": f"new {id_ranges(new)}",
        "all": f"all {id_ranges(everything)}",
        "avg": "avg",
        "forgetting": "forgetting",
    }


def id_ranges(ids: Sequence[int], longest: int = 14) -> str:
    """Class ids as text: "0-10", "1-3,7", or "12 ids" where that is too long; "-" for none."""
    ids, parts = sorted(ids), []
    for class_id in ids:
        if parts and class_id == parts[-1][1] + 1:
            parts[-1][1] = class_id
        else:
            parts.append([class_id, class_id])
    text = ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts) or "-"
    return text if len(text) <= longest else f"{len(ids)} ids"


def main_table(runs: Sequence[Run], convention: str = "default") -> pd.DataFrame:
    """old, new, all, avg and forgetting at the last step: one row per method and recipe, in percent.

    Columns: method, recipe, seeds (how many complete runs), then for each measure its head (`heads`) and
    that head with " std": mean and sample standard deviation over seeds (NaN for a single one).
    ValueError: the runs are not one group.
    """
    group = _only(runs)
    names = heads(group, convention)
    lines = []
    for row in rows_of(group):
        line = {"method": row.label, "recipe": row.recipe, "seeds": _n_seeds(row)}
        scores = [score(run, convention) for run in row.used]
        for measure in MEASURES:
            mean, std = mean_and_std([getattr(one, measure) for one in scores])
            line |= {names[measure]: mean, f"{names[measure]} std": std}
        lines.append(line)
    return pd.DataFrame(lines)


def per_step_table(runs: Sequence[Run], convention: str = "default") -> pd.DataFrame:
    """mIoU over all classes seen, after every step, in percent: one row per method, recipe and step.

    Columns: method, recipe, seeds, step, learned (class ids of the step), all, all std.
    ValueError: the runs are not one group.
    """
    group = _only(runs)
    lines = []
    for row in rows_of(group):
        steps = np.stack([score(run, convention).steps for run in row.used])  # (seeds, S)
        for step, classes in enumerate(group["step_classes"]):
            mean, std = mean_and_std(steps[:, step])
            line = {"method": row.label, "recipe": row.recipe, "seeds": _n_seeds(row), "step": step}
            lines.append(line | {"learned": id_ranges(classes), "all": mean, "all std": std})
    return pd.DataFrame(lines)


def _only(runs: Sequence[Run]) -> Group:
    groups = group_runs(runs)
    if len(groups) != 1:
        raise ValueError(f"{len(groups)} groups of comparable runs in one table: use group_runs first")
    return groups[0]


def _n_seeds(row: Row) -> int:
    return sum(not run.missing_steps for run in row.used)


def mean_and_std(values: Iterable[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n - 1; NaN for one value); NaN if any value is."""
    values = np.asarray(list(values), dtype=np.float64)
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def notes(group: Group, convention: str = "default") -> list[str]:
    """What a reader must know: protocol, provenance, convention, seeds, absent classes, holes."""
    rules = convention_named(convention)
    rows = rows_of(group)
    sizes = [len(classes) for classes in group["step_classes"]]
    settings = [f"{key} {value}" for key, value in group["evaluation"].items()]
    evaluation = ", ".join([*settings, f"{sum(_truth(group.runs[0])):,} ground-truth pixels"])
    joint = [row.label for row in rows if row.joint]
    lines = [
        f"protocol {group['protocol']}: {len(sizes)} steps of {_sizes(sizes)} classes; "
        f"setting {group['setting']}; class order {group['order']}",
        f"track {group['track']}; network {group['network']}; initial weights {group['pretrained']}; "
        f"data {group['data']}",
        f"evaluation: {evaluation}",
        f"{convention} convention: {rules.sentence(group['background_evaluated'])}",
        _seed_note(rows),
        "avg: mean of all over the steps, step 0 included; forgetting: best earlier IoU minus the last, "
        "mean over the classes learned before the last step (lower is better)",
        f"{', '.join(joint)}: all classes learned in one step, an upper bound without avg and forgetting"
        if joint
        else "",
        _absent_note(group, rows, convention),
    ]
    said = {row.used[0].manifest["method"]: row.used[0].manifest.get("method_note") for row in rows}
    lines += [f"{method}: {note}" for method, note in said.items() if note]
    if len({row.used[0].manifest["label"] for row in rows}) < len(rows):
        lines.append("rows of one method with different recipes are told apart by the start of the recipe's hash")
    return [line for line in lines if line] + [note for row in rows for note in row.notes]


def _sizes(sizes: Sequence[int]) -> str:
    """10 + 10 x 1; 100 + 50; 3 + 2 + 4."""
    increments = sizes[1:]
    if len(increments) > 1 and len(set(increments)) == 1:
        return f"{sizes[0]} + {len(increments)} x {increments[0]}"
    return " + ".join(map(str, sizes))


def _seed_note(rows: Sequence[Row]) -> str:
    complete = {row.label: row.seeds for row in rows if _n_seeds(row)}
    if not complete:
        return "no run is complete"
    what = "mean ± sample standard deviation over seeds" if max(map(len, complete.values())) > 1 else "seed"
    if len(set(complete.values())) == 1:
        return f"{what} {_listing(next(iter(complete.values())))}"
    each = "; ".join(f"{label} {_listing(seeds)}" for label, seeds in complete.items())
    return f"{what}, which differ: {each}"


def _absent_note(group: Group, rows: Sequence[Row], convention: str) -> str:
    """Classes that have no ground-truth pixel, and what the convention makes of them."""
    absent = sorted({class_id for row in rows for run in row.used for class_id in score(run, convention).absent})
    if not absent:
        return ""
    rules, names = convention_named(convention), group["class_names"]
    by_rule = {"present": "left out of the means", "nonzero": "left out of all", "zero": "counted as 0"}
    handled = by_rule[rules.rule]
    if rules.group_rule != rules.rule:
        handled += " (old and new: counted as 0)"
    noun = "class" if len(absent) == 1 else "classes"
    named = ", ".join(f"{names[class_id]} ({class_id})" for class_id in absent)
    return f"{len(absent)} {noun} absent from the ground truth, {handled}: {named}"


def _listing(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))
