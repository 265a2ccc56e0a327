"""Publish what a recorder knows besides candles: coverage, accounts, revisions and universe.

Each recorder has partitions of its own, so recorders never overwrite each other. `accounts` is
written last: each due candle of an account is in the lake by then, or in the coverage.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, write_deltalake

from kline_trio.candle import Series
from kline_trio.lake.errors import lake_errors
from kline_trio.lake.location import Location
from kline_trio.lake.merge import literal
from kline_trio.lake.schema import ACCOUNTS, GAPS, REVISIONS, UNIVERSE
from kline_trio.lake.tables import committed, made_table
from kline_trio.storage.journal.ledger import Revision, SeriesAccount
from kline_trio.storage.journal.reader import JournalView
from kline_trio.storage.paths import universe_path
from kline_trio.storage.reports import COVERAGE
from kline_trio.storage.sidecar import TIME as STORED_TIME
from kline_trio.storage.sidecar import as_table
from kline_trio.storage.universe import read_universe

_ACCOUNT = pa.schema(
    [(one.name, STORED_TIME if one.name in ("first", "watermark", "retired") else one.type)
     for one in ACCOUNTS][1:]
)  # fmt: skip
_NUMBER = pa.schema([REVISIONS.field("number")])


@attrs.frozen
class Ledgers:
    """What a recorder knows besides candles, at one moment of its journal."""

    recorder: str
    coverage: pa.Table
    accounts: pa.Table
    universe: pa.Table

    @classmethod
    def of(cls, journal: JournalView, store_path: Path, recorder: str) -> "Ledgers":
        """Return what a journal has at its moment, and the universe's file now.

        Raises:
          KlineTrioError: one of them cannot be read.
        """
        accounts = as_table(_account_rows(journal.accounts()), _ACCOUNT)
        universe = read_universe(universe_path(store_path))
        return cls(
            recorder,
            _of_recorder(recorder, as_table(journal.gap_rows(), COVERAGE), GAPS),
            _of_recorder(recorder, accounts, ACCOUNTS),
            _of_recorder(recorder, universe, UNIVERSE),
        )

    def publish(self, location: Location, pause: Callable[[int], None]) -> None:
        """Replace this recorder's rows in the lake by these, where they differ.

        Raises:
          LakeError: the lake cannot be read or written.
        """
        replace_rows(location, "universe", self.recorder, self.universe, pause)
        replace_rows(location, "coverage", self.recorder, self.coverage, pause)
        replace_rows(location, "accounts", self.recorder, self.accounts, pause)


def _account_rows(accounts: Mapping[Series, SeriesAccount]) -> Iterable[tuple[Any, ...]]:
    for series in sorted(accounts):
        yield (*attrs.astuple(series), *attrs.astuple(accounts[series]))


def _of_recorder(recorder: str, rows: pa.Table, wanted: pa.Schema) -> pa.Table:
    """Return a store's rows with the columns of the lake's table."""
    names = pa.array([recorder] * rows.num_rows, pa.string())
    return rows.add_column(0, "recorder", names).select(wanted.names).cast(wanted)


def replace_rows(
    location: Location,
    name: str,
    recorder: str,
    rows: pa.Table,
    pause: Callable[[int], None],
) -> None:
    """Replace a recorder's rows in a table of the lake, unless it holds just these.

    Raises:
      LakeError: the lake cannot be read or written; or other commits came in between too often.
    """

    def replace(table: DeltaTable) -> None:
        if not rows_of(table, recorder, rows.schema).equals(rows):
            predicate = f"recorder = {literal(recorder)}"
            write_deltalake(table, rows, mode="overwrite", predicate=predicate)

    committed(location, name, pause, replace)


def rows_of(table: DeltaTable, recorder: str, wanted: pa.Schema) -> pa.Table:
    """Return a recorder's rows of a table, in the order in which they were written."""
    found = table.to_pyarrow_dataset().to_table(
        columns=wanted.names, filter=pc.field("recorder") == recorder
    )
    return found.cast(wanted)


def publish_revisions(
    location: Location,
    recorder: str,
    found: Iterable[tuple[int, Revision]],
    pause: Callable[[int], None],
) -> int:
    """Insert a recorder's revisions that the lake lacks; return how many were inserted.

    Raises:
      LakeError: the lake cannot be read or written; or other commits came in between too often.
    """
    rows = _revision_table(recorder, found)
    if not rows.num_rows:
        return 0
    condition = f"old.recorder = {literal(recorder)} AND old.recorder = new.recorder"
    condition += " AND old.number = new.number"

    def insert(table: DeltaTable) -> int:
        merger = table.merge(rows, condition, source_alias="new", target_alias="old")
        done = merger.when_not_matched_insert_all().execute()
        return int(done["num_target_rows_inserted"])

    return committed(location, "revisions", pause, insert)


def last_revision(location: Location, recorder: str) -> int:
    """Return the number of a recorder's last revision in the lake; 0: there is none.

    Raises:
      LakeError: the lake cannot be read.
    """
    table = made_table(location, "revisions").delta
    with lake_errors(f"{location.table_url('revisions')}: cannot be read"):
        numbers = rows_of(table, recorder, _NUMBER)
        last = pc.max(numbers["number"]).as_py()
    return int(last or 0)


def _revision_table(recorder: str, found: Iterable[tuple[int, Revision]]) -> pa.Table:
    rows = []
    for number, one in found:
        (begin_ms, *older), (_, *newer) = map(attrs.astuple, (one.older, one.newer))
        names = attrs.astuple(one.series)
        values = (recorder, number, *names, begin_ms * 1_000, str(one.origin), one.is_newer_kept)
        rows.append(dict(zip(REVISIONS.names, (*values, *older, *newer), strict=True)))
    return pa.Table.from_pylist(rows, schema=REVISIONS)
