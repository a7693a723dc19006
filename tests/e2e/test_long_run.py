"""Many steps in one process (two hundred of them: tests/faults)."""

import ctypes
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


def most_resident() -> int:
    """The most bytes that it has held since that was last started anew."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


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


def test_memory_is_flat_over_eleven_steps_up_to_151_slots(bench, monkeypatch, tmp_path):
    """ADE20K's 100-5 with evaluation at 512 pixels, where the logits of an image are 151 MB in float32 at the end.

    No more than three times those of a batch of two are held at once.
    What is freed stays with the allocator for the next step, as the process wants it: it is given back before a look.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None or not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("only glibc on Linux tells what a process holds and held")
    held, peaks = [], []
    step_done = Reporter.step_done

    def watched(reporter, step, trained):
        step_done(reporter, step, trained)
        trim(0)
        held.append(resident())
        peaks.append(most_resident() - held[-1])
        Path("/proc/self/clear_refs").write_text("5")  # starts the peak anew

    monkeypatch.setattr(Reporter, "step_done", watched)
    size = ["data.image_size=512", "evaluation.size=512", "evaluation.batch=2"]
    assert bench("run", "--methods", "mib", "--protocol", "ade_100-5", *TINY, *size)[0] == 0
    assert len(held) == 11
    told = f"MB held {[memory // MB for memory in held]}, more at the peak {[peak // MB for peak in peaks]}"
    print(told)
    assert max(held) - held[1] < 16 * MB, told  # from step 1 on, when there is a teacher
    assert max(peaks[1:]) < 3 * 2 * 151 * 512 * 512 * 4, told
