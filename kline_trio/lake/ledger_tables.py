"""Read what recorders have published besides candles: accounts, coverage, revisions."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs
import pyarrow as pa

from kline_trio.candle import Candle, Series, Source
from kline_trio.lake.location import Location
from kline_trio.lake.query import equal, select
from kline_trio.lake.schema import SERIES, TABLES, VALUES
from kline_trio.lake.tables import open_table
from kline_trio.storage.journal.ledger import Gap, Revision, SeriesAccount, State, gap_of
from kline_trio.storage.reports import COVERAGE
from kline_trio.storage.sidecar import TIME as MILLISECONDS
from kline_trio.storage.table import BEGIN

RECORDER = pa.field("recorder", pa.string())


def accounts(
    location: Location, wanted: Collection[Series] | None = None
) -> dict[tuple[str, Series], SeriesAccount]:
    """Return up to where each recorder accounts for each series, by recorder and series.

    Args:
      location: the lake.
      wanted: of these series only; None: of all.

    Raises:
      LakeError: the lake cannot be read.
    """
    names = ("recorder", *SERIES, "first", "watermark", "retired")
    rows = ledger_rows(location, "accounts", _milliseconds("accounts", names), names[:4])
    found = {}
    for recorder, trade_type, symbol, time_interval, *times in values(rows):
        series = Series(trade_type, symbol, time_interval)
        if wanted is None or series in wanted:
            found[recorder, series] = SeriesAccount(*times)
    return found


def unfilled_gaps(
    location: Location, series: Series | None = None
) -> dict[tuple[str, Series], list[Gap]]:
    """Return the pending and the closed gaps, by recorder and series, and then by time.

    Args:
      location: the lake.
      series: of this series only; None: of all.

    Raises:
      LakeError: the lake cannot be read.
    """
    wanted = {} if series is None else dict(zip(SERIES, attrs.astuple(series), strict=True))
    columns = COVERAGE.append(RECORDER)
    rows = ledger_rows(location, "coverage", columns, (*SERIES, "from", "recorder"), wanted)
    found: dict[tuple[str, Series], list[Gap]] = {}
    for *names, from_ms, to_ms, seen_ms, reason, state, asked, by, recorder in values(rows):
        if state != State.FILLED:
            one = Series(*names)
            gap = gap_of(one, (from_ms, to_ms, seen_ms, reason, state, asked, by))
            found.setdefault((recorder, one), []).append(gap)
    return found


def gaps_of_recorder(location: Location, recorder: str) -> dict[Series, list[Gap]]:
    """Return the gaps of every state that a recorder has published, by series, and then by time.

    Raises:
      LakeError: the lake cannot be read.
    """
    rows = ledger_rows(location, "coverage", COVERAGE, (*SERIES, "from"), {"recorder": recorder})
    found: dict[Series, list[Gap]] = {}
    for *names, from_ms, to_ms, seen_ms, reason, state, asked, by in values(rows):
        one = Series(*names)
        gap = gap_of(one, (from_ms, to_ms, seen_ms, reason, state, asked, by))
        found.setdefault(one, []).append(gap)
    return found


def published_revisions(location: Location) -> Iterable[tuple[str, int, Revision]]:
    """Give the revisions of all recorders by series and time, each with recorder and number.

    Raises:
      LakeError: the lake cannot be read.
    """
    columns = TABLES["revisions"][0].names
    wanted = _milliseconds("revisions", columns)
    rows = ledger_rows(location, "revisions", wanted, (*SERIES, BEGIN, "recorder", "number"))
    split = len(columns) - len(VALUES)
    for row in values(rows):
        recorder, number, *names, begin_ms, origin, is_newer_kept = row[: split - len(VALUES)]
        older, newer = row[split - len(VALUES) : split], row[split:]
        yield (
            recorder,
            number,
            Revision(
                Series(*names),
                Candle(begin_ms, *older),
                Candle(begin_ms, *newer),
                Source(origin),
                is_newer_kept,
            ),
        )


def _milliseconds(name: str, columns: Iterable[str]) -> pa.Schema:
    """Return columns of a lake's table, with times in milliseconds."""
    kinds = TABLES[name][0]
    fields = [kinds.field(one) for one in columns]
    return pa.schema(
        [one.with_type(MILLISECONDS) if pa.types.is_timestamp(one.type) else one for one in fields]
    )


def ledger_rows(
    location: Location,
    name: str,
    columns: pa.Schema,
    order: Sequence[str],
    wanted: Mapping[str, str] | None = None,
) -> pa.Table:
    """Return rows of a table in an order; none if the lake does not have the table yet.

    Args:
      location: the lake.
      name: of the table.
      columns: to return; times are cast to their types.
      order: the columns to sort by.
      wanted: by column, the text that rows have there; None: all rows.
    """
    table = open_table(location, name)
    if table is None:
        return pa.Table.from_batches([], columns)
    return select(location, table, columns, equal(wanted or {}), order)


def values(table: pa.Table | pa.RecordBatch) -> Iterable[tuple[Any, ...]]:
    """Give the rows as values; times are milliseconds."""
    columns = (
        (one.cast(pa.int64()) if one.type == MILLISECONDS else one).to_pylist()
        for one in table.columns
    )
    return zip(*columns, strict=True)
