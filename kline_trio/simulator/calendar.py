"""The calendar of the 16 kline intervals, kept apart from the recorder's own on purpose.

A test that compares the recorder with this exchange would prove nothing if both asked the same
code when a candle opens.  All times are milliseconds since 1970-01-01 00:00 UTC.

Source: Binance spot docs, web-socket-streams.md and rest-api.md ("Kline/Candlestick chart
intervals"); the USD-M and COIN-M docs list the same intervals without ``1s``.
"""

from datetime import UTC, datetime, timedelta

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

THREE_DAY_PHASE_MS = DAY_MS
"""A ``3d`` candle opens on days whose number since 1970-01-01 leaves 1 when divided by three.

Seen on spot and USD-M: the first row of the official archive's BTCUSDT-3d files is 2017-08-17,
and a 3d candle opens on 2024-01-01 on both.  For COIN-M it is assumed.
"""

WEEK_PHASE_MS = 4 * DAY_MS
"""A week opens on Monday 00:00 UTC; 1970-01-01 was a Thursday, so the first Monday is day 4."""

_UNIT_MS = {"s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS, "w": 7 * DAY_MS}
_FIXED: tuple[str, ...] = ("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h")
_FIXED += ("12h", "1d", "3d", "1w")
_LENGTH_MS = {one: int(one[:-1]) * _UNIT_MS[one[-1]] for one in _FIXED}
_PHASE_MS = {"3d": THREE_DAY_PHASE_MS, "1w": WEEK_PHASE_MS}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

INTERVALS = (*_LENGTH_MS, "1M")
"""Every interval as it is written in stream names; ``1m`` is a minute, ``1M`` a month."""


def intervals_of(trade_type: str) -> tuple[str, ...]:
    """Return the intervals that a market offers as kline streams: ``1s`` is spot's alone."""
    return INTERVALS if trade_type == "spot" else INTERVALS[1:]


def open_ms(interval: str, at_ms: int) -> int:
    """Return the open time of the candle that holds the moment ``at_ms``.

    Raises:
        KeyError: the interval is none of the sixteen.
    """
    if interval == "1M":
        return _ms(_moment(at_ms).replace(day=1, hour=0, minute=0, second=0, microsecond=0))
    phase_ms = _PHASE_MS.get(interval, 0)
    return at_ms - (at_ms - phase_ms) % _LENGTH_MS[interval]


def next_open_ms(interval: str, opened_ms: int) -> int:
    """Return the open time of the candle after the one that opens at ``opened_ms``."""
    if interval == "1M":
        return open_ms("1M", opened_ms + 32 * DAY_MS)
    return opened_ms + _LENGTH_MS[interval]


def quarter_delivery_ms(at_ms: int, quarters_ahead: int = 0) -> int:
    """Return when a quarterly contract is delivered: 08:00 UTC on a quarter's last Friday.

    Args:
        at_ms: Exchange time; deliveries at it or before it do not count.
        quarters_ahead: 0 for the current quarterly contract, 1 for the next.
    """
    moment = _moment(at_ms)
    quarter = moment.year * 4 + (moment.month - 1) // 3
    if _last_friday_ms(quarter) <= at_ms:
        quarter += 1
    return _last_friday_ms(quarter + quarters_ahead)


def _last_friday_ms(quarter: int) -> int:
    year, month = divmod((quarter + 1) * 3, 12)
    last = datetime(year, month + 1, 1, 8, tzinfo=UTC) - timedelta(days=1)
    return _ms(last - timedelta(days=(last.weekday() - 4) % 7))


def _moment(at_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=at_ms)


def _ms(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)
