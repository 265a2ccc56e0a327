"""Hold a store against the calendar: each due candle is a row or a gap of the ledger."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa

from kline_trio.candle import Series
from kline_trio.interval import Span
from kline_trio.storage.catalog import candle_files, open_files
from kline_trio.storage.journal.ledger import Gap, Reason, SeriesAccount, State
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.table import BEGIN

__all__ = ["Contents", "Lives", "wrong_in"]


@attrs.frozen
class Contents:
    """What a store has at one moment."""

    accounts: Mapping[Series, SeriesAccount]
    ledger: Mapping[Series, Sequence[Gap]]
    in_files: Mapping[Series, Counter[int]]
    """How often each open time is in files."""
    in_journal: Mapping[Series, set[int]]

    @classmethod
    def ledger_of(cls, store: Path) -> "Contents":
        """Read accounts and ledger only, also while a recorder runs."""
        ledger: dict[Series, list[Gap]] = {}
        with journal_view(store) as journal:
            for absence in journal.gaps():
                ledger.setdefault(absence.series, []).append(absence)
            return cls(journal.accounts(), ledger, {}, {})

    @classmethod
    def of(cls, store: Path) -> "Contents":
        """Read the store; nobody may write it meanwhile."""
        ledger: dict[Series, list[Gap]] = {}
        in_journal: dict[Series, set[int]] = {}
        with journal_view(store) as journal:
            accounts = journal.accounts()
            for absence in journal.gaps():
                ledger.setdefault(absence.series, []).append(absence)
            for series in journal.newest_ms():
                in_journal[series] = set(journal.waiting_ms(series))
        in_files: dict[Series, Counter[int]] = {}
        for _, series, file in open_files(candle_files(store)):
            begins: list[Any] = file.read([BEGIN])[BEGIN].cast(pa.int64()).to_pylist()
            in_files.setdefault(series, Counter()).update(begins)
        return cls(accounts, ledger, in_files, in_journal)

    def rows_of(self, series: Series) -> set[int]:
        """Return the open times of the stored candles."""
        return {*self.in_files.get(series, ()), *self.in_journal.get(series, ())}


@attrs.frozen
class Lives:
    """From when to when recorders ran, in the exchange's time, in order."""

    spans: Sequence[Span]
    begin_slack_ms: int
    """How long a recorder may take to begin to listen."""
    end_slack_ms: int
    """How long it may take to name what it lacks."""
    unnamed_ms: int = 0
    """What one that is cancelled had no time to name, the next one cannot tell from its absence."""

    @property
    def end_ms(self) -> int:
        """The end of the last life."""
        return self.spans[-1].to_ms

    def reasons(self, open_ms: int, close_ms: int) -> set[Reason]:
        """Return the reasons that a gap may have; near the edges of a life there are two."""
        reasons = set()
        begin_ms, end_ms = self.begin_slack_ms, self.end_slack_ms
        if any(one.from_ms <= close_ms <= one.to_ms + end_ms for one in self.spans):
            reasons.add(Reason.NOT_RECEIVED)
        end_ms += self.unnamed_ms
        if not any(one.from_ms + begin_ms < close_ms < one.to_ms - end_ms for one in self.spans):
            reasons.add(Reason.RECORDER_DOWN)
        return reasons


def wrong_in(contents: Contents, lives: Lives, first_ms: Mapping[Series, int]) -> Iterator[str]:
    """Give a line for everything that is not as it should be.

    Args:
      contents: of the store after the last life.
      lives: of the recorders.
      first_ms: from which candle on each recorded series is accounted for.
    """
    for series in sorted(first_ms):
        account = contents.accounts.get(series)
        if account is None or account.first_ms > first_ms[series]:
            yield f"{series}: begins at {first_ms[series]} and is accounted for as {account}"
            continue
        due_ms = series.interval.open_time_ms(lives.end_ms - lives.end_slack_ms)
        if account.retired_ms is None and account.watermark_ms < due_ms:
            yield f"{series}: the watermark is {account.watermark_ms} and should reach {due_ms}"
        yield from _wrong_candles(contents, lives, series, account)


def _wrong_candles(
    contents: Contents, lives: Lives, series: Series, account: SeriesAccount
) -> Iterator[str]:
    interval = series.interval
    rows = contents.rows_of(series)
    twice = sorted(
        ms for ms, count in contents.in_files.get(series, Counter()).items() if count > 1
    )
    if twice:
        yield f"{series}: {len(twice)} candles are in files twice, first {twice[0]}"
    gaps: dict[int, Gap] = {}
    for absence in contents.ledger.get(series, ()):
        for open_ms in interval.open_times_ms(absence.span):
            if open_ms in gaps:
                yield f"{series}: {open_ms} is in two rows of the ledger"
            gaps[open_ms] = absence
    due = list(interval.open_times_ms(Span(account.first_ms, account.watermark_ms)))
    is_gap = {ms for ms, gap in gaps.items() if gap.state is not State.FILLED}
    holes = [ms for ms in due if ms not in rows and ms not in is_gap]
    for span in interval.runs(holes):
        yield f"{series}: {interval.count(span)} candles are missing without a gap, {span}"
    for span in interval.runs(sorted(rows & is_gap)):
        yield f"{series}: {interval.count(span)} candles are stored and a gap, {span}"
    for open_ms, gap in gaps.items():
        if gap.reason not in (Reason.RECORDER_DOWN, Reason.NOT_RECEIVED):
            continue
        allowed = lives.reasons(open_ms, interval.end_time_ms(open_ms))
        if gap.reason not in allowed:
            yield f"{series}: {open_ms} is absent by {gap.reason!r}, not by {sorted(allowed)}"
