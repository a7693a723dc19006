"""Which runs may share a table, and which of them are averaged.

Runs are comparable when they share track, backbone, initial weights, data, protocol, setting, class order
and evaluation, and were evaluated on the same ground truth (their counts say so). Only runs of one recipe
are averaged, and only runs that have every step: what is missing shows as a hole, with a note that says what.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from results.measures import convention_named
from results.schema import Run
from results.scores import group_slots

GROUP_KEYS = ("protocol", "setting", "order", "track", "network", "pretrained", "data")


@dataclass(frozen=True)
class Group:
    """Comparable runs: the only ones that may share a table."""

    runs: tuple[Run, ...]

    @property
    def title(self) -> str:
        """What the runs are, in a line."""
        return f"{self['protocol']} {self['setting']} | {self.where}"

    @property
    def where(self) -> str:
        """Track, network, initial weights and data."""
        return f"{self['track']} track | {self['network']}, weights {self['pretrained']} | {self['data']}"

    @property
    def ground_truth(self) -> int:
        """Pixels of the evaluated images that have a label, as far as the counts say."""
        return sum(_truth(self.runs[0]))

    def __getitem__(self, key: str):
        """What the manifests of all its runs agree on."""
        return self.runs[0].manifest[key]

    def stem(self, kind: str, convention: str) -> str:
        """The name of a file with a table or figure of the group, without its ending."""
        return file_stem(kind, [self[key] for key in GROUP_KEYS], convention)


@dataclass(frozen=True)
class Row:
    """The runs behind one row: one method, one recipe. `used` are averaged, at most one run a seed.

    `complete`: they have every step; if not, `used` is the one run that got farthest. `left_out`: all others.
    """

    label: str  # as shown: with the start of the recipe's hash where one label has several
    recipe: str
    used: tuple[Run, ...]
    notes: tuple[str, ...]
    left_out: tuple[Run, ...] = ()

    def __getitem__(self, key: str):
        """What the manifests of its runs agree on."""
        return self.used[0].manifest[key]

    @property
    def complete(self) -> bool:
        return not self.used[0].missing_steps

    @property
    def joint(self) -> bool:
        return self["single_step"]

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
    left_out = tuple(run for run in runs if all(run is not one for one in used))
    return Row(label, recipe, tuple(used), tuple(notes), left_out)


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


def class_ranges(group: Group, convention: str = "default") -> dict[str, str]:
    """The class ids behind "old", "new" and "all" as text: {"old": "0-10", "new": "11-20", "all": "0-20"}."""
    run = group.runs[0]
    rules = convention_named(convention)
    old, new = (run.slot_ids[list(slots)].tolist() for slots in group_slots(run, convention))
    with_background = rules.counts_background("all", run.manifest["background_evaluated"])
    everything = run.slot_ids[0 if with_background else 1 :].tolist()
    return {"old": id_ranges(old), "new": id_ranges(new), "all": id_ranges(everything)}


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


def the_group(runs: Sequence[Run]) -> Group:
    """The one group that the runs make. ValueError: they are not one group."""
    groups = group_runs(runs)
    if len(groups) != 1:
        raise ValueError(f"{len(groups)} groups of comparable runs in one table: use group_runs first")
    return groups[0]


def file_stem(kind: str, parts: Iterable[str], convention: str) -> str:
    """The name of a file without its ending: safe characters only, the convention where it is not the default."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", "_".join(parts))
    return f"{kind}-{name}" + ("" if convention == "default" else f"_{convention}")


def distinct(names: Iterable[str], numbered: str = "{}-{}") -> list[str]:
    """The names, the second and later ones of a kind numbered: where several groups of runs would share one."""
    taken: list[str] = []
    for name in names:
        free, number = name, 2
        while free in taken:
            free, number = numbered.format(name, number), number + 1
        taken.append(free)
    return taken
