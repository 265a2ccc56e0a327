"""Coarse candles, held against plain sums over the stored ones."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.candle import Candle, Series, Source
from kline_trio.errors import DamagedError, KlineTrioError
from kline_trio.storage import coarse as module
from kline_trio.storage.catalog import stored_table
from kline_trio.storage.coarse import CoarseCandles, coarse_candles
from kline_trio.storage.journal.ledger import FetchResult
from kline_trio.storage.paths import journal_path
from kline_trio.storage.table import candles_of
from kline_trio.storage.widths import widths_of
from tests.storage.support import (
    BTC,
    LAYOUTS,
    MONTHLY,
    SERIES,
    START_MS,
    at,
    make_candle,
    merge_all,
    minutes,
    nth_open_time_ms,
    open_store,
    receive,
    span,
    write_minutes,
)

FIELDS = [field.name for field in attrs.fields(CoarseCandles)][2:]
PRICES = st.sampled_from([1.0, 2.5, 3.0, 0.1, 1e9])


def plain(candles: Sequence[Candle], found: CoarseCandles) -> list[tuple[float, ...]]:
    """The rows of coarse candles of these candles, by their width."""

    def number(candle: Candle) -> int:
        return int(found.width.numbers(np.array([candle.open_time_ms], np.int64))[0])

    rows: list[tuple[float, ...]] = []
    for key, some in itertools.groupby(candles, number):
        group = list(some)
        rows.append(
            (
                int(found.width.open_times_ms(np.array([key], np.int64))[0]),
                group[0].open,
                max(one.high for one in group),
                min(one.low for one in group),
                group[-1].close,
                math.fsum(one.volume for one in group),
                math.fsum(one.quote_volume for one in group),
                sum(one.trade_num for one in group),
                len(group),
            )
        )
    return rows


def rows_of(found: CoarseCandles) -> list[tuple[float, ...]]:
    return list(zip(*(getattr(found, name).tolist() for name in FIELDS), strict=True))


def check(found: CoarseCandles, candles: Sequence[Candle]) -> None:
    """The columns are those of a plain model."""
    expected = plain(candles, found)
    rows = rows_of(found)
    assert len(rows) == len(expected)
    for row, wanted in zip(rows, expected, strict=True):
        assert row == pytest.approx(wanted, rel=1e-12)
        # Times, prices and counts are exact.
        assert (*row[:5], *row[7:]) == (*wanted[:5], *wanted[7:])


@st.composite
def candle(draw: st.DrawFn, series: Series) -> Candle:
    low, *middle, high = sorted(draw(st.lists(PRICES, min_size=4, max_size=4)))
    volume, trades = draw(st.floats(0, 1e6)), draw(st.integers(0, 100))
    open_ms = nth_open_time_ms(series, draw(st.integers(0, 40)))
    return Candle(open_ms, middle[0], high, low, middle[1], volume, volume / 3, trades, 0.0, 0.0)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), series=st.sampled_from(SERIES))
def test_coarse_candles_are_those_of_a_plain_model(
    data: st.DataObject, series: Series, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever is in files, in the journal, or in both, in every layout and range."""
    path = tmp_path_factory.mktemp("store")
    store = open_store(path, data.draw(st.sampled_from(LAYOUTS)))
    for _ in range(data.draw(st.integers(0, 3))):
        some = {one.open_time_ms: one for one in data.draw(st.lists(candle(series), max_size=15))}
        store.journal.accept(receive(series, *(some[ms] for ms in sorted(some))))
        if data.draw(st.booleans()):
            merge_all(store)
    bounds = st.integers(-1, 42).map(lambda n: nth_open_time_ms(series, max(n, 0)) - (n < 0))
    from_ms, to_ms = sorted(data.draw(st.tuples(bounds, bounds)))
    most = data.draw(st.integers(1, 50))
    found = coarse_candles(path, series, from_ms, to_ms, most)
    table = stored_table(path, series, from_ms, to_ms)
    candles = [] if table is None else candles_of(table)
    check(found, candles)
    assert len(found) <= most
    assert sum(found.candles.tolist()) == len(candles)
    if found.is_coarse:
        # By what row groups and journal span of the range, the next finer width could give more.
        whole = stored_table(path, series)
        assert whole is not None
        opens = [one.open_time_ms for one in candles_of(whole)]
        widths = list(widths_of(series.interval))
        finer = widths[widths.index(found.width) - 1]
        assert finer.count(max(from_ms, opens[0]), min(to_ms - 1, opens[-1])) > most
    store.close()


def test_the_interval_itself_is_given_if_it_fits(tmp_path: Path) -> None:
    write_minutes(tmp_path, 50, 7).close()
    found = coarse_candles(tmp_path, BTC, at(0), at(100), 57)
    assert (found.step_ms, found.is_coarse, len(found)) == (60_000, False, 57)
    found = coarse_candles(tmp_path, BTC, at(0), at(100), 56)
    assert (found.width.name, found.is_coarse, len(found)) == ("2m", True, 29)
    assert coarse_candles(tmp_path, BTC, at(0), at(10), 10).step_ms == 60_000


def test_a_coarse_candle_has_the_first_open_the_last_close_and_the_sums(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    values = [(3.0, 9.0, 2.0, 4.0), (4.0, 5.0, 1.0, 2.0), (2.0, 2.0, 2.0, 2.0)]
    candles = [Candle(at(n), *prices, 2.0, 8.0, n, 0.0, 0.0) for n, prices in enumerate(values)]
    store.journal.accept(receive(BTC, *candles))
    store.close()
    [row] = rows_of(coarse_candles(tmp_path, BTC, 0, 2**60, 1))
    assert row == (at(0), 3.0, 9.0, 1.0, 2.0, 6.0, 24.0, 3, 3)


def test_a_range_that_begins_within_a_candle_is_no_coarser(tmp_path: Path) -> None:
    """The candle that covers its begin opens before it, and is not asked for."""
    write_minutes(tmp_path, 60, 0).close()
    found = coarse_candles(tmp_path, BTC, at(10) + 1, at(20) + 1, 10)
    assert not found.is_coarse
    assert found.open_time_ms.tolist() == [at(n) for n in range(11, 21)]


def test_an_empty_bucket_is_left_out(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.journal.accept([*minutes(0, 10), *minutes(600, 610)])
    merge_all(store)
    store.close()
    found = coarse_candles(tmp_path, BTC, 0, 2**60, 122)
    assert found.width.name == "5m"
    assert found.open_time_ms.tolist() == [at(n) for n in (0, 5, 600, 605)]
    assert found.candles.tolist() == [5, 5, 5, 5]


def test_rows_of_the_archive_fill_and_do_not_replace(tmp_path: Path) -> None:
    store = write_minutes(tmp_path, 4, 0)
    asked = (make_candle(at(2), 9.0), make_candle(at(4), 9.0))
    store.journal.refill([FetchResult(BTC, span(0, 6), asked, Source.REST)])
    found = coarse_candles(tmp_path, BTC, at(0), at(9), 9)
    assert found.close.tolist() == [1.0, 1.0, 1.0, 1.0, 9.0]
    store.close()


@pytest.mark.parametrize("series", [Series("spot", "NONE", "1m"), MONTHLY])
def test_a_series_that_is_not_stored_has_no_candles(tmp_path: Path, series: Series) -> None:
    write_minutes(tmp_path, 5, 5).close()
    found = coarse_candles(tmp_path, series, 0, 2**60, 10)
    assert (len(found), found.is_coarse) == (0, False)
    assert rows_of(found) == []


def test_of_a_copy_without_a_journal_the_files_are_read(tmp_path: Path) -> None:
    write_minutes(tmp_path, 300, 0, LAYOUTS[1]).close()
    journal_path(tmp_path).unlink()
    assert sum(coarse_candles(tmp_path, BTC, 0, 2**60, 20).candles.tolist()) == 300


def test_files_that_overlap_are_one_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a change of layout that was interrupted; the rows of some time are read at once."""
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 64)
    store = write_minutes(tmp_path, 500, 0)
    [file] = tmp_path.glob("*.pqt")
    before = file.read_bytes()
    store.journal.accept(minutes(250, 750, 2.0))
    merge_all(store)
    store.close()
    (tmp_path / f"older_{file.name}").write_bytes(before)
    journal_path(tmp_path).unlink()
    for from_ms, to_ms in ((0, 2**60), (at(100), at(300)), (at(260), at(270)), (at(600), at(999))):
        table = stored_table(tmp_path, BTC, from_ms, to_ms)
        assert table is not None
        check(coarse_candles(tmp_path, BTC, from_ms, to_ms, 100), candles_of(table))


def test_row_groups_are_read_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And those outside of the range are not read at all."""
    store = open_store(tmp_path)
    monkeypatch.setattr("kline_trio.storage.parquet._ROWS_PER_GROUP", 100)
    store.journal.accept(minutes(0, 1_000))
    merge_all(store)
    store.close()
    read: list[list[int]] = []
    read_row_groups = pq.ParquetFile.read_row_groups

    def note(file: pq.ParquetFile, groups: list[int], **options: object) -> object:
        read.append(groups)
        return read_row_groups(file, groups, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", note)
    found = coarse_candles(tmp_path, BTC, at(250), at(550), 7)
    assert read == [[2], [3], [4], [5]]
    assert found.width.name == "1h"
    assert found.candles.tolist() == [50, 60, 60, 60, 60, 10]


def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    write_minutes(tmp_path, 50, 0).close()
    [file] = tmp_path.glob("*.pqt")
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(DamagedError, match=file.name):
        coarse_candles(tmp_path, BTC, 0, 2**60, 10)


def test_a_file_that_was_taken_away_has_no_candles(tmp_path: Path) -> None:
    write_minutes(tmp_path, 50, 3).close()
    [file] = tmp_path.glob("*.pqt")
    file.unlink()
    found = coarse_candles(tmp_path, BTC, 0, 2**60, 10)
    assert found.open_time_ms.tolist() == [START_MS + n * 60_000 for n in (50, 51, 52)]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KlineTrioError):
        coarse_candles(tmp_path / "nowhere", BTC, 0, 1, 10)
