"""A Parquet footer taken apart and put together."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kline_trio.storage.footer import Footer
from kline_trio.storage.footer_crc import footer_of


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
