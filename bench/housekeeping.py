"""`bench cache`: what trained steps there are, whether they are sound, and which nobody needs."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.cache import CorruptEntry, StepCache
from protocols.files import remove
from results.schema import read_runs


def print_entries(store: Path) -> int:
    """One line for every trained step."""
    cache = StepCache(store / "cache")
    table = Table("key", "method", "network", "protocol", "step", "seed", "iterations", "MB")
    total = 0
    for key, meta in cache.metas().items():
        size = _size(cache.step_folder(key))
        total += size
        cells = (meta[name] for name in ("method", "network", "protocol", "step", "seed", "iterations"))
        table.add_row(key[:16], *map(str, cells), f"{size / 2**20:.1f}")
    console = Console()
    console.print(table)
    console.print(f"{len(cache.keys())} trained steps, {total / 2**20:.1f} MB")
    return 0


def verify(store: Path) -> int:
    """Checks every entry against its sha256; damaged ones go into quarantine and are trained again when needed."""
    cache = StepCache(store / "cache")
    keys = cache.keys()
    damaged = 0
    for key in keys:
        try:
            cache.verify(key)
        except CorruptEntry as fault:
            damaged += 1
            print(f"damaged: {fault}; moved to {cache.quarantine(key)}")
    print(f"{len(keys)} trained steps checked, {damaged} damaged")
    return 1 if damaged else 0


def collect(store: Path, dry_run: bool) -> int:
    """Removes steps that no run refers to, unfinished checkpoints, what jobs of a cluster said, and quarantine. Do not
    run it while jobs are running."""
    cache = StepCache(store / "cache")
    runs, problems = read_runs(store)
    if problems:
        print("nothing removed, since runs cannot be read: " + "; ".join(problems))
        return 1
    needed = {
        step[name] for run in runs for step in run.manifest["steps"] for name in ("key", "base_key", "counts_key")
    }
    waste = [cache.step_folder(key) for key in cache.keys() if key not in needed]
    waste += [path for path in (cache.root / "counts").glob("*.npz") if path.stem not in needed]
    waste += [*(cache.root / "rolling").glob("*"), *(cache.root / "quarantine").glob("*")]
    waste += (cache.root / "jobs").glob("*")
    waste += [path for path in cache.root.glob("*/.*") if path.parent.name in ("steps", "counts")]
    freed = sum(_size(path) for path in waste)
    for path in waste:
        print(f"{'would remove' if dry_run else 'removed'} {path}")
        if not dry_run:
            remove(path)
    print(f"{len(waste)} things, {freed / 2**20:.1f} MB {'could be' if dry_run else ''} freed".replace("  ", " "))
    return 0


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
