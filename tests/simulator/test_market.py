"""When the candles of a market are pushed and when they close."""

from itertools import pairwise
from statistics import mean

import pytest

from kline_trio.simulator.faults import IncidentLog
from kline_trio.simulator.feed import MadeUpFeed
from kline_trio.simulator.market import LONGEST_LATE_MS, Market, Series
from tests.builders import HOUR_MS, MINUTE_MS
from tests.faulty_exchange.script import FaultyScript

from .support import START_MS, Peer, closes, klines, parsed, plain_exchange

OPEN_MS = START_MS - 20_000
SPOT = Series("btcusdt@kline_1m", "BTCUSDT", "1m")


def market(
    trade_type: str = "spot", symbols: tuple[str, ...] = ("BTCUSDT",), **shares: float
) -> Market:
    script = FaultyScript(trade_type, (), seed=3, **shares)
    return Market(script, 3, symbols, IncidentLog())


def events(trade_type: str, target: str, until_s: float) -> list[tuple[int, bool, int]]:
    """Return E, x and t of what a connection is sent."""
    texts = Peer(plain_exchange(), trade_type, target).until(until_s)
    data = [parsed(text) for text in texts]
    return [(event["E"], event["k"]["x"], event["k"]["t"]) for event in data]


@pytest.mark.parametrize(
    ("trade_type", "target", "cadence_ms"),
    [
        ("spot", "/ws/btcusdt@kline_1m", 2_000),
        ("spot", "/ws/btcusdt@kline_1s", 1_000),
        ("usdt_futures", "/market/ws/btcusdt@kline_1m", 250),
        ("coin_futures", "/ws/btcusd_perp@kline_1m", 250),
    ],
)
def test_forming_candles_come_at_the_market_s_pace(
    trade_type: str, target: str, cadence_ms: int
) -> None:
    """Spot pushes every two seconds, or each second for ``1s``; futures four times a second."""
    times = [at for at, closed, _ in events(trade_type, target, 39) if not closed]
    steps = {later - earlier for earlier, later in pairwise(times)}
    assert min(steps) == cadence_ms
    assert all(step % cadence_ms == 0 for step in steps)


def test_a_quiet_future_is_pushed_only_when_it_trades() -> None:
    """Futures push if there is something: no push without a trade since the last one."""
    texts = Peer(plain_exchange(), "coin_futures", "/ws/ltcusd_perp@kline_1h").until(590)
    counts = [kline["n"] for kline in klines(texts)]
    assert counts == sorted(set(counts))


def test_a_quiet_spot_candle_is_a_flat_bar() -> None:
    """On spot an empty candle shows once while forming, flat, without trade ids, and closes."""
    one = Peer(plain_exchange(), "spot", "/ws/xmrusdt@kline_1m")
    one.gives_pongs = True
    flat = [kline for kline in klines(one.until(1_200)) if kline["n"] == 0]
    assert any(kline["x"] for kline in flat)
    assert any(not kline["x"] for kline in flat)
    for kline in flat:
        assert kline["o"] == kline["h"] == kline["l"] == kline["c"]
        assert (kline["f"], kline["L"], kline["v"]) == (-1, -1, "0.00000000")


def test_closes_come_up_to_half_a_minute_late() -> None:
    """Nine of ten closes come within a second, a few within five, and one in a hundred later."""
    late_ms = [
        market().closes_ms(SPOT, ms)[0] - ms - MINUTE_MS
        for ms in range(OPEN_MS, OPEN_MS + 3_000 * MINUTE_MS, MINUTE_MS)
    ]
    assert 0 < min(late_ms) <= max(late_ms) < LONGEST_LATE_MS
    assert 0.88 < mean(late < 1_000 for late in late_ms) < 0.92
    assert 0.003 < mean(late > 5_000 for late in late_ms) < 0.02
    assert any(late > 20_000 for late in late_ms)


def test_some_closes_come_after_the_next_candle_has_begun() -> None:
    """A late close follows frames of the next candle; none comes twice or is missing."""
    one = Peer(plain_exchange(), "usdt_futures", "/market/ws/btcusdt@kline_1m")
    one.gives_pongs = True
    frames = klines(one.until(1_839))
    closed = [kline["t"] for kline in frames if kline["x"]]
    assert sorted(closed) == list(range(OPEN_MS, OPEN_MS + len(closed) * MINUTE_MS, MINUTE_MS))
    assert len(closed) in (29, 30)
    newest, overtaken = 0, 0
    for kline in frames:
        newest = max(newest, kline["t"])
        overtaken += kline["x"] and kline["t"] < newest
    assert overtaken


def test_a_share_of_closes_never_comes() -> None:
    """The share is met, always by the same candles, and each is on the exchange's account."""
    share = market(omitted_close_share=0.25)
    opens = range(OPEN_MS, OPEN_MS + 1_000 * MINUTE_MS, MINUTE_MS)
    missing = [ms for ms in opens if not share.closes_ms(SPOT, ms)]
    assert missing == [ms for ms in opens if not share.closes_ms(SPOT, ms)]
    assert 200 < len(missing) < 300
    exchange = plain_exchange(omitted_close_share=0.25)
    one = Peer(exchange, "spot", "/ws/btcusdt@kline_1m")
    one.gives_pongs = True
    came = {kline["t"] for kline in closes(one.until(1_839))}
    told = {one.open_ms for one in exchange.incidents if one.fault == "OmitClose"}
    assert told
    assert not came & told


def test_a_slow_connection_loses_forming_frames_and_no_close() -> None:
    """Who takes its events an hour late gets each close, and forming frames as they are now."""
    feed = MadeUpFeed(market())
    feed.subscribe(SPOT.stream, START_MS)
    taken = feed.take(START_MS + HOUR_MS, 10_000)
    assert len([event for event in taken if event.closes_ms is not None]) in (59, 60)
    assert len([event for event in taken if event.closes_ms is None]) <= 1


def test_a_feed_gives_no_more_than_is_asked_for() -> None:
    """What is over the limit is due at once at the next call, in order."""
    one, other = MadeUpFeed(market()), MadeUpFeed(market())
    for feed in (one, other):
        feed.subscribe(SPOT.stream, START_MS)
    until_ms = START_MS + 600_000
    parts = []
    while part := one.take(until_ms, 3):
        assert len(part) <= 3
        parts += part
    assert parts == other.take(until_ms, 10_000)


def test_months_close_at_the_end_of_a_month() -> None:
    """A month's candle closes in the first seconds of the next month."""
    november = 1_698_796_800_000
    (closes_ms,) = market().closes_ms(Series("btcusdt@kline_1M", "BTCUSDT", "1M"), november)
    assert 0 <= closes_ms - 1_701_388_800_000 < LONGEST_LATE_MS
