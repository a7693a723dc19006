"""Freed memory stays in the process."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys, torch
from bench.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
faults = []
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(64 * 2**20, dtype=torch.uint8).add_(1)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sorted(faults)[10])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is glibc's")
def test_a_block_that_was_freed_is_taken_again_without_page_faults():
    faults = {
        how: int(subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True).stdout)
        for how in ("as it is", "keep")
    }
    assert faults["as it is"] > 20 * max(1, faults["keep"])
