"""What is recorded follows the exchange's lists, and what is said at run time; in virtual time."""

from collections.abc import Callable
from pathlib import Path

import attrs
import httpx2
import pytest
import trio
import trio.testing

import kline_trio
from kline_trio.candle import Series
from kline_trio.config import Config, StoreConfig, UniverseConfig
from kline_trio.errors import ConfigError
from kline_trio.recorder.supervisor import Recorder, open_recorder
from kline_trio.simulator.exchange import Exchange
from kline_trio.storage.journal.ledger import Reason, State
from kline_trio.storage.journal.reader import journal_view
from tests.builders import truth
from tests.faulty_exchange import (
    Delisting,
    Fault,
    FaultyExchange,
    NewListing,
    RestFault,
    Stall,
    StatusChange,
    TickChange,
)
from tests.recorder.test_completing import ledger
from tests.recorder.test_supervisor import stored
from tests.virtual import Transport, joined

START_MS = 1_719_759_600_000  # 2024-06-30 15:00
MINUTE_MS = 60_000
LISTED = {
    "spot": ("BTCUSDT", "ETHUSDT", "ETHBTC", "币安人生USDT"),
    "usdt_futures": ("BTCUSDT", "ETHUSDC"),
    "coin_futures": ("BTCUSD_PERP",),
}


def minute(count: float) -> int:
    return START_MS + round(count * MINUTE_MS)


def spot(symbol: str) -> Series:
    return Series("spot", symbol, "1m")


def config_in(folder: Path, text: str) -> Config:
    config = Config.from_text(text, name="recorder.toml", folder=folder)
    return attrs.evolve(
        config,
        store=StoreConfig(path=folder / "data"),
        universe=UniverseConfig(refresh_seconds=12),
        # The exchange runs 60 times faster: an hour passes in a minute of ours.
        completeness=attrs.evolve(config.completeness, attempts=2, attempt_seconds=1.0),
    )


async def record(
    folder: Path,
    text: str,
    minutes: float,
    *faults: Fault,
    change: Callable[[Recorder, float], None] = lambda *_: None,
    from_minute: float = 0,
) -> tuple[FaultyExchange, tuple[Series, ...]]:
    """Record so many of the exchange's minutes; the change is called at each of them."""
    exchange = FaultyExchange(start_ms=minute(from_minute), listed=LISTED, faults=faults)
    config = config_in(folder, text)
    async with joined(exchange) as environment, open_recorder(config, environment) as recorder:
        for passed in range(round(minutes)):
            change(recorder, passed)
            await trio.sleep(1)
        return exchange, recorder.series


def assert_whole(
    folder: Path, exchange: Exchange, series: Series, from_minute: float, to_minute: float
) -> None:
    have = [one for one in stored(folder, series) if one.open_time_ms < minute(to_minute)]
    assert have == truth(exchange, series, minute(from_minute), minute(to_minute))


def assert_traded(folder: Path, exchange: Exchange, series: Series, to_minute: float) -> None:
    """Though not all was traded all the time."""
    market = exchange.markets[series.trade_type]
    traded = [
        one
        for one in truth(exchange, series, START_MS, minute(to_minute))
        if not market.absence(
            series.symbol, one.open_time_ms, series.interval.end_time_ms(one.open_time_ms)
        )
    ]
    have = [one for one in stored(folder, series) if one.open_time_ms < minute(to_minute)]
    assert have == traded


async def test_patterns_mean_what_the_exchange_lists(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange, series = await record(
        tmp_path,
        '[streams.spot]\n1m = ["*USDT", "!ETH*"]\n'
        '[streams.usdt_futures]\n1m = { quote = "USDT", contract = "PERPETUAL" }\n',
        20,
    )
    futures = Series("usdt_futures", "BTCUSDT", "1m")
    assert series == (spot("BTCUSDT"), spot("币安人生USDT"), futures)
    for one in series:
        assert_whole(tmp_path, exchange, one, 0, 18)
    assert (tmp_path / "data" / "spot_币安人生USDT_1m.pqt").exists()


async def test_a_new_symbol_joins_and_has_every_candle_from_its_first_one_on(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    new = NewListing(trade_type="spot", symbol="SOLUSDT", at_ms=minute(20.5))
    exchange, series = await record(tmp_path, '[streams.spot]\n1m = ["*USDT"]\n', 60, new)
    assert spot("SOLUSDT") in series
    assert_whole(tmp_path, exchange, spot("SOLUSDT"), 20, 55)
    for one in (spot("BTCUSDT"), spot("币安人生USDT")):
        assert_whole(tmp_path, exchange, one, 0, 55)
    [early] = [one for one in ledger(tmp_path, spot("SOLUSDT")) if one.state is State.FILLED]
    assert early.reason is Reason.NOT_CONFIGURED


async def test_a_symbol_that_is_listed_while_no_recorder_runs_has_every_candle_from_its_first_on(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """Spot tells no dates. The universe's file tells that it was not there before."""
    new = NewListing(trade_type="spot", symbol="SOLUSDT", at_ms=minute(30.5))
    exchange = FaultyExchange(start_ms=START_MS, listed=LISTED, faults=[new])
    config = config_in(tmp_path, '[streams.spot]\n1m = ["*USDT"]\n')
    async with joined(exchange) as environment:
        async with open_recorder(config, environment):
            await trio.sleep(20)
        await trio.sleep(30)
        async with open_recorder(config, environment):
            await trio.sleep(30)
    sol = spot("SOLUSDT")
    assert_whole(tmp_path, exchange, sol, 30, 75)
    rows = [(one.reason, one.state) for one in ledger(tmp_path, sol)]
    assert (Reason.NOT_LISTED, State.CLOSED) in rows
    assert (Reason.NOT_CONFIGURED, State.FILLED) in rows


@pytest.mark.parametrize("how", ["cut off", "asked to stop"])
@pytest.mark.parametrize("ticks", range(0, 20, 4))
async def test_a_stop_soon_after_a_symbol_was_seen_in_the_list_loses_none_of_its_candles(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, how: str, ticks: int
) -> None:
    """What the universe's file knows, a start takes for known: the journal must know it first."""
    new = NewListing(trade_type="spot", symbol="SOLUSDT", at_ms=minute(13.5))
    exchange = FaultyExchange(start_ms=START_MS, listed=LISTED, faults=[new])
    config = config_in(tmp_path, '[streams.spot]\n1m = ["*USDT"]\n')
    sol = spot("SOLUSDT")
    async with joined(exchange) as environment:
        with trio.CancelScope() as life:
            async with open_recorder(config, environment) as recorder:
                while sol not in recorder.series:  # noqa: ASYNC110 - virtual time
                    await trio.sleep(0.05)
                await trio.sleep(ticks / 10)
                if how == "cut off":
                    life.cancel()
                    await trio.lowlevel.checkpoint()
        await trio.sleep(5)
        async with open_recorder(config, environment):
            await trio.sleep(30)
    assert_whole(tmp_path, exchange, sol, 13, 40)


@pytest.mark.parametrize(
    ("trade_type", "symbol", "pattern"),
    [("usdt_futures", "SOLUSDT", "*USDT"), ("coin_futures", "SOLUSD_PERP", "*_PERP")],
)
async def test_a_new_contract_joins_at_once_for_the_stream_tells_of_it(
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
    trade_type: str,
    symbol: str,
    pattern: str,
) -> None:
    """The list itself is looked at every ten hours of the exchange only."""
    new = NewListing(trade_type=trade_type, symbol=symbol, at_ms=minute(90))
    text = f'[streams.{trade_type}]\n1m = ["{pattern}"]\n'
    exchange = FaultyExchange(start_ms=START_MS, listed=LISTED, faults=[new])
    config = attrs.evolve(config_in(tmp_path, text), universe=UniverseConfig())
    joined_at: list[float] = []
    sol = Series(trade_type, symbol, "1m")
    async with joined(exchange) as environment, open_recorder(config, environment) as recorder:
        for passed in range(150):
            await trio.sleep(1)
            if sol in recorder.series:
                joined_at.append(passed)
    assert 89 <= joined_at[0] < 115
    assert_whole(tmp_path, exchange, sol, 90, 145)
    rows = kline_trio.universe(tmp_path / "data")
    mine = rows[(rows["symbol"] == symbol) & (rows["trade_type"] == trade_type)]
    assert list(mine["status"]) == ["PENDING_TRADING", "TRADING"]
    assert {moment.value // 1_000_000 for moment in mine["onboard_date"]} == {minute(90)}


async def test_a_new_tick_size_is_a_row_of_the_universe_and_changes_no_stream(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    change = TickChange(trade_type="spot", symbol="ETHUSDT", at_ms=minute(30), tick_size="1")
    exchange, _ = await record(tmp_path, '[streams.spot]\n1m = ["*USDT"]\n', 90, change)
    assert_whole(tmp_path, exchange, spot("ETHUSDT"), 0, 85)
    assert {one.open.is_integer() for one in stored(tmp_path, spot("ETHUSDT"))[35:]} == {True}
    rows = kline_trio.universe(tmp_path / "data")
    mine = rows[(rows["symbol"] == "ETHUSDT") & (rows["trade_type"] == "spot")]
    assert list(mine["tick_size"]) == ["0.01", "1"]
    assert list(mine["status"]) == ["TRADING", "TRADING"]
    assert minute(30) <= mine["time"].iloc[1].value // 1_000_000 < minute(55)
    at_first = kline_trio.universe(tmp_path / "data", at=mine["time"].iloc[0])
    [then] = at_first["tick_size"][at_first["symbol"] == "ETHUSDT"]
    assert then == "0.01"
    assert exchange.statistics["spot"].opened == 1
    assert ledger(tmp_path, spot("ETHUSDT")) == []


async def test_another_date_of_listing_is_a_row_of_the_universe_and_the_symbol_joins_by_it(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """An exchange does not take an announced date back, so another exchange tells the new one."""
    early, late = (
        NewListing(
            trade_type="usdt_futures", symbol="SOLUSDT", at_ms=minute(at), announced_ms=minute(5)
        )
        for at in (200, 150)
    )
    text = '[streams.usdt_futures]\n1m = ["*USDT"]\n'
    await record(tmp_path, text, 60, early)
    exchange, series = await record(tmp_path, text, 150, late, from_minute=90)
    sol = Series("usdt_futures", "SOLUSDT", "1m")
    assert sol in series
    assert_whole(tmp_path, exchange, sol, 150, 235)
    rows = kline_trio.universe(tmp_path / "data")
    mine = rows[(rows["symbol"] == "SOLUSDT") & (rows["trade_type"] == "usdt_futures")]
    dates = [moment.value // 1_000_000 for moment in mine["onboard_date"]]
    assert dates == [minute(200), minute(150), minute(150)]
    assert list(mine["status"]) == ["PENDING_TRADING", "PENDING_TRADING", "TRADING"]


@pytest.mark.parametrize("pattern", ["*USDT", "NOSUCH*"])
async def test_patterns_that_mean_nothing_yet_wait_for_what_they_mean(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, pattern: str
) -> None:
    """With no series at all, as where REST cannot be reached at the first start."""
    down = RestFault(trade_type="spot", from_ms=minute(-60), until_ms=minute(20), status=500)
    text = f'[streams.spot]\n1m = ["{pattern}"]\n'
    exchange, series = await record(tmp_path, text, 90, down)
    if pattern == "NOSUCH*":
        assert series == ()
        return
    btc = spot("BTCUSDT")
    assert btc in series
    first = stored(tmp_path, btc)[0].open_time_ms
    assert first < minute(85)
    assert_whole(tmp_path, exchange, btc, (first - START_MS) / MINUTE_MS, 85)


@pytest.mark.parametrize("how", ['["*USDT"]', '["BTCUSDT", "ETHUSDT"]'])
async def test_a_delisted_symbol_is_sealed_in_the_ledger_with_its_last_candle(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, how: str
) -> None:
    gone = Delisting(trade_type="spot", symbol="ETHUSDT", at_ms=minute(30))
    exchange, series = await record(tmp_path, f"[streams.spot]\n1m = {how}\n", 90, gone)
    eth = spot("ETHUSDT")
    assert eth not in series
    assert_whole(tmp_path, exchange, eth, 0, 30)
    assert stored(tmp_path, eth)[-1].open_time_ms == minute(29)
    [last] = ledger(tmp_path, eth)
    assert (last.span.from_ms, last.reason, last.state) == (
        minute(30), Reason.DELISTED, State.CLOSED,
    )  # fmt: skip
    with journal_view(tmp_path / "data") as journal:
        account = journal.accounts()[eth]
    assert account.retired_ms is not None
    assert account.watermark_ms == last.span.to_ms
    # The third list after its end comes in the minute 59 or 60.
    assert account.watermark_ms <= minute(61), "it is not asked for any more"
    assert_whole(tmp_path, exchange, spot("BTCUSDT"), 0, 85)


async def test_a_symbol_that_a_pattern_means_is_sealed_though_a_restart_came_before(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """By then the list that is kept says that it does not trade, and so no pattern means it.

    Once it was let go: what was absent stayed so for ever, and its end was not in the ledger.
    """
    gone = Delisting(trade_type="spot", symbol="ETHUSDT", at_ms=minute(30))
    text = '[streams.spot]\n1h = ["*USDT"]\n'
    await record(tmp_path, text, 45, gone)
    exchange, series = await record(tmp_path, text, 130, gone, from_minute=70)
    eth = Series("spot", "ETHUSDT", "1h")
    assert eth not in series
    assert_whole(tmp_path, exchange, eth, 0, 60)
    last = ledger(tmp_path, eth)[-1]
    assert (last.span.from_ms, last.reason, last.state) == (
        minute(60), Reason.DELISTED, State.CLOSED,
    )  # fmt: skip


async def test_a_symbol_is_sealed_though_no_recorder_lives_for_as_long_as_a_candle_lasts(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """When its end was seen is kept, with the list of symbols."""
    gone = Delisting(trade_type="spot", symbol="ETHUSDT", at_ms=minute(30))
    text = '[streams.spot]\n1h = ["*USDT"]\n'
    eth = Series("spot", "ETHUSDT", "1h")
    for from_minute in (0, 65, 125):
        exchange, series = await record(tmp_path, text, 45, gone, from_minute=from_minute)
        is_over = from_minute == 125
        assert (eth in series) != is_over
    assert_whole(tmp_path, exchange, eth, 0, 60)
    [*_, last] = ledger(tmp_path, eth)
    assert (last.span.from_ms, last.reason) == (minute(60), Reason.DELISTED)


async def test_a_sealed_symbol_is_sealed_again_after_days_without_a_recorder(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """Of the days between there are no files: once, these were asked for again and again."""
    gone = Delisting(trade_type="spot", symbol="ETHUSDT", at_ms=minute(30))
    text = '[streams.spot]\n1m = ["BTCUSDT", "ETHUSDT"]\n'
    await record(tmp_path, text, 90, gone)
    ten_days = 10 * 1_440
    exchange, series = await record(tmp_path, text, 90, gone, from_minute=ten_days)
    eth = spot("ETHUSDT")
    assert eth not in series
    assert stored(tmp_path, eth)[-1].open_time_ms == minute(29)
    assert {one.state for one in ledger(tmp_path, eth)} == {State.CLOSED}
    assert ledger(tmp_path, eth)[-1].reason is Reason.DELISTED
    assert_whole(tmp_path, exchange, spot("BTCUSDT"), 0, ten_days + 85)


async def test_flat_candles_of_a_delisted_contract_are_not_recorded_for_long(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    gone = Delisting(trade_type="usdt_futures", symbol="BTCUSDT", at_ms=minute(30), flat=True)
    text = '[streams.usdt_futures]\n1m = ["BTC*"]\n'
    exchange, series = await record(tmp_path, text, 120, gone)
    assert series == ()
    btc = Series("usdt_futures", "BTCUSDT", "1m")
    assert_whole(tmp_path, exchange, btc, 0, 30)
    assert stored(tmp_path, btc)[-1].open_time_ms < minute(60)


async def test_a_halted_symbol_is_recorded_again_when_it_trades_again(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    halts = [
        StatusChange(trade_type="spot", symbol="ETHUSDT", at_ms=minute(at), status=status)
        for at, status in ((30, "HALT"), (70, "TRADING"))
    ]
    exchange, series = await record(tmp_path, '[streams.spot]\n1m = ["*USDT"]\n', 120, *halts)
    assert spot("ETHUSDT") in series
    have = stored(tmp_path, spot("ETHUSDT"))
    assert_whole(tmp_path, exchange, spot("ETHUSDT"), 0, 30)
    later = [one for one in have if minute(70) <= one.open_time_ms < minute(115)]
    assert later == truth(exchange, spot("ETHUSDT"), minute(70), minute(115))
    assert not [one for one in have if minute(30) <= one.open_time_ms < minute(70)]
    rows = kline_trio.universe(tmp_path / "data")
    eth = rows[(rows["symbol"] == "ETHUSDT") & (rows["trade_type"] == "spot")]
    assert list(eth["status"]) == ["TRADING", "HALT", "TRADING"]
    at_halt = kline_trio.universe(tmp_path / "data", at=eth["time"].iloc[1])
    halted = at_halt[(at_halt["symbol"] == "ETHUSDT") & (at_halt["trade_type"] == "spot")]
    assert list(halted["is_trading"]) == [False]


async def test_a_halt_of_a_whole_market_ends_no_series(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """Most symbols stop at once: the series stay, and none of them is sealed as delisted.

    Some go on, so that the exchange's time does.
    """
    symbols = tuple(f"A{number}USDT" for number in range(24))
    halts = [
        StatusChange(trade_type="spot", symbol=symbol, at_ms=minute(at), status=status)
        for at, status in ((30, "BREAK"), (70, "TRADING"))
        for symbol in symbols[4:]
    ]
    exchange = FaultyExchange(
        start_ms=START_MS, listed={**LISTED, "spot": symbols, "coin_futures": ()}, faults=halts
    )
    config = config_in(tmp_path, '[streams.spot]\n1m = ["A0USDT", "A2?USDT"]\n')
    meant = tuple(spot(symbol) for symbol in (symbols[0], *symbols[20:]))
    async with joined(exchange) as environment, open_recorder(config, environment) as recorder:
        await trio.sleep(29)
        assert recorder.series == meant
        for _ in range(60):
            await trio.sleep(1)
            assert recorder.series == meant
    for one in meant:
        assert_traded(tmp_path, exchange, one, 85)
        reasons = {absence.reason for absence in ledger(tmp_path, one)}
        assert Reason.DELISTED not in reasons


async def test_a_symbol_that_ends_while_its_market_is_silent_has_its_last_candle(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """The list told of an end that the clock, which goes by frames, did not know of yet."""
    gone = Delisting(trade_type="spot", symbol="ETHUSDT", at_ms=minute(60.1))
    silent = Stall(trade_type="spot", from_ms=minute(59.1), until_ms=minute(63))
    text = '[streams.spot]\n30m = ["*USDT"]\n'
    exchange, series = await record(tmp_path, text, 150, gone, silent)
    eth = Series("spot", "ETHUSDT", "30m")
    assert eth not in series
    assert_whole(tmp_path, exchange, eth, 0, 90)


@attrs.define
class _Unlisting(Transport):
    """Gives no list of symbols."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/exchangeInfo"):
            return httpx2.Response(503)
        return await super().handle_async_request(request)


async def test_a_symbol_that_trades_again_was_not_delisted_though_a_restart_could_not_know_of_it(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """What was closed as delisted is asked for anew as soon as the symbol is seen to trade."""
    halts = [
        StatusChange(trade_type="spot", symbol="ETHUSDT", at_ms=minute(at), status=status)
        for at, status in ((30, "HALT"), (98, "TRADING"))
    ]
    text = '[streams.spot]\n30m = ["BTCUSDT", "ETHUSDT"]\n'
    await record(tmp_path, text, 95, *halts)
    eth = Series("spot", "ETHUSDT", "30m")
    assert ledger(tmp_path, eth)[-1].reason is Reason.DELISTED
    exchange = FaultyExchange(start_ms=minute(110), listed=LISTED, faults=halts)
    async with joined(exchange) as environment:
        blind = attrs.evolve(environment, http_transport=_Unlisting(exchange))
        async with open_recorder(config_in(tmp_path, text), blind):
            await trio.sleep(20)
    exchange, _ = await record(tmp_path, text, 120, *halts, from_minute=130)
    assert_traded(tmp_path, exchange, eth, 240)
    assert Reason.DELISTED not in {one.reason for one in ledger(tmp_path, eth)}


async def test_a_symbol_that_traded_again_unseen_right_after_it_ended_lacks_no_candle(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """Once a candle that was still forming was closed as delisted, which nobody could know."""
    changes = [
        StatusChange(trade_type="spot", symbol="ETHUSDT", at_ms=minute(at), status=status)
        for at, status in ((30, "HALT"), (75, "TRADING"), (130, "BREAK"))
    ]
    text = '[streams.spot]\n1h = ["BTCUSDT", "ETHUSDT"]\n'
    await record(tmp_path, text, 70, *changes)
    exchange, _ = await record(tmp_path, text, 200, *changes, from_minute=150)
    assert_traded(tmp_path, exchange, Series("spot", "ETHUSDT", "1h"), 340)


async def test_days_in_which_nobody_looked_are_asked_for_before_a_series_is_sealed(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """An end was seen, and then another; between them the symbol was traded."""
    changes = [
        StatusChange(trade_type="spot", symbol="ETHUSDT", at_ms=minute(at), status=status)
        for at, status in ((30, "BREAK"), (100, "TRADING"), (400, "BREAK"))
    ]
    text = '[streams.spot]\n1h = ["BTCUSDT", "ETHUSDT"]\n'
    await record(tmp_path, text, 45, *changes)
    exchange, series = await record(tmp_path, text, 100, *changes, from_minute=500)
    eth = Series("spot", "ETHUSDT", "1h")
    assert eth not in series
    assert_traded(tmp_path, exchange, eth, 560)
    assert ledger(tmp_path, eth)[-1].reason is Reason.DELISTED


async def test_trades_after_an_end_was_seen_tell_that_it_was_none(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """The list is not looked at again before a recorder ends, and the next finds a real end."""
    changes = [
        StatusChange(trade_type="spot", symbol="ETHUSDT", at_ms=minute(at), status=status)
        for at, status in ((0.05, "HALT"), (40, "TRADING"), (100, "BREAK"))
    ]
    text = '[streams.spot]\n30m = ["BTCUSDT", "ETHUSDT"]\n'
    config = attrs.evolve(config_in(tmp_path, text), universe=UniverseConfig(refresh_seconds=3_600))
    exchange = FaultyExchange(start_ms=minute(0), listed=LISTED, faults=changes)
    async with joined(exchange) as environment, open_recorder(config, environment):
        await trio.sleep(70)
    exchange, _ = await record(tmp_path, text, 100, *changes, from_minute=150)
    eth = Series("spot", "ETHUSDT", "30m")
    assert_traded(tmp_path, exchange, eth, 240)
    assert ledger(tmp_path, eth)[-1].reason is Reason.DELISTED


@pytest.mark.parametrize(("interval", "again"), [("1m", 37.2), ("1h", 110)])
async def test_a_symbol_that_trades_again_right_after_it_was_sealed_lacks_no_candle(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, interval: str, again: float
) -> None:
    """It was sealed in a minute in which it was traded again, as the next look at the list told;
    and with an hour that was not over.
    """
    halts = [
        StatusChange(trade_type="spot", symbol="ETHUSDT", at_ms=minute(at), status=status)
        for at, status in ((30, "HALT"), (again, "TRADING"))
    ]
    text = f'[streams.spot]\n{interval} = ["*USDT"]\n'
    exchange, series = await record(tmp_path, text, 420, *halts)
    eth = Series("spot", "ETHUSDT", interval)
    assert eth in series
    assert_traded(tmp_path, exchange, eth, 360)
    assert {one.state for one in ledger(tmp_path, eth)} <= {State.FILLED, State.CLOSED}


async def test_a_contract_that_was_announced_before_a_restart_has_its_first_candles(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """It trades while no recorder is there; the list tells since when."""
    new = NewListing(
        trade_type="usdt_futures", symbol="SOLUSDT", at_ms=minute(90), announced_ms=minute(20)
    )
    text = '[streams.usdt_futures]\n1m = ["*USDT"]\n'
    await record(tmp_path, text, 60, new)
    exchange, series = await record(tmp_path, text, 60, new, from_minute=120)
    sol = Series("usdt_futures", "SOLUSDT", "1m")
    assert sol in series
    assert_whole(tmp_path, exchange, sol, 90, 175)


async def test_a_candle_that_closed_right_before_it_was_wanted_again_was_not_configured(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """It may still come within the grace, and so it is named later than the others."""
    exchange = Exchange(start_ms=START_MS, listed=LISTED)
    config = config_in(tmp_path, '[streams.spot]\n1m = ["BTCUSDT", "ETHUSDT"]\n')
    async with joined(exchange) as environment, open_recorder(config, environment) as recorder:
        await trio.sleep_until(exchange.local_s(minute(15.5)))
        recorder.remove_symbols("spot", "1m", "ETHUSDT")
        await trio.sleep_until(exchange.local_s(minute(21) + 3_500))
        recorder.add_symbols("spot", "1m", "ETHUSDT")
        await trio.sleep_until(exchange.local_s(minute(40)))
    rows = [one for one in ledger(tmp_path, spot("ETHUSDT")) if one.span.to_ms <= minute(21)]
    assert rows[-1].span.to_ms == minute(21)
    assert {one.reason for one in rows} == {Reason.NOT_CONFIGURED}


async def test_symbols_are_added_and_removed_at_run_time_on_all_markets(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    def change(recorder: Recorder, passed: float) -> None:
        if passed == 10:
            recorder.add_symbols("spot", "1m", "ethusdt", "币安人生USDT")
            recorder.add_symbols("coin_futures", "3m", "BTCUSD_PERP")
        elif passed == 30:
            recorder.remove_symbols("spot", "1m", "ETHUSDT")
            recorder.reconnect()
        elif passed == 50:
            recorder.add_symbols("spot", "1m", "ETHUSDT")
            recorder.reconnect("spot")

    text = '[streams.spot]\n1m = ["BTCUSDT"]\n'
    exchange, series = await record(tmp_path, text, 90, change=change)
    coin = Series("coin_futures", "BTCUSD_PERP", "3m")
    assert set(series) == {spot("BTCUSDT"), spot("ETHUSDT"), spot("币安人生USDT"), coin}
    assert_whole(tmp_path, exchange, spot("BTCUSDT"), 0, 85)
    assert_whole(tmp_path, exchange, spot("币安人生USDT"), 10, 85)
    assert_whole(tmp_path, exchange, coin, 9, 85)
    assert_whole(tmp_path, exchange, spot("ETHUSDT"), 10, 85)
    away = [one for one in ledger(tmp_path, spot("ETHUSDT")) if one.span.from_ms >= minute(25)]
    assert {one.state for one in away} == {State.FILLED}
    assert Reason.NOT_CONFIGURED in {one.reason for one in away}


async def test_a_symbol_that_the_exchange_does_not_list_is_refused_once_the_list_is_known(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exchange = Exchange(start_ms=START_MS, listed=LISTED)
    config = config_in(tmp_path, '[streams.spot]\n1m = ["BTCUSDT"]\n')
    async with joined(exchange) as environment, open_recorder(config, environment) as recorder:
        # Not known yet: it is said as soon as it is.
        recorder.add_symbols("spot", "1h", "BTCUSDX")
        await trio.sleep(10)
        assert any("spot: no symbol BTCUSDX (did you mean" in text for text in caplog.messages)
        before = recorder.series
        with pytest.raises(ConfigError, match=r"no symbol ETHUSDX \(did you mean ETHUSDT\?\)"):
            recorder.add_symbols("spot", "1m", "ETHUSDT", "ETHUSDX")
        with pytest.raises(ConfigError, match="each symbol by itself"):
            recorder.add_symbols("spot", "1m", ["ETHUSDT"])  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="no market 'spott'"):
            recorder.reconnect("spott")
        with pytest.raises(ConfigError, match=r"Config is wanted"):
            recorder.reconfigure("recorder.toml")  # type: ignore[arg-type]
        assert recorder.series == before


@pytest.mark.parametrize(
    "wrong", [("spott", "1m", "BTCUSDT"), ("spot", "7m", "BTCUSDT"), ("spot", "1m", "BTC/USDT"),
              ("coin_futures", "1s", "BTCUSD_PERP")],
)  # fmt: skip
async def test_what_cannot_be_recorded_is_refused_and_changes_nothing(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, wrong: tuple[str, str, str]
) -> None:
    async with (
        joined(Exchange(start_ms=START_MS)) as environment,
        open_recorder(
            config_in(tmp_path, '[streams.spot]\n1m = ["BTCUSDT"]\n'), environment
        ) as recorder,
    ):
        with pytest.raises(ValueError, match=r"\w"):
            recorder.add_symbols(*wrong)
        with pytest.raises(ValueError, match=r"\w"):
            recorder.remove_symbols(*wrong)
        assert recorder.series == (spot("BTCUSDT"),)


async def test_a_pattern_that_matches_nothing_is_named_once(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not at each look; and after SIGHUP only a new one."""
    text = '[streams.spot]\n1m = ["*USDT", "*USTD"]\n'
    more = config_in(tmp_path, text + '1h = ["BTC*", "!DOGE*"]\n')

    def change(recorder: Recorder, passed: float) -> None:
        if passed == 40:
            recorder.reconfigure(more)

    await record(
        tmp_path,
        text,
        80,
        NewListing(trade_type="spot", symbol="SOLUSDT", at_ms=minute(20)),
        change=change,
    )
    assert [one.getMessage() for one in caplog.records if "matches no" in one.getMessage()] == [
        "spot 1m: *USTD matches no symbol that trades",
        "spot 1h: !DOGE* matches no symbol",
    ]
