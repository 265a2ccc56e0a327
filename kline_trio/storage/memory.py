"""Where Arrow gets its memory from, in a program that runs for months."""

import os

import pyarrow as pa

__all__ = ["use_system_memory"]


def use_system_memory() -> None:
    """Has Arrow take its memory from the C library from now on.

    Its own allocator, mimalloc, holds on to more of what was freed with each day of merges: 1.3 MB
    a day with 500 series, over 30 days (`python -m tests.simulation.memory`). Whoever chooses one
    by Arrow's own variable, ARROW_DEFAULT_MEMORY_POOL, has it.
    """
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())
