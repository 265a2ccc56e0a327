"""Check a lake: read each file, each row and each key; and compare the candles with the accounts.

Accounts are read first, then the coverage, and then the candles: what is missing by that order was
not published, or was removed.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kline_trio.candle import TRADE_TYPES, Series, Source, check_symbol
from kline_trio.counting import counted
from kline_trio.interval import INTERVALS, Interval, Span, time_text
from kline_trio.lake.errors import LakeError, lake_errors
from kline_trio.lake.ledger_tables import accounts, unfilled_gaps
from kline_trio.lake.location import Location
from kline_trio.lake.plan import month_span
from kline_trio.lake.schema import CANDLES, VALUES
from kline_trio.lake.tables import LakeTable, open_table
from kline_trio.quoting import one_line
from kline_trio.spans import joined
from kline_trio.storage.check import CheckedFile
from kline_trio.storage.holdings import Holdings
from kline_trio.storage.row_faults import (
    Fault,
    broken_rules,
    end_times_ms,
    is_on_grid,
    is_possible_time,
)
from kline_trio.storage.step import OnStep, Step, ignore_step
from kline_trio.storage.table import BEGIN, END, runs_of

_MOST_ROWS_A_KIND = 5
"""How many rows of a file with the same fault are named; the others are counted."""
_BATCH_ROWS = 131_072
_SOURCES = {str(one) for one in Source}
_STATISTICS = ("symbol", BEGIN)
"""Readers skip files by the log's bounds of these columns."""


def check(location: Location, on_step: OnStep = ignore_step) -> Iterator[CheckedFile]:
    """Give what a check finds of each file of the candles, and of each series with holes.

    A key is unique among all rows of its partition. A row can be a candle, belongs to the month of
    its partition, and ends one interval after its begin. Each due candle of an account is in the
    lake or in that recorder's coverage.

    Args:
      location: the lake.
      on_step: called with each file, and with what is waited for.

    Raises:
      LakeError: the lake cannot be read at all. A file that cannot be read is a fault.
    """
    on_step(Step(f"reading the ledger of {location.url}"))
    due = accounts(location)
    gaps = unfilled_gaps(location)
    table = open_table(location, "candles")
    held: dict[Series, list[Span]] = defaultdict(list)
    if table is not None:
        yield from _checked_table(location, table, held, on_step)
    for (recorder, series), account in sorted(due.items(), key=lambda one: (one[0][1], one[0][0])):
        rows = tuple(joined(held.get(series, ())))
        absences = tuple(gaps.get((recorder, series), ()))
        if holes := Holdings(series, account, rows, absences).missing():
            faults = tuple(_hole_fault(series, recorder, hole) for hole in holes)
            yield CheckedFile(Path(location.url), faults, series=series)


def _hole_fault(series: Series, recorder: str, hole: Span) -> Fault:
    count = counted(series.interval.count(hole), "candle is", "candles are")
    times = f"{time_text(hole.from_ms)} to {time_text(hole.to_ms)}"
    return Fault(f"{times}: {count} neither in the lake nor in the coverage of {recorder}")


@attrs.frozen
class _File:
    """A file as the table's log has it."""

    path: str
    size_bytes: int
    rows: int | None
    bounds: Mapping[str, tuple[Any, Any]]
    """By column: the least and the greatest value, or None."""


def _checked_table(
    location: Location, table: LakeTable, held: dict[Series, list[Span]], on_step: OnStep
) -> Iterator[CheckedFile]:
    """Check partition by partition. Add the candles that are there to `held`."""
    with lake_errors(f"{location.table_url('candles')}: cannot be read"):
        partitions = _partitions(table)
        datasets = {
            names: table.delta.to_pyarrow_dataset(
                file_pruning_predicate=list(zip(_NAMES, ("=",) * 3, names, strict=True))
            )
            for names in partitions
        }
    total, done = sum(map(len, partitions.values())), 0
    for names, files in partitions.items():
        partition = _Partition.of(*names)
        fragments = {one.path.lstrip("/"): one for one in datasets[names].get_fragments()}
        for file in files:
            on_step(Step(f"checking {file.path}", done, total, "file"))
            done += 1
            yield _checked_file(file, fragments.get(file.path), partition)
        for series, spans in partition.spans():
            held[series] += spans


_NAMES = ("trade_type", "time_interval", "month")


def _partitions(table: LakeTable) -> dict[tuple[str, str, str], list[_File]]:
    """Return the files of each partition, in order."""
    rows: list[dict[str, Any]] = pa.table(table.delta.get_add_actions(flatten=True)).to_pylist()
    found: dict[tuple[str, str, str], list[_File]] = defaultdict(list)
    for one in sorted(rows, key=lambda row: str(row["path"])):
        bounds = {name: (one.get(f"min.{name}"), one.get(f"max.{name}")) for name in _STATISTICS}
        file = _File(one["path"], one["size_bytes"], one.get("num_records"), bounds)
        found[tuple(str(one[f"partition.{name}"]) for name in _NAMES)].append(file)  # type: ignore[index]
    return dict(sorted(found.items()))


def _checked_file(file: _File, fragment: Any, partition: "_Partition") -> CheckedFile:  # noqa: ANN401
    path, faults = Path("candles", file.path), _Faults()
    if problem := partition.problem():
        faults.add_file(problem)
        return CheckedFile(path, faults.all(), file.rows or 0, file.size_bytes)
    rows = 0
    try:
        with lake_errors("it cannot be read"):
            if fragment is None:
                raise LakeError("the table's log has it, and no reader finds it")
            for batch in fragment.to_batches(schema=CANDLES, batch_size=_BATCH_ROWS):
                faults.add_rows(batch, partition.broken(batch, file.bounds), rows)
                rows += batch.num_rows
    except LakeError as error:
        faults.add_file(str(error))
        return CheckedFile(path, faults.all(), rows, file.size_bytes)
    if file.rows is not None and rows != file.rows:
        faults.add_file(f"it has {counted(rows, 'row')}, and {file.rows:,} by the table's log")
    return CheckedFile(path, faults.all(), rows, file.size_bytes)


@attrs.define
class _Faults:
    """The faults of a file: a few rows of each kind, and how many more there are."""

    _found: list[Fault] = attrs.field(init=False, factory=list)
    _counts: dict[str, int] = attrs.field(init=False, factory=lambda: defaultdict(int))

    def add_file(self, what: str) -> None:
        """Add a fault of the file as a whole."""
        self._found.append(Fault(one_line(what)))

    def add_rows(
        self,
        batch: pa.RecordBatch,
        broken: Iterable[tuple[str, NDArray[np.bool_]]],
        first_row: int,
    ) -> None:
        """Add the rows of a batch that break a rule."""
        for what, mask in broken:
            rows = np.flatnonzero(mask)
            for row in rows[: max(0, _MOST_ROWS_A_KIND - self._counts[what])].tolist():
                symbol, begin = batch.column("symbol")[row].as_py(), batch.column(BEGIN)[row]
                begin_ms = None if begin.as_py() is None else begin.value // 1_000
                is_possible = begin_ms is not None and bool(is_possible_time(np.array([begin_ms])))
                self._found.append(
                    Fault(f"{symbol} {what}", first_row + row, begin_ms if is_possible else None)
                )
            self._counts[what] += len(rows)

    def all(self) -> tuple[Fault, ...]:
        """Return the faults; the last ones count the rows that are not named."""
        more = [
            Fault(f"{what}: {counted(count - _MOST_ROWS_A_KIND, 'row')} more")
            for what, count in self._counts.items()
            if count > _MOST_ROWS_A_KIND
        ]
        return (*self._found, *more)


@attrs.define
class _Partition:
    """The keys of a market, an interval and a month that were seen so far: a bit for each."""

    trade_type: str
    time_interval: str
    month: str
    whole: Span | None
    """The month; None: there is no such."""
    _numbers: dict[str, int] = attrs.field(init=False, factory=dict)
    """By symbol, which row of `_seen` it has."""
    _seen: NDArray[np.uint8] = attrs.field(
        init=False, factory=lambda: np.zeros((0, 0), dtype=np.uint8)
    )

    @classmethod
    def of(cls, trade_type: str, time_interval: str, month: str) -> "_Partition":
        try:
            whole = month_span(month)
        except ValueError:
            whole = None
        return cls(trade_type, time_interval, month, whole)

    def problem(self) -> str | None:
        """Return why no row of the partition can be a candle; None: it can."""
        if self.trade_type not in TRADE_TYPES:
            return f"trade_type={self.trade_type}: there is no such market"
        if self.time_interval not in INTERVALS:
            return f"time_interval={self.time_interval}: there is no such interval"
        if self.whole is None:
            return f"month={self.month}: there is no such month"
        return None

    @property
    def interval(self) -> Interval:
        return INTERVALS[self.time_interval]

    def broken(
        self, batch: pa.RecordBatch, bounds: Mapping[str, tuple[Any, Any]]
    ) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Give each rule that rows of a batch break, and which rows. Note the keys of all rows."""
        assert self.whole is not None
        nulls = [name for name in CANDLES.names if batch.column(name).null_count]
        if nulls:
            for name in nulls:
                yield f"has no {name}", batch.column(name).is_null().to_numpy(zero_copy_only=False)
            # What the other rules say of empty values is worth nothing.
            is_whole = np.logical_and.reduce(
                [batch.column(name).is_valid().to_numpy(zero_copy_only=False) for name in nulls]
            )
            batch = batch.filter(pa.array(is_whole))
            if not batch.num_rows:
                return
            for what, mask in self.broken(batch, bounds):
                spread = np.zeros(len(is_whole), np.bool_)
                spread[is_whole] = mask
                yield what, spread
            return
        micros = _numbers(batch, BEGIN)
        begins = micros // 1_000
        possible = is_possible_time(begins) & (micros % 1_000 == 0)
        yield "is of a time that cannot be", ~possible
        on_grid = is_on_grid(begins, self.interval) & possible
        yield f"does not begin on the grid of {self.time_interval}", possible & ~on_grid
        within = (begins >= self.whole.from_ms) & (begins < self.whole.to_ms)
        yield f"is of another month than {self.month}", possible & ~within
        ends = end_times_ms(begins, self.interval) * 1_000
        wrong_end = _numbers(batch, END) != ends
        yield f"does not end {self.time_interval} after its begin", possible & wrong_end
        for problem, mask in broken_rules({name: _numbers(batch, name) for name in VALUES}):
            yield f"has {problem}", mask
        symbols = batch.column("symbol").dictionary_encode()
        codes = symbols.indices.to_numpy()
        names = [str(name) for name in symbols.dictionary.to_pylist()]
        impossible = np.array([not _is_symbol(name) for name in names], np.bool_)
        yield "is no symbol", impossible[codes]
        yield "has another source than ours", ~_is_in(batch.column("source"), _SOURCES)
        yield "has a negative revision", _numbers(batch, "revision") < 0
        yield "is outside of the bounds in the table's log", _is_outside(batch, bounds)
        keyed = on_grid & within & ~impossible[codes]
        yield "is there twice", self._note(names, codes, begins, keyed)

    def _note(
        self,
        names: Sequence[str],
        codes: NDArray[np.int32],
        begins: NDArray[np.int64],
        keyed: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Note the keys of some rows. Return which of them were there before."""
        numbers = np.array([self._numbers.setdefault(one, len(self._numbers)) for one in names])
        self._make_room()
        twice = np.zeros(len(keyed), np.bool_)
        rows = np.flatnonzero(keyed)
        slots = self._slots(begins[rows])
        bits = numbers[codes[rows]].astype(np.int64) * (self._seen.shape[1] * 8) + slots
        flat = self._seen.reshape(-1)
        places, masks = bits >> 3, (1 << (bits & 7)).astype(np.uint8)
        _, firsts = np.unique(bits, return_index=True)
        is_first = np.zeros(len(rows), np.bool_)
        is_first[firsts] = True
        twice[rows] = ~is_first | ((flat[places] & masks) != 0)
        np.bitwise_or.at(flat, places, masks)
        return twice

    def _slots(self, begins: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of each open time in the month."""
        if self.interval.duration_ms is None:
            return np.zeros(len(begins), np.int64)
        return (begins - self._first_ms()) // self.interval.duration_ms

    def _first_ms(self) -> int:
        assert self.whole is not None
        return self.interval.next_open_time_ms(self.whole.from_ms)

    def _make_room(self) -> None:
        assert self.whole is not None
        duration_ms = self.interval.duration_ms
        whole = self.whole.to_ms - self.whole.from_ms
        slots = 1 if duration_ms is None else -(-whole // duration_ms) + 1
        wanted, there = len(self._numbers), len(self._seen)
        if wanted > there:
            more = np.zeros((max(wanted, 2 * there) - there, -(-slots // 8)), np.uint8)
            self._seen = np.concatenate([self._seen, more]) if there else more

    def spans(self) -> Iterator[tuple[Series, list[Span]]]:
        """Give the series with the candles that were seen."""
        for symbol, number in self._numbers.items():
            if not _is_symbol(symbol):
                continue
            series = Series(self.trade_type, symbol, self.time_interval)
            slots = np.flatnonzero(np.unpackbits(self._seen[number], bitorder="little"))
            begins = self._first_ms() + slots * (self.interval.duration_ms or 0)
            yield series, list(runs_of(series, begins))


def _numbers(batch: pa.RecordBatch, name: str) -> NDArray[Any]:
    column: Any = batch.column(name)
    kind = pa.float64() if column.type == pa.float64() else pa.int64()
    found: NDArray[Any] = column.cast(kind).to_numpy(zero_copy_only=False)
    return found


def _is_symbol(text: str) -> bool:
    try:
        check_symbol(text)
    except ValueError:
        return False
    return True


def _is_in(column: Any, texts: Iterable[str]) -> NDArray[np.bool_]:  # noqa: ANN401
    found: Any = pc.is_in(column, value_set=pa.array(sorted(texts)))
    mask: NDArray[np.bool_] = found.to_numpy(zero_copy_only=False)
    return mask


def _is_outside(batch: pa.RecordBatch, bounds: Mapping[str, tuple[Any, Any]]) -> NDArray[np.bool_]:
    """Return which rows a reader misses, since the log's bounds of their file exclude them."""
    outside = np.zeros(batch.num_rows, np.bool_)
    for name, (least, greatest) in bounds.items():
        column: Any = batch.column(name)
        for bound, is_beyond in ((least, pc.less), (greatest, pc.greater)):
            if bound is not None:
                beyond: Any = is_beyond(column, pa.scalar(bound, column.type))
                outside |= beyond.to_numpy(zero_copy_only=False)
    return outside
