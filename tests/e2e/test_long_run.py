"""Many steps in one process (two hundred of them: tests/faults)."""

import os
from pathlib import Path

import pytest

from bench.progress import Reporter

STEPS = 20  # of voc_1-1
TINY = [
    "--track", "demo", "--backbone", "deeplab", "train.crop=32", "train.batch=2", "train.base.iterations=1",
    "train.increment.iterations=1", "data.train_images=40", "data.val_images=4", "device=cpu", "threads=1",
]  # fmt: skip
MB = 2**20


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def check_flat(bench, monkeypatch, tmp_path, runs: int) -> None:
    """`runs` runs of STEPS steps; from the end of the first on, which has warmed up everything, nothing grows."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("only Linux tells what a process holds")
    seen = []
    step_done = Reporter.step_done

    def watched(reporter, step, trained):
        step_done(reporter, step, trained)
        seen.append((resident(), len(os.listdir("/proc/self/fd"))))

    monkeypatch.setattr(Reporter, "step_done", watched)
    seeds = ",".join(map(str, range(runs)))
    code, _, err = bench("run", "--methods", "finetune", "--protocol", "voc_1-1", "--seeds", seeds, *TINY)
    assert code == 0 and len(seen) == runs * STEPS
    ends = seen[STEPS - 1 :: STEPS]  # the network of a last step is the largest: compare like with like
    memory, files = zip(*ends, strict=True)
    assert max(memory) - memory[0] < 24 * MB, [size // MB for size in memory]
    assert len(set(files)) == 1, files
    logs = list((tmp_path / "runs").glob("*/log.csv"))
    assert len(logs) == runs and max(log.stat().st_size for log in logs) < 100 * STEPS
    assert len(err) < 200 * len(seen)  # what a person reads: a line a step


def test_40_steps_in_one_process(bench, monkeypatch, tmp_path):
    check_flat(bench, monkeypatch, tmp_path, runs=2)
