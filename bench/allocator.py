"""The C library's allocator, told to keep the memory that training frees.

glibc maps every large block from the kernel and gives it back as soon as the tensor is gone. A training step on the CPU
makes hundreds of them, and each is paid for again in page faults: a tenth of the step.
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
LARGEST = 2**30  # bytes of a block that is kept
MOST = 2**31 - 1  # bytes that are kept in all


def keep_freed_memory() -> None:
    """Keeps freed blocks in this process, for the next tensors. Does nothing where the C library is not glibc."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST)
        mallopt(M_TRIM_THRESHOLD, MOST)
