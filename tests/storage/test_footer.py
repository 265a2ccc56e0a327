"""Footers are taken apart and put together; with the seal no flipped bit changes rows unseen."""

import io
import random
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kline_trio.errors import DamagedError, KlineTrioError
from kline_trio.reading.candles import read
from kline_trio.storage.files import crc32_of, open_parquet
from kline_trio.storage.footer import SEAL, Footer, footer_of, is_sealed
from tests.storage.support import write_minutes

_FLIPS = 5_000


def footer(groups: int, columns: int = 2, rows: int = 3, *, note: str = "note") -> bytes:
    """That of a file of so many row groups, without its length and magic number."""
    table = pa.table({f"column {n}": pa.array(range(rows)) for n in range(columns)})
    file = io.BytesIO()
    with pq.ParquetWriter(file, table.schema.with_metadata({"of": note})) as writer:
        for _ in range(groups):
            writer.write_table(table)
    return footer_of(file)[0][:-8]


@settings(deadline=None)
@example(groups=127, columns=1, rows=1)
@given(groups=st.integers(0, 70), columns=st.integers(1, 20), rows=st.integers(1, 200))
def test_its_parts_make_up_the_whole(groups: int, columns: int, rows: int) -> None:
    data = footer(groups, columns, rows)
    parts = Footer.from_bytes(data)
    assert (parts.rows, len(parts.groups)) == (groups * rows, groups)
    assert parts.with_groups((), 0) == data
    assert Footer.from_bytes(data + b"\x10\0\0\0PAR1") == parts


@pytest.mark.parametrize("total", [2, 13, 14, 15, 16, 17, 63, 64, 65, 70])
def test_row_groups_of_two_files_are_those_of_one(total: int) -> None:
    """Over the lengths at which a list is written otherwise: from 15 elements on."""
    whole = Footer.from_bytes(footer(total))
    for kept in {1, total // 2, total - 1}:
        later = Footer.from_bytes(footer(total - kept))
        both = later.with_groups(whole.groups[:kept], kept * 3)
        file = io.BytesIO(b"PAR1" + both + len(both).to_bytes(4, "little") + b"PAR1")
        metadata = pq.read_metadata(file)
        assert (metadata.num_rows, metadata.num_row_groups) == (total * 3, total)
        assert Footer.from_bytes(both).groups == (*whole.groups[:kept], *later.groups)


def test_a_row_group_that_tells_its_place_tells_the_new_one() -> None:
    """Pyarrow writes the field for encrypted files only."""
    [group] = Footer.from_bytes(footer(1)).groups
    told = Footer(b"", 3, (group[:-1] + b"\x14\x00\x00",), b"")
    placed = told.with_groups([group] * 70, 210)
    assert placed.endswith(group[:-1] + b"\x14\x8c\x01\x00")


@pytest.mark.parametrize("data", [b"", b"\0", b"\x15\x04\0", footer(2)[:-40], footer(2)[40:]])
def test_what_is_no_footer_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="footer"):
        Footer.from_bytes(data)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A file of 300 candles, in a store without a journal to help."""
    write_minutes(tmp_path, 300, 0).close()
    return tmp_path / "spot_BTCUSDT_1m.pqt"


def test_a_written_file_is_sealed(target: Path) -> None:
    """Others see one more entry among the metadata, and nothing else."""
    content = target.read_bytes()
    assert is_sealed(io.BytesIO(content), target)
    metadata = pq.read_metadata(target).metadata
    assert metadata is not None
    assert int(metadata[SEAL.encode()], 16)
    assert len(pd.read_parquet(target)) == 300


def test_a_file_without_a_seal_is_passed_by(tmp_path: Path) -> None:
    """As files of other programs, and of the first version, are."""
    for content in (b"", b"PAR1", b"no Parquet at all", b"PAR1\0\0\0\0PAR1"):
        assert not is_sealed(io.BytesIO(content), tmp_path)


def test_no_flipped_bit_is_read_in_silence(target: Path) -> None:
    """Each of 5,000 raises, or reads back the same rows and columns; and `check` finds them all,
    since each changes the CRC of the whole file.
    """
    content = target.read_bytes()
    whole = read(target.parent, "spot", "BTCUSDT", "1m")
    crc32 = crc32_of(target)
    bits = random.Random(3).sample(range(len(content) * 8), _FLIPS)
    raised = 0
    for bit in bits:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        target.write_bytes(flipped)
        assert crc32_of(target) != crc32
        try:
            frame = read(target.parent, "spot", "BTCUSDT", "1m")
        except KlineTrioError:
            raised += 1
        else:
            assert frame.equals(whole), f"bit {bit}"
            assert frame.index.name == whole.index.name, f"bit {bit}"
    assert raised > 0.8 * _FLIPS


def test_a_flipped_bit_in_a_footer_is_named(target: Path) -> None:
    """Every byte of it counts, the seal's own too."""
    content = target.read_bytes()
    length_bytes = int.from_bytes(content[-8:-4], "little")
    for at in range(len(content) - 8 - length_bytes, len(content)):
        flipped = bytearray(content)
        flipped[at] ^= 4
        target.write_bytes(flipped)
        with pytest.raises(DamagedError, match=target.name), open_parquet(target):
            pass
