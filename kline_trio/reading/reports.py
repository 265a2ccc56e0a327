"""What there is, what is missing, what was revised, which symbols there were: for researchers."""

import os
from collections.abc import Mapping
from datetime import date

import pandas as pd

from kline_trio.candle import Series
from kline_trio.listing import TRADING
from kline_trio.reading.readable import Readable, readable
from kline_trio.storage.arguments import a_market, a_symbol, an_interval, moment_ms, unknown_series


def series(path: str | os.PathLike[str]) -> list[Series]:
    """Return the series that a store or a lake holds candles of, in order.

    Of a store, a series is among them whose months were all pruned: `read(..., lake=True)` reads
    them from the lake that has them.

    A damaged file that the journal does not list is named in the log and left out.

    Args:
      path: the store's folder; `~` is expanded. Or a lake: `s3://bucket/name`, or its folder.

    Raises:
      KlineTrioError: there is no such folder or lake; a file of ours is damaged, and the text names
        it; or the lake cannot be read.
    """
    return readable(path).series()


def coverage(
    path: str | os.PathLike[str],
    trade_type: str | None = None,
    symbol: str | None = None,
    time_interval: str | None = None,
) -> pd.DataFrame:
    """Return the ledger: each range of candles that the stream did not bring, by series and time.

    Candles of a series that are in no range are stored, up to a few seconds ago. A month that was
    pruned has a range, too: a lake alone has its candles. Ranges of gaps may lie in it.

    A lake has the ranges of all recorders that publish there. A candle is absent from the lake only
    if each recorder that accounts for its series by then has it in a range that is not `filled`.

    Args:
      path: the store's folder; `~` is expanded. Or a lake: `s3://bucket/name`, or its folder.
      trade_type: of this market only.
      symbol: of this symbol only, in any case of its ASCII letters.
      time_interval: of this interval only.

    Returns:
      a row for each range. `from` is the begin of its first candle, `to` the end of its last,
      exclusive; `first_seen` is when it was found, by the exchange's clock; `reason` is why the
      candles are absent, or, where they were `filled`, why they had been; `state` is `pending`,
      `filled`, `closed` or, of a pruned month, `in lake`; `asked` is how often the exchange was
      asked and had none; `filled_by` is `stream`, `rest` or `archive`. Of a lake, the last column
      is `recorder`: whose range it is.

    Raises:
      KlineTrioError: there is no such folder or lake, it has no series of this symbol, or the
        journal or the lake cannot be read.
      ValueError: there is no such market or interval, or the symbol cannot be one.
    """
    checks = (
        ("trade_type", a_market, trade_type),
        ("symbol", a_symbol, symbol),
        ("time_interval", an_interval, time_interval),
    )
    wanted = {column: check(value) for column, check, value in checks if value is not None}
    place = readable(path)
    table = place.coverage(wanted)
    if "symbol" in wanted and not table.num_rows:
        _check_known(place, wanted)
    return table.to_pandas()


def _check_known(place: Readable, wanted: Mapping[str, str]) -> None:
    """Refuse names that no series has: no rows would mean that all candles are stored."""
    known = place.accounted()
    if not any(all(getattr(one, name) == wanted[name] for name in wanted) for one in known):
        raise unknown_series(place.name, " ".join(wanted.values()), sorted(map(str, known)))


def revisions(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Return the candles of which two values came, with both, by series and time.

    Args:
      path: the store's folder; `~` is expanded. Or a lake: `s3://bucket/name`, or its folder.

    Returns:
      a row for each column that differs: the series, `candle_begin_time`, `origin` (of the newer
      value: `stream`, `rest` or `archive`), `column`, `older`, `newer`, and which is `kept`. Of a
      lake, the last column is `recorder`: which one saw both values.

    Raises:
      KlineTrioError: there is no such folder or lake, or it cannot be read.
    """
    return readable(path).revisions().to_pandas()


def universe(
    path: str | os.PathLike[str],
    at: str | date | None = None,
    trade_type: str | None = None,
) -> pd.DataFrame:
    """Return what the symbols of the markets were: each change, or the state at a moment.

    The rows are what recorders saw. A symbol's first row is from when it was first seen, which is
    later than its listing if it was listed before the first look. A change is seen at the next
    look. A market that no recorder looked at has no rows.

    A lake has one history, made of what all recorders saw: a row that repeats the state before is
    left out.

    Args:
      path: the store's folder; `~` is expanded. Or a lake: `s3://bucket/name`, or its folder.
      at: None: all rows, in the order in which they were seen. A date (its first moment), a
        datetime or a text; UTC if it names no zone: the last row of each symbol up to then, by
        market and symbol.
      trade_type: of this market only.

    Returns:
      `time`, when the row was seen, in the exchange's time; `trade_type`, `symbol`; and in the
      exchange's words `status` (`GONE` where the symbol had vanished from the list),
      `contract_type`, `base`, `quote`, `margin`, `tick_size` (decimal text), `onboard_date`,
      `delivery_date`; null is what a market does not publish. With `at` also `is_trading`: the
      status was `TRADING`, and the delivery date, if known, still to come.

    Raises:
      KlineTrioError: there is no such folder or lake, or the file or lake cannot be read.
      ValueError: `at` is no time, or there is no such market.
    """
    at_ms = None if at is None else moment_ms("at", at)
    market = None if trade_type is None else a_market(trade_type)
    frame = readable(path).universe().to_pandas()
    if market is not None:
        frame = frame[frame["trade_type"] == market]
    if at_ms is not None:
        moment = pd.Timestamp(at_ms, unit="ms", tz="UTC")
        frame = frame[frame["time"] <= moment]
        frame = frame.drop_duplicates(["trade_type", "symbol"], keep="last")
        frame = frame.sort_values(["trade_type", "symbol"])
        # A comparison with no date is False.
        is_over = frame["delivery_date"] <= moment
        frame["is_trading"] = (frame["status"] == TRADING) & ~is_over
    return frame.reset_index(drop=True)
