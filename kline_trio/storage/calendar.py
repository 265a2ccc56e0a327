"""The completeness calendar: how many candles of which series were due, refilled or absent when.

It answers from an index of the ledger in memory. A candle is due if the ledger accounts for it or
the exchange's time says so; it is stored unless the ledger says otherwise. No candle is read.
"""

import enum
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np
import numpy.typing as npt

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.interval import Span
from kline_trio.storage.cells import Cells, Due, count_cells, count_reasons, due_spans
from kline_trio.storage.journal.ledger import Reason
from kline_trio.storage.ledger_index import (
    ABSENT,
    PENDING,
    REASONS,
    LedgerIndex,
    ledger_stamp,
    ledger_version,
)

__all__ = [
    "Calendar",
    "CellState",
    "Counts",
    "Due",
    "Run",
    "ledger_stamp",
    "ledger_version",
]


class CellState(enum.IntEnum):
    """The worst that a cell of the calendar holds; worse is larger."""

    NOT_DUE = 0
    COMPLETE = 1
    REFILLED = 2
    """All due candles are stored, and the stream did not bring all of them."""
    UNACCOUNTED = 3
    """No recorder has accounted for some due candles."""
    ABSENT = 4
    """Nothing asks for some due candles any more."""
    PENDING = 5
    """Some due candles are still asked for."""


@attrs.frozen
class Counts:
    """How many candles of a cell are due, and what became of those that the stream did not bring.

    The five numbers are of candles that open in the cell.
    """

    due: int
    refilled: int = 0
    """These are stored."""
    pending: int = 0
    absent: int = 0
    unaccounted: int = 0
    reasons: tuple[Reason, ...] = ()
    """Of the refilled, pending and absent candles; each once, in the order of `Reason`."""

    @property
    def stored(self) -> int:
        """How many due candles are stored."""
        return self.due - self.pending - self.absent - self.unaccounted

    @property
    def state(self) -> CellState:
        """The worst of the cell."""
        if self.pending:
            return CellState.PENDING
        if self.absent:
            return CellState.ABSENT
        if self.unaccounted:
            return CellState.UNACCOUNTED
        if self.refilled:
            return CellState.REFILLED
        return CellState.COMPLETE if self.due else CellState.NOT_DUE


@attrs.frozen
class Run:
    """Consecutive cells with the same counts. Complete cells may differ in how many are due."""

    cells: int
    counts: Counts
    """Of the first cell."""


@attrs.frozen(eq=False)
class Calendar:
    """What each series lacked, and what was refilled, by the ledger of one moment."""

    _index: LedgerIndex

    @classmethod
    def read(cls, store_path: Path) -> "Calendar":
        """Read the ledger of a store, or of a copy of its files. A recorder may run meanwhile.

        Raises:
          KlineTrioError: the journal, the coverage or the disk refuses.
        """
        return cls(LedgerIndex.read(store_path))

    @property
    def series(self) -> tuple[Series, ...]:
        """All series that the ledger has an account or a gap of, sorted."""
        return self._index.series

    @property
    def version(self) -> str:
        """The same ledger has the same text; `ledger_version` reads the present one."""
        return self._index.version

    def rows(
        self, groups: Sequence[Sequence[int]], edges_ms: npt.ArrayLike, now: Mapping[str, Due]
    ) -> list[list[Run]]:
        """Return the cells of groups of series, as runs.

        Args:
          groups: the members of each group, as indices into `series`; a group's counts are their
            sums.
          edges_ms: n + 1 increasing moments, between which the n cells lie.
          now: what is due, by market; nothing after the watermark is due of a market without it.
        """
        edges = np.asarray(edges_ms, np.int64)
        return _runs(count_cells(self._index, groups, edges, now))

    def totals(self, members: Sequence[int], now: Mapping[str, Due]) -> Counts:
        """Return the counts of a group of series over all time; arguments as of `rows`."""
        [[run]] = self.rows([members], np.array([0, MAX_TIME_MS]), now)
        return run.counts

    def spans(self, now: Mapping[str, Due]) -> list[Span | None]:
        """Return from which to which candle those of each series are due; None: none is."""
        return due_spans(self._index, now)

    def lacking_by_reason(
        self, members: Sequence[int], now: Mapping[str, Due]
    ) -> dict[Reason, int]:
        """Return how many candles of a group are absent or pending over all time, by reason.

        The reason of the most candles comes first.
        """
        return count_reasons(self._index, members, now, (ABSENT, PENDING))


def _runs(cells: Cells) -> list[list[Run]]:
    """Return the cells of each group as runs."""
    columns = attrs.astuple(cells)
    due, *lacks, _ = columns
    is_complete = (due > 0) & ~np.any(lacks, axis=0)
    begins = np.ones(due.shape, bool)
    begins[:, 1:] = False
    for column in (np.where(is_complete, -1, due), *columns[1:]):
        begins[:, 1:] |= column[:, 1:] != column[:, :-1]
    group, cell = np.nonzero(begins)
    counts = map(_counts, *(one[group, cell].tolist() for one in columns))
    # The next run of the group begins where this one ends.
    width = due.shape[1]
    lengths = np.diff(group * width + cell, append=due.size)
    runs = list(map(Run, lengths.tolist(), counts))
    ends = np.cumsum(np.bincount(group, minlength=len(due))).tolist()
    return [runs[first:end] for first, end in zip([0, *ends], ends, strict=False)]


@functools.lru_cache(maxsize=10_000)
def _counts(
    due: int, refilled: int, pending: int, absent: int, unaccounted: int, reasons: int
) -> Counts:
    return Counts(due, refilled, pending, absent, unaccounted, _reasons(reasons))


@functools.cache
def _reasons(bits: int) -> tuple[Reason, ...]:
    return tuple(reason for code, reason in enumerate(REASONS) if bits >> code & 1)
