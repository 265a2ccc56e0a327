"""Read a lake: its candles, and what recorders have published besides them.

A statement about what is absent needs the accounts to be read first: each due candle of an account
is in the lake, or in that recorder's coverage, by the time that the account is there.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.counting import counted
from kline_trio.errors import ConfigError
from kline_trio.interval import Span
from kline_trio.lake.errors import LakeError, lake_errors
from kline_trio.lake.ledger_tables import (
    RECORDER,
    accounts,
    ledger_rows,
    published_revisions,
    unfilled_gaps,
    values,
)
from kline_trio.lake.location import Location
from kline_trio.lake.merge import literal
from kline_trio.lake.plan import month_of, month_span
from kline_trio.lake.query import between, equal, one_of, select, selected
from kline_trio.lake.schema import SERIES
from kline_trio.lake.tables import LakeTable, open_table
from kline_trio.storage.in_lake import InLake
from kline_trio.storage.journal.ledger import Gap, SeriesAccount
from kline_trio.storage.reports import COVERAGE, REVISIONS, differences
from kline_trio.storage.sidecar import TIME as MILLISECONDS
from kline_trio.storage.sidecar import as_table
from kline_trio.storage.table import BEGIN, schema, values_of
from kline_trio.storage.universe import UNIVERSE, united, universe_table

_NAMES = [pa.field(name, pa.string()) for name in SERIES]
_LATE = "not published yet"
_UNKNOWN = "not in the ledger"


@attrs.frozen
class ReadableLake:
    """A lake as the readers of `kline_trio` see it."""

    location: Location

    @classmethod
    def open(cls, url: str) -> "ReadableLake":
        """Return the lake at an address, or in a folder. Whether there is one, a look at it says.

        Raises:
          ConfigError: the address is none, or its endpoint cannot be used.
          LakeError: there are no credentials.
        """
        return cls(Location.from_url(url))

    @property
    def name(self) -> str:
        """The address of the lake."""
        return self.location.url

    def check(self) -> None:
        """Refuse an address without a lake.

        Raises:
          ConfigError: there is none.
          LakeError: it cannot be read.
        """
        if not any(open_table(self.location, name) for name in ("candles", "accounts")):
            raise ConfigError([f"there is no lake at {self.name}: no recorder has published there"])

    def _candles(self) -> LakeTable | None:
        table = open_table(self.location, "candles")
        if table is None:
            # Only now: a second look at an object store takes as long as the first.
            self.check()
        return table

    def _ledger(
        self,
        name: str,
        columns: pa.Schema,
        order: Sequence[str],
        wanted: Mapping[str, str] | None = None,
    ) -> pa.Table:
        rows = ledger_rows(self.location, name, columns, order, wanted)
        if not rows.num_rows:
            self.check()
        return rows

    def series(self) -> list[Series]:
        """Return the series that the lake holds candles of, in order.

        Raises:
          ConfigError: there is no lake.
          LakeError: it cannot be read.
        """
        table = self._candles()
        return [] if table is None else sorted(candle_series(table, self.location))

    def last_end_ms(self) -> dict[Series, int]:
        """Return the end of each series' newest candle.

        Raises:
          ConfigError: there is no lake.
          LakeError: it cannot be read.
        """
        table = self._candles()
        return {} if table is None else newest_end_ms(table, self.location)

    def tables(
        self, wanted: Collection[Series], from_ms: int, to_ms: int
    ) -> dict[Series, pa.Table | None]:
        """Return the rows with open times in [from_ms, to_ms) of each series, by begin.

        A table has the columns of the series' files. None: the lake has no such row.

        Raises:
          LakeError: the lake cannot be read, or holds a candle twice.
        """
        table = self._candles()
        found: dict[Series, pa.Table | None] = dict.fromkeys(wanted)
        if table is None:
            return found
        kinds: dict[tuple[str, str], list[Series]] = {}
        for one in wanted:
            kinds.setdefault((one.trade_type, one.time_interval), []).append(one)
        for several in kinds.values():
            found.update(candles(table, self.location, several, from_ms, to_ms))
        return found

    def monthly(self, wanted: Collection[Series]) -> dict[Series, "LakeSeries"]:
        """Return some series, each to be read a month at a time, so that it fits into memory.

        Raises:
          ConfigError: there is no lake.
          LakeError: it cannot be read.
        """
        table = self._candles()
        months: dict[tuple[str, str], list[Span]] = {}
        with lake_errors(f"{self.location.table_url('candles')}: cannot be read"):
            for one in table.delta.partitions() if table else ():
                names = one["trade_type"], one["time_interval"]
                months.setdefault(names, []).append(month_span(one["month"]))
        return {
            one: LakeSeries(self, one, sorted(months.get((one.trade_type, one.time_interval), ())))
            for one in wanted
        }

    def in_lake(self, _: Collection[Series]) -> InLake:
        """Return no month: a store alone has some that are elsewhere."""
        return InLake()

    def absences(self, wanted: Collection[Series]) -> "LakeAbsences":
        """Return why candles of some series are missing. To be called before `tables`.

        Raises:
          ConfigError: there is no lake.
          LakeError: it cannot be read.
        """
        return LakeAbsences(self.location, accounts(self.location, wanted))

    def coverage(self, wanted: Mapping[str, str]) -> pa.Table:
        """Return the ranges of all recorders by series and time, of the series with some names.

        The last column is the recorder.

        Raises:
          ConfigError: there is no lake.
          LakeError: it cannot be read.
        """
        order = (*SERIES, "from", "recorder")
        return self._ledger("coverage", COVERAGE.append(RECORDER), order, wanted)

    def accounted(self) -> set[Series]:
        """Return the series that a recorder accounts for, or that have candles.

        Raises:
          ConfigError: there is no lake.
          LakeError: it cannot be read.
        """
        return {*(series for _, series in accounts(self.location)), *self.series()}

    def revisions(self) -> pa.Table:
        """Return each column that differs between two values of a candle, by series and time.

        The last column is the recorder that saw both values.

        Raises:
          ConfigError: there is no lake.
          LakeError: it cannot be read.
        """
        rows = (
            (*row, recorder)
            for recorder, _, one in published_revisions(self.location)
            for row in differences(one)
        )
        table = as_table(rows, REVISIONS.append(RECORDER))
        if not table.num_rows:
            self.check()
        return table

    def universe(self) -> pa.Table:
        """Return what all recorders saw of the markets' lists, as one history.

        Raises:
          KlineTrioError: the lake cannot be read, or holds what can be no symbol.
        """
        rows = self._ledger("universe", UNIVERSE, ("time",))
        return universe_table(united({self.location.table_url("universe"): rows}))


@attrs.frozen
class LakeSeries:
    """The candles of a series in a lake, a month at a time."""

    lake: ReadableLake
    series: Series
    months: Sequence[Span]
    """Those that the lake has, by time."""

    def tables(self, span: Span) -> Iterator[pa.Table]:
        """Give the candles with open times in a span, by time, a month in each table.

        Raises:
          ConfigError: there is no lake.
          LakeError: it cannot be read.
        """
        for month in self.months:
            for part in month.common_with(span):
                found = self.lake.tables([self.series], part.from_ms, part.to_ms)[self.series]
                if found is not None:
                    yield found


@attrs.define
class LakeAbsences:
    """Why candles are missing in a lake, by the coverage of its recorders."""

    location: Location
    accounts: Mapping[tuple[str, Series], SeriesAccount]
    """By recorder and series; read before the candles."""
    _unfilled: dict[Series, list[Gap]] = attrs.field(init=False, factory=dict)

    def reasons(self, wanted: Series, gap: Span) -> list[str]:
        """Return the reasons in the coverage of all recorders, in order.

        Raises:
          ConfigError: there is no lake.
          LakeError: it cannot be read.
        """
        if wanted not in self._unfilled:
            several = unfilled_gaps(self.location, wanted).values()
            self._unfilled[wanted] = [one for gaps in several for one in gaps]
        found = {str(one.reason) for one in self._unfilled[wanted] if one.span.common_with(gap)}
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
    """Return the rows of some series of one market and interval, as `ReadableLake.tables`.

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
            found = f"{counted(twice, 'candle')} of {owner} twice"
            raise LakeError(f"{location.table_url('candles')}: has {found}: check the lake")
    return rows


def candle_series(table: LakeTable, location: Location) -> set[Series]:
    """Return the series that have candles. This reads one column of all files.

    Raises:
      LakeError: the lake cannot be read.
    """
    batches = selected(location, table, pa.schema(_NAMES), is_distinct=True)
    return {Series(*names) for batch in batches for names in values(batch)}


def newest_end_ms(table: LakeTable, location: Location) -> dict[Series, int]:
    """Return the end of each series' newest candle. This reads two columns of all files.

    Raises:
      LakeError: the lake cannot be read.
    """
    columns = pa.schema(_NAMES).append(pa.field(BEGIN, MILLISECONDS))
    found = {}
    for batch in selected(location, table, columns, newest=BEGIN):
        for *names, begin_ms in values(batch):
            series = Series(*names)
            found[series] = series.interval.end_time_ms(begin_ms)
    return found
