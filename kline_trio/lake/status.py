"""What a lake holds, from the logs of its tables and its small objects; no data is read."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.compute as pc

from kline_trio.interval import time_text
from kline_trio.lake.errors import LakeDeniedError, lake_errors
from kline_trio.lake.lease import holder_of
from kline_trio.lake.location import Location
from kline_trio.lake.objects import Objects
from kline_trio.lake.presence import Seen, read_presences
from kline_trio.lake.publish import unpublished_spans
from kline_trio.lake.schema import TABLES
from kline_trio.lake.tables import LakeTable, open_table
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.paths import journal_path
from kline_trio.storage.table import BEGIN


@attrs.frozen
class TableStatus:
    """One of the lake's tables."""

    name: str
    version: int
    files: int
    bytes: int
    rows: int
    """As the table's log says."""


@attrs.frozen
class GroupStatus:
    """The candles of a market and an interval."""

    trade_type: str
    time_interval: str
    files: int
    bytes: int
    rows: int
    newest: float
    """The open time of the last candle, in seconds since 1970."""


@attrs.frozen
class RecorderStatus:
    """A recorder that has published to the lake."""

    seen: Seen
    age_seconds: float
    """Of its presence."""


@attrs.frozen
class StoreStatus:
    """A local store beside the lake."""

    path: Path
    recorder: str | None
    """The name of its recorder in the lake; None: nothing was published from there."""
    unpublished: int
    """How many candles are still to be published, at most."""


@attrs.frozen
class LakeStatus:
    """A lake at one moment."""

    url: str
    tables: tuple[TableStatus, ...]
    """Empty: there is no lake."""
    groups: tuple[GroupStatus, ...]
    recorders: tuple[RecorderStatus, ...]
    compacting: str | None
    """Who holds the lease, as far as it can be seen."""
    now: float
    """Seconds since 1970."""
    is_store_time: bool
    """Whether `now` is the object store's; it is this machine's if nothing may be written."""
    store: StoreStatus | None


def lake_status(location: Location, store_path: Path | None = None) -> LakeStatus:
    """Return what a lake holds.

    Args:
      location: the lake. Read access is enough.
      store_path: a local store; its unpublished candles are counted. None: there is none.

    Raises:
      ForeignLakeError: a table is not ours, or of a newer version.
      LakeError: the lake cannot be read.
      KlineTrioError: the store cannot be read.
    """
    opened = [table for name in TABLES if (table := open_table(location, name)) is not None]
    store = None if store_path is None else _store_status(store_path)
    if not opened:
        return LakeStatus(location.url, (), (), (), None, time.time(), False, store)  # noqa: FBT003
    objects = Objects.of(location)
    files = {table.name: _files(location, table) for table in opened}
    seen = read_presences(objects)
    now, is_store_time = _now(objects)
    return LakeStatus(
        location.url,
        tuple(_table_status(table, files[table.name]) for table in opened),
        _groups(files["candles"]) if "candles" in files else (),
        tuple(RecorderStatus(one, one.age_seconds(now)) for one in seen),
        holder_of(objects),
        now,
        is_store_time,
        store,
    )


def _now(objects: Objects) -> tuple[float, bool]:
    """Return the object store's time if this user may write there, else that of this machine."""
    if objects.is_folder:
        return time.time(), True
    try:
        return objects.now(), True
    except LakeDeniedError:
        return time.time(), False


def _files(location: Location, table: LakeTable) -> pa.Table:
    with lake_errors(f"{location.table_url(table.name)}: its log cannot be read"):
        actions: Any = table.delta.get_add_actions(flatten=True)
        return pa.table(actions)


def _table_status(table: LakeTable, files: pa.Table) -> TableStatus:
    size, rows = (pc.sum(files[name]).as_py() or 0 for name in ("size_bytes", "num_records"))
    return TableStatus(table.name, table.delta.version(), files.num_rows, size, rows)


def _groups(files: pa.Table) -> tuple[GroupStatus, ...]:
    keys = ["partition.trade_type", "partition.time_interval"]
    newest = f"max.{BEGIN}"
    if not files.num_rows or newest not in files.column_names:
        return ()
    sums: Any = [([], "count_all"), ("size_bytes", "sum"), ("num_records", "sum"), (newest, "max")]
    return tuple(
        GroupStatus(
            row[keys[0]],
            row[keys[1]],
            row["count_all"],
            row["size_bytes_sum"],
            row["num_records_sum"] or 0,
            0.0 if row[f"{newest}_max"] is None else row[f"{newest}_max"].timestamp(),
        )
        for row in files.group_by(keys).aggregate(sums).sort_by([(k, "ascending") for k in keys])
        .to_pylist()
    )  # fmt: skip


def _store_status(store_path: Path) -> StoreStatus:
    if not journal_path(store_path).exists():
        return StoreStatus(store_path, None, 0)
    with journal_view(store_path) as journal:
        state = journal.lake()
        found = journal.unpublished()
    if state is None:
        return StoreStatus(store_path, None, 0)
    spans = unpublished_spans(store_path, found)
    count = sum(one.interval.count(span) for one, some in spans.items() for span in some)
    return StoreStatus(store_path, state.recorder, count)


def as_values(status: LakeStatus) -> Mapping[str, object]:
    """Return a status for programs. The keys stay the same in later versions."""
    return {
        "lake": status.url,
        "now": _text(status.now),
        "clock": "the object store" if status.is_store_time else "this machine",
        "tables": [attrs.asdict(one) for one in status.tables],
        "candles": [attrs.asdict(one) | {"newest": _text(one.newest)} for one in status.groups],
        "recorders": [_recorder_values(one) for one in status.recorders],
        "compacting": status.compacting,
        "store": None if status.store is None else _store_values(status.store),
    }


def _text(seconds: float) -> str:
    return time_text(round(seconds * 1_000))


def _recorder_values(one: RecorderStatus) -> Mapping[str, object]:
    presence = one.seen.presence
    return {
        "recorder": presence.recorder,
        "host": presence.host,
        "version": presence.version,
        "shard": None if presence.shard is None else str(presence.shard),
        "copies": presence.copies,
        "address_group": presence.address_group,
        "age_seconds": one.age_seconds,
        "published": None if presence.published is None else _text(presence.published),
        "unpublished": presence.unpublished,
        "series": presence.series,
        "clock_error_seconds": presence.clock_error_seconds,
    }


def _store_values(one: StoreStatus) -> Mapping[str, object]:
    return {"path": str(one.path), "recorder": one.recorder, "unpublished": one.unpublished}
