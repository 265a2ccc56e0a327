"""Stores as years of recording leave them, made in seconds.

python -m tests.browser.stores FOLDER [--series 2500]
"""

import argparse
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa

from kline_trio.candle import Series, Source
from kline_trio.interval import Span
from kline_trio.storage.journal.ledger import Gap, Reason, SeriesAccount, State
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.paths import journal_path
from kline_trio.storage.store import Store
from kline_trio.storage.table import BEGIN, END, schema
from tests.faulty_exchange import plausible_symbols

__all__ = ["BTC", "DAYS", "END_MS", "many_series", "store_of_candles", "store_of_many_series"]

MINUTE_MS = 60_000
DAY_MS = 86_400_000
DAYS = 730
END_MS = 1_790_000_000_000 // DAY_MS * DAY_MS + 14 * 3_600_000
"""Up to where the stores are accounted for: 2026-09-21 14:00 UTC."""
_BEGIN_MS = (END_MS // DAY_MS - DAYS) * DAY_MS
BTC = Series("spot", "BTCUSDT", "1m")

_INCOMPLETE_SHARE = 0.05
_MARKET_SHARES = {"spot": 0.62, "usdt_futures": 0.3, "coin_futures": 0.08}
_FATES = (
    # Of a hundred gaps: how many, why, and what became of them.
    (62, Reason.NOT_RECEIVED, State.FILLED, Source.REST),
    (25, Reason.RECORDER_DOWN, State.FILLED, Source.REST),
    (8, Reason.EXCHANGE_HAD_NONE, State.CLOSED, None),
    (3, Reason.ARCHIVE_LACKS, State.CLOSED, None),
    (2, Reason.NOT_RECEIVED, State.PENDING, None),
)
_COLUMNS = "series_id, from_ms, to_ms, first_seen_ms, reason, state, asked, filled_by"


def many_series(count: int) -> list[Series]:
    """Return so many series of 1m, of the three markets."""
    found = []
    for name, share in _MARKET_SHARES.items():
        symbols = plausible_symbols(name, round(count * share))
        found += [Series(name, symbol, "1m") for symbol in symbols]
    return found


def store_of_many_series(path: Path, count: int = 2_500, *, pending: bool = True) -> list[Series]:
    """Make a store whose ledger is two years long, without a file of candles.

    Of each series 5 % of the days, scattered, lack candles: from one to two hours of them.

    Args:
      path: the folder.
      count: how many series.
      pending: whether some of the gaps are still to be filled.
    """
    Store.open(path, Layout(DEFAULT_LAYOUT)).close()
    series = many_series(count)
    chance = np.random.default_rng(11)
    with closing(sqlite3.connect(journal_path(path), isolation_level=None)) as journal:
        journal.execute("BEGIN IMMEDIATE")
        sql = (
            "INSERT INTO series (trade_type, symbol, time_interval, first_ms, watermark_ms,"
            " is_compared) VALUES (?, ?, ?, ?, ?, 1)"
        )
        for one in series:
            names = (one.trade_type, one.symbol, one.time_interval)
            series_id = journal.execute(sql, (*names, _BEGIN_MS, END_MS)).lastrowid
            assert series_id is not None
            rows = _scattered(series_id, chance, pending=pending)
            marks = ", ".join("?" * 8)
            journal.executemany(f"INSERT INTO absence ({_COLUMNS}) VALUES ({marks})", rows)
        _beat(journal)
        journal.execute("COMMIT")
        journal.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return series


def _scattered(
    series_id: int, chance: np.random.Generator, *, pending: bool
) -> Iterator[tuple[object, ...]]:
    """Give the gaps of a series as rows, by time, one in each incomplete day."""
    count = round(DAYS * _INCOMPLETE_SHARE)
    days = np.sort(chance.choice(DAYS, count, replace=False))
    lengths = chance.integers(1, 121, count)
    starts = chance.integers(0, 840, count)
    shares = np.array([share for share, *_ in _FATES]) / 100
    fates = chance.choice(len(_FATES), count, p=shares)
    for day, start, length, fate in zip(days, starts, lengths, fates, strict=True):
        _, reason, state, source = _FATES[fate if pending or fate < len(_FATES) - 1 else 0]
        from_ms = _BEGIN_MS + int(day) * DAY_MS + int(start) * MINUTE_MS
        to_ms = from_ms + int(length) * MINUTE_MS
        by = None if source is None else str(source)
        yield series_id, from_ms, to_ms, to_ms, str(reason), str(state), 1, by


def _beat(journal: sqlite3.Connection) -> None:
    """Write the last heartbeat of a recorder that has ended just now."""
    sql, now_ms = "INSERT OR REPLACE INTO exchange_time VALUES (?, ?, ?)", round(time.time() * 1e3)
    journal.execute(sql, ("", now_ms, now_ms))
    for name in _MARKET_SHARES:
        journal.execute(sql, (name, END_MS, now_ms))


def store_of_candles(path: Path, days: int = DAYS) -> None:
    """Make a store with the candles of one series of 1m, and with holes of every kind in it."""
    store = Store.open(path, Layout(DEFAULT_LAYOUT))
    try:
        begin_ms = (END_MS // DAY_MS - days) * DAY_MS
        holes = [
            # Days before the end, hour, minutes, and what became of it.
            (min(days - 1, 400), 3, 600, Reason.EXCHANGE_HAD_NONE, State.CLOSED, None),
            (min(days - 1, 90), 8, 45, Reason.ARCHIVE_LACKS, State.CLOSED, None),
            (1, 21, 30, Reason.RECORDER_DOWN, State.FILLED, Source.REST),
            (0, 6, 95, Reason.EXCHANGE_HAD_NONE, State.CLOSED, None),
            (0, 13, 20, Reason.NOT_RECEIVED, State.PENDING, None),
        ]
        gaps = []
        for before, hour, length, reason, state, source in holes:
            from_ms = (END_MS // DAY_MS - before) * DAY_MS + hour * 3_600_000
            span = Span(from_ms, from_ms + length * MINUTE_MS)
            gaps.append(Gap(BTC, span, span.to_ms, reason, state, 2, source))
        lacking = [gap.span for gap in gaps if gap.state is not State.FILLED]
        files = store.fill_in(_walk(BTC, begin_ms, END_MS, lacking), BTC)
        account = {BTC: SeriesAccount(begin_ms, END_MS)}
        store.journal.settle(gaps, account)
        store.journal.keep_filled(BTC, files, [], [])
        now_ms = round(time.time() * 1_000)
        store.journal.beat(None, dict.fromkeys(_MARKET_SHARES, END_MS), now_ms)
    finally:
        store.close()


def _walk(series: Series, begin_ms: int, end_ms: int, lacking: Sequence[Span]) -> pa.Table:
    """Return a random walk of prices, without the candles of some spans."""
    begins = np.arange(begin_ms, end_ms, MINUTE_MS)
    count, chance = len(begins), np.random.default_rng(5)
    closes = np.round(60_000 * np.exp(np.cumsum(chance.normal(0, 0.0004, count))), 2)
    opens = np.concatenate([[60_000.0], closes[:-1]])
    reach = np.abs(chance.normal(0, 0.0002, (2, count)))
    volumes = np.round(chance.gamma(2, 6, count), 5)
    values = {
        BEGIN: begins,
        "open": opens,
        "high": np.round(np.maximum(opens, closes) * (1 + reach[0]), 2),
        "low": np.round(np.minimum(opens, closes) * (1 - reach[1]), 2),
        "close": closes,
        "volume": volumes,
        "quote_volume": np.round(volumes * closes, 7),
        "trade_num": chance.integers(1, 3_000, count),
        "taker_buy_base_asset_volume": np.round(volumes / 2, 5),
        "taker_buy_quote_asset_volume": np.round(volumes * closes / 2, 7),
        END: begins + MINUTE_MS,
    }
    kept = np.ones(count, dtype=bool)
    for span in lacking:
        kept &= (begins < span.from_ms) | (begins >= span.to_ms)
    columns = [pa.array(values[field.name][kept]).cast(field.type) for field in schema(series)]
    return pa.Table.from_arrays(columns, schema=schema(series))


def main(arguments: list[str]) -> None:
    """Make a store."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.stores", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--series", type=int, help="a ledger alone; without it, one with candles")
    options = parser.parse_args(arguments)
    if options.series:
        store_of_many_series(options.folder, options.series)
    else:
        store_of_candles(options.folder)


if __name__ == "__main__":
    main(sys.argv[1:])
