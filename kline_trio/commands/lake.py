"""The commands about a lake: compact, vacuum, and status of a lake."""

import argparse
import os
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kline_trio.commands.lake_place import lake_of, location_of
from kline_trio.commands.live import json_text
from kline_trio.commands.output import show_problems
from kline_trio.commands.progress import open_progress
from kline_trio.commands.store import store_of
from kline_trio.counting import counted
from kline_trio.duration import duration_text
from kline_trio.errors import ConfigError
from kline_trio.interval import time_text
from kline_trio.quoting import one_line
from kline_trio.reading.address import lake_packages

if TYPE_CHECKING:
    from kline_trio.lake.status import GroupStatus, LakeStatus, RecorderStatus

_RETRY_SECONDS = 0.2
_MOST_RETRY_SECONDS = 5.0


def compact(options: argparse.Namespace) -> int:
    """Rewrite the lake's candles into few sorted files. Return 1 if something was given up."""
    lake, _ = lake_of(options.lake)
    location = location_of(lake)
    with lake_packages():
        from kline_trio.lake.upkeep import compact as run
    with open_progress() as progress:
        done = run(location, _holder(), _pause, progress.show)
    if done.held_by is not None:
        print(f"{location.url}: {done.held_by} compacts it now: nothing was done")
        return 0
    if not done.jobs and not done.given_up:
        print(f"{location.url}: is compact already")
        return 0
    before, after = (counted(one, "file") for one in (done.files_before, done.files_after))
    sizes = f"{done.bytes_before:,} to {counted(done.bytes_after, 'byte')}"
    rows = counted(done.rows, "row")
    print(f"{location.url}: {before} became {after}, {sizes}, {rows}")
    if done.doubled:
        twice = counted(done.doubled, "row was there twice", "rows were there twice")
        print(f"{twice}, and not by kline_trio: the rows of the higher rank stay")
    if not done.given_up:
        return 0
    what = counted(done.given_up, "partition was", "partitions were")
    return show_problems([f"{what} changed meanwhile, and stay as they are: compact again"])


def vacuum(options: argparse.Namespace) -> int:
    """Remove the files that no version of the lake needs any more."""
    lake, _ = lake_of(options.lake)
    location = location_of(lake)
    with lake_packages():
        from kline_trio.lake.vacuum import RETENTION_SECONDS
        from kline_trio.lake.vacuum import vacuum as run
    retention = RETENTION_SECONDS if options.retention is None else options.retention
    with open_progress() as progress:
        done = run(location, retention, progress.show, dry_run=options.dry_run)
    if options.dry_run:
        for path in done.files:
            print(one_line(f"would remove {path}"))
    for path in done.foreign:
        print(one_line(f"left alone, since kline_trio did not make it: {path}"))
    verb = "would be removed" if options.dry_run else "removed"
    age = duration_text(retention)
    print(f"{location.url}: {counted(len(done.files), 'file')} older than {age} {verb}")
    return 0


def lake_status(options: argparse.Namespace) -> int:
    """Print what a lake holds, and which recorders publish to it."""
    lake, _ = lake_of(options.store)
    location = location_of(lake)
    store = None if options.local is None else store_of(options.local)[0]
    with lake_packages():
        from kline_trio.lake.status import as_values
        from kline_trio.lake.status import lake_status as look
    found = look(location, store)
    if not found.tables:
        raise ConfigError([f"there is no lake {found.url}: publish first"])
    lines = [json_text(as_values(found))] if options.json else list(_lines(found))
    if not options.quiet:
        for line in lines:
            print(line if options.json else one_line(line))
    return 0


def _lines(found: "LakeStatus") -> Iterator[str]:
    candles = sum(one.rows for one in found.groups)
    yield f"{found.url}: {counted(candles, 'candle')}"
    for table in found.tables:
        files, rows = counted(table.files, "file"), counted(table.rows, "row")
        size = counted(table.bytes, "byte")
        yield f"table {table.name}: version {table.version:,}, {files}, {size}, {rows}"
    for group in found.groups:
        yield _group_line(group, found.now)
    for one in found.recorders:
        yield _recorder_line(one, found.now)
    if found.compacting is not None:
        yield f"compaction: the lease is {found.compacting}'s"
    if not found.is_store_time:
        yield "ages are by this machine's clock, since these credentials may not write there"
    if (store := found.store) is not None:
        whose = "was never published" if store.recorder is None else f"recorder {store.recorder}"
        waiting = counted(store.unpublished, "candle is", "candles are")
        yield f"store {store.path}: {whose}, {waiting} unpublished"


def _group_line(one: "GroupStatus", now: float) -> str:
    files, rows = counted(one.files, "file"), counted(one.rows, "row")
    newest = time_text(round(one.newest * 1_000)).removesuffix("+00:00")
    age = duration_text(max(0.0, now - one.newest))
    size = counted(one.bytes, "byte")
    name = f"{one.trade_type} {one.time_interval}"
    return f"{name}: {files}, {size}, {rows}, the last candle began {newest}, {age} ago"


def _recorder_line(one: "RecorderStatus", now: float) -> str:
    presence = one.seen.presence
    shard = "all symbols" if presence.shard is None else f"shard {presence.shard}"
    words = [f"recorder {presence.recorder} on {presence.host}: {shard}"]
    words.append(f"seen {duration_text(one.age_seconds)} ago")
    if presence.published is None:
        words.append("never published")
    else:
        words.append(f"published {duration_text(max(0.0, now - presence.published))} ago")
    if presence.unpublished:
        words.append(f"{counted(presence.unpublished, 'candle')} behind")
    words.append(counted(presence.series, "series", "series"))
    if presence.address_group is not None:
        words.append(f"address group {presence.address_group}")
    if presence.clock_error_seconds:
        words.append(f"its clock {presence.clock_error_seconds:+.0f} s")
    return ", ".join(words)


def _holder() -> str:
    return f"{socket.gethostname()} pid {os.getpid()}"


def _pause(tried: int) -> None:
    time.sleep(min(_MOST_RETRY_SECONDS, _RETRY_SECONDS * tried))
