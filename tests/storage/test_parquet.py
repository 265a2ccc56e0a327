"""Merges: planned for the right files, performed whole or not at all."""

import errno
import io
import os
import random
import stat
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kline_trio.candle import Candle, Series
from kline_trio.errors import DamagedError, DiskError
from kline_trio.storage import parquet
from kline_trio.storage.changes import Changes
from kline_trio.storage.files import open_parquet, read_groups
from kline_trio.storage.journal.manifest import FileEntry
from kline_trio.storage.journal.pending import PendingCandle
from kline_trio.storage.layout import Layout
from kline_trio.storage.parquet import FileMerge, plan_merges
from kline_trio.storage.table import table_of
from tests.storage.support import (
    BTC,
    COIN,
    LAYOUTS,
    SERIES,
    START_MS,
    Rows,
    candles,
    make_candle,
    nth_open_time_ms,
    ordered,
    perform,
    torn,
)


def _merge(
    folder: Path,
    series: Series,
    rows: list[Candle],
    layout: Layout | None = None,
    known: FileEntry | None = None,
) -> FileEntry | None:
    scratch = folder / ".kline_trio" / "tmp"
    scratch.mkdir(parents=True, exist_ok=True)
    pending = [PendingCandle(n, row) for n, row in enumerate(rows)]
    for merge in plan_merges(layout or Layout(), series, pending):
        known = perform(merge, folder, scratch, known)
    return known


def _one_merge(first: int, end: int, value: float = 1.0) -> FileMerge:
    rows = [make_candle(nth_open_time_ms(BTC, n), value) for n in range(first, end)]
    [merge] = plan_merges(Layout(), BTC, [PendingCandle(n, row) for n, row in enumerate(rows)])
    return merge


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """The folder for temporaries of a store in `tmp_path`."""
    folder = tmp_path / ".kline_trio" / "tmp"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """BTC's file in the default layout."""
    return tmp_path / "spot_BTCUSDT_1m.pqt"


@given(st.data(), st.sampled_from(SERIES), st.sampled_from(LAYOUTS))
def test_a_plan_brings_each_candle_to_its_file(
    data: st.DataObject, series: Series, template: str
) -> None:
    """Every pending candle is in exactly one merge, the one of its path; each is by open time."""
    rows = {row.open_time_ms: row for row in data.draw(st.lists(candles(series, most=2_000)))}
    pending = [PendingCandle(n, row) for n, row in enumerate(rows.values())]
    merges = plan_merges(Layout(template), series, pending)
    assert len({merge.path for merge in merges}) == len(merges)
    planned = [item for merge in merges for item in merge.pending]
    assert planned == sorted(pending, key=lambda item: item.candle.open_time_ms)
    for merge in merges:
        for item in merge.pending:
            assert Layout(template).path(series, item.candle.open_time_ms) == merge.path


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), series=st.sampled_from(SERIES))
def test_merging_is_dict_update(
    data: st.DataObject,
    series: Series,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However merges come, before, between or after what the file holds, in how many row groups
    it may: it then holds what a dict would, in order.
    """
    monkeypatch.setattr(parquet, "_ROWS_PER_GROUP", 3)
    folder = tmp_path_factory.mktemp("store")
    model: Rows = {}
    last: FileEntry | None = None
    for rows in data.draw(st.lists(st.lists(candles(series), min_size=1), max_size=5)):
        update = {row.open_time_ms: row for row in rows}
        last = _merge(
            folder, series, [*update.values()], known=last if data.draw(st.booleans()) else None
        )
        model |= update
        assert last is not None
        assert last.rows == len(model)
        path = folder / Layout().path(series, START_MS)
        with open_parquet(path) as file:
            sizes = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
            table = read_groups(file, [*range(file.num_row_groups)], path)
        expected = table_of(series, ordered(model))
        assert table.equals(expected)
        assert {key: table.schema.metadata[key] for key in expected.schema.metadata} == (
            expected.schema.metadata
        )
        assert all(size == 3 for size in sizes[:-1])
        assert 0 < sizes[-1] <= 3


def test_the_result_tells_the_whole_file(tmp_path: Path, target: Path, scratch: Path) -> None:
    """Path, rows, size and CRC of the file as it now is."""
    perform(_one_merge(0, 5), tmp_path, scratch)
    result = perform(_one_merge(3, 9), tmp_path, scratch)
    content = target.read_bytes()
    path = _one_merge(0, 1).path
    assert result == FileEntry(path, BTC, 9, len(content), zlib.crc32(content))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), series=st.sampled_from(SERIES))
def test_the_bytes_of_a_file_follow_from_its_candles_alone(
    data: st.DataObject,
    series: Series,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not from the merges that brought them: what is written again is the same again, so that a
    closed month stays as it is, and two recorders of the same candles have the same files. So too
    where a merge has copied row groups instead of reading them.
    """
    monkeypatch.setattr(parquet, "_ROWS_PER_GROUP", data.draw(st.sampled_from([1, 2, 5, 100])))
    rows = data.draw(st.lists(candles(series), min_size=1, unique_by=lambda row: row.open_time_ms))
    cut = data.draw(st.integers(0, len(rows)))
    at_once, bit_by_bit = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")
    _merge(at_once, series, rows)
    last: FileEntry | None = None
    for part in (rows[cut:], rows[:cut], *([row] for row in rows[-3:]), rows[cut:]):
        last = _merge(bit_by_bit, series, part, known=last) or last
    path = Layout().path(series, START_MS)
    assert (at_once / path).read_bytes() == (bit_by_bit / path).read_bytes()


def test_modes_follow_the_umask(tmp_path: Path, scratch: Path) -> None:
    """Folders and files can be read by whom the user's umask lets."""
    layout = Layout("{trade_type}_{symbol}_{time_interval}/{month}.parquet")
    for umask, file_mode in ((0o022, 0o644), (0o027, 0o640), (0o077, 0o600)):
        store = tmp_path / oct(umask)
        before = os.umask(umask)
        try:
            _merge(store, BTC, [make_candle(START_MS)], layout)
        finally:
            os.umask(before)
        path = store / layout.path(BTC, START_MS)
        assert stat.S_IMODE(path.stat().st_mode) == file_mode
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o777 & ~umask


def test_a_flipped_bit_in_a_page_is_noticed(tmp_path: Path, target: Path, scratch: Path) -> None:
    """Pages carry checksums; a damaged one is an error that names the file, never a wrong row."""
    perform(_one_merge(0, 500), tmp_path, scratch)
    content = bytearray(target.read_bytes())
    content[400] ^= 1
    target.write_bytes(content)
    with pytest.raises(DiskError, match=target.name):
        perform(_one_merge(500, 501), tmp_path, scratch)
    assert target.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no Parquet at all", b"PAR1\0\0\0\0PAR1"])
def test_a_broken_file_is_left_alone(
    content: bytes, tmp_path: Path, target: Path, scratch: Path
) -> None:
    """Whatever stands under the name and cannot be read is named, and not touched."""
    target.write_bytes(content)
    with pytest.raises(DiskError, match=target.name):
        perform(_one_merge(0, 1), tmp_path, scratch)
    assert target.read_bytes() == content
    assert list(scratch.iterdir()) == []


def test_a_cut_file_is_left_alone(tmp_path: Path, target: Path, scratch: Path) -> None:
    """As above, for each length that a copy may have been cut to."""
    perform(_one_merge(0, 50), tmp_path, scratch)
    whole = target.read_bytes()
    for length in range(0, len(whole), 997):
        target.write_bytes(whole[:length])
        with pytest.raises(DiskError, match=target.name):
            perform(_one_merge(50, 51), tmp_path, scratch)
        assert target.read_bytes() == whole[:length]


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (pa.table({"a": [1, 2]}), "holds something else"),
        (table_of(COIN, [make_candle(START_MS)]), "but holds coin_futures BTCUSD_PERP-3m"),
        (
            table_of(BTC, [make_candle(START_MS)]).drop_columns(["open"]),
            "has not the columns of a file of spot BTCUSDT-1m",
        ),
        (
            table_of(BTC, [make_candle(START_MS), make_candle(START_MS)]),
            "does not hold its candles in order, each once",
        ),
        (
            table_of(BTC, [make_candle(START_MS + 60_000), make_candle(START_MS)]),
            "does not hold its candles in order, each once",
        ),
    ],
    ids=["foreign", "other series", "a column short", "twice the same", "backwards"],
)
def test_a_file_of_something_else_is_left_alone(
    table: pa.Table, reason: str, tmp_path: Path, target: Path, scratch: Path
) -> None:
    """Candles are never mixed into what is not exactly a file of their series."""
    metadata = table.schema.metadata
    if metadata:
        # The first format has no seal, so that the reason is not that it is missing.
        table = table.replace_schema_metadata({**metadata, b"kline_trio_format": b"1"})
    pq.write_table(table, target)
    before = target.read_bytes()
    with pytest.raises(DamagedError, match=f"{target.name} .*{reason}"):
        perform(_one_merge(5, 6), tmp_path, scratch)
    assert target.read_bytes() == before


def test_a_file_that_lost_its_seal_is_left_alone(
    tmp_path: Path, target: Path, scratch: Path
) -> None:
    pq.write_table(table_of(BTC, [make_candle(START_MS)]), target)
    before = target.read_bytes()
    with pytest.raises(DamagedError, match="its footer is not what was written"):
        perform(_one_merge(5, 6), tmp_path, scratch)
    assert target.read_bytes() == before


@pytest.mark.parametrize("step", ["sync_file", "_verified", "sync_folder", "make_folders"])
def test_a_failing_disk_leaves_the_old_file_or_the_new(
    step: str, tmp_path: Path, target: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error at any step comes out as it is, leaves a whole file and no temporary."""
    perform(_one_merge(0, 5), tmp_path, scratch)
    before = target.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(parquet, step, fail)
        with pytest.raises(OSError, match="No space left"):
            perform(_one_merge(5, 9), tmp_path, scratch)
    assert list(scratch.iterdir()) == []
    if step != "sync_folder":
        assert target.read_bytes() == before
    assert perform(_one_merge(5, 9), tmp_path, scratch).rows == 9


def test_a_write_that_went_wrong_is_noticed_before_the_rename(
    tmp_path: Path, target: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new file is read back; if the disk kept other bytes, the old file stays."""
    perform(_one_merge(0, 50), tmp_path, scratch)
    before = target.read_bytes()
    monkeypatch.setattr(parquet, "sync_file", torn(300))
    with pytest.raises(DiskError, match="damaged"):
        perform(_one_merge(50, 60), tmp_path, scratch)
    assert target.read_bytes() == before


def test_every_rename_follows_a_sync_and_is_followed_by_two(
    tmp_path: Path, target: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File, then name, then both folders: the order that makes the name durable."""
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        fsync(descriptor)
        done.append(f"fsync {Path(f'/dev/fd/{descriptor}').resolve().name}")

    def note_replace(source: Path, destination: Path) -> None:
        replace(source, destination)
        done.append("replace")

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    perform(_one_merge(0, 5), tmp_path, scratch)
    [file, *rest] = done
    assert file.endswith(".tmp")
    assert rest == ["replace", f"fsync {tmp_path.name}", f"fsync {scratch.name}"]


def test_a_file_is_never_seen_half_written(tmp_path: Path, target: Path, scratch: Path) -> None:
    """While merges go on, whoever opens the name finds a whole file that only grows."""
    perform(_one_merge(0, 1), tmp_path, scratch)
    stop = threading.Event()
    seen: list[int] = []
    broken: list[BaseException] = []

    def watch() -> None:
        while not stop.is_set():
            try:
                table = pq.read_table(io.BytesIO(target.read_bytes()))
                # Not by its path: pyarrow's datasets, and with them pandas 3.1, open a path twice,
                # and can find the footer of one file and the pages of the next.
                with target.open("rb") as file:
                    rows = len(pd.read_parquet(file))
            except BaseException as error:  # noqa: BLE001 - reported below
                broken.append(error)
                return
            seen.extend([table.num_rows, rows])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        order = [*range(1, 60)]
        random.Random(7).shuffle(order)
        for minute in order:
            perform(_one_merge(minute, minute + 1), tmp_path, scratch)
    finally:
        stop.set()
        watcher.join()
    assert not broken
    assert seen == sorted(seen)


@pytest.mark.parametrize("piece_rows", [1, 1_000, 32_768, 50_000, 200_000])
def test_a_new_file_in_pieces_has_the_bytes_that_merges_write(
    piece_rows: int, tmp_path: Path
) -> None:
    count = 100_000 if piece_rows > 1 else 500
    table = table_of(BTC, [make_candle(nth_ms(n), n % 97) for n in range(count)])
    pieces = (table.slice(n, piece_rows) for n in range(0, count, piece_rows))
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    path = Layout().path(BTC, START_MS)
    written = parquet.write_file(BTC, path, pieces, tmp_path, scratch)
    merged = parquet.rewrite_file(
        Changes(BTC, table, table.slice(0, 0)), Layout().path(BTC, 0), tmp_path / "other", scratch
    )
    assert (tmp_path / path).read_bytes() == (tmp_path / "other" / path).read_bytes()
    assert written == merged
    assert list(scratch.iterdir()) == []


def nth_ms(n: int) -> int:
    return START_MS + n * 60_000


def test_a_new_file_that_fails_in_the_middle_is_not_there(tmp_path: Path) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()

    def pieces() -> Iterator[pa.Table]:
        yield table_of(BTC, [make_candle(START_MS)])
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        parquet.write_file(BTC, Layout().path(BTC, 0), pieces(), tmp_path, scratch)
    assert [path.name for path in tmp_path.rglob("*")] == ["tmp"]
