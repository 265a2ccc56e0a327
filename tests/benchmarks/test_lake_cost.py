"""The arithmetic of what years of a lake cost, and the rows that it is measured with."""

import json
from pathlib import Path

import attrs
import numpy as np
import pytest

from benchmarks import lake_cost
from benchmarks.lake_facts import requests_of
from benchmarks.lake_rows import Month, lake_table, resampled, stored_table
from benchmarks.lake_years import Facts, Prices, Requests, month_of_lake, price
from benchmarks.made_up import minutes
from kline_trio.candle import Series
from kline_trio.interval import DAY_MS, INTERVALS
from kline_trio.lake.plan import chunks, month_span
from kline_trio.lake.schema import VALUES
from kline_trio.storage.table import BEGIN, schema
from tests.lake.memory_s3 import Answered

ONE = Requests(1.0, 2.0, 0.0)
FACTS = Facts(
    row_bytes=dict.fromkeys(INTERVALS, 30.0),
    new_row_bytes=40.0,
    new_file_bytes=8_000.0,
    store_row_bytes=dict.fromkeys(INTERVALS, 32.0),
    publication=ONE,
    more_file=Requests(writes=1.0),
    more_commit=ONE,
    compaction=ONE,
    job=ONE,
    upload=Requests(writes=26.0),
    large_read=Requests(reads=2.0),
    vacuum=ONE,
    vacuum_lists=2.0,
    log_commit_bytes=2_000.0,
    checkpoint_file_bytes=100.0,
)
SPAN = month_span("2026-11")


def test_a_month_has_each_candle_once() -> None:
    names = [name for name in INTERVALS if name not in ("1s", "3d", "1w")]
    month = month_of_lake(FACTS, {"spot": 10}, {"spot": names})
    for part in month.parts:
        count = INTERVALS[part.time_interval].count(SPAN)
        assert part.rows == 10 * count, part.time_interval
        assert part.store_bytes == 32.0 * part.rows
        # After its end, the month is one sorted file.
        assert (part.files, part.size) == (1, 30.0 * part.rows)


def test_each_hour_is_a_publication_and_each_day_is_compacted() -> None:
    month = month_of_lake(FACTS, {"spot": 10}, {"spot": ["1m"]})
    assert month.commits == 720
    assert month.publishing == Requests(720.0, 1_440.0)
    [part] = month.parts
    assert part.published_files == 720
    # 29 days within the month, and the month after its end.
    assert part.jobs == 30
    assert month.removing.deletes == 720


def test_hours_of_many_rows_are_cut_as_publications_cut_them() -> None:
    """With `chunks`, a commit may be less full, since a month of a symbol is not cut."""
    symbols = 1_500
    hour = attrs.evolve(SPAN, to_ms=SPAN.from_ms + DAY_MS // 24)
    series = [Series("spot", f"S{n:04}", name) for name in ("1s", "1m") for n in range(symbols)]
    cut = list(chunks({one: [hour] for one in series}))
    month = month_of_lake(FACTS, {"spot": symbols}, {"spot": ["1s", "1m"]})
    assert abs(month.commits / 720 - len(cut)) <= 1
    seconds, one_minute = sorted(month.parts, key=lambda one: -one.rows)
    assert seconds.published_files == 720 * round(symbols * 3_600 / 250_000)
    assert one_minute.published_files == 720


def test_large_months_are_several_files() -> None:
    month = month_of_lake(FACTS, {"spot": 1_500}, {"spot": ["1m"]})
    [part] = month.parts
    assert part.files == round(part.size / (128 << 20))
    assert part.written > part.size + part.rows * 40


def test_what_it_costs_is_requests_and_storage() -> None:
    prices = Prices(writes=5.0, reads=0.4, gb_month=0.02)
    assert price(prices, Requests(2_000, 10_000, 99), 100) == pytest.approx(10 + 4 + 2)


def test_requests_are_counted_by_their_class() -> None:
    asked = [
        ("PUT", "/b/a"), ("POST", "/b/a?uploads"), ("GET", "/b?list-type=2&prefix=a"),
        ("GET", "/b/a"), ("HEAD", "/b/a"), ("POST", "/b?delete"), ("DELETE", "/b/a"),
    ]  # fmt: skip
    assert requests_of([Answered(*one, 0) for one in asked]) == Requests(3, 2, 2)


def made_month() -> Month:
    return Month.of("made up", minutes(0, 43_200))


def test_longer_candles_are_made_of_minutes() -> None:
    values = made_month().values
    hours = resampled(values, 60)
    assert len(hours["open"]) == 720
    assert hours["open"][1] == values["open"][60]
    assert hours["close"][1] == values["close"][119]
    assert hours["high"][1] == values["high"][60:120].max()
    assert hours["low"][1] == values["low"][60:120].min()
    assert hours["trade_num"][1] == values["trade_num"][60:120].sum()


def test_symbols_differ_and_keep_the_digits() -> None:
    first, second = lake_table([made_month()], 2, "5m", rows=10)
    assert first.schema == second.schema
    assert first[BEGIN] == second[BEGIN]
    for name in VALUES:
        assert first[name] != second[name]
    assert (np.round(first["open"].to_numpy(), 2) == first["open"].to_numpy()).all()
    again = stored_table([made_month()], 1, "5m", 0, 10)
    assert again.schema == schema(Series("spot", "S0001USDT", "5m"))
    assert again["close"] == second["close"]


def test_the_tables_are_made_of_facts_of_an_earlier_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    before.write_text(json.dumps({"table": {"facts": attrs.asdict(FACTS)}}))
    words = ["--facts", str(before), "--json", str(after), "--symbols", "spot=2", "coin_futures=1"]
    assert lake_cost.main([*words, "--years", "1"]) == 0
    printed = capsys.readouterr().out
    assert "arithmetic: 1m alone: 1,555,200 candles in 1 years" not in printed
    assert "1,555,200 candles" in printed
    table = json.loads(after.read_text())["table"]
    assert table["facts"] == attrs.asdict(FACTS)
    markets = {one["trade_type"] for one in table["months"]["all intervals"]["parts"]
               if one["time_interval"] == "1s"}  # fmt: skip
    assert markets == {"spot"}
