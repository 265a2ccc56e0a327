"""Memory over months: where Arrow allocates it, and what it raises if there is none."""

import contextlib
import ctypes
import os
import re
import sys
from collections.abc import Iterator

import pyarrow as pa

_NO_THREAD = re.compile("Failed to launch worker thread|Resource temporarily unavailable")
_NO_MEMORY = re.compile("bad_alloc|malloc of size|out of memory", re.IGNORECASE)
"""Arrow has neither types nor numbers for these errors, so their texts decide."""


def use_system_memory() -> None:
    """Let Arrow take its memory from the C library from now on.

    Its own allocator, mimalloc, keeps more of what was freed with each day of merges: 1.3 MB a day
    with 500 series, over 30 days (`python -m tests.simulation.memory`). Arrow's own variable,
    ARROW_DEFAULT_MEMORY_POOL, has precedence.
    """
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())


def trim_heap() -> None:
    """Let the C library return freed memory to the system; it takes some milliseconds.

    Each worker thread has an arena of its own, and glibc keeps free memory between two live
    blocks: without this, some megabytes more in a month. Where the library cannot, nothing happens.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


@contextlib.contextmanager
def arrow_errors() -> Iterator[None]:
    """Turn Arrow's errors for lack of threads or memory into Python's own.

    Raises:
      RuntimeError: no thread could be started; the text is that of `threading`, which the command
        line matches.
      MemoryError: no memory was left.
    """
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        if _NO_THREAD.search(str(error)):
            raise RuntimeError("can't start new thread") from error
        if _NO_MEMORY.search(str(error)):
            raise MemoryError(str(error)) from error
        raise
