"""`bench data check`: a copy of VOC or ADE20K held against what was published, and every fault with its mend."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.data import ade, voc
from bench.data.base import SPLITS
from bench.data.expected import PUBLISHED, count_steps, differing
from bench.data.folder import FolderData
from bench.data.pairs import ColourMask, SizeMismatch, Unreadable, WrongDepth
from bench.data.presence import Presence, UnknownLabel, keep_presence, read_presence
from bench.data.sbd_missing import sbd_missing
from bench.data.splits import Split, get_again, read_split
from bench.progress import counting
from protocols import InputError, dataset

Again = Callable[..., str]  # `get_again` of the copy that is checked


@dataclass(frozen=True)
class Line:
    """One line of a report. mend: empty for what is right. cases: every single one of what `text` counts."""

    name: str
    text: str
    mend: str = ""
    cases: tuple[str, ...] = ()

    @property
    def fault(self) -> bool:
        """Whether something must be mended."""
        return bool(self.mend)


@dataclass
class Report:
    """What was found in a copy of a data set."""

    title: str
    folder: Path
    lines: list[Line] = field(default_factory=list)

    @property
    def faults(self) -> list[Line]:
        """The lines that say what is wrong."""
        return [line for line in self.lines if line.fault]


def check(
    name: str,
    root: str | Path | None,
    cache_dir: Path,
    subset: bool = False,
    processes: int | None = None,
) -> Report:
    """Reads every file of a copy of `name` ("voc" or "ade") at `root` and says what is wrong.

    subset: a cut of the data on purpose: names and step counts are not held against the published ones. cache_dir:
    where the presence matrices of splits without faults are kept for `presence`. processes: that read the files.
    Raises InputError where there is no such data set at all, or the cache cannot be written.
    """
    folder = {"voc": voc.find_voc, "ade": ade.find_ade}[name](root)
    again = partial(get_again, name, folder, root)
    report = Report(dataset(name).title, folder)
    splits = _voc_splits(folder, root, report) if name == "voc" else _ade_splits(folder, report)
    shared = _shared(splits)
    report.lines += _overlap(name, splits, shared)
    for split in splits:
        names = _names(name, split, shared, subset, again)
        missing = _missing(split, again)
        data = split.pairs
        data.name = data.label_space = name
        with counting(f"checking {name} {split.name}") as progress:
            found, faults = _inspect(data, progress, processes)
        report.lines += [names, *missing, *(faults or [_sound(data, found)])]
        if not missing and not faults:
            keep_presence(data, cache_dir, found)
            if split.name == "train" and not names.fault and not subset:
                report.lines.append(_steps(name, found, again))
    return report


def _voc_splits(folder: Path, root: str | Path | None, report: Report) -> list[Split]:
    splits: dict[str, Split] = {}
    faults = {}
    for split in SPLITS:
        try:
            splits[split] = read_split("voc", folder, split)
        except InputError as fault:
            faults[split] = _as_line("lists", fault)
    missing = sbd_missing(folder, root, splits["train"].ids if "train" in splits else None)
    if missing:
        faults.pop("train", None)
        splits.pop("train", None)
        report.lines.append(Line("SBD missing", *missing))
    report.lines += faults.values()
    return list(splits.values()) if (folder / voc.MASKS).is_dir() else []


def _ade_splits(folder: Path, report: Report) -> list[Split]:
    splits = []
    for split in SPLITS:
        try:
            splits.append(read_split("ade", folder, split))
        except InputError as fault:
            report.lines.append(_as_line("layout", fault))
    return splits


def _as_line(name: str, fault: InputError) -> Line:
    """A fault whose message says, after the last colon, how it is mended."""
    text, _, mend = str(fault).rpartition(": ")
    return Line(name, text, mend)


def _shared(splits: list[Split]) -> tuple[str, ...]:
    return tuple(sorted(set.intersection(*(set(split.ids) for split in splits)))) if len(splits) > 1 else ()


def _overlap(name: str, splits: list[Split], shared: tuple[str, ...]) -> list[Line]:
    if not shared:
        return []
    where = voc.LISTS["train"] if name == "voc" else str(splits[0].images)
    text = f"{len(shared):,} images are in train and in val, {shared[0]} first"
    return [Line("train/val overlap", text, f"remove them from {where}, or every score is too good", shared)]


def _names(name: str, split: Split, shared: tuple[str, ...], subset: bool, again: Again) -> Line:
    """The names of a split against the published ones; of train without those that are in val, too, which have a line
    of their own."""
    ids = set(split.ids) - set(shared) if split.name == "train" else set(split.ids)
    images = f"{len(ids):,} images" + (" besides those of val" if len(ids) < len(split.ids) else "")
    if subset:
        published = PUBLISHED[name][split.name].images
        return Line(split.name, f"{images}, not held against the {published:,} published ones")
    but = differing(name, split.name, ids)
    if not but:
        return Line(split.name, f"{images}, the published ones")
    mend = f"{again(merged=split.name == 'train')}, or give --subset if this is a cut on purpose"
    return Line(split.name, f"{images}, {but}", mend)


def _missing(split: Split, again: Again) -> list[Line]:
    return [
        Line(f"missing {kind}", text, f"copy them there, or {again(merged=kind == 'masks')}", files)
        for kind, text, files in split.missing()
    ]


_KINDS = {
    ColourMask: (
        "RGB masks",
        "hold colours instead of class ids",
        "take the palette PNGs of the archive as they are: a program that opened and saved them made them RGB",
    ),
    WrongDepth: ("mask depth", "are not 8 bits deep", "write class ids as 8-bit palette or grey PNGs"),
    SizeMismatch: (
        "sizes",
        "have a mask of another size than the image",
        "copy image and mask from the archive again, one of them was resized",
    ),
    Unreadable: ("broken files", "have a file that is empty, cut short or no image", "copy these files again"),
    UnknownLabel: ("labels", "hold a label that is no class id", "replace these masks"),
}


def _inspect(
    data: FolderData, progress: Callable[[int, int], None], processes: int | None
) -> tuple[Presence, list[Line]]:
    """Reads all pairs; what is wrong with them, a line for each kind of fault."""
    faults: dict[type[InputError], list[tuple[int, str]]] = defaultdict(list)
    found = read_presence(
        data, lambda index, fault: faults[type(fault)].append((index, str(fault))), progress, processes
    )
    lines = []
    for kind, cases in faults.items():
        name, text, mend = _KINDS[kind]
        first, messages = data.ids[cases[0][0]], tuple(message for _, message in cases)
        if kind is UnknownLabel and data.name == "ade":
            mend += "; 255 in all of them means that 1 was subtracted: take the archive's"
        text = f"{len(cases):,} of {len(data):,} {data.split} pairs {text}, {first} first"
        lines.append(Line(name, text, mend, messages))
    return found, lines


def _sound(data: FolderData, found: Presence) -> Line:
    classes = int(found.matrix[:, 1:].any(axis=0).sum())
    text = f"{len(data):,} pairs read, none broken; sizes agree, masks hold class ids, {classes} classes"
    return Line(f"{data.split} files", f"{text}; digest {found.digest[:16]}")


def _steps(name: str, found: Presence, again: Again) -> Line:
    counts = list(count_steps(name, found.matrix))
    wrong = [count for count in counts if count.found != count.expected]
    protocols = len({count.protocol for count in counts})
    if not wrong:
        text = f"all {len(counts)} steps of {protocols} usual protocols, overlapped and disjoint, have their images"
        return Line("steps", text)
    wrong.sort(key=lambda count: count.new.count(","))  # the steps of a single class say most
    messages = [
        f"{count.protocol} {count.setting} step {count.step} ({count.new}): "
        f"{count.found:,} images instead of {count.expected:,}"
        for count in wrong
    ]
    of = {"voc": "masks of another source than VOC and SBD", "ade": "other masks than the published ones"}[name]
    text = (
        f"{len(wrong)} of {len(counts)} steps of usual protocols have other images than published, first {messages[0]}"
    )
    return Line("steps", text, f"these are {of}: {again(merged=True)}", tuple(messages))
