"""The ledger as a table, and candles that are missing, for researchers."""

import shutil
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kline_trio
from kline_trio.candle import Series
from kline_trio.errors import KlineTrioError
from kline_trio.storage import reports, sidecar
from kline_trio.storage.journal.ledger import Reason, SeriesAccount
from kline_trio.storage.paths import coverage_path
from kline_trio.storage.reports import write_coverage
from tests.storage.journal.test_ledger import candles, refill
from tests.storage.support import (
    BTC,
    absent,
    at,
    make_candle,
    merge_all,
    minutes,
    open_store,
    receive,
)

ETH = Series("spot", "ETHUSDT", "1m")


@pytest.fixture
def gappy(tmp_path: Path) -> Path:
    """BTC's minutes 0 to 19; 5 and 6 are nowhere, 10 came over REST, 15 is still asked for."""
    store = open_store(tmp_path)
    store.journal.settle([], {one: SeriesAccount(at(0), at(20)) for one in (BTC, ETH)})
    store.journal.accept([*minutes(0, 5), *minutes(7, 10), *minutes(11, 15), *minutes(16, 20)])
    merge_all(store)
    store.journal.settle(
        [absent(5, 7), absent(10, 11, reason=Reason.RECORDER_DOWN), absent(15, 16)], {}
    )
    store.journal.refill(
        [refill(5, 7, closes=Reason.EXCHANGE_HAD_NONE), refill(10, 11, *candles(10, 11))]
    )
    write_coverage(store.path)
    store.close()
    return tmp_path


@pytest.mark.parametrize("count", [0, 1, 6, 7, 40])
def test_a_long_ledger_is_written_out_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Years of it are never in memory at once, and the file is as if they had been."""
    monkeypatch.setattr(sidecar, "_ROWS", 6)
    store = open_store(tmp_path)
    store.journal.settle([absent(2 * nth, 2 * nth + 1) for nth in range(count)], {})
    write_coverage(store.path)
    store.close()
    written = pq.ParquetFile(coverage_path(tmp_path))
    assert written.num_row_groups == -(-count // 6)
    assert written.read().equals(reports.ledger(tmp_path))
    assert written.metadata.num_rows == count


def test_coverage_has_a_row_for_each_range(gappy: Path) -> None:
    frame = kline_trio.coverage(gappy)
    assert list(frame.columns) == [
        "trade_type", "symbol", "time_interval", "from", "to", "first_seen", "reason", "state",
        "asked", "filled_by",
    ]  # fmt: skip
    assert list(frame["reason"]) == ["the exchange had none", "recorder was down", "not received"]
    assert list(frame["state"]) == ["closed", "filled", "pending"]
    assert list(frame["filled_by"].fillna("")) == ["", "rest", ""]
    assert frame["from"][0] == pd.Timestamp("2024-01-31 00:05", tz="UTC")
    assert frame["to"][0] == pd.Timestamp("2024-01-31 00:07", tz="UTC")


def test_coverage_of_one_series_only(gappy: Path) -> None:
    assert len(kline_trio.coverage(gappy, "spot", "btcusdt", "1m")) == 3
    assert len(kline_trio.coverage(gappy, "spot", "ETHUSDT")) == 0
    for unknown in (("spot", "NOPE"), ("spot", "BTCUSDT", "1h"), (None, "BTCUSD")):
        with pytest.raises(KlineTrioError, match=f"no candles of .*{unknown[1]}.* in "):
            kline_trio.coverage(gappy, *unknown)
    assert len(kline_trio.coverage(gappy, time_interval="1mo")) == 0
    with pytest.raises(ValueError, match="unknown interval"):
        kline_trio.coverage(gappy, time_interval="2m")


def test_files_without_their_journal_keep_the_ledger(gappy: Path) -> None:
    before = kline_trio.coverage(gappy)
    for path in (gappy / ".kline_trio").glob("journal*"):
        path.unlink()
    pd.testing.assert_frame_equal(kline_trio.coverage(gappy), before)
    pd.testing.assert_frame_equal(
        pd.read_parquet(gappy / ".kline_trio" / "coverage.parquet"), before
    )


def test_a_store_without_a_ledger_has_an_empty_one(tmp_path: Path) -> None:
    assert len(kline_trio.coverage(tmp_path)) == 0
    assert len(kline_trio.revisions(tmp_path)) == 0


def test_what_is_missing_can_be_left_out_shown_or_refused(gappy: Path) -> None:
    kept = kline_trio.read(gappy, "spot", "BTCUSDT", "1m")
    assert len(kept) == 17
    whole = kline_trio.read(gappy, "spot", "BTCUSDT", "1m", missing="null")
    assert len(whole) == 20
    assert [end.minute for end in whole.index[whole["close"].isna()]] == [6, 7, 16]
    pd.testing.assert_frame_equal(whole.dropna().astype(kept.dtypes), kept)
    with pytest.raises(KlineTrioError) as caught:
        kline_trio.read(gappy, "spot", "BTCUSDT", "1m", missing="raise")
    assert str(caught.value) == (
        "3 candles of spot BTCUSDT-1m are missing:"
        " 2024-01-31 00:05:00+00:00 to 2024-01-31 00:07:00+00:00 (the exchange had none);"
        " 2024-01-31 00:15:00+00:00 to 2024-01-31 00:16:00+00:00 (not received)"
    )
    part = ("2024-01-31 00:07", "2024-01-31 00:15")
    assert len(kline_trio.read(gappy, "spot", "BTCUSDT", "1m", *part, missing="raise")) == 8


def test_missing_counts_from_the_first_to_the_last_moment_asked_for(gappy: Path) -> None:
    frame = kline_trio.read(
        gappy, "spot", "BTCUSDT", "1m", "2024-01-31 00:18:30", "2024-01-31 00:22", missing="null"
    )
    assert list(frame["candle_begin_time"].dt.minute) == [19, 20, 21]
    with pytest.raises(KlineTrioError, match=r"2 candles .*\(not in the ledger\)"):
        kline_trio.read(
            gappy, "spot", "BTCUSDT", "1m", "2024-01-31 00:19", "2024-01-31 00:22", missing="raise"
        )


def test_several_symbols_are_one_long_frame(tmp_path: Path) -> None:
    eth = Series("spot", "ETHUSDT", "1m")
    store = open_store(tmp_path)
    store.journal.accept(
        [*minutes(0, 3), *receive(eth, *(make_candle(at(n), 5.0) for n in (1, 2, 3)))]
    )
    merge_all(store)
    store.close()
    frame = kline_trio.read(
        tmp_path, "spot", time_interval="1m", symbols=["BTCUSDT", "ethusdt"], columns=["close"]
    )
    assert list(frame.columns) == ["symbol", "candle_begin_time", "close"]
    assert list(frame["symbol"]) == [
        "BTCUSDT", "BTCUSDT", "ETHUSDT", "BTCUSDT", "ETHUSDT", "ETHUSDT",
    ]  # fmt: skip
    assert frame.index.is_monotonic_increasing
    assert set(frame["close"]) == {1.0, 5.0}


def test_arrow_and_polars_have_both_times_as_columns(gappy: Path) -> None:
    table = kline_trio.read(gappy, "spot", "BTCUSDT", "1m", result="arrow")
    assert isinstance(table, pa.Table)
    frame = kline_trio.read(gappy, "spot", "BTCUSDT", "1m", result="polars")
    assert isinstance(frame, pl.DataFrame)
    assert table.column_names == frame.columns
    assert {"candle_begin_time", "candle_end_time"} < set(frame.columns)
    assert frame.height == table.num_rows == 17


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"missing": "drop"}, "missing is one of keep, raise, null"),
        ({"result": "numpy"}, "result is one of"),
        ({"columns": ["closing"]}, "no columns"),
        ({"symbols": ["BTCUSDT"]}, "either a symbol"),
    ],
)
def test_a_wrong_argument_is_named(gappy: Path, arguments: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        kline_trio.read(gappy, "spot", "BTCUSDT", "1m", **arguments)  # type: ignore[call-overload]


def test_an_unknown_series_is_still_named(gappy: Path) -> None:
    with pytest.raises(KlineTrioError, match="nearest: spot BTCUSDT-1m"):
        kline_trio.read(gappy, "spot", symbols=["BTCUSDC"], missing="null")
    shutil.rmtree(gappy / ".kline_trio")
    assert len(kline_trio.read(gappy, "spot", "BTCUSDT", "1m")) == 16
