"""Fetch long and old gaps from the published archives: whole files, straight into Parquet."""

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from operator import attrgetter

import attrs
import pyarrow as pa
import trio

from kline_trio.candle import Series, Source
from kline_trio.counting import counted
from kline_trio.errors import DamagedArchiveError, UnavailableError
from kline_trio.exchange.archive import Archive, ArchiveFile, archive_files, unpacked
from kline_trio.interval import Span
from kline_trio.quoting import shown
from kline_trio.recorder.broadcast import Filled
from kline_trio.recorder.disk_space import retry_while_full
from kline_trio.recorder.environment import SerialExecutor, Storage
from kline_trio.recorder.grouped_log import GroupedLog
from kline_trio.recorder.halts import Halts
from kline_trio.storage.archive_rows import (
    ArchiveRows,
    Sifted,
    read_csv,
    read_csvs,
    sifted,
    without_spans,
)
from kline_trio.storage.journal.ledger import Reason
from kline_trio.storage.table import BEGIN, empty_table, runs_of, values_of

logger = logging.getLogger(__name__)

FETCHERS = 6
"""Files that are fetched at the same time; a single fetcher waits for the host most of the time."""
_LEAST_CANDLES = 1_000
"""Do not fetch a file for fewer candles: they fit on one page of REST."""

_ROWS_IN_A_BATCH = 500_000
"""Rows that are written at once, some 50 MB: a merge rewrites its file."""
_BYTES_AT_ONCE = 2**20
"""Read packed files together up to this size: two weeks of 1m, or a month."""
_REST_SECONDS = 60.0
_MOST_FAILURES = FETCHERS
"""After this many failures in a row the host is at fault, and not a file."""
_LOG_SECONDS = 10.0


@attrs.define(eq=False)
class _Batch:
    """Files of one series that are stored together."""

    series: Series
    span: Span
    to_fetch: deque[ArchiveFile]
    is_last_resort: bool
    """Whether rows without trades are taken, since REST has none that are better."""
    workers: int = 0
    """How many workers fetch or read its files now."""
    fetched: dict[ArchiveFile, bytes] = attrs.field(factory=dict)
    """The packed files that are still to be read."""
    found: dict[ArchiveFile, pa.Table] = attrs.field(factory=dict)
    """The rows of each file that was read; a damaged file has none."""


@attrs.define(eq=False)
class _Host:
    """Which files the host of the archives does not give, for good or for a while."""

    unpublished: set[ArchiveFile] = attrs.field(factory=set)
    """Files that are not there, though they should be: each is requested once a run."""
    faults: GroupedLog = attrs.field(init=False, factory=lambda: GroupedLog(_log_faults))
    """The files that cannot be used."""
    paused_until: float = -math.inf
    """The host failed: nothing is requested from it before this time, in local seconds."""
    failures: int = 0
    """How many requests in a row have failed."""
    _put_off: dict[ArchiveFile, float] = attrs.field(init=False, factory=dict)
    """Files that failed, each with the local seconds until which REST is asked instead."""

    @property
    def is_resting(self) -> bool:
        """Whether nothing is to be requested now."""
        return trio.current_time() < self.paused_until

    def lacks(self, file: ArchiveFile) -> bool:
        """Return whether a file is not to be requested now."""
        put_off_until = self._put_off.get(file, -math.inf)
        return file in self.unpublished or trio.current_time() < put_off_until

    def failed(self, file: ArchiveFile, error: UnavailableError) -> None:
        """Leave a file to REST for a while; and all files, if the host gives none."""
        now = trio.current_time()
        self._put_off = {one: until for one, until in self._put_off.items() if now < until}
        self._put_off[file] = now + _REST_SECONDS
        self.failures += 1
        if self.failures < _MOST_FAILURES:
            self.faults.add(file.path, shown(str(error)))
            return
        logger.warning("the archive gives no files: %s; REST is asked instead", shown(str(error)))
        self.paused_until = now + _REST_SECONDS


@attrs.define(eq=False)
class _Progress:
    """How much was fetched."""

    rows: int = 0
    """How many candles."""
    files: int = 0
    """How many files were to be fetched so far."""
    files_done: int = 0
    began: float = math.inf
    """The local seconds of the first request."""
    _logged_at: float = -math.inf

    def log(self, *, is_done: bool) -> None:
        """Log the progress every ten seconds, and at the end."""
        now = trio.current_time()
        if now < self._logged_at + _LOG_SECONDS and not is_done:
            return
        self._logged_at = now
        seconds = max(now - self.began, 1e-9)
        left = (self.files - self.files_done) * seconds / max(1, self.files_done)
        candles = f"{counted(self.rows, 'candle')}, {self.rows / seconds:,.0f} a second"
        files = f"{self.files_done:,} of {counted(self.files, 'file')}"
        logger.info("archive: %s, %s, %s s left", files, candles, f"{left:,.0f}")


@attrs.define(eq=False)
class ArchiveSource:
    """Fetches the candles of gaps from the archives, and writes them to Parquet.

    `take` queues the files of a span. Each task in `work` fetches the next file of the queue.
    """

    archive: Archive
    storage: Storage
    parse_door: SerialExecutor
    filled: Callable[[Filled], None]
    """Called with candles that went into the files past the journal."""

    progress: _Progress = attrs.field(init=False, factory=_Progress)
    halts: Halts = attrs.field(init=False, factory=Halts)
    """Quiet stretches that REST need not confirm, since the whole market halted."""
    host: _Host = attrs.field(init=False, factory=_Host)
    _batches: list[_Batch] = attrs.field(init=False, factory=list)
    """The batches that are not stored yet, in the order in which they were taken."""
    _bad_rows: set[str] = attrs.field(init=False, factory=set)
    """The faults of rows that were logged: each is logged once."""
    _idle: trio.lowlevel.ParkingLot = attrs.field(init=False, factory=trio.lowlevel.ParkingLot)
    """Tasks that wait for files to fetch, or for fewer of them."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to fetch."""
        return not self._batches

    async def wait_for_work(self) -> None:
        """Wait until there are fewer files to fetch than workers."""
        while sum(len(batch.to_fetch) for batch in self._batches) >= FETCHERS:
            await self._idle.park()

    def spans_of(self, series: Series) -> list[Span]:
        """Return the spans of a series that are being fetched."""
        return [batch.span for batch in self._batches if batch.series == series]

    def share(
        self, series: Series, span: Span, now_ms: int, *, is_last_resort: bool = False
    ) -> Span | None:
        """Return the part of a gap to fetch from the archives; None if none is worth a file.

        The exchange's time `now_ms` says which files should be published. As a last resort one
        candle is worth a file.
        """
        least_candles = 1 if is_last_resort else _LEAST_CANDLES
        if series.interval.count(span) < least_candles or self.host.is_resting:
            return None
        # The newest stretch between files that are not there.
        files = archive_files(series, span, now_ms)
        stretches = [list(group) for lacks, group in groupby(files, self.host.lacks) if not lacks]
        for stretch in reversed(stretches):
            for wanted in _span_of(stretch).common_with(span):
                if series.interval.count(wanted) >= least_candles:
                    return wanted
        return None

    def has_none(self, series: Series, span: Span, now_ms: int) -> bool:
        """Return whether every file of a span was requested, and is not published."""
        return all(file in self.host.unpublished for file in archive_files(series, span, now_ms))

    def take(
        self, series: Series, span: Span, now_ms: int, *, is_last_resort: bool = False
    ) -> None:
        """Let the workers fetch a span that `share` has returned.

        As a last resort, take rows without trades also where trades are to be expected.
        """
        files = list(archive_files(series, span, now_ms))
        self.progress.began = min(self.progress.began, trio.current_time())
        self.progress.files += len(files)
        batch, rows = deque[ArchiveFile](), 0
        for file in files:
            batch.append(file)
            rows += series.interval.count(file.span)
            if rows >= _ROWS_IN_A_BATCH or file is files[-1]:
                for part in _span_of(batch).common_with(span):
                    self._batches.append(_Batch(series, part, batch, is_last_resort))
                batch, rows = deque[ArchiveFile](), 0
        self._idle.unpark_all()

    async def work(self) -> None:
        """Fetch files until cancelled; what was stored stays, and the rest is fetched next time.

        Raises:
          DiskError: the store could not be written. A full disk is waited for.
        """
        while True:
            batch = next((one for one in self._batches if one.to_fetch), None)
            if batch is None:
                await self._idle.park()
                continue
            batch.workers += 1
            file = batch.to_fetch.popleft()
            self._idle.unpark_all()
            await self._fetch(batch, file)
            self.progress.files_done += 1
            if sum(map(len, batch.fetched.values())) >= _BYTES_AT_ONCE:
                await self._read(batch)
            batch.workers -= 1
            if not (batch.to_fetch or batch.workers):
                await self._read(batch)
                await self._store(batch)
                self._batches.remove(batch)
                self.progress.log(is_done=self.is_done)
                # REST is asked for the candles that are still absent.
                self.storage.gaps_named.ring()

    async def _fetch(self, batch: _Batch, file: ArchiveFile) -> None:
        if self.host.is_resting:
            return
        try:
            content = await self.archive.fetch(file)
        except DamagedArchiveError as error:
            self.host.failures = 0
            self._damaged(batch, file, error)
        except UnavailableError as error:
            self.host.failed(file, error)
        else:
            self.host.failures = 0
            if content is None:
                self.host.unpublished.add(file)
            else:
                batch.fetched[file] = content

    async def _read(self, batch: _Batch) -> None:
        """Read the files that were fetched; many small ones at once."""
        if not batch.fetched:
            return
        files = sorted(batch.fetched, key=attrgetter("span"))
        contents = [batch.fetched.pop(file) for file in files]
        spans = [span for file in files for span in file.span.common_with(batch.span)]
        most_bytes = [file.most_csv_bytes for file in files]
        found = await self.parse_door.run(_parsed, contents, most_bytes, batch.series, spans)
        for file, rows in zip(files, found, strict=True):
            if isinstance(rows, DamagedArchiveError):
                self._damaged(batch, file, rows)
                continue
            batch.found[file] = rows.table
            for reason in rows.bad_rows.keys() - self._bad_rows:
                self._bad_rows.add(reason)
                logger.warning("%s: passed over %s", file.path, reason)

    def _damaged(self, batch: _Batch, file: ArchiveFile, error: DamagedArchiveError) -> None:
        self.host.faults.add(file.path, f"{file.path}: {shown(str(error))}")
        batch.found[file] = empty_table(batch.series)

    async def _store(self, batch: _Batch) -> None:
        tables = [batch.found[file] for file in sorted(batch.found, key=attrgetter("span"))]
        filled_tables = [table for table in tables if table.num_rows]
        found = pa.concat_tables(filled_tables or [empty_table(batch.series)])
        sifting = Sifted(found, ())
        if not batch.is_last_resort:
            sifting = await self.parse_door.run(sifted, found, batch.series)
            sifting = self._without_halts(batch.series, found, sifting)
        rows, quiet = sifting.kept, [span for span, _ in sifting.quiet]
        store, commit_door = self.storage.store, self.storage.commit_door
        merge_door = self.storage.merge_door
        known = await commit_door.run(store.journal.files, frozenset([batch.series]))
        merged = await retry_while_full(merge_door.run, store.fill_in, rows, batch.series, known)
        filled = list(runs_of(batch.series, values_of(rows[BEGIN])))
        # A file that could not be fetched may be published later: its candles are not marked.
        missing = [
            (piece, Reason.ARCHIVE_LACKS)
            for file in batch.found
            for gap in batch.span.without(sorted([*filled, *quiet]))
            for piece in gap.common_with(file.span)
        ]
        missing += [(span, Reason.ARCHIVE_QUIET) for span in quiet]
        await retry_while_full(
            commit_door.run, store.journal.keep_filled, batch.series, merged, filled, missing
        )
        self.progress.rows += rows.num_rows
        for span in filled:
            self.filled(Filled(batch.series, span, Source.ARCHIVE))
        if quiet:
            count = sum(map(batch.series.interval.count, quiet))
            logger.info(
                "%s: the archive has no trades in %s among busy ones; REST is asked",
                batch.series,
                counted(count, "candle"),
            )

    def _without_halts(self, series: Series, found: pa.Table, sifting: Sifted) -> Sifted:
        """Take back the quiet rows that lie in a halt of the whole market."""
        for span, expected in sifting.quiet:
            self.halts.see(series, span, expected, trio.current_time())
        quiet = tuple(one for one in sifting.quiet if not self.halts.has(series, one[0]))
        if len(quiet) == len(sifting.quiet):
            return sifting
        return Sifted(without_spans(found, [span for span, _ in quiet]), quiet)


def _log_faults(files: Mapping[str, int], fault: str) -> None:
    more = (
        f" (and {counted(len(files) - 1, 'more file')} that cannot be used)"
        if len(files) > 1
        else ""
    )
    logger.warning("%s%s; REST is asked instead", fault, more)


def _span_of(files: Sequence[ArchiveFile]) -> Span:
    return Span(files[0].span.from_ms, files[-1].span.to_ms)


def _parsed(
    contents: list[bytes], most_bytes: list[int], series: Series, spans: list[Span]
) -> list[ArchiveRows | DamagedArchiveError]:
    """Return the rows of each of the files, which are in order; or why it has none."""
    with suppress(DamagedArchiveError):
        if together := read_csvs(list(map(unpacked, contents, most_bytes)), series, spans):
            return [*together]
    found: list[ArchiveRows | DamagedArchiveError] = []
    for content, limit, span in zip(contents, most_bytes, spans, strict=True):
        try:
            found.append(read_csv(unpacked(content, limit), series, span))
        except DamagedArchiveError as error:
            found.append(error)
    return found
