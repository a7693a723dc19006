"""`bench cache`: what trained steps there are, whether they are sound, and which nobody needs."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.cache import CorruptEntry, StepCache
from bench.source import changed_modules
from bench.workspace import DRY_RUN
from protocols.errors import InputError
from protocols.files import remove
from protocols.integrity import is_sealed
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
    """Checks steps, counts and runs against their sha256; damaged steps and counts go into quarantine.

    They are made again when they are needed; a damaged run is written again by its command. Also tells of steps that
    were trained by other code of the same version, and of what has no sha256 yet. Returns 1 if anything is damaged.
    """
    cache = StepCache(store / "cache")
    damaged = _verify_steps(cache) + _verify_counts(cache)
    runs, problems = read_runs(store) if store.is_dir() else ([], [])
    for problem in problems:
        print(f"damaged: {problem}")
    total = len(runs) + len(problems)
    print(f"{total} runs checked, {len(problems)} damaged{_unsealed(sum(not is_sealed(run.manifest) for run in runs))}")
    return 1 if damaged or problems else 0


def _verify_steps(cache: StepCache) -> int:
    keys = cache.keys()
    damaged, unsealed, changed = 0, 0, []
    for key in keys:
        try:
            meta = cache.verify(key)
        except CorruptEntry as fault:
            damaged += 1
            print(f"damaged: {fault}; moved to {cache.quarantine(key)}")
            continue
        except InputError as fault:
            damaged += 1
            print(f"not checked: {fault}")
            continue
        unsealed += not is_sealed(meta)
        modules = changed_modules(meta)
        if modules:
            changed.append(key)
            print(
                f"trained by other code of the same version: {key[:16]}, step {meta['step']} of {meta['method']} on "
                f"{meta['protocol']}, seed {meta['seed']} ({', '.join(modules)} changed since)"
            )
    print(f"{len(keys)} trained steps checked, {damaged} damaged{_unsealed(unsealed)}")
    if changed:
        print(f"{len(changed)} trained by other code: where that changes results, raise the version of the method")
    return damaged


def _verify_counts(cache: StepCache) -> int:
    keys, damaged = cache.counts_keys(), 0
    for key in keys:
        try:
            cache.verify_counts(key)
        except CorruptEntry as fault:
            damaged += 1
            print(f"damaged: {fault}; moved to {cache.quarantine_counts(key)}")
        except InputError as fault:
            damaged += 1
            print(f"not checked: {fault}")
    print(f"{len(keys)} counts checked, {damaged} damaged")
    return damaged


def _unsealed(count: int) -> str:
    return f"; {count} of an earlier version, whose records have no sha256 of their own" if count else ""


def collect(store: Path, dry_run: bool) -> int:
    """Removes steps that no run refers to, unfinished checkpoints, what dry runs left that were killed, what jobs of a
    cluster said, and quarantine. Do not run it while jobs are running."""
    cache = StepCache(store / "cache")
    runs, problems = read_runs(store)
    if problems:
        print("nothing removed, since runs cannot be read: " + "; ".join(problems))
        return 1
    needed = {
        step.get(name)
        for run in runs
        for step in run.manifest.get("steps", ())
        for name in ("key", "base_key", "counts_key")
    }
    waste = [cache.step_folder(key) for key in cache.keys() if key not in needed]
    waste += [path for path in (cache.root / "counts").glob("*.npz") if path.stem not in needed]
    waste += [*(cache.root / "rolling").glob("*"), *(cache.root / "quarantine").glob("*")]
    waste += [*(cache.root / "jobs").glob("*"), *store.glob(f".{DRY_RUN}.*")]
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
