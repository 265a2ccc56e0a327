"""The memory of a program that runs for months."""

import ctypes
import os
import sys

import pyarrow as pa

__all__ = ["trim_heap", "use_system_memory"]


def use_system_memory() -> None:
    """Has Arrow take its memory from the C library from now on.

    Its own allocator, mimalloc, holds on to more of what was freed with each day of merges: 1.3 MB
    a day with 500 series, over 30 days (`python -m tests.simulation.memory`). Whoever chooses one
    by Arrow's own variable, ARROW_DEFAULT_MEMORY_POOL, has it.
    """
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())


def trim_heap() -> None:
    """Has the C library give freed memory back to the system; some milliseconds.

    Each worker thread has an arena of its own, and glibc keeps what lies between two blocks that
    live: without this, some megabytes more in a month. Where the library cannot, nothing happens.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
