"""Freed memory is given back, and Arrow's is the C library's."""

import sys
import textwrap

import psutil
import pytest

from kline_trio.storage.memory import trim_heap
from tests.storage.support import run_python


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can")
def test_what_is_freed_between_two_blocks_is_given_back() -> None:
    process = psutil.Process()
    blocks = [bytearray(20_000) for _ in range(5_000)]
    del blocks[:-1]
    before = process.memory_info().rss
    trim_heap()
    assert before - process.memory_info().rss > 50_000_000


def test_arrow_takes_its_memory_where_the_user_says() -> None:
    code = textwrap.dedent("""
        import os, sys
        if sys.argv[1] != "none":
            os.environ["ARROW_DEFAULT_MEMORY_POOL"] = sys.argv[1]
        import pyarrow as pa
        from kline_trio.storage.memory import use_system_memory
        use_system_memory()
        print(pa.default_memory_pool().backend_name)
    """)
    assert run_python(code, "none").stdout.strip() == "system"
    mine = run_python(code, "mimalloc").stdout.strip()
    assert mine in ("mimalloc", "system"), "as this build of Arrow has it"
