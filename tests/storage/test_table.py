"""What stands in each file beside the numbers, and how two tables become one."""

import io
import json
import struct
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.candle import Candle, Series
from kline_trio.errors import ConfigError
from kline_trio.storage.table import BEGIN, END, overlay, schema, series_of, table_of
from tests.storage.support import (
    BTC,
    CANDLE_FIELDS,
    COIN,
    SERIES,
    Rows,
    candles,
    make_candle,
    nth_open_time_ms,
    ordered,
    run_python,
)

COLUMNS = [
    "candle_begin_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "trade_num",
    "taker_buy_base_asset_volume",
    "taker_buy_quote_asset_volume",
]


def _bits(value: float) -> bytes:
    return struct.pack("d", value)


def test_bare_pandas_gives_the_promised_frame(tmp_path: Path) -> None:
    """`pd.read_parquet(path)` alone has the end as index, in UTC, and ten columns in order."""
    path = tmp_path / "spot_BTCUSDT_1m.pqt"
    pq.write_table(table_of(BTC, [make_candle(nth_open_time_ms(BTC, 0))]), path)
    frame = pd.read_parquet(path)
    assert list(frame.columns) == COLUMNS
    assert frame.index.name == "candle_end_time"
    assert isinstance(frame.index, pd.DatetimeIndex)
    assert str(frame.index.dtype) == "datetime64[ms, UTC]"
    assert frame.index[0] == pd.Timestamp("2024-01-31 00:01", tz="UTC")
    assert frame["candle_begin_time"].iloc[0] == pd.Timestamp("2024-01-31", tz="UTC")
    expected = ["datetime64[ms, UTC]", *["float64"] * 6, "int64", *["float64"] * 2]
    assert [str(kind) for kind in frame.dtypes] == expected


def test_pandas_note_is_what_pandas_writes() -> None:
    """Our hand-written note differs from pandas' own only in who wrote it."""
    ours = table_of(BTC, [make_candle(nth_open_time_ms(BTC, 0))])
    theirs = pa.Table.from_pandas(ours.to_pandas())
    assert theirs.column_names == ours.column_names
    assert theirs.schema.types == ours.schema.types
    expected = json.loads((theirs.schema.metadata or {})[b"pandas"])
    note = json.loads((ours.schema.metadata or {})[b"pandas"])
    expected.pop("creator")
    assert note.pop("pandas_version") <= expected.pop("pandas_version")
    assert note == expected


def test_pandas_frames_of_ours_survive_pandas() -> None:
    """Written and read again by pandas, the frame is the same."""
    frame = table_of(BTC, [make_candle(nth_open_time_ms(BTC, n)) for n in range(3)]).to_pandas()
    file = io.BytesIO()
    frame.to_parquet(file)
    pd.testing.assert_frame_equal(pd.read_parquet(file), frame)


@pytest.mark.parametrize("series", SERIES, ids=str)
def test_a_file_says_whose_candles_it_holds(series: Series) -> None:
    """Market, symbol and interval stand in the metadata, in the exchange's spelling."""
    metadata = schema(series).metadata or {}
    assert metadata[b"trade_type"].decode() == series.trade_type
    assert metadata[b"symbol"].decode() == series.symbol
    assert metadata[b"time_interval"].decode() == series.time_interval
    assert series_of(metadata) == series


def test_coin_futures_count_contracts() -> None:
    """On COIN-M volume is in contracts and quote_volume in base coin, elsewhere in assets."""

    def unit(series: Series, column: str) -> bytes:
        return (schema(series).field(column).metadata or {})[b"unit"]

    assert unit(COIN, "volume") == unit(COIN, "taker_buy_base_asset_volume") == b"contracts"
    assert unit(COIN, "quote_volume") == b"base coin"
    assert unit(COIN, "taker_buy_quote_asset_volume") == b"base coin"
    assert unit(BTC, "volume") == b"base asset"
    assert unit(BTC, "quote_volume") == b"quote asset"


@pytest.mark.parametrize("metadata", [None, {}, {b"pandas": b"{}", b"symbol": b"BTCUSDT"}])
def test_foreign_metadata_is_nobodys(metadata: dict[bytes, bytes] | None) -> None:
    """A file without our mark is not ours, whatever else it says."""
    assert series_of(metadata) is None


def test_newer_formats_are_refused() -> None:
    """A file whose columns may mean something else is not guessed at."""
    with pytest.raises(ConfigError, match="newer kline_trio"):
        series_of({**(schema(BTC).metadata or {}), b"kline_trio_format": b"3"})


@given(st.data(), st.sampled_from(SERIES))
def test_every_bit_of_a_candle_is_kept(data: st.DataObject, series: Series) -> None:
    """Columns hold the candles' numbers bit for bit, and the times of the calendar."""
    rows = data.draw(st.lists(candles(series)))
    table = table_of(series, rows)
    assert table.schema.equals(schema(series), check_metadata=True)
    begins = [scalar.value for scalar in table[BEGIN]]
    ends = [scalar.value for scalar in table[END]]
    assert begins == [row.open_time_ms for row in rows]
    assert ends == [series.interval.end_time_ms(row.open_time_ms) for row in rows]
    for name in CANDLE_FIELDS[1:]:
        expected = [getattr(row, name) for row in rows]
        if name == "trade_num":
            assert table[name].to_pylist() == expected
        else:
            assert [*map(_bits, table[name].to_numpy())] == [*map(_bits, expected)]


@given(st.lists(candles(BTC)), st.lists(candles(BTC)))
def test_overlay_is_dict_union(older: list[Candle], newer: list[Candle]) -> None:
    """Newer rows win, all others stay, and the result is by begin."""
    first: Rows = {row.open_time_ms: row for row in older}
    second: Rows = {row.open_time_ms: row for row in newer}
    both = overlay(table_of(BTC, ordered(first)), table_of(BTC, ordered(second)))
    assert both.equals(table_of(BTC, ordered(first | second)))


def test_recording_never_loads_pandas(tmp_path: Path) -> None:
    """A store lives, merges and lists without the second of CPU and 50 MB that pandas takes."""
    run_python(
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.storage.support import *\n"
        "from kline_trio.storage.catalog import last_end_ms\n"
        "path = Path(sys.argv[1])\n"
        "first = write_minutes(path, 3, 1)\n"
        "first.journal.accept(minutes(1, 2))\n"
        "store = open_store(path / 'other')\n"
        "store.journal.accept(minutes(5, 6)), merge_all(store)\n"
        "store.journal.accept(minutes(2, 9)), merge_all(store), last_end_ms(path)\n"
        "assert 'pandas' not in sys.modules",
        tmp_path,
    )
