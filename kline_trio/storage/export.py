"""Write candles as CSV, a stretch at a time, so that a store of any size fits into memory."""

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.interval import Span
from kline_trio.storage.catalog import (
    candle_files,
    foreign_only,
    log_damage,
    open_files,
    stored,
)
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.files import bounds_ms
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.names import text_of
from kline_trio.storage.table import BEGIN, END, schema

NAMES = ("trade_type", "symbol", "time_interval")
_VALUES = [one for one in schema(Series("spot", "BTCUSDT", "1m")).names if one not in (BEGIN, END)]
COLUMNS = (*NAMES, BEGIN, END, *_VALUES)
"""The columns of the CSV, in order: the names of the series, then the columns of its file."""
_STRETCH_MS = 31 * 86_400_000
_STRETCH_ROWS = 31 * 1_440
"""A month of minutes: 10 MB as a table, 6 MB as CSV."""
_Identity = tuple[int, int, int]


@attrs.frozen
class _File:
    """A candle file, and the open times that it held at the first look."""

    path: Path
    identity: _Identity | None
    """None: it was gone."""
    held: Span

    def may_hold(self, span: Span) -> bool:
        """Return whether the file has candles of a span, or was written since the first look."""
        return bool(self.held.common_with(span)) or _identity(self.path) != self.identity


@attrs.define(eq=False)
class StoredSeries:
    """The candles of a series: which files hold them, and which ones the journal held."""

    store_path: Path
    series: Series
    files: list[_File] = attrs.field(init=False, factory=list)
    """By path."""
    waiting_ms: list[int] = attrs.field(init=False, factory=list)
    """The open times that were in the journal at the first look. A merge may have moved them."""

    def tables(self, span: Span) -> Iterator[pa.Table]:
        """Yield the stored candles with open times in a span, by time, a stretch in each table.

        Candles that a recorder accepts meanwhile may be missing.

        Raises:
          KlineTrioError: a file or the journal cannot be read.
        """
        held = [one.held for one in self.files if one.held.from_ms < one.held.to_ms]
        held += [Span(ms, ms + 1) for ms in self.waiting_ms]
        if not held:
            return
        from_ms = max(span.from_ms, min(one.from_ms for one in held))
        to_ms = min(span.to_ms, max(one.to_ms for one in held))
        step_ms = self._step_ms()
        for begin_ms in range(from_ms, to_ms, step_ms):
            table = self._table(Span(begin_ms, min(begin_ms + step_ms, to_ms)))
            if table is not None and table.num_rows:
                yield table

    def _step_ms(self) -> int:
        # A month of the calendar has no fixed length.
        return _STRETCH_ROWS * (self.series.interval.duration_ms or _STRETCH_MS)

    def _table(self, span: Span) -> pa.Table | None:
        paths = None
        # A candle of the journal may be in a new file by now: then look through the folder again.
        if not any(ms in span for ms in self.waiting_ms):
            paths = [one.path for one in self.files if one.may_hold(span)]
            if not paths:
                return None
        with disk_errors(self.store_path):
            found = stored(self.store_path, [self.series], span.from_ms, span.to_ms, paths=paths)
        one = found[self.series]
        return None if one is None else one.table()


def stored_series(
    store_path: Path,
    is_wanted: Callable[[Series], bool] = lambda _: True,
    parts: tuple[str, ...] = (),
) -> dict[Series, StoredSeries]:
    """Return the series that the store holds candles of, in order. This reads every footer.

    Args:
      store_path: the store's folder.
      is_wanted: returns whether to return a series.
      parts: look only into files whose path has one of these texts; none: into all.

    Raises:
      KlineTrioError: a file that the journal lists is damaged, or the disk refuses.
    """
    found: dict[Series, StoredSeries] = {}

    def of(series: Series) -> StoredSeries:
        return found.setdefault(series, StoredSeries(store_path, series))

    with disk_errors(store_path):
        with journal_view(store_path) as journal:
            for series in filter(is_wanted, journal.newest_ms()):
                of(series).waiting_ms.extend(journal.waiting_ms(series))
        names = ((path, text_of(path.relative_to(store_path))) for path in candle_files(store_path))
        paths = [path for path, name in names if not parts or any(one in name for one in parts)]
        before = {path: _identity(path) for path in paths}
        for path, series, file in open_files(paths, foreign_only(store_path, log_damage)):
            if is_wanted(series):
                bounds = [bounds_ms(file, n, BEGIN) for n in range(file.num_row_groups)]
                first_ms = min((first for first, _ in bounds), default=MAX_TIME_MS)
                last_ms = max((last for _, last in bounds), default=first_ms - 1)
                of(series).files.append(_File(path, before[path], Span(first_ms, last_ms + 1)))
    return dict(sorted(found.items()))


def _identity(path: Path) -> _Identity | None:
    """Return what changes if the file is replaced; None if it is gone."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _iso(seconds: Any) -> Any:  # noqa: ANN401 - the stubs of strftime know no times with a zone
    return pc.strftime(seconds, format="%Y-%m-%dT%H:%M:%SZ")


def header() -> bytes:
    """Return the first line of the CSV."""
    return ",".join(COLUMNS).encode() + b"\n"


def csv_of(series: Series, table: pa.Table) -> bytes:
    """Return candles as lines of CSV, without the header.

    A number is the shortest text that gives the same float64 again. Times are ISO 8601, UTC.

    Args:
      series: whose candles they are.
      table: the candles, with the columns of a file.
    """
    texts = {name: pa.repeat(getattr(series, name), table.num_rows) for name in NAMES}
    times = {name: _iso(table[name].cast(pa.timestamp("s", "UTC"))) for name in (BEGIN, END)}
    values = {name: table[name] for name in table.column_names}
    columns = {**values, **texts, **times}
    lines = pa.table([columns[name] for name in COLUMNS], list(COLUMNS))
    out = BytesIO()
    # No name of a series and no number needs quotes; with them, pyarrow puts all texts in quotes.
    csv.write_csv(lines, out, csv.WriteOptions(include_header=False, quoting_style="none"))
    return out.getvalue()
