"""Accepted candles that are not yet in a Parquet file: durable once `accept` returns."""

import contextlib
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import attrs

from kline_trio.candle import Candle, ReceivedCandle, Series, Source
from kline_trio.interval import Span
from kline_trio.storage.damage import ChangedFile, LostCandles, gaps_left
from kline_trio.storage.file_list import (
    FileEntry,
    Totals,
    listed_file,
    listed_files,
    newest_files,
    put_file,
    remove_file,
    totals,
)
from kline_trio.storage.held import JournalFile
from kline_trio.storage.journal_tables import open_tables
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.ledger import (
    FetchResult,
    Gap,
    Ledger,
    Reason,
    Revision,
    SeriesAccount,
    State,
    accounts,
    put_heartbeat,
)
from kline_trio.storage.waiting import (
    PendingCandle,
    PendingSeries,
    add_rows,
    differing_row,
    pending_candles,
    pending_series,
    remove_rows,
    replace_row,
    row_of,
    waiting_times_ms,
)

__all__ = ["Journal"]

_SEEN = """
SELECT coalesce((SELECT exchange_ms FROM exchange_time WHERE trade_type = ?), watermark_ms, 0)
FROM series WHERE id = ?
"""


@attrs.define(eq=False)
class Journal:
    """The one writing connection to the journal's file.

    Its methods may be called from any thread, but only from one at a time.
    """

    file: JournalFile
    _connection: sqlite3.Connection
    _ids: dict[Series, int]
    _ledger: Ledger
    _last_absent_ms: dict[Series, int]
    """Nothing of a series is in the ledger from here on, so most candles need no look into it."""
    _reached_ms: dict[Series, int] = attrs.field(init=False, factory=dict)
    """The end of the newest candle that this process brought into a file of the series."""

    @classmethod
    def open(cls, path: Path) -> "Journal":
        """Opens the file, or makes it; its content is checked and its WAL folded in.

        Raises:
          ConfigError: a newer kline_trio wrote it.
          DamagedError: its content is not what was written.
          DiskError: the file system cannot hold a WAL.
          sqlite3.Error: the disk refused.
        """
        file, connection, ids = open_tables(path)
        ledger = Ledger(connection)
        last_ms = {series: ledger.last_ms(series_id) for series, series_id in ids.items()}
        return cls(file, connection, ids, ledger, last_ms)

    def accept(self, received: Sequence[ReceivedCandle], origin: Source = Source.STREAM) -> None:
        """Commits the candles in one transaction; the last of equal series and open time wins.

        A value that replaces another one, also of these, is a revision, and what was absent is
        filled.

        Raises:
          sqlite3.Error: nothing was accepted.
        """
        with self._transaction():
            last = self._last_sequence(len(received))
            rows = [
                row_of(self._id(item.series), sequence, origin, item.candle)
                for sequence, item in enumerate(received, last + 1)
            ]
            for nth in add_rows(self._connection, rows):
                item = received[nth]
                self._note_revision(item.series, item.candle, origin, is_newer_kept=True)
                replace_row(self._connection, rows[nth])
            for item in received:
                if item.candle.open_time_ms < self._last_absent_ms.get(item.series, 0):
                    end_ms = item.series.interval.end_time_ms(item.candle.open_time_ms)
                    self._fill(item.series, Span(item.candle.open_time_ms, end_ms), origin)

    def refill(self, refills: Iterable[FetchResult]) -> None:
        """Commits candles that were absent; they replace nothing, and a differing value is noted.

        Raises:
          sqlite3.Error: nothing was committed.
        """
        with self._transaction():
            for refill in refills:
                self._refill(refill)

    def settle(
        self,
        found: Iterable[Gap],
        accounts: Mapping[Series, SeriesAccount],
        revisions: Iterable[Revision] = (),
        answers: Iterable[FetchResult] = (),
    ) -> None:
        """Takes down what is absent, up to where each series is accounted for, and revisions.

        Args:
          found: new absences.
          accounts: what changes of them.
          revisions: two values of one candle.
          answers: what becomes of absences that are there already.

        Raises:
          sqlite3.Error: nothing was taken down.
        """
        with self._transaction():
            for answer in answers:
                self._refill(answer)
            for absence in found:
                self._note(absence)
            for revision in revisions:
                self._ledger.revise(self._id(revision.series), revision)
            self._put_accounts(accounts)

    def _note(self, absence: Gap) -> tuple[Span, ...]:
        # Before the transaction ends, and also if it fails: too late a time costs a look only.
        last_ms = self._last_absent_ms.get(absence.series, 0)
        self._last_absent_ms[absence.series] = max(last_ms, absence.span.to_ms)
        return self._ledger.note(self._id(absence.series), absence)

    def reopen(self, series: Iterable[Series]) -> tuple[Gap, ...]:
        """What of these was closed as delisted is asked for anew; gives what that was.

        Raises:
          sqlite3.Error: all is as it was.
        """
        with self._transaction():
            return tuple(
                absence for one in series for absence in self._ledger.reopen(one, self._id(one))
            )

    def rewind(self, accounts: Mapping[Series, SeriesAccount], now_ms: int) -> None:
        """Set watermarks back that a wrong time had led away, and what followed from it.

        Args:
          accounts: as they are to be.
          now_ms: the exchange's time. What was named from the watermark on is forgotten, and what
            was closed at a later time is asked for anew.

        Raises:
          sqlite3.Error: all is as it was.
        """
        with self._transaction():
            for series, account in accounts.items():
                self._ledger.rewind(series, self._id(series), account.watermark_ms, now_ms)
            self._put_accounts(accounts)

    def _put_accounts(self, accounts: Mapping[Series, SeriesAccount]) -> None:
        self._connection.executemany(
            "UPDATE series SET first_ms = ?, watermark_ms = ?, retired_ms = ? WHERE id = ?",
            [(*attrs.astuple(one), self._id(series)) for series, one in accounts.items()],
        )

    def accounts(self) -> dict[Series, SeriesAccount]:
        """Those of all series that have one."""
        return accounts(self._connection)

    def queue(self, most: int, after: Gap | None) -> list[Gap]:
        """Return pending absences of all series, the newest first; see `Ledger.queue`."""
        return self._ledger.queue(self._ids, most, after)

    def touching(self, series: Series, span: Span) -> list[Gap]:
        """Return the series' absences, of every state, that reach into a span, by time."""
        return self._ledger.touching(series, self._ids.get(series), span)

    def asked_for(self, series: Iterable[Series]) -> tuple[Gap, ...]:
        """What of these series is absent and still asked for, by series as given, and by time."""
        return tuple(
            absence for one in series for absence in self._ledger.pending(one, self._ids.get(one))
        )

    @property
    def ledger_changes(self) -> int:
        """A number that differs after each change of what is absent; 0 while nothing ever was."""
        return self._ledger.changes

    def _refill(self, refill: FetchResult) -> None:
        series, series_id = refill.series, self._id(refill.series)
        last = self._last_sequence(len(refill.candles))
        rows = [
            row_of(series_id, sequence, refill.origin, candle)
            for sequence, candle in enumerate(refill.candles, last + 1)
        ]
        for nth in add_rows(self._connection, rows):
            self._note_revision(series, refill.candles[nth], refill.origin, is_newer_kept=False)
        times = [candle.open_time_ms for candle in refill.candles]
        for span in series.interval.runs(times):
            self._fill(series, span, refill.origin)
        for span in series.interval.gaps(refill.span, times):
            self._ledger.change(series, series_id, span, refill.after_asking)

    def _last_sequence(self, count: int) -> int:
        """The last number given so far; so many more are given now."""
        [last] = self._connection.execute("SELECT last_sequence FROM state").fetchone()
        self._connection.execute("UPDATE state SET last_sequence = ?", [last + count])
        return int(last)

    def _fill(self, series: Series, span: Span, origin: Source) -> None:
        def filled(absence: Gap) -> Gap:
            return attrs.evolve(absence, state=State.FILLED, filled_by=origin)

        self._ledger.change(series, self._id(series), span, filled)

    def _note_revision(
        self, series: Series, newer: Candle, origin: Source, *, is_newer_kept: bool
    ) -> None:
        older = differing_row(self._connection, self._id(series), newer)
        if older is not None:
            revision = Revision(series, older, newer, origin, is_newer_kept)
            self._ledger.revise(self._id(series), revision)

    def pending(self) -> tuple[PendingSeries, ...]:
        """What waits for a merge, by series."""
        return pending_series(self._connection)

    def take(self, series: Series) -> tuple[PendingCandle, ...]:
        """The series' waiting candles by open time; they stay until `forget`."""
        return pending_candles(self._connection, self._ids.get(series))

    def forget(
        self, merged: FileEntry, taken: Iterable[PendingCandle], *, is_newest: bool = True
    ) -> tuple[LostCandles, ...]:
        """Removes exactly these candles of the file's series, and keeps what the file is now.

        A revision accepted after `take` has another sequence and stays. Due candles that the file
        has lost become gaps in the same transaction.

        Args:
          merged: the file.
          taken: the candles.
          is_newest: whether the file has not been written anew since. If it has, the newer file's
            adoption keeps the entry and names the gaps.

        Returns:
          what became gaps.

        Raises:
          sqlite3.Error: nothing was removed.
        """
        with self._transaction():
            series_id = self._id(merged.series)
            remove_rows(self._connection, series_id, taken)
            return self._keep_file(merged, is_newest=is_newest)

    def keep_filled(
        self,
        series: Series,
        merged: Iterable[tuple[FileEntry, bool]],
        filled: Iterable[Span],
        lacking: Iterable[tuple[Span, Reason]],
    ) -> tuple[LostCandles, ...]:
        """Keeps files that rows of the archive went into, and what it filled and lacks.

        Args:
          series: whose files they are.
          merged: the files, each with whether it has not been written anew since.
          filled: which candles the archive had, and the files have.
          lacking: which it had not, and why.

        Returns:
          what became gaps, as by `forget`.

        Raises:
          sqlite3.Error: nothing was kept.
        """

        def lacks(absence: Gap, reason: Reason) -> Gap:
            if absence.state is not State.PENDING:
                return absence
            return attrs.evolve(absence, reason=reason)

        lost: list[LostCandles] = []
        with self._transaction():
            for one, is_newest in merged:
                changes = [attrs.evolve(item, origin=Source.ARCHIVE) for item in one.revisions]
                changed = attrs.evolve(one, revisions=tuple(changes))
                lost += self._keep_file(changed, is_newest=is_newest)
            for span in filled:
                self._fill(series, span, Source.ARCHIVE)
            for span, why in lacking:
                self._ledger.change(series, self._id(series), span, partial(lacks, reason=why))
        return tuple(lost)

    def adopt(self, changed: Iterable[ChangedFile]) -> tuple[LostCandles, ...]:
        """Keep what listed files are now; due candles that they have lost become gaps.

        An entry that is not the listed one any more was kept anew meanwhile, gaps included.

        Returns:
          what became gaps.

        Raises:
          sqlite3.Error: nothing was kept.
        """
        lost: list[LostCandles] = []
        with self._transaction():
            for one in changed:
                listed, now = one.listed, one.now
                entry = listed_file(self._connection, listed.path)
                if entry != listed or entry.status != listed.status:
                    continue
                if now is None:
                    remove_file(self._connection, listed.path)
                    lost += self._name_lost(listed.series, listed.path, ())
                else:
                    lost += self._keep_file(now, is_newest=True)
        return tuple(lost)

    def _keep_file(self, merged: FileEntry, *, is_newest: bool) -> tuple[LostCandles, ...]:
        series_id = self._id(merged.series)
        for revision in merged.revisions:
            self._ledger.revise(series_id, revision)
        lost: tuple[LostCandles, ...] = ()
        if is_newest:
            put_file(self._connection, series_id, merged)
            if merged.held is not None:
                lost = self._name_lost(merged.series, merged.path, merged.held)
        if merged.newest_ms is not None:
            end_ms = merged.series.interval.end_time_ms(merged.newest_ms)
            self._reached_ms[merged.series] = max(end_ms, self._reached_ms.get(merged.series, 0))
        return lost

    def _name_lost(
        self, series: Series, path: PurePosixPath, held: Sequence[Span]
    ) -> tuple[LostCandles, ...]:
        """Name as gaps which due candles of a file are neither in it nor in the journal."""
        place = Layout(self.layout() or DEFAULT_LAYOUT).place(series, path)
        reached_ms = self._reached_ms.get(series, 0)
        gaps = gaps_left(self._connection, series, self._id(series), place, held, reached_ms)
        count = sum(series.interval.count(span) for gap in [*gaps] for span in self._note(gap))
        return (LostCandles(path, series, count),) if count else ()

    def files(self, among: Collection[Series] | None = None) -> tuple[FileEntry, ...]:
        """What merges wrote, by path: of all series, or of some."""
        return listed_files(self._connection, among)

    def listed(self, paths: Iterable[PurePosixPath]) -> dict[PurePosixPath, FileEntry]:
        """Return the manifest's entries of these paths, where there are any."""
        entries = (listed_file(self._connection, path) for path in paths)
        return {entry.path: entry for entry in entries if entry is not None}

    def newest_files(self) -> dict[Series, FileEntry]:
        """Return of each series the file with the newest candles."""
        return newest_files(self._connection)

    def totals(self) -> Totals:
        """What all files are together."""
        return totals(self._connection)

    def layout(self) -> str | None:
        """The template by which the store's files are named; None if it is not known."""
        [layout] = self._connection.execute("SELECT layout FROM state").fetchone()
        return None if layout is None else str(layout)

    def remember_layout(self, template: str) -> None:
        """Keeps the template by which the store's files are named.

        Raises:
          sqlite3.Error: it was not kept.
        """
        with self._transaction():
            self._connection.execute("UPDATE state SET layout = ?", [template])

    def rows(self) -> int:
        """How many candles wait."""
        [rows] = self._connection.execute("SELECT count(*) FROM candle").fetchone()
        return int(rows)

    def fold_in(self) -> None:
        """Leaves nothing in the WAL: after it the file alone is the journal.

        Raises:
          sqlite3.Error: some of it still is in the WAL alone.
        """
        [busy, *_] = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self.file.note()
        if busy:
            raise sqlite3.OperationalError("another program is at the journal")

    def copy_to(self, path: Path) -> None:
        """Writes all that is committed to a file of its own, also if this one has no name now.

        Raises:
          sqlite3.Error: the disk refused.
        """
        with contextlib.closing(sqlite3.connect(path)) as copy:
            self._connection.backup(copy)

    def close(self) -> None:
        """Closes the file; SQLite folds the WAL in, and removes it, if no reader is at it."""
        self._connection.close()
        self.file.close()

    def compare(
        self,
        series: Series,
        missing: Iterable[Span],
        stored: Iterable[Span],
        listed: Iterable[tuple[str, int]],
    ) -> int | None:
        """Writes gap rows for what is missing, sets pending rows that are stored to filled, and
        keeps that the series was compared with the ledger; all of it in one transaction.

        Args:
          series: which.
          missing: due candles that a look at the store found neither stored nor in the ledger.
          stored: pending candles that it found stored.
          listed: path and CRC of the series' files then.

        Returns:
          how many candles the gap rows have; None: another file is in the list by now, so that
          the look may be out of date, and nothing was changed.

        Raises:
          sqlite3.Error: nothing was changed.
        """
        with self._transaction():
            one = self._connection
            for path, crc32 in listed:
                row = one.execute("SELECT crc32 FROM file WHERE path = ?", [path]).fetchone()
                if row != (crc32,):
                    return None
            series_id, count = self._id(series), 0
            [seen_ms] = one.execute(_SEEN, [series.trade_type, series_id]).fetchone()
            for span in missing:
                # What came since the look waits in here.
                waiting = waiting_times_ms(one, series_id, span)
                for gap in series.interval.gaps(span, waiting):
                    self._note(Gap(series, gap, seen_ms, Reason.FOUND_MISSING))
                    count += series.interval.count(gap)
            for span in stored:
                self._ledger.find(series, series_id, span)
            one.execute("UPDATE series SET is_compared = 1 WHERE id = ?", [series_id])
            return count

    def beat(self, pid: int | None, exchange_ms: Mapping[str, int], local_ms: int) -> None:
        """Keep the recorder's pid, each market's exchange time, and the local time.

        Raises:
          sqlite3.Error: nothing was kept.
        """
        with self._transaction():
            put_heartbeat(self._connection, pid, exchange_ms, local_ms)

    def _id(self, series: Series) -> int:
        known = self._ids.get(series)
        if known is None:
            names = (series.trade_type, series.symbol, series.time_interval)
            sql = "INSERT INTO series (trade_type, symbol, time_interval, is_compared)"
            known = self._connection.execute(f"{sql} VALUES (?, ?, ?, 1)", names).lastrowid
            assert known is not None
            self._ids[series] = known
        return known

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        known = dict(self._ids)
        try:
            with self.file.transaction(self._connection):
                yield
        except BaseException:
            # A transaction rolled back takes its ids along.
            self._ids = known
            raise
