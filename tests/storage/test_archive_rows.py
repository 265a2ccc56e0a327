"""Archive files as rows, with and without header, and runs of rows that have no trades."""

import gzip
import time
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from kline_trio.candle import Candle, Series
from kline_trio.errors import DamagedArchiveError
from kline_trio.exchange.archive import unpacked
from kline_trio.interval import Span
from kline_trio.storage.archive_rows import quiet_runs, read_csv, read_csvs, sifted
from kline_trio.storage.table import BEGIN, candles_of, open_times_ms, table_of
from tests.stand_in_candles import replayed

BTC = Series("spot", "BTCUSDT", "1m")
DAY_MS = 86_400_000
MINUTE_MS = 60_000
FROM_MS = 1_700_006_400_000
SPAN = Span(FROM_MS, FROM_MS + DAY_MS)
HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore"
)
DATA = Path(__file__).resolve().parents[2] / "../shared/data/klines"


def line(minute: int = 0, unit: int = 1, **changes: object) -> str:
    open_ms = FROM_MS + minute * 60_000
    cells: list[object] = [
        open_ms * unit, "2.0", "4.0", "1.0", "3.0", "10", (open_ms + 60_000) * unit - 1, "20.5", 7,
        "4", "8", "0",
    ]  # fmt: skip
    for place, value in changes.items():
        cells[int(place.removeprefix("at"))] = value
    return ",".join(map(str, cells))


def begins(table: pa.Table) -> list[int]:
    return [(candle.open_time_ms - FROM_MS) // 60_000 for candle in candles_of(table)]


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("unit", [1, 1_000])
def test_header_or_not_milliseconds_or_microseconds(header: bool, unit: int) -> None:
    text = "\n".join([HEADER] * header + [line(0, unit), line(1, unit), ""])
    rows = read_csv(text.encode(), BTC, SPAN)
    assert begins(rows.table) == [0, 1]
    assert not rows.bad_rows
    [first, _] = candles_of(rows.table)
    assert (first.open, first.quote_volume, first.trade_num) == (2.0, 20.5, 7)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (line(5, at0=FROM_MS + 1), "grid"),
        (line(5, at0=10**17), "grid"),
        (line(5, at1="nan"), "a number that is not finite"),
        (line(5, at2="inf"), "a number that is not finite"),
        (line(5, at1="-2.0", at3="-3"), "negative"),
        (line(5, at8=-1), "negative"),
        (line(5, at2="2.5"), "high"),
        (line(5, at3="2.5"), "low"),
        (line(5, at8=0), "without trades"),
        (line(5, at6=FROM_MS + 5 * 60_000 + 299_999), "another interval"),
    ],
)
def test_a_bad_row_is_counted_and_harms_no_other(bad: str, why: str) -> None:
    rows = read_csv("\n".join([line(0), bad, line(9)]).encode(), BTC, SPAN)
    assert begins(rows.table) == [0, 9]
    [(reason, count)] = rows.bad_rows.items()
    assert why in reason
    assert count == 1


def test_rows_of_other_days_are_left_out_and_order_is_made() -> None:
    rows = read_csv("\n".join(map(line, (3, 1, -5, 2, 1, 1_440))).encode(), BTC, SPAN)
    assert begins(rows.table) == [1, 2, 3]


def test_of_rows_of_one_time_the_first_in_the_file_counts() -> None:
    lines = [line(3), line(1, at4="2.0"), line(2), line(1, at4="2.5"), line(1, at4="1.5")]
    rows = read_csv("\n".join(lines).encode(), BTC, SPAN)
    assert begins(rows.table) == [1, 2, 3]
    assert [candle.close for candle in candles_of(rows.table)] == [2.0, 3.0, 3.0]


DAYS = [Span(FROM_MS + day * DAY_MS, FROM_MS + (day + 1) * DAY_MS) for day in range(3)]


def day(number: int, *minutes: int) -> str:
    return "\n".join(line(number * 1_440 + minute) for minute in minutes)


def test_files_read_as_one_are_what_each_alone_is() -> None:
    texts = [
        f"{HEADER}\n{day(0, 1, 2)}\n".encode(),
        day(1, 0, 7, 1_439).encode(),
        f"{day(2, 0)}\r\n".encode(),
    ]
    together = read_csvs(texts, BTC, DAYS)
    assert together is not None
    alone = [read_csv(text, BTC, span) for text, span in zip(texts, DAYS, strict=True)]
    assert [one.table for one in together] == [one.table for one in alone]
    assert [one.table.num_rows for one in together] == [2, 3, 1]
    assert not any(one.bad_rows for one in together)


@pytest.mark.parametrize(
    "second",
    [
        day(1, 3, 1),
        day(1, 1, 1),
        day(1, 1, 1_440),
        day(0, 5),
        day(1, 1) + "\n\n" + day(1, 2),
        day(1, 1) + "\n" + line(1_450, at1="nan"),
        day(1, 1) + "\n" + line(1_450, at1="x"),
        day(1, 1)[:-8],
        "<html>\n<html>",
    ],
)
def test_files_of_which_there_is_something_to_tell_are_not_read_as_one(second: str) -> None:
    texts = [day(0, 1, 2).encode(), second.encode(), day(2, 0).encode()]
    assert read_csvs(texts, BTC, DAYS) is None


def test_files_without_rows_are_read_as_one_with_others() -> None:
    assert read_csvs([b"", HEADER.encode(), b""], BTC, DAYS) is None
    together = read_csvs([b"", day(1, 1).encode(), HEADER.encode()], BTC, DAYS)
    assert together is not None
    assert [one.table.num_rows for one in together] == [0, 1, 0]


@pytest.mark.parametrize("text", ["", HEADER, HEADER + "\n"])
def test_an_empty_file_has_no_rows(text: str) -> None:
    assert read_csv(text.encode(), BTC, SPAN).table.num_rows == 0


@pytest.mark.parametrize(
    "text", ["<html>\nno\n", line()[:-8] + "\n" + line(), line(at1="x"), line(at1="9" * 400) + ",1"]
)
def test_what_is_no_csv_of_candles_is_named(text: str) -> None:
    with pytest.raises(DamagedArchiveError):
        read_csv(text.encode(), BTC, SPAN)


@pytest.mark.parametrize(
    "name",
    [
        "spot/BTCUSDT-1m-2023-03-24.zip",
        "spot/ARBUSDT-1m-2023-07-27.zip",
        "usdt_futures/BTCUSDT-1m-2022-09-05.zip",
        "coin_futures/BTCUSD_PERP-1m-2022-10-24.zip",
        "usdt_futures/AVAXUSDT-1m-2026-07.csv.gz",
        "spot/BTCUSDT-1h-2023-03-24.zip",
    ],
)
def test_real_files_give_every_row(name: str) -> None:
    path = DATA / name
    if not path.exists():
        pytest.skip("REAL DATA ABSENT")
    symbol, interval = path.name.split("-")[:2]
    series = Series(path.parent.name, symbol, interval)
    text = (
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else unpacked(path.read_bytes())
    )
    rows = read_csv(text, series, Span(0, 4_000_000_000_000))
    assert not rows.bad_rows
    [truth] = replayed([path]).values()
    assert [
        (one.open_time_ms, one.open, one.close, one.quote_volume, one.trade_num)
        for one in candles_of(rows.table)
    ] == [(row.t, float(row.o), float(row.c), float(row.q), row.n) for row in truth]
    assert rows.table[BEGIN].type == pa.timestamp("ms", "UTC")


@pytest.mark.parametrize("text", ["\x1b[2J", "1\x9b31m", "x" * 100_000, "\x07" * 100_000])
def test_what_is_quoted_of_a_file_is_short_and_printable(text: str) -> None:
    with pytest.raises(DamagedArchiveError, match="no CSV of candles: ") as caught:
        read_csv(line(at1=text).encode(), BTC, SPAN)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1_000


def zipped(folder: Path, members: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(folder / "file.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return (folder / "file.zip").read_bytes()


def test_a_zip_file_has_one_member_that_does_not_swell(tmp_path: Path) -> None:
    assert unpacked(zipped(tmp_path, {"a.csv": b"1,2"})) == b"1,2"
    for members in ({}, {"a": b"1", "b": b"2"}, {"bomb": bytes(10_000_000)}):
        with pytest.raises(DamagedArchiveError):
            unpacked(zipped(tmp_path, members))
    whole = zipped(tmp_path, {"a.csv": line().encode() * 50})
    for damaged in (b"", b"<xml>", whole[:-30], whole[:50] + b"\xff" * 20 + whole[70:]):
        with pytest.raises(DamagedArchiveError):
            unpacked(damaged)


def runs(*pieces: tuple[int, int]) -> list[tuple[int, int]]:
    """The quiet runs among rows, given as pairs of count and number of trades of each row."""
    trade_nums = [trades for count, trades in pieces for _ in range(count)]
    return [(first, end) for first, end, _ in quiet_runs(np.array(trade_nums, np.int64))]


def test_flat_minutes_among_busy_ones_are_suspicious() -> None:
    """The 13 and the 4 minutes of USD-M's files of 2025-01-29."""
    assert runs((300, 900), (13, 0), (80, 700), (4, 0), (500, 800)) == [(300, 313), (393, 397)]


def test_one_flat_row_is_enough_where_more_than_50_trades_are_expected() -> None:
    assert runs((100, 51), (1, 0), (100, 51)) == [(100, 101)]
    assert runs((100, 50), (1, 0), (100, 50)) == []


def test_the_quiet_of_an_illiquid_symbol_is_harmless() -> None:
    assert runs(*[(1, 1), (9, 0)] * 1_000) == []
    assert runs((600, 0), (1, 5), (600, 0)) == []


def test_the_rate_is_that_of_as_many_rows_on_each_side_as_the_run_has() -> None:
    """A symbol that is busy by day and sleeps by night."""
    assert runs((600, 10), (600, 0), (600, 0), (600, 10)) == [(600, 1_800)]
    assert runs((1_000, 100), (200, 0), (1, 1), (4, 0), (1, 1), (200, 0)) == [(1_000, 1_200)]


def test_a_run_at_either_end_is_judged_by_the_other_side() -> None:
    assert runs((5, 0), (100, 30), (5, 0)) == [(0, 5), (105, 110)]


def test_where_all_is_flat_nothing_speaks_for_it() -> None:
    assert runs((1_440, 0)) == [(0, 1_440)]
    assert runs((1, 0)) == [(0, 1)]
    assert runs() == []


def test_quiet_rows_are_left_out_and_their_spans_are_told() -> None:
    candles = [
        Candle(n * MINUTE_MS, 2, 2, 2, 2, 1, 1, 0 if 100 <= n < 110 else 90, 1, 1)
        for n in range(300)
        if n != 105
    ]
    sifting = sifted(table_of(BTC, candles), BTC)
    quiet = (Span(100 * MINUTE_MS, 105 * MINUTE_MS), Span(106 * MINUTE_MS, 110 * MINUTE_MS))
    assert tuple(span for span, _ in sifting.quiet) == quiet
    assert [expected for _, expected in sifting.quiet] == [810, 810]
    left = [ms // MINUTE_MS for ms in open_times_ms(sifting.kept)]
    assert left == [*range(100), *range(110, 300)]


def test_a_month_of_seconds_with_thousands_of_harmless_runs_costs_little() -> None:
    trade_nums = np.zeros(2_678_400, np.int64)
    trade_nums[::7] = 1
    began = time.process_time()
    assert quiet_runs(trade_nums) == []
    assert time.process_time() - began < 2


def real(name: str, series: Series, span: Span) -> pa.Table:
    file = DATA / series.trade_type / name
    if not file.exists():
        pytest.skip(f"REAL DATA ABSENT: {file.name}")
    content = file.read_bytes()
    text = gzip.decompress(content) if name.endswith(".gz") else unpacked(content)
    return read_csv(text, series, span).table


def test_the_halt_of_2023_03_24_is_looked_at_and_nothing_else_of_that_day() -> None:
    begin_ms = 1_679_616_000_000
    table = real("BTCUSDT-1m-2023-03-24.zip", BTC, Span(begin_ms, begin_ms + 86_400_000))
    [(span, _)] = sifted(table, BTC).quiet
    first_ms = begin_ms + (11 * 60 + 28) * MINUTE_MS
    assert span == Span(first_ms, first_ms + 72 * MINUTE_MS)


def test_the_19_flat_minutes_of_filusdt_are_looked_at_and_few_other_of_that_month() -> None:
    series = Series("usdt_futures", "FILUSDT", "1m")
    month = Span(1_693_526_400_000, 1_696_118_400_000)
    table = real("FILUSDT-1m-2023-09.csv.gz", series, month)
    sifting = sifted(table, series)
    first_ms = 1_694_476_800_000 + (8 * 60 + 34) * MINUTE_MS
    spans = [span for span, _ in sifting.quiet]
    assert Span(first_ms, first_ms + 19 * MINUTE_MS) in spans
    assert len(spans) < 20
