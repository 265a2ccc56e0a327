"""What pandas, Polars and DuckDB read of a store that a recorder holds, as the docs say."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pytest

import kline_trio
from kline_trio.candle import Series
from kline_trio.storage.store import Store  # noqa: TC001 - only a local is of it
from kline_trio.storage.table import table_of
from tests.storage.support import (
    BTC,
    CHINESE,
    COIN,
    LAYOUTS,
    make_candle,
    merge_all,
    nth_open_time_ms,
    open_store,
    receive,
)

_MONTHS = LAYOUTS[1]
_HIVE = (
    "klines/trade_type={trade_type}/time_interval={time_interval}/symbol={symbol}/{month}.parquet"
)
_COLUMNS = [
    "candle_begin_time", "open", "high", "low", "close", "volume", "quote_volume", "trade_num",
    "taker_buy_base_asset_volume", "taker_buy_quote_asset_volume",
]  # fmt: skip


@pytest.fixture
def data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Iterator[int]]]:
    """Gives the rows of each series after each of some merges, while a store in `data` is held."""
    monkeypatch.chdir(tmp_path)
    held: list[Store] = []

    def grow(template: str) -> Iterator[int]:
        store = open_store(Path("data"), template)
        held.append(store)
        rows = 0
        for more in (1_430, 30, 3):
            for series in (BTC, CHINESE, COIN):
                store.journal.accept(receive(series, *candles(series, rows, rows + more)))
            rows += more
            merge_all(store)
            # And some that no file has yet.
            store.journal.accept(receive(BTC, *candles(BTC, rows, rows + 2)))
            yield rows

    yield grow
    for store in held:
        store.close()


def candles(series: Series, first: int, end: int) -> list[Any]:
    return [make_candle(nth_open_time_ms(series, n), 1.0 + n) for n in range(first, end)]


def expected(series: Series, rows: int) -> pd.DataFrame:
    frame: pd.DataFrame = table_of(series, candles(series, 0, rows)).to_pandas()
    return frame


def same_values(found: pd.DataFrame, rows: int, series: Series = BTC) -> None:
    """The same candles in the same order, in whatever unit of time the reader has."""
    wanted = expected(series, rows).reset_index()
    found = found.reset_index(drop="candle_end_time" in found.columns)
    assert list(found["open"]) == list(wanted["open"])
    for name in ("candle_begin_time", "candle_end_time"):
        times = found[name].astype("datetime64[ms, UTC]")
        assert list(times) == list(wanted[name])


def test_pandas_reads_a_file_and_a_folder_of_months(
    data: Callable[[str], Iterator[int]],
) -> None:
    for rows in data(_MONTHS):
        pd.testing.assert_frame_equal(
            pd.read_parquet("data/spot_BTCUSDT_1m.pqt"), expected(BTC, rows)
        )
        name = "data/usdt_futures_币安人生USDT_1w.pqt"
        pd.testing.assert_frame_equal(pd.read_parquet(name), expected(CHINESE, rows))


def test_pandas_reads_one_file(data: Callable[[str], Iterator[int]]) -> None:
    for rows in data(LAYOUTS[0]):
        pd.testing.assert_frame_equal(
            pd.read_parquet("data/spot_BTCUSDT_1m.pqt"), expected(BTC, rows)
        )


def test_pandas_reads_a_tree_with_the_series_as_columns(
    data: Callable[[str], Iterator[int]],
) -> None:
    for rows in data(_HIVE):
        frame = pd.read_parquet("data/klines")
        assert list(frame.columns) == [*_COLUMNS, "trade_type", "time_interval", "symbol"]
        assert len(frame) == 3 * rows
        btc = frame[frame["symbol"] == "BTCUSDT"]
        pd.testing.assert_frame_equal(btc[_COLUMNS], expected(BTC, rows))


def test_polars_reads_a_file_and_scans_many(data: Callable[[str], Iterator[int]]) -> None:
    for rows in data(LAYOUTS[0]):
        same_values(pl.read_parquet("data/spot_BTCUSDT_1m.pqt").to_pandas(), rows)
        scanned = pl.scan_parquet("data/spot_*_1m.pqt", include_file_paths="file").collect()
        assert set(scanned["file"]) == {"data/spot_BTCUSDT_1m.pqt"}
        same_values(scanned.to_pandas(), rows)


def test_polars_reads_months_and_trees(data: Callable[[str], Iterator[int]]) -> None:
    for rows in data(_HIVE):
        frame = pl.read_parquet("data/klines/**/*.parquet", hive_partitioning=True)
        same_values(frame.filter(pl.col("symbol") == "BTCUSDT").to_pandas(), rows)


def test_duckdb_reads_files_and_trees(data: Callable[[str], Iterator[int]]) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone='UTC'")
        for rows in data(LAYOUTS[0]):
            every = (
                connection.sql("FROM read_parquet('data/*.pqt', filename=true)").pl().to_pandas()
            )
            assert len(every) == 3 * rows
            same_values(every[every["filename"] == "data/spot_BTCUSDT_1m.pqt"], rows)


def test_duckdb_reads_a_tree_with_the_series_as_columns(
    data: Callable[[str], Iterator[int]],
) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone='UTC'")
        for rows in data(_HIVE):
            every = connection.sql("FROM read_parquet('data/klines/**/*.parquet')").pl().to_pandas()
            assert len(every) == 3 * rows
            btc = every[every["symbol"] == "BTCUSDT"].sort_values("candle_begin_time")
            same_values(btc, rows)


def test_our_own_reader_is_ahead_of_all(data: Callable[[str], Iterator[int]]) -> None:
    for rows in data(LAYOUTS[0]):
        assert len(kline_trio.read("data", "spot", "BTCUSDT", "1m")) == rows + 2


def test_the_lines_in_the_docs_run(data: Callable[[str], Iterator[int]]) -> None:
    """Each block of docs/reading.md, in the layout that its heading names."""
    text = Path(__file__).parents[2].joinpath("docs", "reading.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^## .*?`([^`]+)`\n.*?^```python\n(.*?)^```$", text, re.M | re.S)
    assert [template for template, _ in blocks] == [LAYOUTS[0], _MONTHS, _HIVE]
    for number, (template, code) in enumerate(blocks):
        folder = Path(f"docs-{number}")
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            for _ in data(template):
                names: dict[str, Any] = {}
                exec(code, names)
                frames = [one for one in names.values() if hasattr(one, "shape")]
                assert len(frames) >= 2
                assert all(frame.shape[0] > 0 for frame in frames)
