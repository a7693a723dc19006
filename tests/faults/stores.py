"""What a store holds, told so that two of them can be compared after all that happened to one."""

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from bench.cache import StepCache
from results.schema import read_runs


def files(folder: Path) -> dict[str, Path]:
    """Every file below a folder, hidden ones too, by its path in it; locks left out, which are empty and stay."""
    found = {}
    for where, _, names in os.walk(folder):  # which passes over what goes meanwhile
        for name in names:
            if not name.endswith(".lock"):
                path = Path(where, name)
                found[path.relative_to(folder).as_posix()] = path
    return found


def published(store: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of the weights of each published step: a step that is made again has others."""
    weights = store.glob("cache/steps/[!.]*/weights.safetensors")
    return {path.parent.name: ((stat := path.stat()).st_ino, stat.st_mtime_ns) for path in weights}


def check_sound(store: Path) -> None:
    """Everything that a reader would find has the sha256 of its record, at whatever moment its writer was ended."""
    cache = StepCache(store / "cache")
    for key in cache.keys():
        cache.verify(key)
    for key in cache.counts_keys():
        cache.verify_counts(key)
    _, problems = read_runs(store) if store.is_dir() else ([], [])
    assert not problems


def check_same(store: Path, whole: Path) -> None:
    """The same files in both, and the same weights, counts, cells, logs and tables, bit for bit. Manifests, and what is
    printed of them, also tell how long it took."""
    left, right = files(store), files(whole)
    assert sorted(left) == sorted(right)
    for name in left:
        if re.fullmatch(r"(?!cost-).*\.(npz|csv|safetensors)", name):
            assert left[name].read_bytes() == right[name].read_bytes(), name


def phase(store: Path) -> str:
    """Where a run on a store stands, told by its files: the step, and what was half-written."""
    steps = len(published(store))
    asides = [name for name in files(store) if any(part.startswith(".") for part in name.split("/"))]
    if asides:
        where = {name.split("/")[1] if name.startswith("cache/") else "run" for name in asides}
        return f"step {steps}: writing {', '.join(sorted(where))}"
    if any(name.startswith("cache/rolling") for name in files(store)):
        return f"step {steps}: within, after a checkpoint"
    return f"step {steps}: before its first checkpoint, or evaluating"


def clear(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def tally(items: Iterable[str]) -> str:
    """How often each item is there, a line each."""
    items = list(items)
    return "\n".join(f"{items.count(item):4d}  {item}" for item in sorted(set(items)))
