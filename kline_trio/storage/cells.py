"""Count the candles of many series in the cells of a calendar: array operations, no loop over gaps.

A cell is a stretch of time; a candle is in the cell that it opens in.
"""

from collections.abc import Mapping, Sequence

import attrs
import numpy as np
import numpy.typing as npt

from kline_trio.candle import TRADE_TYPES
from kline_trio.interval import Interval
from kline_trio.storage.ledger_index import (
    ABSENT,
    INTERVALS,
    PENDING,
    REFILLED,
    LedgerIndex,
)
from kline_trio.storage.numbering import Numbers, numbers_from, numbers_until

_KINDS = 4
"""Of gaps, in `ledger_index`."""


@attrs.frozen
class Due:
    """What is due of a market's series after their watermarks."""

    until_ms: int
    """Candles that end by this moment are due."""
    is_live: bool
    """Whether a recorder runs: it names missing candles within a minute, so a candle after the
    watermark is stored if it is in no gap. If none runs, nobody has accounted for that candle."""


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
    end: Numbers
    """The first candle after the due ones."""
    mark: Numbers
    """From this candle on, nobody has accounted for candles without a gap; or `end`."""


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
    sizes = np.array([len(members) for members in groups], np.int64)
    member = np.concatenate([np.empty(0, np.int64), *(np.asarray(one, np.int64) for one in groups)])
    group = np.repeat(np.arange(len(groups)), sizes)
    interval = index.accounts.interval[member]
    found = np.zeros((6, len(groups), len(edges_ms) - 1), np.int64)
    for code in np.unique(interval).tolist():
        chosen = interval == code
        edges = numbers_from(INTERVALS[code], edges_ms)
        members = _members(index, INTERVALS[code], member[chosen], group[chosen], now)
        _add(found, index, members, edges)
    return Cells(*found)


def _members(
    index: LedgerIndex,
    interval: Interval,
    at: Numbers,
    group: Numbers,
    now: Mapping[str, Due],
) -> _Members:
    accounts = index.accounts
    first, end, is_open = accounts.first[at], accounts.end[at], ~accounts.is_over[at]
    is_dark = ~is_open
    for code, name in enumerate(TRADE_TYPES):
        due, here = now.get(name), accounts.market[at] == code
        if due is not None:
            until = numbers_until(interval, due.until_ms)
            end = np.where(here & is_open, np.maximum(end, until), end)
        if due is None or not due.is_live:
            is_dark |= here
    end = np.maximum(end, first)
    mark = np.where(is_dark, np.clip(accounts.mark[at], first, end), end)
    return _Members(at, group, first, end, mark)


def _add(found: Numbers, index: LedgerIndex, members: _Members, edges: Numbers) -> None:
    due, refilled, pending, absent, unaccounted, reasons = found
    groups, gaps = len(due), index.gaps
    due += _spread(members.first, members.end, members.group, groups, edges)
    unaccounted += _spread(members.mark, members.end, members.group, groups, edges)
    # The gaps of all members, in one array.
    sizes = gaps.offset[members.at + 1] - gaps.offset[members.at]
    owner = np.repeat(np.arange(len(sizes)), sizes)
    at = np.arange(len(owner)) + np.repeat(
        gaps.offset[members.at] - np.cumsum(sizes) + sizes, sizes
    )
    begin = np.maximum(gaps.begin[at], np.maximum(members.first, edges[0])[owner])
    end = np.minimum(gaps.end[at], np.minimum(members.end, edges[-1])[owner])
    inside = np.flatnonzero(begin < end)
    at, owner, begin, end = at[inside], owner[inside], begin[inside], end[inside]
    kind, group, mark = gaps.kind[at].astype(np.int64), members.group[owner], members.mark[owner]
    by_kind = _spread(begin, end, kind * groups + group, _KINDS * groups, edges)
    by_kind = by_kind.reshape(_KINDS, groups, -1)
    refilled += by_kind[REFILLED]
    pending += by_kind[PENDING]
    absent += by_kind[ABSENT]
    unaccounted -= _spread(np.maximum(begin, mark), np.maximum(end, mark), group, groups, edges)
    named = np.flatnonzero(kind)
    reasons |= _reasons(
        begin[named], end[named], gaps.reason[at[named]], group[named], groups, edges
    )


def _spread(begin: Numbers, end: Numbers, row: Numbers, rows: int, edges: Numbers) -> Numbers:
    """Return how many candles of all spans of each row are in each cell.

    How many are before an edge x is the sum of x - begin over the spans that begin before, less the
    sum of x - end over those that end before. So each span costs two look-ups, however long it is.
    """
    total = np.zeros((rows, len(edges)), np.int64)
    for sign, moment in ((1, begin), (-1, end)):
        moment = np.clip(moment, edges[0], edges[-1])
        place = row * len(edges) + np.searchsorted(edges, moment)
        count = np.bincount(place, minlength=total.size).reshape(total.shape)
        # Floats are exact below 2**53, which is more than all candles of any store.
        weight = np.bincount(place, moment - edges[0], total.size).reshape(total.shape)
        passed = np.cumsum(count, axis=1) * (edges - edges[0])
        total += sign * (passed - np.cumsum(weight, axis=1).astype(np.int64))
    return np.diff(total, axis=1)


def _reasons(
    begin: Numbers, end: Numbers, reason: Numbers, row: Numbers, rows: int, edges: Numbers
) -> Numbers:
    """Return the reasons of the spans in each cell of each row, a bit for each."""
    shape = rows, len(edges)
    found = np.zeros((rows, len(edges) - 1), np.int64)
    cells = np.searchsorted(edges, begin, "right") - 1, np.searchsorted(edges, end)
    places = [row * len(edges) + cell for cell in cells]
    for code in np.unique(reason).tolist():
        chosen = reason == code
        begun, ended = (np.bincount(one[chosen], minlength=rows * len(edges)) for one in places)
        is_in = np.cumsum((begun - ended).reshape(shape), axis=1)[:, :-1] > 0
        found |= (is_in & (np.diff(edges) > 0)).astype(np.int64) << code
    return found
