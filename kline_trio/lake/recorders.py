"""Read what all recorders of a lake know besides candles."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kline_trio.candle import Candle, Series, Source
from kline_trio.interval import Span
from kline_trio.lake.location import Location
from kline_trio.lake.scan import Filter, read_errors, rows_of
from kline_trio.lake.schema import SERIES
from kline_trio.lake.union import OneLedger
from kline_trio.storage.journal.ledger import Gap, Reason, Revision, SeriesAccount, State
from kline_trio.storage.journal.schema import VALUE_COLUMNS
from kline_trio.storage.sidecar import TIME
from kline_trio.storage.table import BEGIN
from kline_trio.storage.universe import UNIVERSE

_REQUIRED = {"recorder", *SERIES, "first", "watermark", "from", "to", "first_seen", "asked", BEGIN}
"""Columns in which no row has an empty value; other ones fail where the value is used."""


@attrs.frozen
class Recorders:
    """The accounts, gaps, revisions and universes of all recorders of a lake."""

    accounts: Mapping[Series, Mapping[str, SeriesAccount]]
    """By series and recorder."""
    symbols: frozenset[str]
    """All symbols that a recorder has an account of, also those that are not wanted."""
    _gaps: pa.Table
    """By series, recorder and time; times are milliseconds."""
    _ranges: Mapping[Series, tuple[int, int]]
    """The rows of each series in `_gaps`."""
    _revisions: pa.Table
    """By candle, recorder and number; times are milliseconds."""
    universes: Mapping[str, pa.Table]
    """By recorder, with the columns of a store's universe."""

    @classmethod
    def of(cls, location: Location, wanted: Filter) -> "Recorders":
        """Read the tables. Read the candles after this.

        A recorder writes its accounts last. So each due candle of an account that is read first is
        in the coverage that is read next, or in the candles that are read last.

        Raises:
          LakeError: the lake cannot be read, or holds what kline_trio never writes.
        """
        rows = _rows(location, "accounts")
        with read_errors(location.table_url("accounts")):
            accounts = _accounts(rows, wanted)
        gaps = _plain(_of_wanted(_rows(location, "coverage"), wanted))
        gaps = gaps.sort_by([(name, "ascending") for name in (*SERIES, "recorder", "from")])
        with read_errors(location.table_url("coverage")):
            ranges = _ranges_of(gaps)
        revisions = _plain(_of_wanted(_rows(location, "revisions"), wanted))
        revisions = revisions.filter(pc.field(BEGIN) >= wanted.since_ms)
        order = (BEGIN, *SERIES, "recorder", "number")
        revisions = revisions.sort_by([(name, "ascending") for name in order])
        universe = _rows(location, "universe")
        names: list[str] = pc.unique(universe["recorder"]).to_pylist()  # type: ignore[assignment]
        universes = {
            name: universe.filter(pc.field("recorder") == name).select(UNIVERSE.names)
            for name in sorted(names)
        }
        symbols: list[str] = pc.unique(rows["symbol"]).to_pylist()  # type: ignore[assignment]
        return cls(accounts, frozenset(symbols), gaps, ranges, revisions, universes)

    def ledgers_of(self, series: Series) -> list[OneLedger]:
        """Return the ledger of each recorder that has an account of the series.

        Raises:
          LakeError: a gap is none that kline_trio writes.
        """
        first, end = self._ranges.get(series, (0, 0))
        gaps: dict[str, list[Gap]] = {}
        with read_errors(f"the coverage of {series} in the lake"):
            for row in self._gaps.slice(first, end - first).to_pylist():
                gaps.setdefault(row["recorder"], []).append(_gap(series, row))
        return [
            OneLedger(name, account, tuple(gaps.get(name, ())))
            for name, account in self.accounts.get(series, {}).items()
        ]

    def revisions(self) -> Iterator[Revision]:
        """Give the revisions by candle, and those of one candle in the order of arrival.

        Raises:
          LakeError: a revision is none that kline_trio writes.
        """
        with read_errors("the revisions in the lake"):
            batches = self._revisions.to_batches(max_chunksize=10_000)
            rows = (row for batch in batches for row in batch.to_pylist())
            for _, some in itertools.groupby(rows, key=_key):
                yield from _united(some)


def _rows(location: Location, name: str) -> pa.Table:
    """Return a whole table with times in milliseconds; no rows if the lake has no such table."""
    rows = rows_of(location, name)
    with read_errors(location.table_url(name)):
        rows = rows.cast(_with_times(rows.schema, TIME))
        if any(rows[each].null_count for each in rows.column_names if each in _REQUIRED):
            raise ValueError("a row with an empty value")
    return rows


def _with_times(columns: pa.Schema, kind: pa.DataType) -> pa.Schema:
    return pa.schema(
        [(one.name, kind if pa.types.is_timestamp(one.type) else one.type) for one in columns]
    )


def _plain(rows: pa.Table) -> pa.Table:
    """Return the rows with times as numbers of milliseconds."""
    return rows.cast(_with_times(rows.schema, pa.int64()))


def _of_wanted(rows: pa.Table, wanted: Filter) -> pa.Table:
    chosen = (wanted.markets, wanted.symbols, wanted.intervals)
    for name, some in zip(SERIES, chosen, strict=True):
        if some:
            rows = rows.filter(pc.is_in(rows[name], value_set=pa.array(sorted(some))))
    return rows


def _accounts(rows: pa.Table, wanted: Filter) -> dict[Series, dict[str, SeriesAccount]]:
    found: dict[Series, dict[str, SeriesAccount]] = {}
    for row in _plain(_of_wanted(rows, wanted)).to_pylist():
        series = Series(*(row[name] for name in SERIES))
        account = SeriesAccount(row["first"], row["watermark"], row["retired"])
        if account.watermark_ms > wanted.since_ms:
            from_ms = series.interval.next_open_time_ms(wanted.since_ms)
            account = attrs.evolve(account, first_ms=max(account.first_ms, from_ms))
            found.setdefault(series, {})[row["recorder"]] = account
    return found


def _ranges_of(rows: pa.Table) -> dict[Series, tuple[int, int]]:
    """Return the rows of each series; the rows of a series are together."""
    is_first = np.zeros(rows.num_rows, np.bool_)
    is_first[:1] = True
    for name in SERIES:
        column: Any = rows[name].combine_chunks()
        codes = column.dictionary_encode().indices.to_numpy()
        is_first[1:] |= np.diff(codes) != 0
    at = np.flatnonzero(is_first)
    names = rows.select(SERIES).take(at).to_pylist()
    firsts, series = at.tolist(), [Series(*(one[name] for name in SERIES)) for one in names]
    ends = [*firsts, rows.num_rows][1:]
    return dict(zip(series, zip(firsts, ends, strict=True), strict=True))


def _gap(series: Series, row: Mapping[str, Any]) -> Gap:
    return Gap(
        series,
        Span(row["from"], row["to"]),
        row["first_seen"],
        Reason(row["reason"]),
        State(row["state"]),
        row["asked"],
        Source(row["filled_by"]) if row["filled_by"] else None,
    )


def _key(row: Mapping[str, Any]) -> tuple[object, ...]:
    return (row[BEGIN], *(row[name] for name in SERIES))


def _united(rows: Iterable[Mapping[str, Any]]) -> Iterator[Revision]:
    """Give the revisions of one candle; of those that several recorders have, one."""
    given: Counter[Revision] = Counter()
    for _, some in itertools.groupby(rows, key=itemgetter("recorder")):
        seen: Counter[Revision] = Counter()
        for one in map(_revision, some):
            seen[one] += 1
            if seen[one] > given[one]:
                given[one] += 1
                yield one


def _revision(row: Mapping[str, Any]) -> Revision:
    older, newer = (
        Candle(row[BEGIN], *(row[f"{age}_{name}"] for name in VALUE_COLUMNS))
        for age in ("older", "newer")
    )
    series = Series(*(row[name] for name in SERIES))
    return Revision(series, older, newer, Source(row["origin"]), row["is_newer_kept"])
