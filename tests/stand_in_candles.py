"""What the stand-in publishes: candles, made up or out of archive files, and the text of frames.

An independent reading of Binance's documentation: nothing of kline_trio is imported here.
"""

import csv
import gzip
import heapq
import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

__all__ = [
    "GARBAGE",
    "MARKETS",
    "Frame",
    "Market",
    "Row",
    "Taste",
    "empty_stretches",
    "end_ms",
    "frame_text",
    "frames",
    "garbage",
    "made_up",
    "replayed",
    "stream_name",
]

SECOND_MS = 1_000
DAY_MS = 86_400_000
FIXED_MS = {
    "1s": SECOND_MS,
    **{f"{count}m": count * 60_000 for count in (1, 3, 5, 15, 30)},
    **{f"{count}h": count * 3_600_000 for count in (1, 2, 4, 6, 8, 12)},
    "1d": DAY_MS,
    "3d": 3 * DAY_MS,
    "1w": 7 * DAY_MS,
}
PHASE_MS = {"3d": DAY_MS, "1w": 4 * DAY_MS}
"""3d candles open a day after the epoch's grid, weeks on Mondays."""


@dataclass(frozen=True)
class Market:
    """What differs between the three markets."""

    trade_type: str
    path: str
    """Where combined streams are."""
    rest: str
    """What REST paths begin with."""
    messages_per_second: int
    ping_seconds: float
    pong_seconds: float
    push_ms: int
    """Updates of a forming candle are at least so far apart."""
    decimals: tuple[int, int, int]
    """Of prices, of v and V, of q and Q."""
    comma: str
    """What stands between the members of `k`."""
    symbols: tuple[str, ...]

    @property
    def intervals(self) -> tuple[str, ...]:
        """Seconds are a thing of the spot market."""
        names = (*FIXED_MS, "1M")
        return names if self.trade_type == "spot" else names[1:]


MARKETS = (
    Market(
        trade_type="spot",
        path="/stream",
        rest="/api/v3",
        messages_per_second=5,
        ping_seconds=20,
        pong_seconds=60,
        push_ms=2_000,
        decimals=(8, 8, 8),
        comma=",",
        symbols=("BTCUSDT", "ETHUSDT", "BNBUSDT", "币安人生USDT"),
    ),
    Market(
        trade_type="usdt_futures",
        path="/market/stream",
        rest="/fapi/v1",
        messages_per_second=10,
        ping_seconds=180,
        pong_seconds=600,
        push_ms=250,
        decimals=(2, 3, 5),
        comma=", ",
        symbols=("BTCUSDT", "ETHUSDT", "1000SHIBUSDT", "BTCUSDT_230630"),
    ),
    Market(
        trade_type="coin_futures",
        path="/stream",
        rest="/dapi/v1",
        messages_per_second=10,
        ping_seconds=180,
        pong_seconds=600,
        push_ms=250,
        decimals=(1, 0, 8),
        comma=",",
        symbols=("BTCUSD_PERP", "ETHUSD_PERP", "BTCUSD_230630"),
    ),
)


@dataclass(frozen=True)
class Row:
    """A closed candle; its numbers are the exchange's own decimal texts."""

    t: int
    T: int
    o: str
    h: str
    l: str  # noqa: E741 - the exchange's name
    c: str
    v: str
    q: str
    n: int
    V: str
    Q: str


@dataclass(frozen=True)
class Taste:
    """How pleasantly a stream behaves."""

    seed: int = 1
    updates: int = 4
    """Of each candle while it forms."""
    late_ms: int = 3_000
    """Closes come so late at most, in exchange time."""
    after_next: float = 0.1
    """The share of closes that come after the next candle's first update."""


@dataclass(frozen=True, order=True)
class Frame:
    """A text to publish, and when; a row is a close that counts."""

    at_ms: int
    order: int
    text: str
    row: Row | None


def open_ms(interval: str, time_ms: int) -> int:
    """The open time of the candle that covers this moment."""
    if interval == "1M":
        day = datetime.fromtimestamp(time_ms // 1_000, UTC)
        return int(datetime(day.year, day.month, 1, tzinfo=UTC).timestamp()) * 1_000
    return time_ms - (time_ms - PHASE_MS.get(interval, 0)) % FIXED_MS[interval]


def end_ms(interval: str, opened_ms: int) -> int:
    """The end of the candle that opened then, which is the next one's open time."""
    if interval == "1M":
        return open_ms("1M", opened_ms + 32 * DAY_MS)
    return opened_ms + FIXED_MS[interval]


def made_up(market: Market, symbol: str, interval: str, from_ms: int, seed: int) -> Iterator[Row]:
    """Candles without end, the first one covering a moment: the same for the same arguments."""
    opened = open_ms(interval, from_ms)
    prices, base, quote = market.decimals
    while True:
        random = Random(f"{seed}/{market.trade_type}/{symbol}/{interval}/{opened}")
        closes = end_ms(interval, opened) - 1
        o, c = (random.randint(15_000 * 10**prices, 25_000 * 10**prices) for _ in "oc")
        h, low = (random.randint(0, 500 * 10**prices) for _ in "hl")
        n = 0 if random.random() < 0.1 else random.randint(1, 3_000)
        if n == 0:  # nobody traded: a flat candle
            price = _decimal(o, prices)
            yield Row(opened, closes, price, price, price, price, "0", "0", 0, "0", "0")
        else:
            v, q, part = random.randint(1, 10**8), random.randint(1, 10**14), random.random()
            taker = _decimal(int(v * part), base), _decimal(int(q * part), quote)
            high, lowest = _decimal(max(o, c) + h, prices), _decimal(min(o, c) - low, prices)
            o_, c_ = _decimal(o, prices), _decimal(c, prices)
            v_, q_ = _decimal(v, base), _decimal(q, quote)
            yield Row(opened, closes, o_, high, lowest, c_, v_, q_, n, *taker)
        opened = closes + 1


def _decimal(units: int, places: int) -> str:
    whole, rest = divmod(units, 10**places)
    return f"{whole}.{rest:0{places}d}" if places else str(whole)


def replayed(paths: Iterable[Path]) -> dict[tuple[str, str, str], list[Row]]:
    """The rows of archive files by (trade type, symbol, interval), in their order.

    A file is called `SYMBOL-INTERVAL-DATE`, and its folder after the trade type.
    """
    found: dict[tuple[str, str, str], list[Row]] = {}
    for path in sorted(paths):
        symbol, interval, _ = path.name.split("-", 2)
        key = (path.parent.name, symbol, "1M" if interval == "1mo" else interval)
        found.setdefault(key, []).extend(_archive_rows(path))
    return {key: sorted(rows, key=lambda row: row.t) for key, rows in found.items()}


def empty_stretches(archive: dict[tuple[str, str, str], list[Row]]) -> Iterator[tuple[int, int]]:
    """The longer stretches of time that lie in no candle, less a minute at each end."""
    spans = sorted((r.t, end_ms(key[2], r.t)) for key, rows in archive.items() for r in rows)
    reached = spans[0][1] if spans else 0
    for begin, end in spans:
        if begin - reached > 2 * 3_600_000:
            yield reached + 60_000, begin - 60_000
        reached = max(reached, end)


def _archive_rows(path: Path) -> Iterator[Row]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            text = archive.read(archive.namelist()[0]).decode()
    else:
        text = gzip.decompress(path.read_bytes()).decode()
    for line in csv.reader(io.StringIO(text)):
        if not line or not line[0].isdigit():
            continue  # the header, which newer files of the futures have
        t, T = (int(line[at]) // (1_000 if len(line[at]) > 14 else 1) for at in (0, 6))  # noqa: N806
        o, h, low, c, v = line[1:6]
        yield Row(t, T, o, h, low, c, v, line[7], int(line[8]), line[9], line[10])


def frames(
    market: Market, symbol: str, interval: str, rows: Iterable[Row], taste: Taste
) -> Iterator[Frame]:
    """A stream's frames in the order of their times: updates of each candle, then its close."""
    waiting: list[Frame] = []
    order = 0
    for row in rows:
        while waiting and waiting[0].at_ms < row.t:
            yield heapq.heappop(waiting)
        for at_ms, formed, closed in _pushes(market, row, end_ms(interval, row.t), taste):
            order += 1
            text = frame_text(market, symbol, interval, formed, at_ms, closed=closed)
            heapq.heappush(waiting, Frame(at_ms, order, text, row if closed else None))
    while waiting:
        yield heapq.heappop(waiting)


def _pushes(market: Market, row: Row, end: int, taste: Taste) -> Iterator[tuple[int, Row, bool]]:
    random = Random(f"{taste.seed}/{market.trade_type}/{row}")
    length = end - row.t
    count = max(1, min(taste.updates, length // market.push_ms)) if taste.updates else 0
    for number in range(count):
        yield row.t + length * number // count + 5, _partly(row, number + 1, count + 1), False
    late = random.randint(0, taste.late_ms)
    if random.random() < taste.after_next:
        late = max(late, 50)  # the next candle's first update comes after 5 ms
    yield end + min(late, length // 2), row, True


def _partly(row: Row, part: int, parts: int) -> Row:
    """A candle as it may have looked before its end."""
    return replace(
        row,
        h=max(row.o, row.c, key=float),
        l=min(row.o, row.c, key=float),
        n=row.n * part // parts,
        v=_scaled(row.v, part, parts),
        q=_scaled(row.q, part, parts),
        V=_scaled(row.V, part, parts),
        Q=_scaled(row.Q, part, parts),
    )


def _scaled(text: str, part: int, parts: int) -> str:
    whole, point, rest = text.partition(".")
    return _decimal(int(whole + rest) * part // parts, len(rest)) if point else text


def frame_text(
    market: Market, symbol: str, interval: str, row: Row, at_ms: int, *, closed: bool
) -> str:
    """The text of a kline event in a combined stream."""
    first = -1 if row.n == 0 else row.t // 10
    k = {
        "t": row.t, "T": row.T, "s": symbol, "i": interval,
        "f": first, "L": -1 if row.n == 0 else first + row.n - 1,
        "o": row.o, "c": row.c, "h": row.h, "l": row.l, "v": row.v, "n": row.n,
        "x": closed, "q": row.q, "V": row.V, "Q": row.Q, "B": "0",
    }  # fmt: skip
    return wrapped(market, stream_name(symbol, interval), symbol, k, at_ms)


def stream_name(symbol: str, interval: str) -> str:
    """The name of a kline stream, in which only ASCII letters of the symbol change case."""
    return "".join(c.lower() if c.isascii() else c for c in symbol) + f"@kline_{interval}"


def wrapped(market: Market, stream: str, symbol: str, k: dict[str, Any], at_ms: int) -> str:
    """The event around a kline, and the envelope of combined streams around that."""
    event = json.dumps(
        {"stream": stream, "data": {"e": "kline", "E": at_ms, "s": symbol, "k": 0}},
        ensure_ascii=False,
        separators=(",", ":"),
    )
    kline = json.dumps(k, ensure_ascii=False, separators=(market.comma, ":"))
    return event.removesuffix("0}}") + kline + "}}"


GARBAGE = (
    "cut", "nan", "infinite", "long", "negative", "blank", "exponent", "off_grid", "inverted",
    "huge_time", "symbol", "interval", "null", "empty", "list", "deep", "binary", "other_event",
)  # fmt: skip
"""The kinds of frames that must never be recorded, though all of them look closed."""


def garbage(
    kind: str, market: Market, symbol: str, interval: str, row: Row, at_ms: int
) -> str | bytes:
    """A frame with something wrong in it."""
    text = frame_text(market, symbol, interval, row, at_ms, closed=True)
    whole: dict[str, str | bytes] = {
        "cut": text[: len(text) // 2],
        "empty": "",
        "list": "[]",
        "deep": "[" * 100_000,
        "binary": b"\x00\xff" * 8,
        "other_event": '{"stream":"x@depth","data":{"e":"depthUpdate","b":[]}}',
    }
    if kind in whole:
        return whole[kind]
    changes: dict[str, dict[str, Any]] = {
        "nan": {"c": "NaN"},
        "infinite": {"h": "Infinity"},
        "long": {"h": "9" * 400},
        "negative": {"v": "-1.0"},
        "blank": {"o": " " + row.o},
        "exponent": {"h": "1e9"},
        "off_grid": {"t": row.t + 1, "T": row.T + 1},
        "inverted": {"l": row.h, "h": row.l, "o": str(float(row.h) + 1)},
        "huge_time": {"t": row.t * 60_000_000_000, "T": row.T * 60_000_000_000},
        "symbol": {"s": "DOGEUSDT"},
        "interval": {"i": "4h" if interval != "4h" else "1h"},
        "null": {"q": None},
    }
    k = json.loads(text)["data"]["k"] | changes[kind]
    return wrapped(market, stream_name(symbol, interval), k["s"], k, at_ms)
