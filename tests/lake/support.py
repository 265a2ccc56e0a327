"""Stores for the lake's tests, what a lake holds of them, and what it has to hold."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from kline_trio.candle import Candle, Series, Source
from kline_trio.lake.location import Location
from kline_trio.lake.publish import Published, publish
from kline_trio.lake.schema import CANDLES, KEY, VALUES
from kline_trio.lake.tables import made_table
from kline_trio.storage.catalog import series, stored_table
from kline_trio.storage.journal.ledger import FetchResult, Gap, Reason, SeriesAccount, State
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.store import Store
from kline_trio.storage.table import BEGIN, candles_of, table_of
from tests.storage.support import (
    BTC,
    COIN,
    MONTHLY,
    at,
    make_candle,
    merge_all,
    minutes,
    open_store,
    receive,
    span,
)

Row = dict[str, Any]
ETH = Series("spot", "ETHUSDT", "1m")
FIRST = 1_430
"""The first minute of BTC and ETH in `make_store`: the next month begins 10 minutes later."""


def no_pause(_: int) -> None:
    """Retry at once."""


def make_store(path: Path, value: float = 1.0) -> Store:
    """Return an open store in which candles have come in every way there is.

    BTC's minutes lie in two months. Some are in files, some in the journal; gaps are filled by REST
    and by the archive, pending, or closed; some values were replaced, before a merge and after one.

    Args:
      path: its folder.
      value: of most candles.
    """
    store = open_store(path)
    journal = store.journal
    journal.settle([], {one: SeriesAccount(at(FIRST), at(FIRST + 40)) for one in (BTC, ETH)})
    journal.accept(minutes(FIRST, FIRST + 5, value))
    journal.accept(minutes(FIRST + 9, FIRST + 13, value))
    journal.accept(receive(ETH, *(make_candle(at(FIRST + n), value) for n in range(3))))
    merge_all(store)
    gaps = [
        Gap(BTC, span(FIRST + 5, FIRST + 9), at(FIRST + 9), Reason.RECORDER_DOWN),
        Gap(BTC, span(FIRST + 20, FIRST + 22), at(FIRST + 22), Reason.NOT_RECEIVED),
        Gap(ETH, span(FIRST + 3, FIRST + 6), at(FIRST + 6), Reason.RECORDER_DOWN),
    ]
    journal.settle(gaps, {})
    rest = tuple(make_candle(at(FIRST + n), value + 1) for n in (5, 6))
    answered = span(FIRST + 5, FIRST + 9)
    journal.refill([FetchResult(BTC, answered, rest, Source.REST, Reason.EXCHANGE_HAD_NONE)])
    fill_from_archive(store, ETH, [make_candle(at(FIRST + n), value + 2) for n in (3, 4)])
    # One value is replaced in a file, one in the journal, one twice.
    for change in (1, 2):
        journal.accept(minutes(FIRST + change, FIRST + 3, value + change))
        merge_all(store)
    journal.accept(minutes(FIRST + 3, FIRST + 4, value + 3))
    journal.accept(minutes(FIRST + 13, FIRST + 20, value))
    journal.accept(minutes(FIRST + 13, FIRST + 14, value + 1))
    journal.accept(receive(BTC, make_candle(at(FIRST), value + 5)), Source.REPAIR)
    journal.accept(receive(COIN, *(make_candle(at(n, COIN), value) for n in range(4))))
    journal.accept(receive(MONTHLY, *(make_candle(at(n, MONTHLY), value) for n in range(3))))
    return store


def fill_from_archive(store: Store, one: Series, candles: Sequence[Candle]) -> None:
    """Bring candles of the archive into files, and fill their gaps."""
    times = [candle.open_time_ms for candle in candles]
    filled = list(one.interval.runs(times))
    merged = store.fill_in(table_of(one, candles), one, store.journal.files([one]))
    store.journal.keep_filled(one, merged, filled, [])


def begin_and_publish(
    store: Store,
    location: Location,
    recorder: str = "rec-a",
    most_rows: int = 12,
    on_part: Callable[[Published], None] | None = None,
) -> list[Published]:
    """Publish all that is unpublished, and keep it in the journal; return the parts."""
    table = made_table(location, "candles")
    store.journal.begin_lake(recorder, table.id, series(store.path))
    parts: list[Published] = []

    def keep(part: Published) -> None:
        if on_part is not None:
            on_part(part)
        store.journal.published(part.spans, part.sequence)
        parts.append(part)

    sequence = publish(location, store.path, keep, no_pause, most_rows)
    store.journal.published({}, sequence, is_all=True)
    return parts


def lake_table(location: Location, name: str = "candles") -> pa.Table:
    """Return a table of the lake as it is now."""
    delta = DeltaTable(location.table_url(name), storage_options=location.table_options())
    return delta.to_pyarrow_table()


def lake_candles(location: Location) -> list[Row]:
    """Return the lake's candles, by key; a key that is there twice is there twice."""
    return by_key(lake_table(location))


def by_key(table: pa.Table) -> list[Row]:
    """Return the rows of the lake's candles, in the order of their keys."""
    rows = table.select(CANDLES.names).to_pylist()
    return sorted(rows, key=_key)


def stored_rows(store_path: Path) -> list[Row]:
    """Return what the lake has to hold of a store, each candle weighed by itself.

    This shares no code with `rows.py`: values as a reader of the store sees them, the source by
    walking the ledger candle for candle, and each replacement counted.
    """
    found = []
    with journal_view(store_path) as journal:
        gaps, noted = list(journal.gaps()), list(journal.revisions())
        waiting = {
            (one, candle.open_time_ms): (candle, source)
            for one in journal.series_by_id().values()
            for candle, source in journal.candles(one, 0, 2**62)
        }
        files = {one: journal.files([one]) for one in journal.series_by_id().values()}
    for one in series(store_path):
        table = stored_table(store_path, one)
        assert table is not None
        filed = {
            candle.open_time_ms: candle
            for file in files[one]
            for candle in candles_of(pq.read_table(store_path / file.path))
        }
        for candle in candles_of(table):
            begin_ms = candle.open_time_ms
            source, revision = Source.STREAM, 0
            for gap in gaps:
                is_it = gap.series == one and begin_ms in gap.span and gap.state is State.FILLED
                source = gap.filled_by or source if is_it else source
            for replaced in noted:
                is_it = replaced.series == one and replaced.newer.open_time_ms == begin_ms
                if is_it and replaced.is_newer_kept:
                    source, revision = replaced.origin, revision + 1
            # The merge that comes will note one more.
            coming, origin = waiting.get((one, begin_ms), (None, Source.STREAM))
            if coming and origin.replaces and filed.get(begin_ms, coming) != coming:
                source, revision = origin, revision + 1
            found.append(_row(one, candle, str(source), revision))
    return sorted(found, key=_key)


def _key(row: Row) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in KEY)


def _row(one: Series, candle: Candle, source: str, revision: int) -> Row:
    begin = datetime.fromtimestamp(candle.open_time_ms / 1_000, UTC)
    end_ms = one.interval.end_time_ms(candle.open_time_ms)
    return {
        "trade_type": one.trade_type,
        "symbol": one.symbol,
        "time_interval": one.time_interval,
        "month": f"{begin:%Y-%m}",
        BEGIN: begin,
        **{name: getattr(candle, name) for name in VALUES},
        "candle_end_time": datetime.fromtimestamp(end_ms / 1_000, UTC),
        "source": source,
        "revision": revision,
    }
