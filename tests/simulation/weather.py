"""What goes wrong in a storm, by dice from a seed, and what is recorded through it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import Any

from kline_trio.candle import Series
from kline_trio.exchange.protocol import stream_name
from kline_trio.selection import Rule, Selection
from kline_trio.simulator.symbols import TRADE_TYPES, listing_of
from tests.faulty_exchange import (
    ArchiveHole,
    BadChecksum,
    Delisting,
    Drop,
    Fault,
    Garbage,
    Lag,
    LateClose,
    NewListing,
    OmitClose,
    Outage,
    QuietStretch,
    Refuse,
    RepeatClose,
    RestFault,
    ReviseClose,
    Shutdown,
    Silence,
    Stall,
    StatusChange,
    TickChange,
    WrongFirst,
    WrongFrame,
    WrongRows,
    WrongTime,
)

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
START_MS = 1_704_067_200_000  # 2024-01-01
LISTED = {
    "spot": ("BTCUSDT", "ETHUSDT", "LTCUSDT", "ETHBTC"),
    # One that is delivered in the first week, and one at the end of the quarter.
    "usdt_futures": ("BTCUSDT", "ETHUSDT", "BTCUSDC", "BTCUSDT_240105", "ETHUSDT_240329"),
    "coin_futures": ("BTCUSD_PERP", "ETHUSD_PERP"),
}
NAMED = (
    Series("spot", "BTCUSDT", "3m"),
    Series("spot", "ETHUSDT", "5m"),
    Series("usdt_futures", "ETHUSDT", "5m"),
    Series("coin_futures", "BTCUSD_PERP", "5m"),
)
PATTERNS = (
    Selection("spot", "30m", (Rule(pattern="*USDT"),)),
    Selection("usdt_futures", "1h", (Rule(quote=("USDT",)),)),
    Selection("coin_futures", "1h", (Rule(pattern="*_PERP"),)),
)
LASTING = tuple(
    dict.fromkeys(
        [
            *NAMED,
            *(Series(one.trade_type, one.symbol, pattern.time_interval)
              for one in NAMED for pattern in PATTERNS if pattern.trade_type == one.trade_type),
        ]
    )
)  # fmt: skip
"""What is recorded from the first hour to the last: none of these symbols is delisted."""
_NEW_NAMES = {
    "spot": "NEW{}USDT",
    "usdt_futures": "NEW{}USDT",
    "coin_futures": "NEW{}USD_PERP",
}
_HALTS = ("HALT", "BREAK", "TRADING_HALT", "CANCEL_ONLY", "PENDING_SETTLE")


def is_meant(trade_type: str, symbol: str) -> bool:
    """Whether the market's pattern means it, as long as it is traded."""
    listing = listing_of(trade_type, symbol)
    assert listing is not None
    return symbol.endswith("_PERP") if trade_type == "coin_futures" else listing.quote == "USDT"


def faults(chance: Random, end_ms: int) -> Iterator[Fault]:
    """Everything that goes wrong until then; none of it so late that it is not settled by then."""
    for trade_type in TRADE_TYPES:
        yield Lag(trade_type=trade_type, from_ms=START_MS, until_ms=end_ms)
        yield from _careers(chance, trade_type, end_ms - 36 * HOUR_MS)
        yield from _lies(chance, trade_type, end_ms - 36 * HOUR_MS)
    for series in LASTING:
        yield from _of_streams(chance, series, end_ms)
        yield from _of_archives(chance, series, end_ms)


def _moments(chance: Random, every_ms: float, until_ms: int) -> Iterator[int]:
    at_ms = START_MS + HOUR_MS
    while True:
        at_ms += round(chance.expovariate(1 / every_ms))
        if at_ms >= until_ms:
            return
        yield at_ms


def _of_streams(chance: Random, series: Series, end_ms: int) -> Iterator[Fault]:
    stream, trade_type = stream_name(series), series.trade_type
    last_ms = end_ms - 18 * HOUR_MS
    every_ms = (5 if series in NAMED else 20) * HOUR_MS
    for moment_ms in _moments(chance, every_ms, last_ms):
        at_ms = series.interval.open_time_ms(moment_ms)
        until_ms = min(at_ms + round(chance.expovariate(2 / HOUR_MS)), last_ms)
        close: dict[str, Any] = {"trade_type": trade_type, "stream": stream, "open_ms": at_ms}
        stretch: dict[str, Any] = {
            "trade_type": trade_type, "from_ms": at_ms, "until_ms": until_ms + 60_000,
        }  # fmt: skip
        # Whom a host has banned leaves it alone for longer than some storms have left.
        statuses = [500, 503] * 8
        statuses += [418, 429] if at_ms < end_ms - 3 * DAY_MS else []
        statuses += [403, 451] if at_ms < end_ms - 8 * DAY_MS else []
        fault = chance.choice(
            (
                Drop(trade_type=trade_type, at_ms=at_ms + 30_000),
                Shutdown(trade_type=trade_type, at_ms=at_ms),
                Garbage(trade_type=trade_type, at_ms=at_ms),
                Stall(new_connections_too=chance.random() < 0.2, **stretch),
                Silence(
                    stream=stream,
                    cure=chance.choice((None, "subscription", "connection")),
                    **stretch,
                ),
                Outage(symbol=chance.choice((None, series.symbol)), **stretch),
                RestFault(status=chance.choice([200, *statuses]), **stretch),
                Refuse(status=chance.choice(statuses), **stretch),
                OmitClose(**close),
                LateClose(late_ms=chance.randint(1, 600_000), **close),
                RepeatClose(**close),
                ReviseClose(**close),
            )
        )
        if isinstance(fault, Refuse):
            # Who is connected knocks at no door.
            yield Drop(trade_type=trade_type, at_ms=at_ms + 1_000)
        yield fault


def _lies(chance: Random, trade_type: str, until_ms: int) -> Iterator[Fault]:
    """What the market says that is not so, each time for less than ten seconds of ours."""
    for at_ms in _moments(chance, 12 * HOUR_MS, until_ms):
        span: dict[str, Any] = {
            "trade_type": trade_type,
            "from_ms": at_ms,
            "until_ms": at_ms + chance.randint(HOUR_MS // 4, 2 * HOUR_MS),
        }
        far_ms = chance.choice((3 * HOUR_MS, DAY_MS, 365 * DAY_MS, 3_650 * DAY_MS))
        # Rows, the endpoint and frames lie by different times: what two witnesses tell alike is
        # believed.
        rows_ms = far_ms - HOUR_MS
        wrong_ms = chance.choice((5 * HOUR_MS, 2 * DAY_MS, 300 * DAY_MS, 4_000 * DAY_MS))
        yield chance.choice(
            (
                WrongTime(ahead_ms=chance.choice((-wrong_ms, wrong_ms)), **span),
                WrongRows(ahead_ms=chance.choice((7, -rows_ms, rows_ms)), **span),
                WrongFirst(first_ms=at_ms - chance.randrange(DAY_MS), **span),
                WrongFrame(
                    trade_type=trade_type,
                    at_ms=at_ms,
                    ahead_ms=chance.choice((far_ms, chance.randint(1, 50) * 60_000)),
                ),
                WrongFrame(
                    trade_type=trade_type,
                    at_ms=at_ms,
                    ahead_ms=chance.choice((-365 * DAY_MS, -50 * 365 * DAY_MS, far_ms)),
                    moves="candle",
                ),
            )
        )


def _of_archives(chance: Random, series: Series, end_ms: int) -> Iterator[Fault]:
    """Files that are not there, or not whole, or not what they should be."""
    for day_ms in range(START_MS, end_ms, DAY_MS):
        day = datetime.fromtimestamp(day_ms // 1_000, UTC)
        from_ms = day_ms + chance.choice((0, chance.randrange(DAY_MS)))
        match chance.randrange(7):
            case 0 | 1:
                yield ArchiveHole(
                    trade_type=series.trade_type,
                    symbol=series.symbol,
                    from_ms=from_ms,
                    until_ms=chance.choice((day_ms + DAY_MS, chance.randint(from_ms, end_ms))),
                )
            case 2:
                yield BadChecksum(
                    trade_type=series.trade_type,
                    name=f"{series.symbol}-{series.time_interval}-{day:%Y-%m-%d}",
                )
            case 3:
                yield QuietStretch(
                    trade_type=series.trade_type,
                    symbol=series.symbol,
                    from_ms=from_ms,
                    until_ms=chance.choice((day_ms + DAY_MS, chance.randint(from_ms + 1, end_ms))),
                )


def _careers(chance: Random, trade_type: str, until_ms: int) -> Iterator[Fault]:
    """Symbols that are listed, halted and delisted, and whose ticks change."""
    lasting = {one.symbol for one in LASTING if one.trade_type == trade_type}
    born_ms = {symbol: START_MS for symbol in LISTED[trade_type] if not symbol[-1].isdigit()}
    for number, at_ms in enumerate(_moments(chance, 2.5 * DAY_MS, until_ms)):
        symbol = _NEW_NAMES[trade_type].format(number)
        born_ms[symbol] = at_ms
        before_ms = round(chance.expovariate(1 / DAY_MS))
        yield NewListing(
            trade_type=trade_type, symbol=symbol, at_ms=at_ms,
            announced_ms=chance.choice((None, at_ms - before_ms)),
            dated_late_ms=chance.choice((0, 0, HOUR_MS // 2, DAY_MS)),
        )  # fmt: skip
    for symbol, begins_ms in born_ms.items():
        ends_ms = begins_ms + DAY_MS + round(chance.expovariate(1 / (4 * DAY_MS)))
        if ends_ms < until_ms and symbol not in lasting:
            yield Delisting(
                trade_type=trade_type, symbol=symbol, at_ms=ends_ms,
                announced_ms=chance.choice((None, ends_ms - chance.randrange(3 * DAY_MS))),
                flat=chance.random() < 0.3,
            )  # fmt: skip
        else:
            ends_ms = until_ms
        yield from _changes(chance, trade_type, symbol, begins_ms, ends_ms)


def _changes(
    chance: Random, trade_type: str, symbol: str, from_ms: int, until_ms: int
) -> Iterator[Fault]:
    listing = listing_of(trade_type, symbol)
    assert listing is not None
    free_ms = from_ms + 18 * HOUR_MS
    for at_ms in _moments(chance, 4 * DAY_MS, until_ms):
        if at_ms < free_ms:
            continue
        if chance.random() < 0.4:
            tick = Decimal(chance.choice((1, 10))).scaleb(-listing.price_decimals)
            yield TickChange(
                trade_type=trade_type, symbol=symbol, at_ms=at_ms, tick_size=f"{tick:f}"
            )
            continue
        free_ms = at_ms + round(chance.expovariate(1 / (8 * HOUR_MS)))
        if free_ms < until_ms or symbol not in {one.symbol for one in LASTING}:
            status = chance.choice(_HALTS)
            yield StatusChange(trade_type=trade_type, symbol=symbol, at_ms=at_ms, status=status)
            if free_ms < until_ms:
                yield StatusChange(
                    trade_type=trade_type, symbol=symbol, at_ms=free_ms, status="TRADING"
                )
