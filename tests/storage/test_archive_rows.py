"""Archive files as rows: with and without header, in milliseconds and microseconds."""

import gzip
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from kline_trio.candle import Series
from kline_trio.errors import DamagedArchiveError
from kline_trio.exchange.archive import unpacked
from kline_trio.interval import Span
from kline_trio.storage.archive_rows import read_csv, read_csvs
from kline_trio.storage.table import BEGIN, candles_of
from tests.stand_in_candles import replayed

BTC = Series("spot", "BTCUSDT", "1m")
DAY_MS = 86_400_000
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
