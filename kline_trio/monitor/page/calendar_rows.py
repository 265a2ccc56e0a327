"""The rows of the calendar that are visible: a tree of markets, symbols and series (pure).

Only the rows of a window are counted; how many rows there are is known without counting.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

import attrs
import numpy as np

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.interval import INTERVALS
from kline_trio.monitor.page.parameters import key_of
from kline_trio.monitor.page.summary import percent_of
from kline_trio.monitor.page.zoom import Window
from kline_trio.storage.calendar import Calendar, CellState, Counts, Due, Run
from kline_trio.storage.journal.ledger import Reason

MOST_ROWS = 200
REASONS = tuple(Reason)
_REASONS = {reason: number for number, reason in enumerate(REASONS)}
_ORDER = {name: number for number, name in enumerate(INTERVALS)}
_ALL_TIME = np.array([0, MAX_TIME_MS])
CALENDAR_COLUMNS = (
    *("key", "from_ms", "to_ms", "cells", "state"),
    *("refilled", "pending", "absent", "unaccounted", "reasons"),
)
"""Of the calendar as a table: a row for each run of cells; the counts are of each cell."""
MARKET_LABELS = {
    "spot": "Spot",
    "usdt_futures": "USD-M futures",
    "coin_futures": "COIN-M futures",
}
_MARKET_ORDER = {name: number for number, name in enumerate(MARKET_LABELS)}


def market_order(trade_type: str) -> int:
    """Return the place of a market among all."""
    return _MARKET_ORDER.get(trade_type, len(_MARKET_ORDER))


@attrs.frozen
class Row:
    """A market, a symbol or a series."""

    key: str
    depth: int
    kind: str
    """`market`, `symbol` or `series`."""
    label: str
    members: tuple[int, ...]
    """The series that the row sums up, as indices of the calendar."""
    is_open: bool = False
    """Whether the rows below it are visible."""


@attrs.frozen(kw_only=True)
class Folding:
    """Which rows are open, and which series count."""

    open: frozenset[str] = frozenset()
    """Keys of symbols."""
    closed: frozenset[str] = frozenset()
    """Keys of markets; while there is a search, of symbols too."""
    words: tuple[str, ...] = ()
    """All must occur in market, symbol or interval, in any case."""

    def has(self, series: Series) -> bool:
        """Return whether the words match a series."""
        names = [one.casefold() for one in attrs.astuple(series)]
        return all(any(word in name for name in names) for word in self.words)

    def opens(self, key: str) -> bool:
        """Return whether the symbol of a key shows its series."""
        return key not in self.closed if self.words else key in self.open


def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a search."""
    return tuple(text.casefold().replace("/", " ").split())


def visible_rows(every: Sequence[Series], folding: Folding) -> list[Row]:
    """Return all visible rows, markets in their usual order. The series come sorted."""
    matching = [(number, one) for number, one in enumerate(every) if folding.has(one)]
    matching.sort(key=lambda pair: market_order(pair[1].trade_type))
    rows: list[Row] = []
    for trade_type, of_market in groupby(matching, key=lambda pair: pair[1].trade_type):
        members = list(of_market)
        is_open = trade_type not in folding.closed
        label = MARKET_LABELS.get(trade_type, trade_type)
        rows.append(Row(trade_type, 0, "market", label, _numbers(members), is_open))
        if is_open:
            for symbol, of_symbol in groupby(members, key=lambda pair: pair[1].symbol):
                rows += _symbol_rows(trade_type, symbol, list(of_symbol), folding)
    return rows


def _symbol_rows(
    trade_type: str, symbol: str, members: list[tuple[int, Series]], folding: Folding
) -> list[Row]:
    if len(members) == 1:
        [(number, one)] = members
        label = f"{symbol} {one.time_interval}"
        return [Row(key_of(one), 1, "series", label, (number,))]
    key = f"{trade_type}/{symbol}"
    is_open = folding.opens(key)
    rows = [Row(key, 1, "symbol", symbol, _numbers(members), is_open)]
    if is_open:
        by_length = sorted(members, key=lambda pair: _ORDER[pair[1].time_interval])
        rows += [
            Row(key_of(one), 2, "series", one.time_interval, (number,)) for number, one in by_length
        ]
    return rows


def _numbers(members: Iterable[tuple[int, Series]]) -> tuple[int, ...]:
    return tuple(number for number, _ in members)


def calendar_values(
    calendar: Calendar,
    due: Mapping[str, Due],
    window: Window,
    rows: Sequence[Row],
    offset: int,
    limit: int,
) -> dict[str, object]:
    """Return cells as values of JSON, for some of the visible rows.

    Args:
      calendar: what each series lacked.
      due: what is due, by market.
      window: the cells.
      rows: all visible rows.
      offset: the first row to return.
      limit: how many rows to return.
    """
    shown = rows[offset : offset + limit]
    groups = [one.members for one in shown]
    cells = calendar.rows(groups, np.array(window.edges_ms), due)
    totals = calendar.rows(groups, _ALL_TIME, due)
    return {
        "zoom": str(window.zoom),
        "starts_ms": list(window.starts_ms),
        "end_ms": window.end_ms,
        "total_rows": len(rows),
        "offset": offset,
        "reasons": [str(one) for one in REASONS],
        "rows": [
            _row_values(row, runs, total)
            for row, runs, [total] in zip(shown, cells, totals, strict=True)
        ],
    }


def calendar_table(
    calendar: Calendar,
    due: Mapping[str, Due],
    window: Window,
    rows: Sequence[Row],
) -> Iterator[tuple[object, ...]]:
    """Give the runs of some rows, with the columns of `CALENDAR_COLUMNS`.

    Args:
      calendar: what each series lacked.
      due: what is due, by market.
      window: the cells.
      rows: markets, symbols and series.
    """
    cells = calendar.rows([one.members for one in rows], np.array(window.edges_ms), due)
    for row, runs in zip(rows, cells, strict=True):
        at = 0
        for run in runs:
            counts, begins_ms = run.counts, window.edges_ms[at]
            at += run.cells
            why = "; ".join(counts.reasons)
            yield (
                *(row.key, begins_ms, window.edges_ms[at], run.cells, counts.state.name.lower()),
                *(counts.refilled, counts.pending, counts.absent, counts.unaccounted, why),
            )


def _row_values(row: Row, runs: Sequence[Run], total: Run) -> dict[str, object]:
    return {
        "key": row.key,
        "depth": row.depth,
        "kind": row.kind,
        "label": row.label,
        "series": row.key if row.kind == "series" else None,
        "members": len(row.members),
        "is_open": row.is_open,
        "percent": percent_of(total.counts.stored, total.counts.due),
        "runs": [run_values(one.cells, one.counts) for one in runs],
    }


def run_values(cells: int, counts: Counts) -> list[object]:
    """Return a run of cells as values: its state and length, and the counts if they are many."""
    state = counts.state
    if state in (CellState.NOT_DUE, CellState.COMPLETE):
        return [int(state), cells]
    return [
        int(state),
        cells,
        counts.due,
        counts.refilled,
        counts.pending,
        counts.absent,
        counts.unaccounted,
        [_REASONS[one] for one in counts.reasons],
    ]
