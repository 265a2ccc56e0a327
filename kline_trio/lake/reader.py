"""Read a lake: its candles, and what recorders have published besides them.

A statement about what is absent needs the accounts to be read first: each due candle of an account
is in the lake, or in that recorder's coverage, by the time that the account is there.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kline_trio.candle import MAX_TIME_MS, Candle, Series, Source
from kline_trio.interval import Span
from kline_trio.lake.errors import LakeError
from kline_trio.lake.location import Location
from kline_trio.lake.merge import literal
from kline_trio.lake.plan import month_of
from kline_trio.lake.query import between, equal, one_of, select, selected
from kline_trio.lake.schema import SERIES, TABLES, VALUES
from kline_trio.lake.tables import LakeTable, open_table
from kline_trio.storage.journal.ledger import Revision, SeriesAccount, State
from kline_trio.storage.reports import COVERAGE, REVISIONS, differences
from kline_trio.storage.sidecar import TIME as MILLISECONDS
from kline_trio.storage.sidecar import as_table
from kline_trio.storage.table import BEGIN, schema, values_of
from kline_trio.storage.universe import UNIVERSE, united, universe_table

_RECORDER = pa.field("recorder", pa.string())
_LATE = "not published yet"
_UNKNOWN = "not in the ledger"


@attrs.frozen
class LakeSource:
    """A lake as the readers of `kline_trio` see it."""

    location: Location

    @classmethod
    def open(cls, url: str) -> "LakeSource":
        """Return the lake at an address, or in a folder.

        Raises:
          ConfigError: the address is none, or its endpoint cannot be used.
          LakeError: the lake cannot be read, or there is none.
        """
        made = cls(Location.from_url(url))
        made.check()
        return made

    @property
    def name(self) -> str:
        """The address of the lake."""
        return self.location.url

    def check(self) -> None:
        """Refuse an address without a lake.

        Raises:
          LakeError: there is none, or it cannot be read.
        """
        if not any(open_table(self.location, name) for name in ("candles", "accounts")):
            raise LakeError(f"there is no lake at {self.name}: no recorder has published there")

    def series(self) -> list[Series]:
        """Return the series that the lake holds candles of, in order.

        Raises:
          LakeError: the lake cannot be read.
        """
        table = open_table(self.location, "candles")
        return [] if table is None else sorted(candle_series(table, self.location))

    def tables(
        self, wanted: Collection[Series], from_ms: int, to_ms: int
    ) -> dict[Series, pa.Table | None]:
        """Return the rows with open times in [from_ms, to_ms) of each series, by begin.

        A table has the columns of the series' files. None: the lake has no such row.

        Raises:
          LakeError: the lake cannot be read, or holds a candle twice.
        """
        table = open_table(self.location, "candles")
        found: dict[Series, pa.Table | None] = dict.fromkeys(wanted)
        if table is None:
            return found
        kinds: dict[tuple[str, str], list[Series]] = {}
        for one in wanted:
            kinds.setdefault((one.trade_type, one.time_interval), []).append(one)
        for several in kinds.values():
            found.update(candles(table, self.location, several, from_ms, to_ms))
        return found

    def absences(self, wanted: Collection[Series]) -> "LakeAbsences":
        """Return why candles of some series are missing. To be called before `tables`.

        Raises:
          LakeError: the lake cannot be read.
        """
        return LakeAbsences(self.location, accounts(self.location, wanted))

    def coverage(self, wanted: Mapping[str, str]) -> pa.Table:
        """Return the ranges of all recorders by series and time, of the series with some names.

        The last column is the recorder.

        Raises:
          LakeError: the lake cannot be read.
        """
        order = (*SERIES, "from", "recorder")
        return _rows(self.location, "coverage", COVERAGE.append(_RECORDER), order, wanted)

    def accounted(self) -> set[Series]:
        """Return the series that a recorder accounts for, or that have candles.

        Raises:
          LakeError: the lake cannot be read.
        """
        return {*(series for _, series in accounts(self.location)), *self.series()}

    def revisions(self) -> pa.Table:
        """Return each column that differs between two values of a candle, by series and time.

        The last column is the recorder that saw both values.

        Raises:
          LakeError: the lake cannot be read.
        """
        rows = (
            (*row, recorder)
            for recorder, _, one in published_revisions(self.location)
            for row in differences(one)
        )
        return as_table(rows, REVISIONS.append(_RECORDER))

    def universe(self) -> pa.Table:
        """Return what all recorders saw of the markets' lists, as one history.

        Raises:
          KlineTrioError: the lake cannot be read, or holds what can be no symbol.
        """
        rows = _rows(self.location, "universe", UNIVERSE, ("time",))
        return universe_table(united({self.location.table_url("universe"): rows}))


@attrs.define
class LakeAbsences:
    """Why candles are missing in a lake, by the coverage of its recorders."""

    location: Location
    accounts: Mapping[tuple[str, Series], SeriesAccount]
    """By recorder and series; read before the candles."""
    _unfilled: dict[Series, list[tuple[Span, str]]] = attrs.field(init=False, factory=dict)

    def reasons(self, wanted: Series, gap: Span) -> list[str]:
        """Return the reasons in the coverage of all recorders, in order.

        Raises:
          LakeError: the lake cannot be read.
        """
        if wanted not in self._unfilled:
            self._unfilled[wanted] = unfilled(self.location, wanted)
        found = {reason for span, reason in self._unfilled[wanted] if span.common_with(gap)}
        if found:
            return sorted(found)
        is_due = any(
            account.first_ms < gap.to_ms and gap.from_ms < account.watermark_ms
            for (_, series), account in self.accounts.items()
            if series == wanted
        )
        return [_UNKNOWN if is_due else _LATE]


def candles(
    table: LakeTable, location: Location, several: Sequence[Series], from_ms: int, to_ms: int
) -> dict[Series, pa.Table | None]:
    """Return the rows of some series of one market and interval, as `LakeSource.tables`.

    Raises:
      LakeError: the lake cannot be read, or holds a candle twice.
    """
    from_ms, to_ms = max(from_ms, 0), min(to_ms, MAX_TIME_MS)
    found: dict[Series, pa.Table | None] = dict.fromkeys(several)
    if from_ms >= to_ms or not several:
        return found
    names = {one.symbol: code for code, one in enumerate(several)}
    conditions = [
        *equal({"trade_type": several[0].trade_type, "time_interval": several[0].time_interval}),
        # The partitions alone, too: a file may have no statistics.
        f"month >= {literal(month_of(from_ms))} AND month <= {literal(month_of(to_ms - 1))}",
        one_of("symbol", names),
        *between(BEGIN, from_ms, to_ms),
    ]
    columns = schema(several[0]).remove_metadata()
    texts = [pa.field("symbol", pa.string())] if len(names) > 1 else []
    rows = select(location, table, pa.schema([*texts, *columns]), conditions)
    if not rows.num_rows:
        return found
    if len(names) == 1:
        return {several[0]: _in_order(rows, several[0], location)}
    codes = pc.index_in(rows["symbol"], value_set=pa.array(list(names))).to_numpy()
    order = np.argsort(codes, kind="stable")
    rows = rows.select(columns.names).take(order)
    ends = np.cumsum(np.bincount(codes, minlength=len(names))).tolist()
    for one, first, end in zip(several, [0, *ends], ends, strict=False):
        if end > first:
            found[one] = _in_order(rows.slice(first, end - first), one, location)
    return found


def _in_order(rows: pa.Table, owner: Series, location: Location) -> pa.Table:
    """Return the rows by begin, with the columns of the series' files."""
    rows = rows.cast(schema(owner))
    begins = values_of(rows[BEGIN])
    if (np.diff(begins) <= 0).any():
        rows = rows.sort_by(BEGIN)
        begins = values_of(rows[BEGIN])
        if twice := int(np.count_nonzero(np.diff(begins) == 0)):
            raise LakeError(
                f"{location.table_url('candles')}: {twice:,} candles of {owner} are there twice:"
                " check the lake"
            )
    return rows


def candle_series(table: LakeTable, location: Location) -> set[Series]:
    """Return the series that have candles. This reads one column of all files.

    Raises:
      LakeError: the lake cannot be read.
    """
    columns = pa.schema([(name, pa.string()) for name in SERIES])
    return {
        Series(*names)
        for batch in selected(location, table, columns, is_distinct=True)
        for names in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    }


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
    rows = _rows(location, "accounts", _milliseconds("accounts", names), names[:4])
    found = {}
    for recorder, trade_type, symbol, time_interval, *times in _values(rows):
        series = Series(trade_type, symbol, time_interval)
        if wanted is None or series in wanted:
            found[recorder, series] = SeriesAccount(*times)
    return found


def unfilled(location: Location, series: Series) -> list[tuple[Span, str]]:
    """Return the ranges of a series that a recorder found missing and not filled, with reasons.

    Raises:
      LakeError: the lake cannot be read.
    """
    wanted = dict(zip(SERIES, attrs.astuple(series), strict=True))
    order = ("from", "recorder")
    rows = _rows(location, "coverage", COVERAGE, order, wanted)
    values = _values(rows.select(["from", "to", "reason", "state"]))
    return [
        (Span(from_ms, to_ms), reason)
        for from_ms, to_ms, reason, state in values
        if state != State.FILLED
    ]


def published_revisions(location: Location) -> Iterable[tuple[str, int, Revision]]:
    """Give the revisions of all recorders by series and time, each with recorder and number.

    Raises:
      LakeError: the lake cannot be read.
    """
    columns = TABLES["revisions"][0].names
    wanted = _milliseconds("revisions", columns)
    rows = _rows(location, "revisions", wanted, (*SERIES, BEGIN, "recorder", "number"))
    split = len(columns) - len(VALUES)
    for row in _values(rows):
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


def _rows(
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


def _values(table: pa.Table) -> Iterable[tuple[Any, ...]]:
    """Give the rows as values; times are milliseconds."""
    columns = (
        (one.cast(pa.int64()) if one.type == MILLISECONDS else one).to_pylist()
        for one in table.columns
    )
    return zip(*columns, strict=True)
