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

import attrs
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

__all__ = ["BTC", "DAYS", "DAY_MS", "END_MS", "CommonGap", "Ledger", "many_series"]
__all__ += ["store_of_candles"]

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
DAYS = 730
END_MS = 1_790_000_000_000 // DAY_MS * DAY_MS + 14 * HOUR_MS
"""Up to where stores are accounted for, if nothing else is said: 2026-09-21 14:00 UTC."""
BTC = Series("spot", "BTCUSDT", "1m")

_MARKET_SHARES = {"spot": 0.62, "usdt_futures": 0.3, "coin_futures": 0.08}
_FATES = (
    # Of a hundred gaps: how many, why, and what became of them.
    (62, Reason.NOT_RECEIVED, State.FILLED, Source.REST),
    (25, Reason.RECORDER_DOWN, State.FILLED, Source.REST),
    (8, Reason.EXCHANGE_HAD_NONE, State.CLOSED, None),
    (3, Reason.ARCHIVE_LACKS, State.CLOSED, None),
    (2, Reason.NOT_RECEIVED, State.PENDING, None),
)
_Fate = tuple[Span, Reason, State, str | None]
"""What is lacking, why, what became of it, and what filled it."""
_COLUMNS = "series_id, from_ms, to_ms, first_seen_ms, reason, state, asked, filled_by"


def many_series(count: int) -> list[Series]:
    """Return so many series of 1m, of the three markets."""
    found = []
    for name, share in _MARKET_SHARES.items():
        symbols = plausible_symbols(name, round(count * share))
        found += [Series(name, symbol, "1m") for symbol in symbols]
    return found


@attrs.frozen
class CommonGap:
    """Candles that all series of some markets lack, as after a maintenance or a stop."""

    trade_types: Sequence[str]
    days_ago: int
    hour: int
    minutes: int
    reason: Reason
    """`RECORDER_DOWN` was filled by REST; others are closed."""


@attrs.frozen(kw_only=True)
class Ledger:
    """A journal of two years that only says what was absent; there is no file of candles."""

    series: Sequence[Series]
    share: float = 0.05
    """Of the days of each series, scattered, so many lack candles: one minute of them to two hours,
    in the first sixteen hours of a day."""
    has_pending: bool = True
    """Whether some gaps are still to be filled."""
    end_ms: int = END_MS
    common: Sequence["CommonGap"] = ()
    """What many series lack at once."""

    def write(self, path: Path) -> None:
        """Make the store, or give an existing one this ledger besides its own."""
        Store.open(path, Layout(DEFAULT_LAYOUT)).close()
        chance = np.random.default_rng(11)
        with closing(sqlite3.connect(journal_path(path), isolation_level=None)) as journal:
            journal.execute("BEGIN IMMEDIATE")
            for one in self.series:
                self._write_series(journal, one, chance)
            _beat(journal, self.end_ms)
            journal.execute("COMMIT")
            journal.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _write_series(
        self, journal: sqlite3.Connection, one: Series, chance: np.random.Generator
    ) -> None:
        sql = (
            "INSERT INTO series (trade_type, symbol, time_interval, first_ms, watermark_ms,"
            " is_compared) VALUES (?, ?, ?, ?, ?, 1)"
        )
        names = (one.trade_type, one.symbol, one.time_interval)
        account = (begin_of(self.end_ms), one.interval.open_time_ms(self.end_ms))
        series_id = journal.execute(sql, (*names, *account)).lastrowid
        assert series_id is not None
        marks = ", ".join("?" * 8)
        journal.executemany(
            f"INSERT INTO absence ({_COLUMNS}) VALUES ({marks})",
            [
                (series_id, span.from_ms, span.to_ms, span.to_ms, str(reason), str(state), 2, by)
                for span, reason, state, by in (*self._scattered(one, chance), *self._shared(one))
            ],
        )

    def _shared(self, series: Series) -> Iterator[_Fate]:
        for one in self.common:
            if series.trade_type in one.trade_types:
                from_ms = begin_of(self.end_ms, one.days_ago) + one.hour * HOUR_MS
                is_filled = one.reason is Reason.RECORDER_DOWN
                state, by = (State.FILLED, "rest") if is_filled else (State.CLOSED, None)
                yield _span(series, from_ms, one.minutes), one.reason, state, by

    def _scattered(self, series: Series, chance: np.random.Generator) -> Iterator[_Fate]:
        """Give the gaps of a series, one in each incomplete day."""
        count = round(DAYS * self.share)
        taken = [DAYS - one.days_ago for one in self.common]
        days = np.sort(chance.choice(np.setdiff1d(np.arange(DAYS), taken), count, replace=False))
        lengths = chance.integers(1, 121, count)
        starts = chance.integers(0, 840, count)
        shares = np.array([share for share, *_ in _FATES]) / 100
        fates = chance.choice(len(_FATES), count, p=shares)
        for day, start, length, fate in zip(days, starts, lengths, fates, strict=True):
            is_kept = self.has_pending or fate < len(_FATES) - 1
            _, reason, state, source = _FATES[fate if is_kept else 0]
            from_ms = begin_of(self.end_ms) + int(day) * DAY_MS + int(start) * MINUTE_MS
            by = None if source is None else str(source)
            yield _span(series, from_ms, int(length)), reason, state, by


def _span(series: Series, from_ms: int, minutes: int) -> Span:
    """Return the candles of a series that lie in so many minutes, if only in part."""
    last_ms = series.interval.open_time_ms(from_ms + minutes * MINUTE_MS - 1)
    return Span(series.interval.open_time_ms(from_ms), series.interval.end_time_ms(last_ms))


def begin_of(end_ms: int, days: int = DAYS) -> int:
    """Return the midnight so many days before the one of a moment."""
    return (end_ms // DAY_MS - days) * DAY_MS


def _beat(journal: sqlite3.Connection, end_ms: int) -> None:
    """Write the last heartbeat of a recorder that has ended just now."""
    sql, now_ms = "INSERT OR REPLACE INTO exchange_time VALUES (?, ?, ?)", round(time.time() * 1e3)
    journal.execute(sql, ("", now_ms, now_ms))
    for name in _MARKET_SHARES:
        journal.execute(sql, (name, end_ms, now_ms))


def store_of_candles(
    path: Path, end_ms: int = END_MS, *, last_price: float = 60_000.0, has_pending: bool = True
) -> None:
    """Make a store with two years of candles of one series, 1m, and with holes of every kind in it.

    Args:
      path: the folder.
      end_ms: where the candles end.
      last_price: the last close.
      has_pending: whether one of the holes is still to be filled.
    """
    midnight_ms = begin_of(end_ms, 0)
    holes = [
        # From when, how many minutes, and what became of it.
        (midnight_ms - 400 * DAY_MS + 3 * HOUR_MS, 600, Reason.EXCHANGE_HAD_NONE, None),
        (midnight_ms - 90 * DAY_MS + 8 * HOUR_MS, 45, Reason.ARCHIVE_LACKS, None),
        (midnight_ms - 3 * HOUR_MS, 30, Reason.RECORDER_DOWN, Source.REST),
        (end_ms - 8 * HOUR_MS, 95, Reason.EXCHANGE_HAD_NONE, None),
    ]
    gaps = []
    for from_ms, minutes, reason, source in holes:
        span = Span(from_ms, from_ms + minutes * MINUTE_MS)
        state = State.CLOSED if source is None else State.FILLED
        gaps.append(Gap(BTC, span, span.to_ms, reason, state, 2, source))
    if has_pending:
        span = Span(end_ms - HOUR_MS, end_ms - HOUR_MS + 20 * MINUTE_MS)
        gaps.append(Gap(BTC, span, span.to_ms, Reason.NOT_RECEIVED))
    lacking = [gap.span for gap in gaps if gap.state is not State.FILLED]
    store = Store.open(path, Layout(DEFAULT_LAYOUT))
    try:
        table = _walk(BTC, Span(begin_of(end_ms), end_ms), lacking, last_price)
        files = store.fill_in(table, BTC)
        store.journal.settle(gaps, {BTC: SeriesAccount(begin_of(end_ms), end_ms)})
        store.journal.keep_filled(BTC, files, [], [])
        now_ms = round(time.time() * 1_000)
        store.journal.beat(None, dict.fromkeys(_MARKET_SHARES, end_ms), now_ms)
    finally:
        store.close()


def _walk(series: Series, span: Span, lacking: Sequence[Span], last_price: float) -> pa.Table:
    """Return a random walk of prices, without the candles of some spans."""
    begins = np.arange(span.from_ms, span.to_ms, MINUTE_MS)
    count, chance = len(begins), np.random.default_rng(5)
    path = np.cumsum(chance.normal(0, 0.0004, count))
    closes = np.round(last_price * np.exp(path - path[-1]), 2)
    opens = np.concatenate([closes[:1], closes[:-1]])
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
    for one in lacking:
        kept &= (begins < one.from_ms) | (begins >= one.to_ms)
    columns = [pa.array(values[field.name][kept]).cast(field.type) for field in schema(series)]
    return pa.Table.from_arrays(columns, schema=schema(series))


def main(arguments: list[str]) -> None:
    """Make a store."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.stores", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--series", type=int, help="a ledger alone; without it, one with candles")
    options = parser.parse_args(arguments)
    if options.series:
        Ledger(series=many_series(options.series)).write(options.folder)
    else:
        store_of_candles(options.folder)


if __name__ == "__main__":
    main(sys.argv[1:])
