"""What is recorded, by the configuration, the exchange's lists, and what was said since."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import attrs
import pytest

from kline_trio.candle import Series
from kline_trio.config import Config
from kline_trio.errors import ConfigError
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.listing import PENDING, TRADING, Listing
from kline_trio.recorder.recording import Recording
from kline_trio.recorder.series_set import SeriesSet
from kline_trio.recorder.series_state import State
from kline_trio.selection import Rule, Selection
from kline_trio.storage.journal.ledger import SeriesAccount

if TYPE_CHECKING:
    from kline_trio.recorder.listener import Listener
    from kline_trio.recorder.universe import Universe

NOW_MS = 1_719_759_600_000
BTC, ETH, LTC = (Series("spot", f"{name}USDT", "1m") for name in ("BTC", "ETH", "LTC"))
PATTERN = Selection("spot", "1m", (Rule(pattern="*USDT"),))


@attrs.define
class FakeListener:
    """Keeps what it is to listen to."""

    series: tuple[Series, ...] = ()

    def listen_to(self, series: Iterable[Series], *, contracts: bool) -> None:
        self.series = tuple(series)


@attrs.define
class FakeMarket:
    """Has a clock that knows no time."""

    clock: ExchangeClock = attrs.field(factory=ExchangeClock)


@attrs.define
class FakeUniverse:
    """What the exchange lists, as a test wants it."""

    listings: dict[str, dict[str, Listing]] = attrs.field(factory=lambda: {"spot": {}})
    seen: bool = True
    halted: bool = False
    known: set[str] = attrs.field(factory=set)
    markets: dict[str, FakeMarket] = attrs.field(factory=lambda: {"spot": FakeMarket()})

    def list_symbols(self, **statuses: str) -> None:
        self.known |= statuses.keys()
        self.listings["spot"] = {
            symbol: Listing(symbol=symbol, status=status, quote="USDT")
            for symbol, status in statuses.items()
        }

    def is_seen(self, trade_type: str) -> bool:
        return self.seen and trade_type == "spot"

    def is_halted(self, _: str) -> bool:
        return self.halted

    def knew(self, _: str, symbol: str) -> bool:
        return symbol in self.known

    def changed_ms(self, _: str, __: str) -> int:
        return NOW_MS


@attrs.define
class House:
    recording: Recording
    universe: FakeUniverse
    listener: FakeListener
    tracked: SeriesSet

    def lists(self, **statuses: str) -> None:
        self.universe.list_symbols(**statuses)
        self.recording.list_changed("spot", {})


def house(*streams: Series, patterns: tuple[Selection, ...] = (PATTERN,)) -> House:
    universe, listener = FakeUniverse(), FakeListener()
    tracked = SeriesSet(5_000)
    recording = Recording(
        Config(streams=streams, patterns=patterns),
        {"spot": cast("Listener", listener)},
        tracked,
        cast("Universe", universe),
    )
    return House(recording, universe, listener, tracked)


def seal(tracked: SeriesSet, series: Series) -> None:
    """Go all the way: stock is taken, and the end is written."""
    [state] = [one for one in tracked.in_state(State.WANTED) if one.series == series]
    state.start(NOW_MS)
    state.confirm(state.begin(None, [], None, 5_000), is_written=True)
    state.state = State.SEALING
    state.confirm_transition()


def test_patterns_mean_what_is_listed_and_listener_and_states_know() -> None:
    here = house(LTC)
    here.lists(BTCUSDT=TRADING, ETHUSDT=PENDING, LTCUSDT=TRADING)
    assert here.recording.series == (LTC, BTC)
    assert here.listener.series == (LTC, BTC)
    assert BTC in here.tracked
    assert ETH not in here.tracked, "it is announced, and not traded yet"


def test_what_has_ended_goes_on_until_it_is_sealed_though_no_pattern_means_it() -> None:
    here = house()
    here.lists(BTCUSDT=TRADING, ETHUSDT=TRADING)
    here.lists(BTCUSDT=TRADING, ETHUSDT="BREAK")
    assert set(here.recording.series) == {BTC, ETH}
    seal(here.tracked, ETH)
    here.recording.sealed([ETH])
    assert here.recording.series == (BTC,)
    here.lists(BTCUSDT=TRADING)
    assert here.recording.series == (BTC,)


def test_what_was_sealed_and_no_list_calls_ended_is_not_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its list may say nothing at all. The auditor asks each second."""
    here = house(LTC)
    here.lists(LTCUSDT=TRADING)
    seal(here.tracked, LTC)
    here.lists(LTCUSDT="")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        here.recording.sealed([LTC])
    assert caplog.messages == []


def test_what_trades_again_after_it_was_sealed_is_wanted_again() -> None:
    here = house()
    here.lists(BTCUSDT=TRADING, ETHUSDT=TRADING)
    here.lists(BTCUSDT=TRADING, ETHUSDT="BREAK")
    seal(here.tracked, ETH)
    here.recording.sealed([ETH])
    here.lists(BTCUSDT=TRADING, ETHUSDT=TRADING)
    assert set(here.recording.series) == {BTC, ETH}
    assert here.tracked.state_of(ETH) is State.WANTED


def test_a_halt_of_the_whole_market_ends_nothing() -> None:
    here = house()
    here.lists(BTCUSDT=TRADING, ETHUSDT=TRADING)
    here.universe.halted = True
    here.lists(BTCUSDT="HALT", ETHUSDT="HALT")
    assert set(here.recording.series) == {BTC, ETH}


def test_what_ended_while_no_recorder_ran_is_gone_on_with() -> None:
    """Of the list of before the stop no pattern means it; it is to be sealed all the same."""
    here = house()
    here.universe.seen = False
    here.universe.list_symbols(BTCUSDT=TRADING, ETHUSDT="BREAK")
    here.recording.resume({ETH: SeriesAccount(0, NOW_MS), LTC: SeriesAccount(0, NOW_MS, NOW_MS)})
    assert set(here.recording.series) == {BTC, ETH}


def test_what_no_pattern_ever_meant_is_not_gone_on_with() -> None:
    here = house(LTC, patterns=())
    here.recording.resume({ETH: SeriesAccount(0, NOW_MS)})
    assert here.recording.series == (LTC,)


@pytest.mark.parametrize("is_removed", [True, False])
def test_what_a_program_adds_and_removes(is_removed: bool) -> None:
    here = house(BTC, patterns=())
    here.recording.refresh()
    here.recording.add([ETH])
    assert list(here.recording.series) == [BTC, ETH]
    here.recording.remove([ETH if is_removed else BTC])
    assert list(here.recording.series) == [BTC if is_removed else ETH]
    here.recording.add([BTC])
    assert BTC in here.recording.series


def test_to_remove_what_is_not_recorded_or_all_that_is_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    here = house(BTC, ETH, patterns=())
    here.recording.refresh()
    here.recording.remove([ETH])
    assert caplog.messages == []
    here.recording.remove([BTC, LTC])
    assert caplog.messages == [
        "spot LTCUSDT-1m: to be removed, but not recorded",
        "nothing is recorded any more: all series were removed",
    ]


def test_only_the_name_of_a_market_is_one() -> None:
    here = house(BTC)
    for wrong in (["spot"], "spto", 5):
        with pytest.raises(ConfigError, match="there is no market"):
            here.recording.reconnect(wrong)  # type: ignore[arg-type]
