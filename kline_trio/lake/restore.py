"""Make a store of a lake: a new machine goes on where the lake ends.

The store is built beside its place and renamed last. Each file of the lake is read once.
"""

import contextlib
import shutil
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from deltalake import DeltaTable

from kline_trio.candle import Series
from kline_trio.counting import counted
from kline_trio.errors import ConfigError, DiskFullError
from kline_trio.interval import Span
from kline_trio.lake.location import Location
from kline_trio.lake.objects import Objects
from kline_trio.lake.recorders import Recorders
from kline_trio.lake.scan import SOURCES, Filter, files_of, parts_of, read_errors, scan
from kline_trio.lake.schema import VALUES, rank
from kline_trio.lake.spool import BYTES_A_ROW, Spool
from kline_trio.lake.tables import open_table
from kline_trio.lake.union import united_account, united_gaps
from kline_trio.spans import joined
from kline_trio.storage.disk import disk_errors, make_folders
from kline_trio.storage.journal.ledger import State
from kline_trio.storage.layout import Layout
from kline_trio.storage.new_store import new_store
from kline_trio.storage.paths import scratch
from kline_trio.storage.row_faults import broken_rules, end_times_ms, is_on_grid
from kline_trio.storage.step import OnStep, Step, ignore_step
from kline_trio.storage.store import Store
from kline_trio.storage.table import BEGIN, END, runs_of, schema, values_of
from kline_trio.storage.universe import UniverseFile, united

_SPARE_BYTES = 64 << 20
_TIME = pa.timestamp("ms", "UTC")


@attrs.frozen
class RestoredSeries:
    """A series that is whole in the new store."""

    series: Series
    rows: int
    pending: int
    """How many due candles the lake lacks, which a recorder will ask the exchange for."""
    doubled: int
    """How many rows the lake had in vain, since it had another one of the same candle."""
    impossible: int
    """How many rows of the lake can be no candles, and were left out."""


def restore(
    location: Location,
    into: Path,
    layout: Layout,
    wanted: Filter,
    recorder: str,
    on_step: OnStep = ignore_step,
) -> Iterator[RestoredSeries]:
    """Write the candles of a lake into a new store, and what its recorders know besides them.

    Recorders may publish meanwhile. The new store knows the lake, and counts as published.

    Args:
      location: the lake.
      into: the new store's folder, which is not there or is empty.
      layout: how its files are named.
      wanted: which candles.
      recorder: the name of the new store's recorder in the lake; no other recorder has it.
      on_step: called with each part of the lake, and with each series.

    Raises:
      ConfigError: the store's place is taken; or there is no lake, or nothing wanted in it.
      LakeError: the lake cannot be read, or a file of it is missing or damaged.
      DiskError: the disk refused, or has too little room. After each error, no store is there.
    """
    with new_store(into) as work, contextlib.closing(Store.open(work, layout)) as store:
        on_step(Step(f"{location.url}: reading the accounts, gaps and revisions"))
        known = Recorders.of(location, wanted)
        candles = open_table(location, "candles")
        if candles is None:
            raise ConfigError([f"{location.url}: there is no lake of kline_trio"])
        _refuse_unknown(location, wanted, known)
        spool = Spool(scratch(work) / "lake")
        with disk_errors(spool.folder):
            make_folders(spool.folder)
        _fill(spool, location, candles.delta, wanted, known, on_step)
        every = sorted({*spool.rows, *known.accounts})
        if not every:
            raise ConfigError([f"{location.url}: the lake has no such candles"])
        for done, series in enumerate(every):
            on_step(Step(str(series), done, len(every), "series"))
            yield _restored(series, spool, known, store)
        on_step(Step("finishing the new store"))
        UniverseFile.open(work).append(united(known.universes))
        store.journal.begin_lake(recorder, candles.id, every, list(known.revisions()))
        with disk_errors(spool.folder):
            shutil.rmtree(spool.folder)


def _refuse_unknown(location: Location, wanted: Filter, known: Recorders) -> None:
    """Refuse a symbol that no recorder has: it is misspelled, and reading the lake takes hours."""
    if missing := sorted(wanted.symbols - known.symbols):
        near = {one: get_close_matches(one, sorted(known.symbols), n=1) for one in missing}
        hints = {one: f"; did you mean {near[one][0]}?" if near[one] else "" for one in missing}
        raise ConfigError(
            [f"{location.url}: no such candles of {one}{hints[one]}" for one in missing]
        )


def _fill(
    spool: Spool,
    location: Location,
    delta: DeltaTable,
    wanted: Filter,
    known: Recorders,
    on_step: OnStep,
) -> None:
    """Read the lake's candles into the spool."""
    on_step(Step("reading the list of the lake's files"))
    files, objects = files_of(delta, wanted), Objects.of(location)
    _refuse_small_disk(spool.folder, _most_rows(sum(one.rows for one in files), known))
    parts = parts_of(files)
    done, total = 0, sum(one.size_bytes for one in parts)
    for part in parts:
        first = part.files[0]
        rows, place = 0, f"{location.url}: {part}"
        with read_errors(place):
            spool.begin_part(first.trade_type, first.time_interval)
            for symbols, table in scan(objects, part, wanted):
                read_bytes = int(part.size_bytes * min(1.0, rows / max(1, part.rows)))
                on_step(Step(f"reading {part}", done + read_bytes, total, "byte"))
                spool.add(symbols, table)
                rows += table.num_rows
            spool.flush()
        done += part.size_bytes


def _most_rows(rows: int, known: Recorders) -> int:
    """Return about how many rows are wanted, of files with so many rows."""
    due = 0
    for series, accounts in known.accounts.items():
        account = united_account(accounts.values())
        if account.first_ms < account.watermark_ms:
            due += series.interval.count(Span(account.first_ms, account.watermark_ms))
    # Files also have rows that are not wanted; accounts do not have rows after the watermark.
    return min(rows, due + due // 10) if due else rows


def _refuse_small_disk(folder: Path, rows: int) -> None:
    needed, free = rows * BYTES_A_ROW + _SPARE_BYTES, shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFullError(
            f"{folder.parents[3]}: {counted(rows, 'candle')} may take {counted(needed, 'byte')}"
            f" while they are restored, and the disk has {free:,}: make room, or restore fewer"
            " series"
        )


def _restored(series: Series, spool: Spool, known: Recorders, store: Store) -> RestoredSeries:
    """Write the files and the ledger of a series."""
    writing = _Writing(series)
    entries = store.write_new(series, map(writing.take, spool.take(series)))
    store.journal.keep_filled(series, entries, [], [])
    spans = joined(writing.spans)
    ledgers = known.ledgers_of(series)
    pending = 0
    if ledgers:
        account = united_account(one.account for one in ledgers)
        gaps = united_gaps(series, account, ledgers, spans)
        store.journal.settle(gaps, {series: account})
        absent = [gap.span for gap in gaps if gap.state is State.PENDING]
        pending = sum(map(series.interval.count, absent))
    return RestoredSeries(series, writing.rows, pending, writing.doubled, writing.impossible)


@attrs.define(eq=False)
class _Writing:
    """Makes rows of files of rows of the lake, and counts them."""

    series: Series
    rows: int = 0
    doubled: int = 0
    impossible: int = 0
    spans: list[Span] = attrs.field(factory=list)

    def take(self, rows: pa.Table) -> pa.Table:
        """Return the rows of a part as rows of files, by begin and each once.

        Rows that can be no candles are left out, so that their candles are asked for again.
        """
        begins_us = values_of(rows[BEGIN])
        begins = begins_us // 1_000
        columns = {name: values_of(rows[name]) for name in VALUES}
        possible = is_on_grid(begins, self.series.interval) & (begins_us % 1_000 == 0)
        for _, broken in broken_rules(columns):
            possible &= ~broken
        if not possible.all():
            self.impossible += rows.num_rows - int(possible.sum())
            rows, begins = rows.filter(pa.array(possible)), begins[possible]
        if (np.diff(begins) <= 0).any():
            keep = _each_once(rows, begins)
            self.doubled += rows.num_rows - len(keep)
            rows, begins = rows.take(keep), begins[keep]
        self.rows += rows.num_rows
        self.spans += runs_of(self.series, begins)
        return _of_files(rows, begins, self.series)


def _each_once(rows: pa.Table, begins: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the places of the rows by begin; of those of one candle, that of the greatest rank.

    The lake has one row of each candle, unless another program has rewritten its files.
    """
    order = np.argsort(begins, kind="stable")
    is_same = np.diff(begins[order]) == 0
    if not is_same.any():
        return order
    sources: list[Any] = rows["source"].to_pylist()

    def rank_of(place: int) -> tuple[object, ...]:
        row = {name: rows[name][place].as_py() for name in (*VALUES, "revision")}
        code = sources[place]
        return rank({**row, "source": SOURCES[code] if code >= 0 else ""})

    starts = np.flatnonzero(np.concatenate(([True], ~is_same)))
    ends = [*starts[1:].tolist(), len(order)]
    groups = (order[first:end].tolist() for first, end in zip(starts.tolist(), ends, strict=True))
    best = (group[0] if len(group) == 1 else max(group, key=rank_of) for group in groups)
    return np.fromiter(best, np.int64)


def _of_files(rows: pa.Table, begins: npt.NDArray[np.int64], series: Series) -> pa.Table:
    ends = end_times_ms(begins, series.interval)
    columns: dict[str, Any] = {name: rows[name] for name in VALUES}
    columns[BEGIN] = pa.array(begins).cast(_TIME)
    columns[END] = pa.array(ends).cast(_TIME)
    wanted = schema(series)
    return pa.Table.from_arrays([columns[name] for name in wanted.names], schema=wanted)
