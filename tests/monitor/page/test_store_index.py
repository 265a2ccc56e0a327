"""The index is read while somebody looks, and seldom."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import cast

import attrs
import pytest
import trio
import trio.testing

from kline_trio.candle import Series
from kline_trio.errors import DiskError, UnavailableError
from kline_trio.monitor.page.look import Look
from kline_trio.monitor.page.sources import StoredSource
from kline_trio.monitor.page.store_index import StoreIndex
from tests.builders import SPOT

SPEED = 50.0


@attrs.frozen
class FakeLook:
    """One look."""

    number: int
    places: Mapping[Series, int]


@attrs.define
class FakeStore:
    """Is read in the place of a real one."""

    looks: int = 0
    took_seconds: float = 0.0
    places: Mapping[Series, int] = attrs.field(factory=lambda: {SPOT: 0})
    error: Exception | None = None
    used_seconds: float = 0.0
    """Of the processor."""

    def read(self, *_: object, with_census: bool) -> Look:
        assert with_census
        self.looks += 1
        self.used_seconds += self.took_seconds
        if self.error is not None:
            raise self.error
        return cast("Look", FakeLook(self.looks, self.places))


Watched = Callable[[FakeStore], AbstractAsyncContextManager[StoreIndex]]


@pytest.fixture
def mock_clock() -> trio.testing.MockClock:
    """Runs fast: looks are made in threads, for which a clock that jumps would not wait."""
    return trio.testing.MockClock(rate=SPEED)


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    @asynccontextmanager
    async def watched(store: FakeStore) -> AsyncIterator[StoreIndex]:
        index = StoreIndex(StoredSource(tmp_path), store.read, lambda: store.used_seconds)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(index.run)
            yield index
            nursery.cancel_scope.cancel()

    return watched


async def test_nothing_is_read_before_somebody_looks(
    watched: Watched, mock_clock: trio.testing.MockClock
) -> None:
    store = FakeStore()
    async with watched(store) as index:
        await trio.sleep(50)
        assert store.looks == 0
        found = await index.get()
        assert found is index.latest
        assert store.looks == 1


async def test_all_that_look_share_one_look_in_two_seconds(
    watched: Watched, mock_clock: trio.testing.MockClock
) -> None:
    store = FakeStore()
    async with watched(store) as index, trio.open_nursery() as readers:

        async def read() -> None:
            for _ in range(20):
                await index.get()
                await trio.sleep(1.5)

        for _ in range(10):
            readers.start_soon(read)
        await trio.sleep(29)
        assert 10 <= store.looks <= 15


async def test_a_store_without_series_is_read_more_often(
    watched: Watched, mock_clock: trio.testing.MockClock
) -> None:
    """A page that is opened together with a recorder is not empty for long."""
    store = FakeStore(places={})
    async with watched(store) as index:
        await index.get()
        await trio.sleep(40)
        # In two seconds each, they would be 21.
        assert 24 <= store.looks <= 81


@pytest.mark.parametrize("error", [None, DiskError("data: Input/output error")])
async def test_a_large_store_is_read_for_one_percent_of_the_time(
    watched: Watched, mock_clock: trio.testing.MockClock, error: DiskError | None
) -> None:
    """Also if it can be read no more, for what is read last."""
    store = FakeStore(took_seconds=0.5)
    async with watched(store) as index:
        await index.get()
        store.error = error
        for _ in range(10):
            index.want()
            await trio.sleep(12)
        assert 2 <= store.looks <= 3


async def test_when_nobody_looks_the_index_is_dropped(
    watched: Watched, mock_clock: trio.testing.MockClock
) -> None:
    store = FakeStore()
    async with watched(store) as index:
        first = await index.get()
        await trio.sleep(100)
        assert index.latest is None
        looks = store.looks
        assert looks < 35
        await trio.sleep(50)
        assert store.looks == looks
        assert await index.get() is not first


async def test_a_store_that_cannot_be_read_is_tried_again(
    watched: Watched, mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = FakeStore(error=DiskError("data: Input/output error"))
    async with watched(store) as index:
        with pytest.raises(UnavailableError, match="the store cannot be read: data: Input/output"):
            await index.get()
        store.error = None
        await trio.sleep(15)
        assert await index.get()
        assert index.problem is None
        # One failure may be that of a moment; after two, what was read is no longer true.
        store.error = DiskError("data: Input/output error")
        index.want()
        await trio.sleep(25)
        assert store.looks >= 3
        index.want()
        await trio.sleep(15)
        assert index.latest is None
        with pytest.raises(UnavailableError):
            await index.get()
    assert sum("page: the store cannot be read" in line for line in caplog.messages) == 2


async def test_a_bug_ends_no_index(
    watched: Watched, mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Else what was read last would be shown for ever, and may say that all is complete."""
    store = FakeStore()
    async with watched(store) as index:
        await index.get()
        store.error = ZeroDivisionError("a bug")
        await trio.sleep(30)
        assert index.latest is None
        assert index.problem == "the store cannot be read: a bug; see the log"
        assert caplog.text.count("ZeroDivisionError: a bug") == 1
        store.error = None
        index.want()
        await trio.sleep(30)
        assert await index.get()
        assert index.problem is None
