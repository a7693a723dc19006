"""What stands under a table: how its numbers came about, and what is missing.

What a caption has to say wherever the table goes is in `caption`, what helps to read it in `reading`.
"""

from collections.abc import Iterable, Sequence

from results.groups import Group, Row, rows_of
from results.measures import convention_named
from results.scores import score
from results.statistics import base_models

DEFINITIONS = (
    "avg: mean of all over the steps, step 0 included; harmonic: harmonic mean of old and new; forgetting: best "
    "earlier IoU minus the last, mean over the classes learned before the last step (lower is better)"
)


def notes(group: Group, convention: str = "default") -> list[str]:
    """All that a reader must know: protocol, provenance, convention, seeds, absent classes, holes."""
    return caption(group, convention) + reading(group, convention)


def caption(group: Group, convention: str = "default") -> list[str]:
    """Protocol, setting, models, data, evaluation, convention, seeds, and what methods want said of them."""
    rows = rows_of(group)
    sizes = [len(classes) for classes in group["step_classes"]]
    settings = [f"{key} {value}" for key, value in group["evaluation"].items()]
    lines = [
        f"protocol {group['protocol']}: {len(sizes)} steps of {_sizes(sizes)} classes; "
        f"setting {group['setting']}; class order {group['order']}",
        f"track {group['track']}; network {group['network']}; initial weights {group['pretrained']}; "
        f"data {group['data']}",
        f"evaluation: {', '.join([*settings, f'{group.ground_truth:,} ground-truth pixels'])}",
        f"{convention} convention: {convention_named(convention).sentence(group['background_evaluated'])}",
        *_seed_notes(rows),
    ]
    said = {row["method"]: row.used[0].manifest.get("method_note") for row in rows}
    return lines + [f"method {method}: {note}" for method, note in said.items() if note]


def reading(group: Group, convention: str = "default") -> list[str]:
    """What the measures mean, upper bounds, absent classes, rows of one label, and every hole with its reason."""
    rows = rows_of(group)
    lines = [DEFINITIONS]
    joint = [row.label for row in rows if row.joint]
    if joint:
        bound = "all classes learned in one step, an upper bound without avg and forgetting"
        lines.append(f"{', '.join(joint)}: {bound}")
    lines += _absent_note(group, rows, convention)
    if len({row["label"] for row in rows}) < len(rows):
        lines.append("rows of one method with different recipes are told apart by the start of the recipe's hash")
    return lines + [note for row in rows for note in row.notes]


def together(said: Sequence[tuple[str, Sequence[str]]]) -> tuple[str, ...]:
    """Notes of several named groups as one list: what all of them say once, everything else with the group's name."""
    common = [note for note in said[0][1] if all(note in notes for _, notes in said)]
    own = [note if name in note else f"{name}: {note}" for name, notes in said for note in notes if note not in common]
    return (*own, *common)


def _sizes(sizes: Sequence[int]) -> str:
    """10 + 10 x 1; 100 + 50; 3 + 2 + 4."""
    increments = sizes[1:]
    if len(increments) > 1 and len(set(increments)) == 1:
        return f"{sizes[0]} + {len(increments)} x {increments[0]}"
    return " + ".join(map(str, sizes))


def _seed_notes(rows: Sequence[Row]) -> list[str]:
    """Which seeds are averaged, how many they are, and how many base models they start from."""
    by_seeds: dict[tuple[int, ...], list[str]] = {}
    for row in rows:
        if row.complete:
            by_seeds.setdefault(row.seeds, []).append(row.label)
    if not by_seeds:
        return ["no run is complete"]
    several = max(map(len, by_seeds)) > 1
    what = "mean ± sample standard deviation over seeds" if several else "seed"
    if len(by_seeds) == 1:
        (seeds,) = by_seeds
        said = f"{what} {_listing(seeds)}" + (f" (n = {len(seeds)})" if several else "")
    else:
        each = "; ".join(f"{_listing(seeds)} ({_listing(labels)})" for seeds, labels in by_seeds.items())
        said = f"{what}, which differ: {each}"
    count = base_models(run for row in rows if row.complete for run in row.used)
    return [said, f"distinct base models: {'not recorded' if count is None else count}"]


def _absent_note(group: Group, rows: Sequence[Row], convention: str) -> list[str]:
    """Classes that have no ground-truth pixel, and what the convention makes of them."""
    absent = sorted({class_id for row in rows for run in row.used for class_id in score(run, convention).absent})
    if not absent:
        return []
    rules, names = convention_named(convention), group["class_names"]
    by_rule = {"present": "left out of the means", "nonzero": "left out of all", "zero": "counted as 0"}
    handled = by_rule[rules.rule]
    if rules.group_rule != rules.rule:
        handled += " (old and new: counted as 0)"
    noun = "class" if len(absent) == 1 else "classes"
    named = ", ".join(f"{names[class_id]} ({class_id})" for class_id in absent)
    return [f"{len(absent)} {noun} absent from the ground truth, {handled}: {named}"]


def _listing(values: Iterable[int | str]) -> str:
    return ", ".join(map(str, values))
