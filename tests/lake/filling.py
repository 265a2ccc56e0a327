"""Stores whose candles are published to a lake in a folder."""

from collections.abc import Callable, Iterable
from pathlib import Path

from kline_trio.candle import ReceivedCandle
from kline_trio.lake.location import Location
from kline_trio.lake.publish import publish
from kline_trio.lake.tables import made_table
from kline_trio.storage.catalog import series
from kline_trio.storage.store import Store
from tests.storage.support import open_store


def lake_in(folder: Path) -> Location:
    """The lake in a folder."""
    return Location(str(folder))


def publish_store(store: Store, location: Location, recorder: str = "rec-a") -> None:
    """Everything of an open store goes into the lake."""
    table = made_table(location, "candles")
    store.journal.begin_lake(recorder, table.id, series(store.path))
    sequence = publish(
        location,
        store.path,
        lambda part: store.journal.published(part.spans, part.sequence),
        lambda _: None,
    )
    store.journal.published({}, sequence, is_all=True)


def publish_candles(
    folder: Path,
    lake: Path,
    candles: Iterable[ReceivedCandle],
    recorder: str = "rec-a",
    settle: Callable[[Store], None] = lambda _: None,
) -> None:
    """Make a store of candles, or go on with it, and publish it."""
    store = open_store(folder)
    store.journal.accept(list(candles))
    settle(store)
    publish_store(store, lake_in(lake), recorder)
    store.close()
