"""Symbols that are listed, halted, delivered and delisted while the exchange runs."""

import io
import zipfile
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.simulator import Request, Response
from kline_trio.simulator.symbols import listing_of
from tests.builders import DAY_MS, MINUTE_MS
from tests.faulty_exchange import (
    Delisting,
    Fault,
    FaultyExchange,
    NewListing,
    QuietStretch,
    StatusChange,
    TickChange,
)
from tests.faulty_exchange.timeline import ScriptedTimeline

from .support import START_MS, Peer, closes, klines, parsed, plain_exchange, request

OPEN_MS = START_MS - 20_000
PREFIX = {"spot": "/api/v3", "usdt_futures": "/fapi/v1", "coin_futures": "/dapi/v1"}
PATHS = {"spot": "/stream", "usdt_futures": "/market/stream", "coin_futures": "/stream"}
NEW = {"spot": "NEWUSDT", "usdt_futures": "NEWUSDT", "coin_futures": "NEWUSD_PERP"}
OLD = {"spot": "ETHUSDT", "usdt_futures": "ETHUSDT", "coin_futures": "ETHUSD_PERP"}
MARKETS = list(PREFIX)
FUTURES = MARKETS[1:]


def minute(number: float) -> int:
    """Return a moment some minutes after the candle that is open at the start has opened."""
    return OPEN_MS + round(number * MINUTE_MS)


def get(exchange: FaultyExchange, trade_type: str, target: str, now_ms: int) -> Any:  # noqa: ANN401
    ask = Request(target=target, trade_type=trade_type, now_ms=now_ms)
    return parsed(exchange.answer(ask).body.decode())


def shown(exchange: FaultyExchange, trade_type: str, symbol: str, now_ms: int) -> dict[str, Any]:
    """Return what exchangeInfo has of a symbol, empty for nothing."""
    info = get(exchange, trade_type, f"{PREFIX[trade_type]}/exchangeInfo", now_ms)
    return next((one for one in info["symbols"] if one["symbol"] == symbol), {})


def status(exchange: FaultyExchange, trade_type: str, symbol: str, now_ms: int) -> str | None:
    name = "contractStatus" if trade_type == "coin_futures" else "status"
    found: str | None = shown(exchange, trade_type, symbol, now_ms).get(name)
    return found


def rows(
    exchange: FaultyExchange, trade_type: str, symbol: str, now_ms: int, interval: str = "1m"
) -> Any:  # noqa: ANN401
    query = f"symbol={symbol}&interval={interval}&limit=500"
    return get(exchange, trade_type, f"{PREFIX[trade_type]}/klines?{query}", now_ms)


def watcher(exchange: FaultyExchange, trade_type: str, *streams: str) -> Peer:
    one = Peer(exchange, trade_type, PATHS[trade_type])
    one.gives_pongs = True
    one.ask(request("SUBSCRIBE", *streams))
    return one


def seconds(at_ms: int) -> float:
    return (at_ms - START_MS) / 1000


# -- a beginning ----------------------------------------------------------------------------


@pytest.mark.parametrize("trade_type", FUTURES)
def test_a_future_is_shown_before_it_trades(trade_type: str) -> None:
    """As PENDING_TRADING, with its date and without a type; before that it does not exist."""
    new = NewListing(
        trade_type=trade_type, symbol=NEW[trade_type], at_ms=minute(90), announced_ms=minute(30)
    )
    exchange = plain_exchange(new)
    assert shown(exchange, trade_type, new.symbol, minute(30) - 1) == {}
    assert rows(exchange, trade_type, new.symbol, minute(30) - 1)["code"] == -1121
    pending = shown(exchange, trade_type, new.symbol, minute(30))
    assert status(exchange, trade_type, new.symbol, minute(90) - 1) == "PENDING_TRADING"
    assert (pending["onboardDate"], pending["contractType"]) == (minute(90), "")
    assert pending["deliveryDate"] == 4_133_404_800_000
    assert rows(exchange, trade_type, new.symbol, minute(90) - 1) == []
    listed = shown(exchange, trade_type, new.symbol, minute(90))
    assert status(exchange, trade_type, new.symbol, minute(90)) == "TRADING"
    assert (listed["onboardDate"], listed["contractType"]) == (minute(90), "PERPETUAL")


def test_spot_shows_a_symbol_when_it_trades_and_not_before() -> None:
    """Who polls exchangeInfo is late by definition."""
    exchange = plain_exchange(NewListing(trade_type="spot", symbol="NEWUSDT", at_ms=minute(90)))
    assert shown(exchange, "spot", "NEWUSDT", minute(90) - 1) == {}
    assert rows(exchange, "spot", "NEWUSDT", minute(90) - 1)["code"] == -1121
    assert status(exchange, "spot", "NEWUSDT", minute(90)) == "TRADING"


def test_without_a_day_a_future_is_announced_two_hours_before() -> None:
    new = NewListing(trade_type="usdt_futures", symbol="NEWUSDT", at_ms=minute(200))
    exchange = plain_exchange(new)
    assert status(exchange, "usdt_futures", "NEWUSDT", minute(80) - 1) is None
    assert status(exchange, "usdt_futures", "NEWUSDT", minute(80)) == "PENDING_TRADING"


@pytest.mark.parametrize("trade_type", MARKETS)
@pytest.mark.parametrize("at", [5, 5.5])
def test_the_first_candle_is_the_one_that_holds_the_beginning(trade_type: str, at: float) -> None:
    """A stream subscribed before is silent until then; REST and archive have nothing earlier."""
    new = NewListing(trade_type=trade_type, symbol=NEW[trade_type], at_ms=minute(at))
    exchange = plain_exchange(new)
    stream = f"{new.symbol.lower()}@kline_1m"
    one = watcher(exchange, trade_type, stream)
    assert one.until(seconds(new.at_ms)) == []
    texts = one.until(seconds(minute(9.6)))
    assert min(kline["t"] for kline in klines(texts)) == minute(5)
    assert {kline["t"] for kline in closes(texts)} >= {minute(5), minute(6), minute(7)}
    found = rows(exchange, trade_type, new.symbol, minute(9.6))
    assert [row[0] for row in found] == [minute(n) for n in range(5, 10)]
    quarter = rows(exchange, trade_type, new.symbol, minute(9.6), "15m")
    assert [row[0] for row in quarter] == [minute(9.6) - minute(9.6) % (15 * MINUTE_MS)]
    assert quarter[0][8] == sum(row[8] for row in found), "it counts the trades since then alone"
    (told,) = (one for one in exchange.incidents if one.fault == "NewListing")
    assert (told.stream, told.open_ms, told.from_ms) == (stream, minute(5), new.at_ms)


def test_the_archive_begins_with_a_symbol_too() -> None:
    """No file of a day before, and that of the first day begins with the first candle."""
    at_ms = START_MS - START_MS % DAY_MS + DAY_MS + 10 * 60 * MINUTE_MS
    new = NewListing(trade_type="usdt_futures", symbol="NEWUSDT", at_ms=at_ms)
    exchange = plain_exchange(new)

    def answered(date: str) -> int:
        folder = "/data/futures/um/daily/klines/NEWUSDT/1h"
        target = f"{folder}/NEWUSDT-1h-{date}.zip"
        now_ms = at_ms + 3 * DAY_MS
        ask = Request(target=target, trade_type="spot", now_ms=now_ms)
        return exchange.answer(ask).status

    assert [answered(f"2023-11-{day}") for day in (14, 15, 16)] == [404, 200, 200]


def test_the_archive_can_be_flat_where_rest_has_the_trades() -> None:
    day_ms = START_MS - START_MS % DAY_MS + DAY_MS
    hour_ms = 60 * MINUTE_MS
    quiet = QuietStretch(
        trade_type="usdt_futures",
        symbol="BTCUSDT",
        from_ms=day_ms + 3 * hour_ms,
        until_ms=day_ms + 5 * hour_ms,
    )
    exchange = plain_exchange(quiet)
    date = f"{datetime.fromtimestamp(day_ms / 1_000, UTC):%Y-%m-%d}"
    target = f"/data/futures/um/daily/klines/BTCUSDT/1h/BTCUSDT-1h-{date}.zip"
    now_ms = day_ms + 3 * DAY_MS
    answer = exchange.answer(Request(target=target, trade_type="spot", now_ms=now_ms))
    with zipfile.ZipFile(io.BytesIO(answer.body)) as file:
        lines = file.read(file.namelist()[0]).decode().split()[1:]
    cells = [line.split(",") for line in lines]
    close = cells[2][4]
    for flat in cells[3:5]:
        assert flat[1:6] == [close, close, close, close, "0"]
        assert flat[7:11] == ["0", "0", "0", "0"]
    assert all(int(one[8]) for one in [*cells[:3], *cells[5:]])
    found = rows(exchange, "usdt_futures", "BTCUSDT", now_ms, "1h")
    assert all(row[8] for row in found[:-1])


# -- changes --------------------------------------------------------------------------------


@pytest.mark.parametrize("trade_type", MARKETS)
def test_a_halted_symbol_has_no_candles_until_it_trades_again(trade_type: str) -> None:
    """Candles that lie in the halt whole are nowhere; what happened is told once a stream."""
    symbol = OLD[trade_type]
    halt = StatusChange(
        trade_type=trade_type, symbol=symbol, at_ms=minute(3.5), status="TRADING_HALT"
    )
    again = StatusChange(trade_type=trade_type, symbol=symbol, at_ms=minute(8), status="TRADING")
    exchange = plain_exchange(halt, again)
    one = watcher(exchange, trade_type, f"{symbol.lower()}@kline_1m")
    came = {kline["t"] for kline in klines(one.until(seconds(minute(12))))}
    assert came == {minute(n) for n in (0, 1, 2, 3, 8, 9, 10, 11)}
    found = {row[0] for row in rows(exchange, trade_type, symbol, minute(12))}
    assert {minute(n) for n in range(1, 12)} - found == {minute(n) for n in range(4, 8)}
    times = [minute(n) for n in (3.4, 3.5, 7.9, 8)]
    assert [status(exchange, trade_type, symbol, ms) for ms in times] == [
        "TRADING", "TRADING_HALT", "TRADING_HALT", "TRADING",
    ]  # fmt: skip
    assert [one.fault for one in exchange.incidents] == ["StatusChange"]


@pytest.mark.parametrize("trade_type", MARKETS)
def test_a_tick_changes_in_exchange_info_and_prices(trade_type: str) -> None:
    """From then on prices are whole ticks; a finer tick shows in exchangeInfo alone."""
    symbol = OLD[trade_type]
    coarse, fine = (
        TickChange(trade_type=trade_type, symbol=symbol, at_ms=at_ms, tick_size=tick)
        for at_ms, tick in ((minute(3), "0.5"), (minute(6), "0.0001"))
    )
    exchange = plain_exchange(coarse, fine)

    def tick(now_ms: int) -> str:
        found: str = shown(exchange, trade_type, symbol, now_ms)["filters"][0]["tickSize"]
        return found

    assert tick(minute(3) - 1) not in ("0.5", "0.0001")
    assert [tick(minute(3)), tick(minute(6))] == ["0.5", "0.0001"]

    def prices(open_ms: int) -> list[float]:
        kline = exchange.closed_candle(trade_type, symbol, "1m", open_ms)
        return [float(text) for text in (kline.open, kline.high, kline.low, kline.close)]

    assert all(price % 0.5 == 0 for n in (3, 4, 5) for price in prices(minute(n)))
    assert any(price % 0.5 for n in (0, 1, 2, 6, 7) for price in prices(minute(n)))
    assert prices(minute(4))[1] >= max(prices(minute(4)))


# -- ends -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trade_type", "last"),
    [("spot", "BREAK"), ("usdt_futures", "SETTLING"), ("coin_futures", "SETTLING")],
)
def test_a_delisting_ends_candles_and_shows(trade_type: str, last: str) -> None:
    """The old candles stay, no other comes, and futures show the day beforehand."""
    symbol = OLD[trade_type]
    end = Delisting(trade_type=trade_type, symbol=symbol, at_ms=minute(4.5), announced_ms=minute(2))
    exchange = plain_exchange(end)
    stream = f"{symbol.lower()}@kline_1m"
    one = watcher(exchange, trade_type, stream)
    came = closes(one.until(seconds(minute(9))))
    assert [kline["t"] for kline in came] == [minute(n) for n in range(5)]
    assert one.session.feed.next_due_ms() is None
    session = exchange.connect(trade_type, f"{PATHS[trade_type]}?streams={stream}", one.now_s)
    assert not isinstance(session, Response)
    assert session.feed.next_due_ms() is None
    assert rows(exchange, trade_type, symbol, minute(60))[-1][0] == minute(4)
    longer = rows(exchange, trade_type, symbol, minute(60), "15m")[-1]
    assert longer[8] == exchange.closed_candle(trade_type, symbol, "15m", longer[0]).trade_num
    assert status(exchange, trade_type, symbol, minute(4.4)) == "TRADING"
    assert status(exchange, trade_type, symbol, minute(4.5)) == last
    if trade_type != "spot":
        dates = [
            shown(exchange, trade_type, symbol, ms)["deliveryDate"]
            for ms in (minute(1.9), minute(2))
        ]
        assert dates == [4_133_404_800_000, minute(4.5)]
    assert {one.fault for one in exchange.incidents} == {"Delisting"}
    assert len(exchange.incidents) == 1


def test_a_delisted_contract_may_go_on_flat() -> None:
    """It closes flat candles without trades on the stream and over REST, and forms none."""
    end = Delisting(trade_type="usdt_futures", symbol="ETHUSDT", at_ms=minute(4), flat=True)
    exchange = plain_exchange(end)
    one = watcher(exchange, "usdt_futures", "ethusdt@kline_1m")
    frames = klines(one.until(seconds(minute(30.6))))
    assert not [kline for kline in frames if not kline["x"] and kline["t"] >= minute(4)]
    flat = [kline for kline in frames if kline["t"] >= minute(4)]
    assert {kline["t"] for kline in flat} >= {minute(n) for n in range(4, 29)}
    last = exchange.closed_candle("usdt_futures", "ETHUSDT", "1m", minute(3))
    assert last.trade_num > 0
    for kline in flat:
        assert {kline[name] for name in "ohlc"} == {last.close}
        assert (kline["n"], float(kline["v"]), kline["f"]) == (0, 0.0, -1)
    later = rows(exchange, "usdt_futures", "ETHUSDT", minute(30.6))
    assert [row[8] for row in later[-20:]] == [0] * 20
    assert status(exchange, "usdt_futures", "ETHUSDT", minute(9)) == "SETTLING"
    assert exchange.incidents == ()


@pytest.mark.parametrize(
    ("trade_type", "symbol", "kind"),
    [
        ("usdt_futures", "BTCUSDT_231229", "CURRENT_QUARTER"),
        ("coin_futures", "BTCUSD_231229", "CURRENT_QUARTER_DELIVERING"),
    ],
)
def test_a_quarterly_is_delivered_on_its_day(trade_type: str, symbol: str, kind: str) -> None:
    """At 08:00 UTC of the day in its name; nobody has to script it."""
    at_ms = 1_703_836_800_000
    exchange = plain_exchange()
    assert status(exchange, trade_type, symbol, at_ms - 1) == "TRADING"
    assert status(exchange, trade_type, symbol, at_ms) == "DELIVERING"
    assert shown(exchange, trade_type, symbol, at_ms)["contractType"] == kind
    found = rows(exchange, trade_type, symbol, at_ms + 10 * MINUTE_MS)
    assert found[-1][0] == at_ms - MINUTE_MS


def test_only_what_a_market_could_have_is_listed() -> None:
    """A script that speaks of a symbol which the market has not, and could not have, is wrong."""
    with pytest.raises(ValueError, match="has no NOSUCH"):
        plain_exchange(NewListing(trade_type="spot", symbol="NOSUCH", at_ms=START_MS))
    with pytest.raises(ValueError, match="has no NEWUSDT"):
        plain_exchange(Delisting(trade_type="spot", symbol="NEWUSDT", at_ms=START_MS))


# -- !contractInfo --------------------------------------------------------------------------


EVENTS: tuple[Fault, ...] = (
    NewListing(
        trade_type="usdt_futures", symbol="NEWUSDT", at_ms=minute(9), announced_ms=minute(1)
    ),
    Delisting(
        trade_type="coin_futures", symbol="ETHUSD_PERP", at_ms=minute(7), announced_ms=minute(2)
    ),
    StatusChange(
        trade_type="usdt_futures", symbol="ETHUSDT", at_ms=minute(3), status="TRADING_HALT"
    ),
    TickChange(trade_type="usdt_futures", symbol="ETHUSDT", at_ms=minute(4), tick_size="0.1"),
    NewListing(trade_type="spot", symbol="NEWUSDT", at_ms=minute(5)),
)


@pytest.mark.parametrize("trade_type", FUTURES)
def test_contract_info_tells_of_both_products_on_both_hosts(trade_type: str) -> None:
    """At each announcement, beginning, change of status and end; of ticks it says nothing."""
    one = watcher(plain_exchange(*EVENTS), trade_type, "!contractInfo")
    texts = one.until(seconds(minute(12)))
    assert {parsed(text)["stream"] for text in texts} == {"!contractInfo"}
    events = [parsed(text)["data"] for text in texts]
    assert {event["e"] for event in events} == {"contractInfo"}
    told = [(event["E"], event["s"], event["cs"], len(event["bks"])) for event in events]
    assert told == [
        (minute(1), "NEWUSDT", "PENDING_TRADING", 0),
        (minute(1) + 5_018, "NEWUSDT", "PENDING_TRADING", 0),
        (minute(1) + 25_256, "NEWUSDT", "PENDING_TRADING", 2),
        (minute(2), "ETHUSD_PERP", "TRADING", 0),
        (minute(3), "ETHUSDT", "TRADING_HALT", 0),
        (minute(7), "ETHUSD_PERP", "SETTLING", 0),
        (minute(9) + 294, "NEWUSDT", "TRADING", 0),
    ]
    assert {(event["s"], event["ps"], event["st"]) for event in events} == {
        ("NEWUSDT", "NEWUSDT", 1), ("ETHUSDT", "ETHUSDT", 1), ("ETHUSD_PERP", "ETHUSD", 2),
    }  # fmt: skip
    assert {event["dt"] for event in events[3:4]} == {minute(7)}


def test_contract_info_reads_as_logged() -> None:
    """The keys in their order, ``bks`` empty and not absent; bare on a raw connection."""
    one = Peer(plain_exchange(*EVENTS), "usdt_futures", "/market/ws/!contractInfo")
    [text] = one.until(seconds(minute(1.01)))
    assert text == (
        f'{{"e":"contractInfo","E":{minute(1)},"s":"NEWUSDT","ps":"NEWUSDT","ct":"PERPETUAL",'
        f'"dt":4133404800000,"ot":{minute(9)},"cs":"PENDING_TRADING","bks":[],"st":1}}'
    )


@pytest.mark.parametrize(
    ("trade_type", "target"),
    [("spot", "/stream"), ("usdt_futures", "/stream"), ("usdt_futures", "/public/stream")],
)
def test_elsewhere_contract_info_is_acknowledged_and_silent(trade_type: str, target: str) -> None:
    """Spot has no such stream, and USD-M has it on its market path alone."""
    one = Peer(plain_exchange(*EVENTS), trade_type, target)
    one.gives_pongs = True
    assert one.ask(request("SUBSCRIBE", "!contractInfo")) == ['{"result":null,"id":1}']
    assert one.until(seconds(minute(12))) == []


def test_who_subscribes_late_is_told_of_nothing_earlier() -> None:
    """And who unsubscribes of nothing later."""
    one = Peer(plain_exchange(*EVENTS), "coin_futures", "/ws")
    one.until(seconds(minute(2.5)))
    one.ask(request("SUBSCRIBE", "!contractInfo"))
    assert [parsed(text)["s"] for text in one.until(seconds(minute(6)))] == ["ETHUSDT"]
    one.ask(request("UNSUBSCRIBE", "!contractInfo"))
    assert one.until(seconds(minute(12))) == []


# -- properties -----------------------------------------------------------------------------

MOMENTS = st.integers(0, 40 * 60).map(lambda second: OPEN_MS + second * 1000)


@st.composite
def timelines(draw: st.DrawFn) -> tuple[Fault, ...]:
    """Draw what happens to NEWUSDT within 40 minutes."""
    where: Any = {"trade_type": "usdt_futures", "symbol": "NEWUSDT"}
    events: list[Fault] = [
        StatusChange(**where, at_ms=at_ms, status=draw(st.sampled_from(("TRADING", "HALT"))))
        for at_ms in draw(st.lists(MOMENTS, max_size=4, unique=True))
    ]
    begins_ms = draw(MOMENTS)
    events.append(NewListing(**where, at_ms=begins_ms, announced_ms=draw(MOMENTS)))
    if draw(st.booleans()):
        flat = draw(st.booleans())
        events.append(Delisting(**where, at_ms=max(begins_ms + 1, draw(MOMENTS)), flat=flat))
    return tuple(events)


@given(timelines(), st.sampled_from(("1m", "3m", "15m")))
@settings(max_examples=20, deadline=None)
def test_stream_and_rest_have_the_same_candles(events: tuple[Fault, ...], interval: str) -> None:
    """Whatever happens to a symbol: what closed on a stream is what REST has, to the digit."""
    exchange = FaultyExchange(start_ms=START_MS, speed=1.0, faults=events, forming=False)
    one = watcher(exchange, "usdt_futures", f"newusdt@kline_{interval}")
    until_ms = minute(60)
    came = {
        kline["t"]: tuple(kline[name] for name in "ohlcvn")
        for kline in closes(one.until(seconds(until_ms)))
    }
    answered = rows(exchange, "usdt_futures", "NEWUSDT", until_ms, interval)
    found = {
        row[0]: (row[1], row[2], row[3], row[4], row[5], row[8])
        for row in (answered if isinstance(answered, list) else [])
        if START_MS < row[6] < until_ms - 30_000
    }
    assert {at: came[at] for at in found} == found
    assert all(at in found or at >= until_ms - 16 * MINUTE_MS for at in came)


@given(timelines(), MOMENTS, st.integers(1, 900_000))
def test_a_candle_is_there_if_its_symbol_traded_in_it(
    events: tuple[Any, ...], open_ms: int, length_ms: int
) -> None:
    """Held against the states themselves, moment by moment, second by second."""
    listing = listing_of("usdt_futures", "NEWUSDT")
    assert listing is not None
    timeline = ScriptedTimeline(listing, events)
    end_ms = open_ms + length_ms
    steps = {open_ms, *range(open_ms, end_ms, 1_000), *(e.at_ms for e in events)}
    there = any(
        timeline.at(ms).status == "TRADING" and timeline.begins_ms <= ms < timeline.ends_ms
        for ms in steps
        if open_ms <= ms < end_ms
    )
    if open_ms >= timeline.ends_ms:
        assert (timeline.absence(open_ms, end_ms) is None) is timeline.goes_on_flat
    elif end_ms <= timeline.begins_ms:
        assert timeline.absence(open_ms, end_ms) is not None
    else:
        assert (timeline.absence(open_ms, end_ms) is None) is there
