"""The rows of the lake's candles, made of a store's files, journal and ledger."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kline_trio.candle import Series, Source
from kline_trio.interval import Span
from kline_trio.lake.schema import CANDLES, TIME, VALUES
from kline_trio.storage.catalog import Stored, stored
from kline_trio.storage.journal.ledger import Revision, State
from kline_trio.storage.journal.reader import JournalView, journal_view
from kline_trio.storage.table import BEGIN, END, values_of

_STREAM = str(Source.STREAM)
_MOST_READ = 2
"""How much of the time that a group reads must be wanted: the half."""


@attrs.frozen
class Origins:
    """Where the candles of a series come from, if not from the stream; and their revisions."""

    filled: tuple[tuple[Span, str], ...]
    """The filled gaps by time, each with the source that filled it."""
    revisions: tuple[Revision, ...]
    """In the order in which they came."""

    @classmethod
    def of(cls, journal: JournalView, series: Series, within: Span) -> "Origins":
        """Return what the ledger has of a series in a time."""
        gaps = journal.gaps_between(series, within.from_ms, within.to_ms, -1, states=[State.FILLED])
        filled = [(gap.span, str(gap.filled_by)) for gap in reversed(gaps) if gap.filled_by]
        revisions = journal.revisions_between(series, within)
        return cls(tuple(filled), tuple(revisions))


def lake_rows(store_path: Path, wanted: Mapping[Series, Sequence[Span]]) -> pa.Table:
    """Return the stored candles of some spans as rows of the lake, by series and time.

    Args:
      store_path: the store's folder. A recorder may write to it meanwhile.
      wanted: by series, spans in the order of time that do not overlap.

    Raises:
      KlineTrioError: a file or the journal cannot be read.
    """
    tables: dict[Series, pa.Table] = {}
    for hull, group in _by_hull(wanted):
        # First what is stored, then the ledger: a revision that a merge notes in between is of a
        # candle that stays unpublished.
        found = stored(store_path, group, hull.from_ms, hull.to_ms)
        with journal_view(store_path) as journal:
            origins = {one: Origins.of(journal, one, hull) for one in group}
        for series in group:
            one = found[series]
            if one is not None:
                tables[series] = _rows(series, one, wanted[series], origins[series])
    rows = [tables[series] for series in sorted(tables)]
    return pa.concat_tables(rows) if rows else CANDLES.empty_table()


def _by_hull(
    wanted: Mapping[Series, Sequence[Span]],
) -> list[tuple[Span, list[Series]]]:
    """Group series of about the same time, each group with a span that holds all of theirs.

    Each group costs one look at the names of all files, 0.7 s with 20,000 of them. So series share
    a group as long as they read at most twice what is wanted of them.
    """
    hulls = {one: Span(spans[0].from_ms, spans[-1].to_ms) for one, spans in wanted.items()}
    groups: list[tuple[Span, list[Series]]] = []
    needed_ms = 0
    for series in sorted(hulls, key=lambda one: (hulls[one].from_ms, hulls[one].to_ms, one)):
        hull = hulls[series]
        if groups:
            shared, members = groups[-1]
            both = Span(shared.from_ms, max(shared.to_ms, hull.to_ms))
            both_needed_ms = needed_ms + _length_ms(hull)
            if _length_ms(both) * (len(members) + 1) <= _MOST_READ * both_needed_ms:
                members.append(series)
                groups[-1] = (both, members)
                needed_ms = both_needed_ms
                continue
        groups.append((hull, [series]))
        needed_ms = _length_ms(hull)
    return groups


def _length_ms(span: Span) -> int:
    return span.to_ms - span.from_ms


def _rows(series: Series, found: Stored, spans: Sequence[Span], origins: Origins) -> pa.Table:
    table = found.table()
    begins = values_of(table[BEGIN])
    keep = _within(begins, spans)
    if not keep.all():
        table = table.filter(pa.array(keep))
        begins = begins[keep]
    # The merge of what waits in the journal will note these revisions.
    revisions = (*origins.revisions, *found.revisions())
    sources, numbers = _sources(begins, origins.filled, revisions)
    rows = len(begins)
    months = begins.astype("datetime64[ms]").astype("datetime64[M]")
    columns: dict[str, Any] = {
        "trade_type": _repeated(series.trade_type, rows),
        "symbol": _repeated(series.symbol, rows),
        "time_interval": _repeated(series.time_interval, rows),
        "month": _texts(months),
        BEGIN: table[BEGIN].cast(TIME),
        **{name: table[name] for name in VALUES},
        END: table[END].cast(TIME),
        "source": sources,
        "revision": pa.array(numbers, pa.int32()),
    }
    return pa.Table.from_arrays([columns[name] for name in CANDLES.names], schema=CANDLES)


def _within(begins: npt.NDArray[np.int64], spans: Sequence[Span]) -> npt.NDArray[np.bool_]:
    """Return which of the open times, which are in order, are in one of the spans."""
    keep = np.zeros(len(begins), np.bool_)
    for span in spans:
        first, end = np.searchsorted(begins, [span.from_ms, span.to_ms])
        keep[first:end] = True
    return keep


def _sources(
    begins: npt.NDArray[np.int64],
    filled: Sequence[tuple[Span, str]],
    revisions: Sequence[Revision],
) -> tuple["pa.Array[Any]", npt.NDArray[np.int32]]:
    """Return the source and the number of revisions of each candle."""
    names = [_STREAM, *map(str, Source)]
    codes = np.zeros(len(begins), np.int32)
    for span, name in filled:
        first, end = np.searchsorted(begins, [span.from_ms, span.to_ms])
        codes[first:end] = names.index(name)
    numbers = np.zeros(len(begins), np.int32)
    for one in revisions:
        at = int(np.searchsorted(begins, one.newer.open_time_ms))
        is_there = at < len(begins) and begins[at] == one.newer.open_time_ms
        if is_there and one.is_newer_kept:
            numbers[at] += 1
            codes[at] = names.index(str(one.origin))
    return _decoded(codes, names), numbers


def _texts(months: npt.NDArray[Any]) -> "pa.Array[Any]":
    """Return the names of months, which are in order."""
    if len(months) and months[0] == months[-1]:
        return _repeated(str(months[0]), len(months))
    names, codes = np.unique(months, return_inverse=True)
    return _decoded(codes.astype(np.int32), [str(name) for name in names])


def _repeated(text: str, rows: int) -> "pa.Array[Any]":
    return pa.repeat(pa.scalar(text), rows)


def _decoded(codes: npt.NDArray[np.int32], names: Sequence[str]) -> "pa.Array[Any]":
    if len(codes) and not codes.any():
        return _repeated(names[0], len(codes))
    return pa.DictionaryArray.from_arrays(codes, pa.array(names)).cast(pa.string())
