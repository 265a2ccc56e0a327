"""Files as they are read back: CRCs over pieces, and damage told from a disk that refuses."""

import errno
import textwrap
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kline_trio.errors import DamagedError
from kline_trio.storage.files import crc32_of, crc32_on, damage, open_parquet, read_groups
from tests.storage.support import (
    BTC,
    make_candle,
    merge_all,
    nth_open_time_ms,
    open_store,
    receive,
    run_python,
)


def test_a_crc_is_over_all_pieces(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "file").write_bytes(content)
    assert crc32_of(tmp_path / "file") == zlib.crc32(content)
    with (tmp_path / "file").open("rb") as file:
        first = crc32_on(file, 1_500_000)
        assert first == zlib.crc32(content[:1_500_000])
        assert crc32_on(file, crc32=first) == zlib.crc32(content)


@pytest.mark.parametrize("error", [OSError("nonsense"), OSError(errno.EIO, "sector"), ValueError()])
def test_nonsense_and_sectors_that_cannot_be_read_are_damage(error: Exception) -> None:
    with pytest.raises(DamagedError, match="name is damaged"), damage(Path("name")):
        raise error


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Unknown error: Failed to launch worker thread: Resource temporarily unavailable", "thr"),
        ("IOError: std::bad_alloc", "mem"),
    ],
)
@pytest.mark.parametrize("raised", [pa.ArrowException, pa.ArrowInvalid, OSError])
def test_want_of_threads_or_memory_is_no_damage(
    words: str, kind: str, raised: type[Exception]
) -> None:
    """Nor of a file that is read, nor of a disk that holds it: the exit status is 71."""
    wanted = {"thr": (RuntimeError, "^can't start new thread$"), "mem": (MemoryError, "bad_alloc")}
    with pytest.raises(wanted[kind][0], match=wanted[kind][1]), damage(Path("name")):
        raise raised(words)


def test_a_table_is_read_without_a_pool_of_threads(tmp_path: Path) -> None:
    """Arrow has one thread for reading at any rate."""
    columns = {f"column {n}": list(range(1_000)) for n in range(8)}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    code = textwrap.dedent("""
        import sys
        from pathlib import Path
        import psutil
        import pyarrow as pa
        from kline_trio.storage.files import read_table
        pa.set_io_thread_count(1)
        pa.set_cpu_count(8)
        path = Path(sys.argv[1])
        before = psutil.Process().num_threads()
        assert read_table(path).num_rows == 1_000
        print(psutil.Process().num_threads() - before)
    """)
    assert run_python(code, str(tmp_path / "x.parquet")).stdout.strip() in ("0", "1")


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EMFILE, errno.ENOSPC])
def test_a_disk_that_refuses_is_no_damage(number: int) -> None:
    with pytest.raises(OSError, match="refused") as caught, damage(Path("name")):
        raise OSError(number, "refused")
    assert not isinstance(caught.value, DamagedError)


def test_no_flipped_bit_in_a_page_is_read(tmp_path: Path) -> None:
    """Each page is compared with its CRC: without it, some of these bits change a value."""
    store = open_store(tmp_path)
    rows = [make_candle(nth_open_time_ms(BTC, n), 1.0 + n % 7, trade_num=n * n) for n in range(200)]
    store.journal.accept(receive(BTC, *rows))
    merge_all(store)
    store.close()
    path = tmp_path / "spot_BTCUSDT_1m.pqt"
    content = path.read_bytes()
    with open_parquet(path) as file:
        whole = read_groups(file, [0], path)
        last = file.metadata.row_group(0).column(whole.num_columns - 1)
    for at in range(4, int(last.data_page_offset + last.total_compressed_size)):
        flipped = bytearray(content)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        try:
            with open_parquet(path) as file:
                table = read_groups(file, [0], path)
        except DamagedError:
            continue
        assert table.equals(whole), f"byte {at}"


@pytest.mark.parametrize("kind", [MemoryError, pa.ArrowMemoryError])
def test_want_of_memory_is_no_damage(kind: type[MemoryError], tmp_path: Path) -> None:
    """A file is not to go to the quarantine for it."""
    with pytest.raises(MemoryError), damage(tmp_path):
        raise kind("malloc of size 64 failed")
