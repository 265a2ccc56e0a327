"""Server-sent events, over virtual time."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest
import trio
import trio.testing

from kline_trio.candle import ReceivedCandle, Series, Source
from kline_trio.monitor.page.event_stream import EventStream
from kline_trio.monitor.page.history import History
from kline_trio.recorder.broadcast import Broadcast, Candles
from tests.builders import ETH, SPOT, START_MS
from tests.monitor.page.test_history import lags_of, snapshot
from tests.storage.support import make_candle, receive

if TYPE_CHECKING:
    from kline_trio.monitor.page.sources import Source as PageSource

WILD = Series("usdt_futures", "币安人生USDT", "1m")


@attrs.define
class FakeSource:
    """A recorder that a test plays."""

    history: History = attrs.field(factory=History)
    broadcast: Broadcast = attrs.field(factory=Broadcast)
    subscriptions: int = 0

    def candles(self) -> Candles:
        self.subscriptions += 1
        return self.broadcast.subscribe(100)


@attrs.define
class Reader:
    """A browser."""

    text: str = ""
    chunks: int = 0
    gate: trio.Event | None = None
    """Until it is set, nothing is read."""

    async def take(self, chunk: bytes) -> None:
        if self.gate is not None:
            await self.gate.wait()
        await trio.lowlevel.checkpoint()
        self.chunks += 1
        self.text += chunk.decode()

    def events(self, name: str) -> list[Any]:
        """The data of the events of a name."""
        found = []
        for block in self.text.split("\n\n"):
            lines = block.split("\n")
            if lines[0] == f"event: {name}":
                [data] = lines[1:]
                found.append(json.loads(data.removeprefix("data: ")))
        return found


@attrs.define
class Page:
    """A stream with its jobs, and what it shows."""

    source: FakeSource = attrs.field(factory=FakeSource)
    shown: dict[str, object] = attrs.field(factory=lambda: {"n": 0})
    rendered: int = 0
    stream: EventStream = attrs.field(init=False)
    nursery: trio.Nursery | None = None

    def __attrs_post_init__(self) -> None:
        self.stream = EventStream(cast("PageSource", self.source), self.overview)

    def overview(self) -> bytes:
        self.rendered += 1
        return json.dumps(self.shown).encode()

    def open(self, *series: Series) -> tuple[Reader, trio.CancelScope]:
        """Begin to read; the scope ends it."""
        reader, scope = Reader(), trio.CancelScope()

        async def read() -> None:
            with scope:
                await self.stream.send(series, reader.take)

        assert self.nursery is not None
        self.nursery.start_soon(read)
        return reader, scope

    def publish(self, *candles: ReceivedCandle) -> None:
        self.source.broadcast.publish(candles)


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with served() as page:
        yield page


@asynccontextmanager
async def served() -> AsyncIterator[Page]:
    page = Page()
    async with trio.open_nursery() as nursery:
        page.nursery = nursery
        nursery.start_soon(page.stream.tick)
        nursery.start_soon(page.stream.follow_candles)
        yield page
        nursery.cancel_scope.cancel()


def candle(series: Series, value: float = 1.0, open_ms: int = START_MS) -> ReceivedCandle:
    [received] = receive(series, make_candle(open_ms, value))
    return received


async def test_a_reader_gets_the_overview_at_once_and_when_it_changes(
    page: Page, autojump_clock: trio.testing.MockClock
) -> None:
    reader, _ = page.open()
    await trio.testing.wait_all_tasks_blocked()
    assert reader.text.startswith('retry: 2000\n\nevent: overview\ndata: {"n": 0}\n\n')
    page.shown["n"] = 1
    await trio.sleep(1.5)
    assert reader.events("overview")[-1] == {"n": 1}
    count = len(reader.events("overview"))
    page.shown["n"] = 2
    await trio.sleep(0.9)
    assert len(reader.events("overview")) <= count + 1, "at most once a second"


async def test_the_heartbeat_comes_each_five_seconds_without_a_change(
    page: Page, autojump_clock: trio.testing.MockClock
) -> None:
    reader, _ = page.open()
    await trio.sleep(1.5)
    before = len(reader.events("overview"))
    await trio.sleep(20)
    assert 3 <= len(reader.events("overview")) - before <= 5


async def test_all_readers_share_what_is_rendered_and_nothing_is_without_readers(
    page: Page, autojump_clock: trio.testing.MockClock
) -> None:
    await trio.sleep(10)
    assert page.rendered == 0
    scopes = [page.open()[1] for _ in range(10)]
    await trio.sleep(0.5)
    at_first = page.rendered
    await trio.sleep(10)
    assert page.rendered - at_first <= 10
    assert page.stream.readers == 10
    for scope in scopes:
        scope.cancel()
    await trio.sleep(2)
    assert page.stream.readers == 0
    rendered = page.rendered
    await trio.sleep(10)
    assert page.rendered == rendered
    reader, _ = page.open()
    page.shown["n"] = 7
    await trio.sleep(2.5)
    assert reader.events("overview")[-1] == {"n": 7}


async def test_a_step_of_the_history_is_sent_once(
    page: Page, autojump_clock: trio.testing.MockClock
) -> None:
    reader, _ = page.open()
    history = page.source.history
    for second in range(25):
        history.look(snapshot(second, 10 * second, 0, (0, lags_of(0.3))), float(second))
        await trio.sleep(1)
    first, second = reader.events("sample")
    assert set(first) == {"time_ms", "frames", "candles", "lag_p50", "lag_max"}
    assert second["time_ms"] == first["time_ms"] + 10_000
    assert first["lag_max"] == 0.3


async def test_a_reader_gets_the_candles_of_its_series_alone(
    page: Page, autojump_clock: trio.testing.MockClock
) -> None:
    chart, _ = page.open(SPOT, WILD)
    other, _ = page.open(ETH)
    plain, _ = page.open()
    await trio.sleep(0.5)
    page.publish(candle(SPOT, 2.0), candle(ETH, 3.0), candle(WILD))
    await trio.testing.wait_all_tasks_blocked()
    assert chart.events("candle") == [
        {
            "series": "spot/BTCUSDT/1m", "open_time_ms": START_MS, "open": 2.0, "high": 2.0,
            "low": 2.0, "close": 2.0, "volume": 2.0, "source": "stream",
        },
        {
            "series": "usdt_futures/币安人生USDT/1m", "open_time_ms": START_MS, "open": 1.0,
            "high": 1.0, "low": 1.0, "close": 1.0, "volume": 1.0, "source": "stream",
        },
    ]  # fmt: skip
    assert [one["series"] for one in other.events("candle")] == ["spot/ETHUSDT/1m"]
    assert not plain.events("candle")
    assert page.source.subscriptions == 1


async def test_a_refill_tells_its_source(
    page: Page, autojump_clock: trio.testing.MockClock
) -> None:
    reader, _ = page.open(SPOT)
    await trio.sleep(0.5)
    page.publish(attrs.evolve(candle(SPOT), source=Source.REST))
    await trio.testing.wait_all_tasks_blocked()
    assert [one["source"] for one in reader.events("candle")] == ["rest"]


async def test_candles_come_whatever_other_pages_were_closed_before(
    page: Page, autojump_clock: trio.testing.MockClock
) -> None:
    """A page without a chart, a page with one, one after the other, and none at all."""
    for series in ((), (SPOT,), (), (ETH,)):
        _, scope = page.open(*series)
        await trio.sleep(0.5)
        scope.cancel()
        await trio.sleep(0.5)
        page.publish(candle(SPOT))
        await trio.testing.wait_all_tasks_blocked()
        reader, scope = page.open(SPOT)
        await trio.sleep(0.5)
        page.publish(candle(SPOT, 5.0))
        await trio.testing.wait_all_tasks_blocked()
        assert [one["open"] for one in reader.events("candle")] == [5.0]
        scope.cancel()
        await trio.sleep(0.5)


async def test_without_charts_the_recorder_copies_no_candles(
    page: Page, autojump_clock: trio.testing.MockClock
) -> None:
    _, scope = page.open(SPOT)
    await trio.sleep(0.5)
    scope.cancel()
    await trio.sleep(0.5)
    page.publish(candle(SPOT))
    await trio.sleep(0.5)
    assert not list(page.source.broadcast._candles)


async def test_a_slow_reader_holds_up_nobody_and_misses_only_old_overviews(
    page: Page, autojump_clock: trio.testing.MockClock
) -> None:
    slow, _ = page.open(SPOT)
    fast, _ = page.open(SPOT)
    await trio.sleep(0.5)
    slow.gate = trio.Event()
    for number in range(20):
        page.shown["n"] = number
        page.publish(candle(SPOT, float(number)))
        await trio.sleep(1)
    assert len(fast.events("candle")) == 20
    slow.gate.set()
    await trio.sleep(1.5)
    assert [one["open"] for one in slow.events("candle")] == [float(n) for n in range(20)]
    assert len(slow.events("overview")) < len(fast.events("overview")) - 10
    assert slow.events("overview")[-1] == {"n": 19}


async def test_when_the_recorder_stops_streams_stay_until_they_are_closed(
    page: Page, autojump_clock: trio.testing.MockClock
) -> None:
    reader, _ = page.open(SPOT)
    await trio.sleep(0.5)
    page.source.broadcast.close()
    page.shown["n"] = 5
    await trio.sleep(2)
    assert reader.events("overview")[-1] == {"n": 5}


async def test_nothing_is_left_of_readers_that_have_gone(
    page: Page, autojump_clock: trio.testing.MockClock
) -> None:
    for _ in range(50):
        _, scope = page.open(SPOT, ETH)
        await trio.sleep(0.1)
        scope.cancel()
        await trio.sleep(0.1)
    assert not page.stream._readers
    assert not page.stream._by_series
