"""Events from the differences of snapshots."""

from typing import Any

from kline_trio.monitor.health import Health, Thresholds
from kline_trio.monitor.page.chronicle import Chronicle
from kline_trio.monitor.page.event_log import MOST_EVENTS, Event, Kind, Tone, newest_first
from kline_trio.recorder.statistics import Statistics
from tests.builders import START_MS
from tests.monitor.observations import connection, listener, market, process, statistics, store


class Life:
    """A recorder whose snapshots a test makes, a second apart."""

    def __init__(self) -> None:
        self.chronicle = Chronicle()
        self.health = Health()
        self.now = 0.0

    def look(self, found: Statistics, seconds: float = 1.0) -> list[Event]:
        """Let some time pass; return the events that are new."""
        before = {id(one) for one in self.chronicle.events}
        self.now += seconds
        self.health = self.health.after(found, Thresholds(), self.now)
        self.chronicle.look(found, self.health, self.now)
        return [one for one in self.chronicle.events if id(one) not in before]

    def connections(self, *some: Any, exchange_ms: int | None = START_MS) -> list[Event]:  # noqa: ANN401
        one = market(listener=listener(*some), exchange_ms=exchange_ms)
        # Of a young recorder: its health counts no connection yet.
        return self.look(statistics(markets=(one,), process=process(uptime_seconds=30.0)))


def test_the_first_snapshot_tells_the_start() -> None:
    [event] = Life().look(statistics())
    assert event.kind is Kind.STARTED
    assert event.time_ms == START_MS
    assert event.text == "The recorder runs: kline_trio 0.1.0, pid 7"


def test_nothing_is_told_before_the_exchanges_time_is_known() -> None:
    life = Life()
    young = process(uptime_seconds=3.0)
    unknown = (market(exchange_ms=None),)
    assert not life.look(statistics(markets=unknown, process=young))
    [event] = life.look(statistics(process=young))
    assert event.time_ms == START_MS
    # An exchange that never answers must not hide that.
    other = Life()
    [event, *_] = other.look(statistics(markets=unknown))
    assert event.time_ms == 1_790_000_000_000


def test_a_change_of_the_verdict_is_an_event() -> None:
    life = Life()
    life.look(statistics())
    short = statistics(store=store(days_left=2.0))
    [event] = life.look(short)
    assert (event.kind, event.tone) == (Kind.VERDICT, Tone.WARNING)
    assert event.text == "Health is degraded: store: 84.0 GB free, for 2.0 days"
    assert not life.look(short)
    [event] = life.look(statistics(), seconds=60.0)
    assert (event.text, event.tone) == ("Health is ok", Tone.GOOD)


def test_an_outage_of_a_connection_is_one_event_until_it_delivers_again() -> None:
    life = Life()
    life.connections(connection(reconnects=3))
    lost = connection(reconnects=4, is_delivering=False, last_end="lost: the connection broke")
    [event] = life.connections(lost)
    assert (event.kind, event.tone, event.trade_type) == (
        Kind.DISCONNECTED, Tone.WARNING, "spot",
    )  # fmt: skip
    assert event.text == "spot: the connection ended: lost: the connection broke"
    refused = connection(reconnects=5, is_delivering=False, last_end="refused: HTTP 503")
    [again] = life.connections(refused, exchange_ms=START_MS + 60_000)
    assert again.id == event.id
    assert again.time_ms == START_MS
    assert again.text == "spot: 2 connections ended, the last: refused: HTTP 503"
    assert not life.connections(refused)
    [back] = life.connections(connection(reconnects=5), exchange_ms=START_MS + 90_000)
    assert (back.kind, back.tone) == (Kind.CONNECTED, Tone.GOOD)
    assert back.text == "spot: a connection delivers again, after 3 s"
    assert back.time_ms == START_MS + 90_000


def test_a_place_that_is_not_listed_for_a_while_keeps_its_outage() -> None:
    life = Life()
    life.connections(connection())
    life.connections(connection(reconnects=1, is_delivering=False, last_end="lost: x"))
    assert not life.look(statistics(markets=(market(listener=listener(connection(name="b"))),)))
    [back] = life.connections(connection(reconnects=1))
    assert back.kind is Kind.CONNECTED


def test_an_end_while_another_connection_delivers_is_no_outage() -> None:
    life = Life()
    life.connections(connection())
    [event] = life.connections(connection(reconnects=1, last_end="lost: x"))
    assert event.tone is Tone.INFO
    assert not life.connections(connection(reconnects=1, last_end="lost: x"))


def test_a_storm_does_not_fill_memory() -> None:
    life = Life()
    for number in range(2 * MOST_EVENTS):
        life.connections(connection(reconnects=number))
    assert len(life.chronicle.events) == MOST_EVENTS
    assert life.chronicle.version == 2 * MOST_EVENTS


def test_events_of_one_time_stay_in_their_order() -> None:
    """While an exchange is silent, its time stands."""
    life = Life()
    for number in range(30):
        life.connections(connection(reconnects=number))
    found, _ = newest_first([life.chronicle.events], 100)
    numbers = [int(one.id.rpartition(":")[2]) for one in found]
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) == 30


def test_time_never_goes_back() -> None:
    life = Life()
    life.connections(connection(), exchange_ms=START_MS)
    [event] = life.connections(connection(reconnects=1), exchange_ms=None)
    assert event.time_ms == START_MS
