"""Count the candles of many series in the cells of a calendar: array operations, no loop over gaps.

A cell is a stretch of time; a candle is in the cell that it opens in.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from kline_trio.candle import MAX_TIME_MS, TRADE_TYPES
from kline_trio.interval import Interval, Span
from kline_trio.storage.journal.ledger import Reason
from kline_trio.storage.ledger_index import (
    ABSENT,
    IN_LAKE,
    INTERVALS,
    PENDING,
    REASONS,
    REFILLED,
    LedgerIndex,
)
from kline_trio.storage.numbering import Numbers, numbers_from, numbers_until, open_times_ms

_SCAN_MS = 60_000
"""More than how far behind the exchange's time the watermark of a series is after its scan."""
_KEPT_MS = 900_000
"""More than how far behind it is in the journal while a recorder runs, which writes it every ten
minutes."""
_NAMED_MS = 60_000
"""More than how long it takes a recorder to name a missing candle."""


@attrs.frozen
class Due:
    """What is due of a market's series after their watermarks; times are the exchange's.

    A running recorder names missing candles within a minute. So a candle after the watermark that
    is in no gap is stored if a recorder ran when it fell due. Else nobody has accounted for it.
    """

    until_ms: int
    """Candles that end by this moment are due."""
    is_live: bool
    """Whether a recorder runs."""
    began_ms: int | None = None
    """When it began, less its grace, if that is known: it has not yet looked at series with older
    watermarks."""
    heard_ms: int | None = None
    """If none runs: the last heartbeat of the last one; None: count on none."""


@attrs.frozen(eq=False)
class Cells:
    """Counts of candles. Each array has a row for each group of series, a column for each cell."""

    due: Numbers
    refilled: Numbers
    pending: Numbers
    absent: Numbers
    unaccounted: Numbers
    reasons: Numbers
    """A bit for each of `REASONS`."""


@attrs.frozen(eq=False)
class _Members:
    """The series of one interval in all groups, in columns."""

    at: Numbers
    """Index of the series."""
    group: Numbers
    first: Numbers
    """The first due candle."""
    mark: Numbers
    """From this candle on, nobody has accounted for candles without a gap; at most `end`."""
    end: Numbers
    """The first candle after the due ones."""


@attrs.frozen(eq=False)
class _Pieces:
    """The due candles of gaps between two edges, in columns."""

    begin: Numbers
    end: Numbers
    kind: Numbers
    reason: Numbers
    group: Numbers
    mark: Numbers
    """Of the gap's series."""


def count_cells(
    index: LedgerIndex,
    groups: Sequence[Sequence[int]],
    edges_ms: npt.NDArray[np.int64],
    now: Mapping[str, Due],
) -> Cells:
    """Return the counts of groups of series in the cells between edges.

    Args:
      index: the ledger.
      groups: the members of each group, as indices into the index's series.
      edges_ms: n + 1 increasing moments.
      now: what is due, by market.
    """
    found = np.zeros((len(attrs.fields(Cells)), len(groups), len(edges_ms) - 1), np.int64)
    for interval, members in _by_interval(index, groups, now):
        _add(found, index, members, numbers_from(interval, edges_ms))
    return Cells(*found)


def count_reasons(
    index: LedgerIndex, members: Sequence[int], now: Mapping[str, Due], kinds: Collection[int]
) -> dict[Reason, int]:
    """Return how many due candles of series are in gaps of some kinds, by reason, most first."""
    found = np.zeros(len(REASONS), np.int64)
    for interval, some in _by_interval(index, [members], now):
        pieces = _pieces(index, some, numbers_from(interval, [0, MAX_TIME_MS]))
        wanted = np.isin(pieces.kind, tuple(kinds))
        # A loop of a dozen sums: the weights of bincount are floats.
        for code in np.unique(pieces.reason[wanted]).tolist():
            here = wanted & (pieces.reason == code)
            found[code] += (pieces.end - pieces.begin)[here].sum()
    counts = zip(REASONS, found.tolist(), strict=True)
    return dict(sorted(((one, count) for one, count in counts if count), key=lambda two: -two[1]))


def due_spans(index: LedgerIndex, now: Mapping[str, Due]) -> list[Span | None]:
    """Return from which to which candle those of each series are due; None: none is."""
    found: list[Span | None] = [None] * len(index.series)
    everyone = range(len(found))
    for interval, some in _by_interval(index, [everyone], now):
        begins, ends = (open_times_ms(interval, one) for one in (some.first, some.end))
        for at, begin, end in zip(some.at.tolist(), begins.tolist(), ends.tolist(), strict=True):
            found[at] = Span(begin, end) if begin < end else None
    return found


def _by_interval(
    index: LedgerIndex, groups: Sequence[Sequence[int]], now: Mapping[str, Due]
) -> Iterator[tuple[Interval, _Members]]:
    every = [np.asarray(members, np.int64) for members in groups]
    at = np.concatenate([np.empty(0, np.int64), *every])
    group = np.repeat(np.arange(len(every)), [len(members) for members in every])
    codes = index.accounts.interval[at]
    for code in np.unique(codes).tolist():
        chosen, interval = codes == code, INTERVALS[code]
        yield interval, _members(index, interval, at[chosen], group[chosen], now)


def _members(
    index: LedgerIndex, interval: Interval, at: Numbers, group: Numbers, now: Mapping[str, Due]
) -> _Members:
    accounts = index.accounts
    first, mark, end = accounts.first[at], accounts.mark[at].copy(), accounts.end[at].copy()
    for code, name in enumerate(TRADE_TYPES):
        here = np.flatnonzero((accounts.market[at] == code) & ~accounts.is_over[at])
        if (due := now.get(name)) is not None:
            until = numbers_until(interval, due.until_ms)
            end[here] = np.maximum(end[here], until)
            since_ms, judged_ms = _judged(due)
            seen = here[mark[here] >= numbers_until(interval, since_ms)]
            mark[seen] = np.maximum(mark[seen], numbers_until(interval, judged_ms))
    end = np.maximum(end, first)
    return _Members(at, group, first, np.clip(mark, first, end), end)


def _judged(due: Due) -> tuple[int, int]:
    """Return how old the watermark of a series may be that a recorder judged, and until when."""
    if due.is_live:
        return (due.began_ms or 0) - _SCAN_MS, due.until_ms
    heard_ms = due.heard_ms or 0
    return heard_ms - _KEPT_MS, heard_ms - _NAMED_MS


def _pieces(index: LedgerIndex, members: _Members, edges: Numbers) -> _Pieces:
    gaps = index.gaps
    firsts, sizes = gaps.offset[members.at], np.diff(gaps.offset)[members.at]
    owner = np.repeat(np.arange(len(sizes)), sizes)
    at = np.arange(len(owner)) + np.repeat(firsts - np.cumsum(sizes) + sizes, sizes)
    begin = np.maximum(gaps.begin[at], np.maximum(members.first, edges[0])[owner])
    end = np.minimum(gaps.end[at], np.minimum(members.end, edges[-1])[owner])
    inside = np.flatnonzero(begin < end)
    at, owner = at[inside], owner[inside]
    return _Pieces(
        begin[inside],
        end[inside],
        gaps.kind[at].astype(np.int64),
        gaps.reason[at].astype(np.int64),
        members.group[owner],
        members.mark[owner],
    )


def _add(found: Numbers, index: LedgerIndex, members: _Members, edges: Numbers) -> None:
    """Add the counts of members to arrays that are in the order of the fields of `Cells`."""
    due, refilled, pending, absent, unaccounted, reasons = found
    groups, gaps = len(due), _pieces(index, members, edges)
    due += _spread(members.first, members.end, members.group, groups, edges)
    kinds = int(gaps.kind.max(initial=ABSENT)) + 1
    by_kind = _spread(gaps.begin, gaps.end, gaps.kind * groups + gaps.group, kinds * groups, edges)
    refilled += by_kind[REFILLED * groups :][:groups]
    pending += by_kind[PENDING * groups :][:groups]
    absent += by_kind[ABSENT * groups :][:groups]
    if kinds > IN_LAKE:
        due -= by_kind[IN_LAKE * groups :][:groups]
    if np.any(members.mark < members.end):
        unaccounted += _spread(members.mark, members.end, members.group, groups, edges)
        begin, end = np.maximum(gaps.begin, gaps.mark), np.maximum(gaps.end, gaps.mark)
        unaccounted -= _spread(begin, end, gaps.group, groups, edges)
    reasons |= _reasons(gaps, groups, edges)


def _spread(begin: Numbers, end: Numbers, row: Numbers, rows: int, edges: Numbers) -> Numbers:
    """Return how many candles of all spans of each row are in each cell.

    How many are before an edge x is the sum of x - begin over the spans that begin before, less the
    sum of x - end over those that end before. So each span costs two look-ups, however long it is.
    """
    shape = rows, len(edges)
    moment = np.clip(np.concatenate([begin, end]), edges[0], edges[-1])
    place = np.tile(row, 2) * len(edges) + np.searchsorted(edges, moment)
    sign = np.repeat([1.0, -1.0], len(begin))
    # Floats are exact below 2**53, which is more than all candles of any store.
    count = np.bincount(place, sign, rows * len(edges)).reshape(shape)
    weight = np.bincount(place, sign * (moment - edges[0]), rows * len(edges)).reshape(shape)
    before = count.cumsum(axis=1) * (edges - edges[0]) - weight.cumsum(axis=1)
    found: Numbers = (before[:, 1:] - before[:, :-1]).astype(np.int64)
    return found


def _reasons(gaps: _Pieces, rows: int, edges: Numbers) -> Numbers:
    """Return the reasons of the gaps in each cell of each row, a bit for each."""
    size, shape = rows * len(edges), (rows, len(edges))
    found = np.zeros((rows, len(edges) - 1), np.int64)
    first = gaps.group * len(edges) + np.searchsorted(edges, gaps.begin, "right") - 1
    after = gaps.group * len(edges) + np.searchsorted(edges, gaps.end)
    # The stream filled those of the first kind, and those of the last are not due.
    is_told = (gaps.kind > 0) & (gaps.kind < IN_LAKE)
    for code in np.unique(gaps.reason[is_told]).tolist():
        chosen = (gaps.reason == code) & is_told
        begun, ended = (np.bincount(one[chosen], minlength=size) for one in (first, after))
        is_in = np.cumsum((begun - ended).reshape(shape), axis=1)[:, :-1] > 0
        # A cell in which no candle opens has no gap, though one may reach over it.
        found |= (is_in & (np.diff(edges) > 0)).astype(np.int64) << code
    return found
