"""The journal's one writer: what it accepts is durable once the method returns.

It holds accepted candles until they are in a Parquet file, the ledger and the manifest.
"""

import contextlib
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import attrs

from kline_trio.candle import Candle, ReceivedCandle, Series, Source
from kline_trio.interval import Span
from kline_trio.spans import joined
from kline_trio.storage.damage import ChangedFile, LostCandles, due_span, log_lost
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.held import JournalFile
from kline_trio.storage.holdings import Holdings
from kline_trio.storage.journal import manifest
from kline_trio.storage.journal.heartbeat import put_heartbeat
from kline_trio.storage.journal.ledger import (
    FetchResult,
    Gap,
    Ledger,
    Reason,
    Revision,
    SeriesAccount,
    State,
    accounts,
    put_accounts,
)
from kline_trio.storage.journal.manifest import FileEntry, Standing, Totals, WrittenFiles
from kline_trio.storage.journal.outbox import LakeState, Outbox
from kline_trio.storage.journal.pending import (
    PendingCandle,
    add_rows,
    differing_row,
    numbered_rows,
    pending_candles,
    pending_counts,
    remove_rows,
    replace_row,
    waiting_times_ms,
)
from kline_trio.storage.journal.pruned import Pruned, PrunedMonths
from kline_trio.storage.journal.schema import SeriesIds, open_tables
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout

_ACCOUNT = """
SELECT first_ms, watermark_ms, retired_ms FROM series WHERE id = ? AND watermark_ms IS NOT NULL
"""
_SEEN = """
SELECT coalesce((SELECT exchange_ms FROM exchange_time WHERE trade_type = ?), watermark_ms, 0)
FROM series WHERE id = ?
"""


@attrs.define(eq=False)
class Journal:
    """The one writing connection to the journal's file.

    Its methods may be called from any thread, but only from one at a time. Each of them raises
    DiskError if the disk refuses; then a method that writes has changed nothing.
    """

    file: JournalFile
    _connection: sqlite3.Connection
    _ids: SeriesIds
    _ledger: Ledger
    _outbox: Outbox
    _pruned: PrunedMonths
    written: WrittenFiles = attrs.field(init=False, factory=WrittenFiles)
    """Files that are not listed yet. Another thread, which writes the files, may use it."""
    _reached_ms: dict[Series, int] = attrs.field(init=False, factory=dict)
    """The end of the newest candle that this process brought into a file of the series."""

    @classmethod
    def open(cls, path: Path) -> "Journal":
        """Open or create the file, check its content and empty its WAL into it.

        Raises:
          ConfigError: a newer kline_trio wrote it.
          DamagedError: its content is not what was written.
          DiskError: the disk refused, or its file system cannot hold a WAL.
        """
        with disk_errors(path):
            file, connection, ids = open_tables(path)
            pruned = PrunedMonths(connection, ids)
            ledger, outbox = Ledger(connection, ids, pruned), Outbox(connection, ids)
            return cls(file, connection, ids, ledger, outbox, pruned)

    def accept(self, received: Sequence[ReceivedCandle], origin: Source = Source.STREAM) -> None:
        """Commit candles in one transaction; the last of equal series and open time wins.

        A value that replaces another one, also one of these candles, is a revision. A candle of a
        gap fills it. When the method returns, the candles survive a power cut.
        """
        with self._transaction():
            candles = ((item.series, item.candle) for item in received)
            rows = numbered_rows(self._connection, self._ids, candles, origin)
            for nth in add_rows(self._connection, rows):
                item = received[nth]
                self._add_revision(item.series, item.candle, origin, is_newer_kept=True)
                replace_row(self._connection, rows[nth])
            for item in received:
                open_time_ms = item.candle.open_time_ms
                if self._ledger.may_reach(item.series, open_time_ms):
                    end_ms = item.series.interval.end_time_ms(open_time_ms)
                    self._ledger.fill(item.series, Span(open_time_ms, end_ms), origin)

    def refill(self, refills: Iterable[FetchResult]) -> None:
        """Commit the candles of gaps; they replace nothing. A differing value is a revision."""
        self.settle([], {}, answers=refills)

    def settle(
        self,
        found: Iterable[Gap],
        accounts: Mapping[Series, SeriesAccount],
        revisions: Iterable[Revision] = (),
        answers: Iterable[FetchResult] = (),
    ) -> None:
        """Write gaps, accounts, revisions and answers in one transaction.

        Args:
          found: new gaps.
          accounts: the accounts that change.
          revisions: two values of one candle.
          answers: as for `refill`; written first.
        """
        with self._transaction():
            for answer in answers:
                self._refill(answer)
            for gap in found:
                self._ledger.add(gap)
            for revision in revisions:
                self._ledger.add_revision(revision)
                self._outbox.revised(revision)
            put_accounts(self._connection, self._ids, accounts)

    def reopen(self, series: Iterable[Series]) -> tuple[Gap, ...]:
        """Set the gaps of these series that were closed as delisted to pending; return them."""
        with self._transaction():
            return tuple(gap for one in series for gap in self._ledger.reopen(one))

    def rewind(self, accounts: Mapping[Series, SeriesAccount], now_ms: int) -> None:
        """Set back watermarks that a wrong time had moved, and undo what followed from it.

        Args:
          accounts: the right accounts.
          now_ms: the exchange's time. Gaps from the watermark on are deleted, and gaps that were
            closed at a later time become pending.
        """
        with self._transaction():
            for series, account in accounts.items():
                self._ledger.rewind(series, account.watermark_ms, now_ms)
            put_accounts(self._connection, self._ids, accounts)

    def compare(self, look: Holdings) -> int | None:
        """Write in one transaction the result of a comparison of a series with its ledger.

        Missing candles that have not come since the look become gaps, stored pending ones become
        filled, and the series counts as compared from now on.

        Returns:
          how many candles became gaps; None: the list has another file by now. Then nothing was
          changed: look again.
        """
        series, missing, stored = look.series, look.missing(), look.stored_pending()
        with self._transaction():
            one = self._connection
            if any(manifest.listed_file(one, file.path) != file for file in look.listed):
                return None
            series_id, count = self._ids.make(series), 0
            [seen_ms] = one.execute(_SEEN, [series.trade_type, series_id]).fetchone()
            for span in missing:
                waiting = waiting_times_ms(one, series_id, span)
                for gap in series.interval.gaps(span, waiting):
                    self._ledger.add(Gap(series, gap, seen_ms, Reason.FOUND_MISSING))
                    count += series.interval.count(gap)
            for span in stored:
                # From an unknown source.
                self._ledger.change_pending(series, span, state=State.FILLED)
            one.execute("UPDATE series SET is_compared = 1 WHERE id = ?", [series_id])
            return count

    def beat(self, pid: int | None, exchange_ms: Mapping[str, int], local_ms: int) -> None:
        """Write the heartbeat: the recorder's pid, None at its end, and the times in ms."""
        with self._transaction():
            put_heartbeat(self._connection, pid, exchange_ms, local_ms)

    def forget(self, merged: FileEntry, taken: Iterable[PendingCandle]) -> int:
        """Remove exactly these candles of the file's series, and list the file.

        A revision accepted after `take` has another sequence number and stays. Due candles that the
        file has lost become gaps in the same transaction. If the file has been written anew since,
        list nothing: the `forget` of the newer file does.

        Args:
          merged: the file, from `Store.write`.
          taken: the candles.

        Returns:
          how many candles became gaps.
        """
        standing = self.written.standing(merged)
        with self._transaction():
            # If the file vanished before the next one was made, the journal has the only copy.
            there = () if standing is Standing.VOID else tuple(taken)
            remove_rows(self._connection, self._ids.make(merged.series), there)
            self._outbox.left_journal(merged.series, there)
            lost = self._list_file(merged, is_newest=standing is Standing.NEWEST)
        self.written.kept(merged)
        return log_lost(lost)

    def keep_filled(
        self,
        series: Series,
        merged: Sequence[FileEntry],
        filled: Iterable[Span],
        lacking: Iterable[tuple[Span, Reason]],
    ) -> int:
        """List files with new rows of the archive, and write what it filled and lacks.

        Args:
          series: whose files they are.
          merged: the files, from `Store.fill_in`.
          filled: the candles that the archive had, and the files have.
          lacking: the candles that it had not, and why.

        Returns:
          how many candles became gaps, as by `forget`.
        """
        standings = [self.written.standing(one) for one in merged]
        lost: list[LostCandles] = []
        with self._transaction():
            for one, standing in zip(merged, standings, strict=True):
                lost += self._list_file(one, is_newest=standing is Standing.NEWEST)
            # If a file vanished before the next one was made, nothing is filled.
            there = () if Standing.VOID in standings else tuple(filled)
            for span in there:
                self._ledger.fill(series, span, Source.ARCHIVE)
            self._outbox.changed(series, there)
            for span, reason in lacking:
                self._ledger.change_pending(series, span, reason=reason)
        for one in merged:
            self.written.kept(one)
        return log_lost(lost)

    def list_file(self, file: FileEntry) -> None:
        """List a file as it is now, whoever wrote it."""
        with self._transaction():
            self._list_file(file, is_newest=True)

    def adopt(self, changed: Iterable[ChangedFile]) -> int:
        """List what listed files are now; due candles that they have lost become gaps.

        Pass over a file whose entry has changed meanwhile: that change found the gaps.

        Returns:
          how many candles became gaps.
        """
        lost: list[LostCandles] = []
        with self._transaction():
            for one in changed:
                listed, now = one.listed, one.now
                entry = manifest.listed_file(self._connection, listed.path)
                if entry != listed or entry.status != listed.status:
                    continue
                if now is None:
                    manifest.remove_file(self._connection, listed.path)
                    lost += self._add_lost(listed.series, listed.path, ())
                else:
                    lost += self._list_file(now, is_newest=True)
                    self._outbox.changed(now.series, now.held or ())
        return log_lost(lost)

    @property
    def lake(self) -> LakeState | None:
        """What the journal knows of its lake; None: it never had one."""
        return self._outbox.state

    def begin_lake(
        self,
        recorder: str,
        lake: str,
        stored: Iterable[Series],
        restored: Sequence[Revision] | None = None,
    ) -> None:
        """Publish to a lake from now on. All candles are unpublished at first, if not `restored`.

        If the journal knows this lake, change nothing. If it knows another, all is unpublished.

        Args:
          recorder: a name for this recorder in the lake; one that the journal has stays.
          lake: the id of the lake.
          stored: the series of the store.
          restored: the revisions of a lake that the store was made of. They get numbers up to 0.
        """
        with self._transaction():
            self._ledger.add_restored(restored or ())
            self._outbox.begin(recorder, lake, stored, is_published=restored is not None)
        self._outbox.reload()

    def published(
        self, spans: Mapping[Series, Iterable[Span]], sequence: int, *, is_all: bool = False
    ) -> None:
        """Keep that candles are in the lake, but for what changed after a sequence number.

        Args:
          spans: the candles, by series.
          sequence: the last one that the look at the journal saw.
          is_all: whether everything up to the sequence number is in the lake now.
        """
        with self._transaction():
            self._outbox.published(spans, sequence)
            if is_all:
                self._outbox.all_published(sequence)
        self._outbox.reload()

    def prune(self, months: Sequence[Pruned], address: str) -> list[Pruned]:
        """Keep that the lake alone has months from now on; then their files may be removed.

        Pass over what may have changed since; see `PrunedMonths.prune`.
        """
        with self._transaction():
            return self._pruned.prune(months, address)

    def keep_pruned(self, months: Sequence[Pruned], addresses: Mapping[str, str]) -> None:
        """Keep the pruned months of another journal, and the addresses of their lakes."""
        with self._transaction():
            self._pruned.put(months, addresses)

    def list_pruned(self, written: Iterable[FileEntry], removed: Iterable[FileEntry]) -> None:
        """List files as they are without their pruned months, and no longer list removed ones.

        A file that was written anew since stays as it is listed, or its `forget` lists it.
        """
        files = [one for one in written if self.written.standing(one) is Standing.NEWEST]
        with self._transaction():
            for file in files:
                manifest.put_file(self._connection, self._ids.make(file.series), file)
            for gone in removed:
                if manifest.listed_file(self._connection, gone.path) == gone:
                    manifest.remove_file(self._connection, gone.path)
        for file in files:
            self.written.kept(file)

    def remember_layout(self, template: str) -> None:
        """Write the template of the store's file names."""
        with self._transaction():
            self._connection.execute("UPDATE state SET layout = ?", [template])

    def fold_in(self) -> None:
        """Empty the WAL into the file: after it the file alone is the journal."""
        with disk_errors(self.file.path):
            [busy, *_] = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self.file.note()
            if busy:
                raise sqlite3.OperationalError("another program is at the journal")

    def accounts(self) -> dict[Series, SeriesAccount]:
        """Return the account of each series that has one."""
        with disk_errors(self.file.path):
            return accounts(self._connection)

    def queue(self, most: int, after: Gap | None = None) -> list[Gap]:
        """Return pending gaps of all series, the newest first; see `Ledger.queue`."""
        with disk_errors(self.file.path):
            return self._ledger.queue(most, after)

    def gaps_in(self, series: Series, span: Span) -> list[Gap]:
        """Return the gaps of a series, of every state, that reach into a span, by time."""
        with disk_errors(self.file.path):
            return self._ledger.touching(series, span)

    def pending_gaps(self, series: Iterable[Series]) -> tuple[Gap, ...]:
        """Return the pending gaps of these series, by series as given, and by time."""
        with disk_errors(self.file.path):
            return tuple(gap for one in series for gap in self._ledger.pending(one))

    def ledger_changes(self) -> int:
        """Return a number that differs after each change of a gap, and after a month was pruned."""
        return self._ledger.changes + self._pruned.changes

    def pending(self) -> dict[Series, int]:
        """Return how many candles of each series wait for a merge."""
        with disk_errors(self.file.path):
            return pending_counts(self._connection)

    def take(self, series: Series) -> tuple[PendingCandle, ...]:
        """Return the series' pending candles by open time; they stay until `forget`."""
        with disk_errors(self.file.path):
            return pending_candles(self._connection, self._ids.known(series))

    def rows(self) -> int:
        """Return how many candles are pending."""
        return sum(self.pending().values())

    def files(self, among: Collection[Series] | None = None) -> tuple[FileEntry, ...]:
        """Return the manifest's entries of all series, or of some, by path."""
        with disk_errors(self.file.path):
            return manifest.listed_files(self._connection, among)

    def listed(self, paths: Iterable[PurePosixPath]) -> dict[PurePosixPath, FileEntry]:
        """Return the manifest's entries of those of the paths that have one."""
        with disk_errors(self.file.path):
            entries = [manifest.listed_file(self._connection, path) for path in paths]
        return {entry.path: entry for entry in entries if entry is not None}

    def newest_files(self) -> dict[Series, FileEntry]:
        """Return each series' file with the newest candles."""
        with disk_errors(self.file.path):
            return manifest.newest_files(self._connection)

    def totals(self) -> Totals:
        """Return the sums over all files."""
        with disk_errors(self.file.path):
            return manifest.totals(self._connection)

    def layout(self) -> str | None:
        """Return the template of the store's file names; None: not known."""
        with disk_errors(self.file.path):
            [layout] = self._connection.execute("SELECT layout FROM state").fetchone()
        return None if layout is None else str(layout)

    def copy_to(self, path: Path) -> None:
        """Write all that is committed to another file, also if this one has lost its name."""
        with disk_errors(path), contextlib.closing(sqlite3.connect(path)) as copy:
            self._connection.backup(copy)

    def close(self) -> None:
        """Close the file; SQLite empties the WAL into it, and removes it, if no reader is at it."""
        with disk_errors(self.file.path):
            self._connection.close()
            self.file.close()

    def _refill(self, refill: FetchResult) -> None:
        series, candles = refill.series, refill.candles
        named = ((series, candle) for candle in candles)
        rows = numbered_rows(self._connection, self._ids, named, refill.origin)
        for nth in add_rows(self._connection, rows):
            self._add_revision(series, candles[nth], refill.origin, is_newer_kept=False)
        times = [candle.open_time_ms for candle in candles]
        for span in series.interval.runs(times):
            self._ledger.fill(series, span, refill.origin)
        for span in series.interval.gaps(refill.span, times):
            self._ledger.change(series, span, refill.after_asking)

    def _add_revision(
        self, series: Series, newer: Candle, origin: Source, *, is_newer_kept: bool
    ) -> None:
        older = differing_row(self._connection, self._ids.make(series), newer)
        if older is not None:
            self._ledger.add_revision(Revision(series, older, newer, origin, is_newer_kept))

    def _list_file(self, merged: FileEntry, *, is_newest: bool) -> tuple[LostCandles, ...]:
        for revision in merged.revisions:
            self._ledger.add_revision(revision)
            self._outbox.revised(revision)
        lost: tuple[LostCandles, ...] = ()
        if is_newest:
            manifest.put_file(self._connection, self._ids.make(merged.series), merged)
            if merged.held is not None:
                lost = self._add_lost(merged.series, merged.path, merged.held)
        if merged.newest_ms is not None:
            end_ms = merged.series.interval.end_time_ms(merged.newest_ms)
            self._reached_ms[merged.series] = max(end_ms, self._reached_ms.get(merged.series, 0))
        return lost

    def _add_lost(
        self, series: Series, path: PurePosixPath, held: Sequence[Span]
    ) -> tuple[LostCandles, ...]:
        """Add gaps for the due candles of a file that are neither in it nor in the journal."""
        place = Layout(self.layout() or DEFAULT_LAYOUT).place(series, path)
        series_id = self._ids.make(series)
        row = self._connection.execute(_ACCOUNT, [series_id]).fetchone()
        if place is None or row is None:
            return ()
        account, count = SeriesAccount(*row), 0
        for due in due_span(series, place, account, self._reached_ms.get(series, 0)):
            waiting = series.interval.runs(waiting_times_ms(self._connection, series_id, due))
            for lost in due.without(joined([*held, *waiting])):
                gap = Gap(series, lost, account.watermark_ms, Reason.LOST_FROM_FILE)
                count += sum(map(series.interval.count, self._ledger.add(gap)))
        return (LostCandles(path, series, count),) if count else ()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with (
            disk_errors(self.file.path),
            self._ids.transaction(),
            self.file.transaction(self._connection),
        ):
            yield
