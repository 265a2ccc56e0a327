"""Row groups that a merge leaves alone are copied, if they are what was written."""

import errno
import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

import attrs
import pyarrow.parquet as pq
import pytest

from kline_trio.candle import Series
from kline_trio.errors import DiskError
from kline_trio.storage import files, parquet, row_group_copy
from kline_trio.storage.files import crc32_on, read_groups
from kline_trio.storage.footer import Footer
from kline_trio.storage.journal.manifest import FileEntry
from kline_trio.storage.journal.pending import PendingCandle
from kline_trio.storage.layout import Layout
from kline_trio.storage.parquet import plan_merges
from tests.storage.support import (
    BTC,
    START_MS,
    make_candle,
    nth_open_time_ms,
    perform,
    torn,
)

ROWS = 4


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_ROWS_PER_GROUP", ROWS)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, int]]:
    """Which row groups were read, and whether of the old file."""
    seen: list[tuple[bool, int]] = []

    def note(file: pq.ParquetFile, groups: list[int], path: Path) -> object:
        seen.extend((path.suffix == ".pqt", group) for group in groups)
        return read_groups(file, groups, path)

    monkeypatch.setattr(parquet, "read_groups", note)
    return seen


def merge(
    folder: Path, first: int, end: int, known: FileEntry | None = None, value: float = 1.0
) -> FileEntry:
    scratch = folder / ".kline_trio" / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    rows = [make_candle(nth_open_time_ms(BTC, n), value) for n in range(first, end)]
    [one] = plan_merges(Layout(), BTC, [PendingCandle(n, row) for n, row in enumerate(rows)])
    return perform(one, folder, scratch, known)


def whole(folder: Path, end: int) -> bytes:
    """The file of so many minutes, written at once."""
    folder.mkdir()
    return (folder / merge(folder, 0, end).path).read_bytes()


def test_only_what_the_new_rows_touch_is_read(tmp_path: Path, read: list[tuple[bool, int]]) -> None:
    known = merge(tmp_path, 0, 14)
    read.clear()
    merged = merge(tmp_path, 14, 17, known)
    assert read == [(True, 3), (False, 3), (False, 4)]
    assert merged.rows == 17
    assert (tmp_path / merged.path).read_bytes() == whole(tmp_path / "at once", 17)


def test_a_late_row_has_all_from_its_row_group_on_read(
    tmp_path: Path, read: list[tuple[bool, int]]
) -> None:
    known = merge(tmp_path, 0, 14)
    read.clear()
    merged = merge(tmp_path, 5, 6, known, value=2.0)
    assert [group for is_old, group in read if is_old] == [1, 2, 3]
    [revision] = merged.revisions
    assert revision.newer.open_time_ms == START_MS + 5 * 60_000


@pytest.mark.parametrize(
    "other",
    [
        {"crc32": 0},
        {"path": PurePosixPath("another.pqt")},
        {"series": attrs.evolve(BTC, symbol="ETHUSDT")},
    ],
    ids=["other bytes", "another file", "another series"],
)
def test_of_a_file_that_is_not_known_all_is_read(
    tmp_path: Path, read: list[tuple[bool, int]], other: dict[str, Any]
) -> None:
    """It costs more, and is as right."""
    known = attrs.evolve(merge(tmp_path, 0, 14), **other)
    read.clear()
    merged = merge(tmp_path, 14, 17, known)
    assert [group for is_old, group in read if is_old] == [0, 1, 2, 3]
    assert (tmp_path / merged.path).read_bytes() == whole(tmp_path / "at once", 17)


def test_of_a_file_by_another_writer_all_is_read(
    tmp_path: Path, read: list[tuple[bool, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what a newer pyarrow writes otherwise is the same in the whole of a file."""
    known = merge(tmp_path, 0, 14)
    usual = parquet._footer_of_no_rows

    def of_a_newer_writer(series: Series) -> Footer:
        footer = usual(series)
        return attrs.evolve(footer, tail=footer.tail.replace(b"parquet-cpp-arrow", b"successor"))

    monkeypatch.setattr(parquet, "_footer_of_no_rows", of_a_newer_writer)
    read.clear()
    assert merge(tmp_path, 14, 17, known).rows == 17
    assert [group for is_old, group in read if is_old] == [0, 1, 2, 3]


def test_the_old_file_is_read_once_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is copied is verified while it is copied."""
    known = merge(tmp_path, 0, 40)
    sizes: list[int] = []
    chunks = files.chunks

    def note(file: IO[bytes], most_bytes: float = math.inf) -> Iterator[bytes]:
        for chunk in chunks(file, most_bytes):
            if str(file.name).endswith(".pqt"):
                sizes.append(len(chunk))
            yield chunk

    monkeypatch.setattr(row_group_copy, "chunks", note)
    monkeypatch.setattr(files, "chunks", note)
    merge(tmp_path, 40, 41, known)
    assert sum(sizes) == known.size_bytes


def test_damage_in_what_would_be_copied_is_noticed(tmp_path: Path) -> None:
    """Wherever it lies: it is never copied in silence."""
    known = merge(tmp_path, 0, 14)
    path = tmp_path / known.path
    content = path.read_bytes()
    with pq.ParquetFile(path) as file:
        end = file.metadata.row_group(3).column(0).data_page_offset
    noticed = passed_by = 0
    for at in range(0, end, 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        try:
            merged = merge(tmp_path, 14, 17, known)
        except DiskError:
            noticed += 1
            continue
        # A bit that no reader looks at; the file was read and written as a whole.
        passed_by += 1
        assert (tmp_path / merged.path).read_bytes() == whole(tmp_path / f"whole {at}", 17)
    assert noticed > 4 * passed_by


def test_a_file_of_which_a_sector_cannot_be_read_is_read_page_by_page(
    tmp_path: Path, read: list[tuple[bool, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That tells what of it is damaged; a disk that fails otherwise is not passed over."""
    known = merge(tmp_path, 0, 14)

    def fail(file: IO[bytes], most_bytes: float = math.inf, crc32: int = 0) -> int:
        if str(file.name).endswith(".pqt"):
            raise OSError(number, os.strerror(number))
        return crc32_on(file, most_bytes, crc32)

    monkeypatch.setattr(row_group_copy, "crc32_on", fail)
    read.clear()
    number = errno.EIO
    assert merge(tmp_path, 14, 17, known).rows == 17
    assert [group for is_old, group in read if is_old] == [0, 1, 2, 3]
    number = errno.ENOMEM
    with pytest.raises(OSError, match="memory"):
        merge(tmp_path, 17, 18, attrs.evolve(known, rows=17))


def test_a_copy_that_went_wrong_is_noticed_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = merge(tmp_path, 0, 14)
    before = (tmp_path / known.path).read_bytes()
    monkeypatch.setattr(parquet, "sync_file", torn(30))
    with pytest.raises(DiskError, match="not what was copied"):
        merge(tmp_path, 14, 17, known)
    assert (tmp_path / known.path).read_bytes() == before


def test_a_file_that_is_gone_is_made_anew(tmp_path: Path) -> None:
    known = merge(tmp_path, 0, 14)
    (tmp_path / known.path).unlink()
    assert merge(tmp_path, 14, 17, known).rows == 3
