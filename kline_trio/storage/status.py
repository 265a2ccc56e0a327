"""How complete a store is, series by series."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import attrs

from kline_trio.candle import Series
from kline_trio.interval import Span
from kline_trio.storage.catalog import candle_files, open_files
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.files import bounds_ms
from kline_trio.storage.journal_view import journal_view
from kline_trio.storage.ledger import Absence, Account, State
from kline_trio.storage.table import BEGIN

__all__ = ["SeriesStatus", "status"]


@attrs.frozen
class SeriesStatus:
    """What a store has of one series."""

    series: Series
    from_ms: int | None
    """The begin of the first stored candle; None if none is."""
    to_ms: int | None
    """The end of the last stored candle, exclusive."""
    rows: int
    due: int
    """How many candles there should be, from the first that counts to the watermark."""
    absent: dict[str, int]
    """How many of them there are not, by reason; those that are still asked for as pending."""

    @property
    def complete_percent(self) -> float | None:
        """How much of what is due is there; None if nothing is due yet."""
        if not self.due:
            return None
        return 100.0 * (self.due - sum(self.absent.values())) / self.due


@attrs.define
class _Stored:
    rows: int = 0
    first_ms: int | None = None
    last_ms: int | None = None

    def add(self, first_ms: int, last_ms: int, rows: int) -> None:
        self.rows += rows
        self.first_ms = first_ms if self.first_ms is None else min(self.first_ms, first_ms)
        self.last_ms = last_ms if self.last_ms is None else max(self.last_ms, last_ms)


def status(store_path: Path) -> Iterator[SeriesStatus]:
    """How complete each series of the store is, also while a recorder writes it.

    Raises:
      KlineTrioError: the journal or a file cannot be read.
    """
    with disk_errors(store_path):
        with journal_view(store_path) as journal:
            absences, accounts = tuple(journal.absences()), journal.accounts()
            waiting: dict[Series, list[int]] = {}
            for series, open_time_ms in journal.open_times():
                waiting.setdefault(series, []).append(open_time_ms)
        stored: dict[Series, _Stored] = {}
        for _, owner, file in open_files(candle_files(store_path)):
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                stored.setdefault(owner, _Stored()).add(*bounds_ms(file, group, BEGIN), rows)
    for series, times in waiting.items():
        mine = stored.setdefault(series, _Stored())
        # A candle that waits and lies within the files revises one of them, or fills a gap: only
        # those after the files' end are sure to be more.
        later = [ms for ms in times if mine.last_ms is None or ms > mine.last_ms]
        if later:
            mine.add(later[0], later[-1], len(later))
    for series in sorted({*stored, *accounts}):
        yield _status_of(series, stored.get(series), accounts.get(series), absences)


def _status_of(
    series: Series,
    stored: _Stored | None,
    account: Account | None,
    absences: tuple[Absence, ...],
) -> SeriesStatus:
    interval = series.interval
    absent: Counter[str] = Counter()
    for one in absences:
        if one.series == series and one.state is not State.FILLED:
            reason = str(one.state if one.state is State.PENDING else one.reason)
            absent[reason] += interval.count(one.span)
    due = 0
    if account is not None and account.watermark_ms > account.first_ms:
        due = interval.count(Span(account.first_ms, account.watermark_ms))
    last_ms = stored.last_ms if stored else None
    return SeriesStatus(
        series,
        stored.first_ms if stored else None,
        None if last_ms is None else interval.end_time_ms(last_ms),
        stored.rows if stored else 0,
        due,
        dict(absent),
    )
