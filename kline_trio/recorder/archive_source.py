"""Fetches long and old gaps from the published archives: whole files, straight into Parquet."""

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
from kline_trio.errors import DamagedArchiveError, UnavailableError
from kline_trio.exchange.archive import Archive, ArchiveFile, archive_files, unpacked
from kline_trio.interval import Span
from kline_trio.quoting import shown
from kline_trio.recorder.broadcast import Filled
from kline_trio.recorder.disk_space import retry_while_full
from kline_trio.recorder.environment import SerialExecutor, Storage
from kline_trio.recorder.gathering import Gathered
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

__all__ = ["FETCHERS", "ArchiveSource"]

logger = logging.getLogger(__name__)

FETCHERS = 6
"""Files that are fetched at the same time; one alone waits for the host most of the time."""

_LEAST_CANDLES = 1_000
"""What fits on a page of REST is not worth a file."""
_ROWS_IN_A_BATCH = 500_000
"""As many are written at once, some 50 MB: a merge rewrites its file."""
_BYTES_AT_ONCE = 2**20
"""Of packed files that are read together: two weeks of 1m, or a month."""
_REST_SECONDS = 60.0
_MOST_UNANSWERED = FETCHERS
"""So many files in a row that were not to be had are the host's failure."""
_SAY_SECONDS = 10.0


@attrs.define(eq=False)
class _Batch:
    """Files of one series that are stored together."""

    series: Series
    span: Span
    to_fetch: deque[ArchiveFile]
    is_last_resort: bool
    """Whether rows without trades are taken, since REST has none that are better."""
    workers: int = 0
    """How many fetch or read its files now."""
    fetched: dict[ArchiveFile, bytes] = attrs.field(factory=dict)
    """What is still to be read."""
    found: dict[ArchiveFile, pa.Table] = attrs.field(factory=dict)
    """What was read of each file; a damaged one has no rows."""


@attrs.define(eq=False)
class ArchiveSource:
    """The archives as a source for gaps, by workers that share the files."""

    archive: Archive
    storage: Storage
    parse_door: SerialExecutor
    filled: Callable[[Filled], None]
    """Told of candles that went into the files past the journal."""

    faults: Gathered = attrs.field(init=False, factory=lambda: Gathered(_say_faults))
    """The files that cannot be used."""
    rows: int = attrs.field(init=False, default=0)
    """How many candles were fetched."""
    halts: Halts = attrs.field(init=False, factory=Halts)
    """Quiet stretches that need no question, since the whole market halted."""
    _resting_until: float = attrs.field(init=False, default=-math.inf)
    """Nothing is asked of a host that failed before this time, on our own clock."""
    _batches: list[_Batch] = attrs.field(init=False, factory=list)
    """What is taken and not stored yet, in the order in which it was taken."""
    _unpublished: set[ArchiveFile] = attrs.field(init=False, factory=set)
    """Files that are not there, though they should be: they are asked for once in each run."""
    _put_off: dict[ArchiveFile, float] = attrs.field(init=False, factory=dict)
    """Files that were not to be had, each with the time, on our own clock, until which REST is
    asked instead."""
    _unanswered: int = attrs.field(init=False, default=0)
    """How many files in a row were not to be had."""
    _files: int = attrs.field(init=False, default=0)
    _files_done: int = attrs.field(init=False, default=0)
    _began: float = attrs.field(init=False, default=math.inf)
    _said_at: float = attrs.field(init=False, default=-math.inf)
    _bad_rows: set[str] = attrs.field(init=False, factory=set)
    """The faults of rows that were logged: each is named once."""
    _idle: trio.lowlevel.ParkingLot = attrs.field(init=False, factory=trio.lowlevel.ParkingLot)
    """Who waits for files to fetch, or for fewer of them."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to fetch."""
        return not self._batches

    async def wait_for_work(self) -> None:
        """Wait until there are fewer files to fetch than workers."""
        while sum(len(batch.to_fetch) for batch in self._batches) >= FETCHERS:
            await self._idle.park()

    def spans_of(self, series: Series) -> list[Span]:
        """Return what of a series is being fetched."""
        return [batch.span for batch in self._batches if batch.series == series]

    def share(
        self, series: Series, span: Span, now_ms: int, least_candles: int | None = None
    ) -> Span | None:
        """Return what of a gap the archives should have by now; None if that is not worth it.

        Args:
          series: whose gap.
          span: the gap.
          now_ms: the exchange's time.
          least_candles: so many are worth it; None: more than a page of REST has.
        """
        least_candles = _LEAST_CANDLES if least_candles is None else least_candles
        if series.interval.count(span) < least_candles or trio.current_time() < self._resting_until:
            return None
        # Between files that are not there, the longest stretch of those that may be.
        files = archive_files(series, span, now_ms)
        stretches = [list(some) for is_out, some in groupby(files, self._is_out) if not is_out]
        for stretch in reversed(stretches):
            for wanted in _whole(stretch).common_with(span):
                if series.interval.count(wanted) >= least_candles:
                    return wanted
        return None

    def has_none(self, series: Series, span: Span, now_ms: int) -> bool:
        """Return whether the archive was asked for every file of a span, and has published none."""
        return all(file in self._unpublished for file in archive_files(series, span, now_ms))

    def take(
        self, series: Series, span: Span, now_ms: int, *, is_last_resort: bool = False
    ) -> None:
        """Fetch a span, which `share` has named.

        Args:
          series: whose candles are absent.
          span: which.
          now_ms: the exchange's time.
          is_last_resort: whether to take rows without trades, too, where trades are to be expected.
        """
        files = list(archive_files(series, span, now_ms))
        self._began = min(self._began, trio.current_time())
        self._files += len(files)
        batch, rows = deque[ArchiveFile](), 0
        for file in files:
            batch.append(file)
            rows += series.interval.count(file.span)
            if rows >= _ROWS_IN_A_BATCH or file is files[-1]:
                for part in _whole(batch).common_with(span):
                    self._batches.append(_Batch(series, part, batch, is_last_resort))
                batch, rows = deque[ArchiveFile](), 0
        self._idle.unpark_all()

    async def work(self) -> None:
        """Fetch files until cancelled; what was stored stays, and the rest is fetched next time.

        Raises:
          DiskError: the store could not be written; want of room is waited for.
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
            self._files_done += 1
            if sum(map(len, batch.fetched.values())) >= _BYTES_AT_ONCE:
                await self._read(batch)
            batch.workers -= 1
            if not (batch.to_fetch or batch.workers):
                await self._read(batch)
                await self._store(batch)
                self._batches.remove(batch)
                self._say()
                # What is absent of it is for REST.
                self.storage.gaps_named.ring()

    async def _fetch(self, batch: _Batch, file: ArchiveFile) -> None:
        if trio.current_time() < self._resting_until:
            return
        try:
            content = await self.archive.fetch(file)
        except DamagedArchiveError as error:
            self._unanswered = 0
            self._damaged(batch, file, error)
        except UnavailableError as error:
            self._failed(file, error)
        else:
            self._unanswered = 0
            if content is None:
                self._unpublished.add(file)
            else:
                batch.fetched[file] = content

    def _is_out(self, file: ArchiveFile) -> bool:
        put_off_until = self._put_off.get(file, -math.inf)
        return file in self._unpublished or trio.current_time() < put_off_until

    def _failed(self, file: ArchiveFile, error: UnavailableError) -> None:
        """Leave one file to REST for a while; and the host, if it gives no file at all."""
        now = trio.current_time()
        self._put_off = {one: until for one, until in self._put_off.items() if now < until}
        self._put_off[file] = now + _REST_SECONDS
        self._unanswered += 1
        if self._unanswered < _MOST_UNANSWERED:
            self.faults.add(file.path, shown(str(error)))
            return
        logger.warning("the archive gives no files: %s; REST is asked instead", shown(str(error)))
        self._resting_until = now + _REST_SECONDS

    async def _read(self, batch: _Batch) -> None:
        """Read what was fetched; of small files many at once."""
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
        self.faults.add(file.path, f"{file.path}: {shown(str(error))}")
        batch.found[file] = empty_table(batch.series)

    async def _store(self, batch: _Batch) -> None:
        tables = [batch.found[file] for file in sorted(batch.found, key=attrgetter("span"))]
        filled_tables = [table for table in tables if table.num_rows]
        found = pa.concat_tables(filled_tables or [empty_table(batch.series)])
        sifting = Sifted(found, ())
        if not batch.is_last_resort:
            sifting = await self.parse_door.run(sifted, found, batch.series)
            sifting = self._without_halts(batch.series, found, sifting)
        whole, quiet = sifting.kept, [span for span, _ in sifting.quiet]
        store, commit_door = self.storage.store, self.storage.commit_door
        merge_door = self.storage.merge_door
        known = await commit_door.run(store.journal.files, frozenset([batch.series]))
        merged = await retry_while_full(merge_door.run, store.fill_in, whole, batch.series, known)
        filled = list(runs_of(batch.series, values_of(whole[BEGIN])))
        # What no file was to be had for may be in one that is published later.
        lacking = [
            (piece, Reason.ARCHIVE_LACKS)
            for file in batch.found
            for gap in batch.span.without(sorted([*filled, *quiet]))
            for piece in gap.common_with(file.span)
        ]
        lacking += [(span, Reason.ARCHIVE_QUIET) for span in quiet]
        await retry_while_full(
            commit_door.run, store.journal.keep_filled, batch.series, merged, filled, lacking
        )
        self.rows += whole.num_rows
        for span in filled:
            self.filled(Filled(batch.series, span, Source.ARCHIVE))
        if quiet:
            count = sum(map(batch.series.interval.count, quiet))
            logger.info(
                "%s: the archive has no trades in %s candles among busy ones; REST is asked",
                batch.series,
                f"{count:,}",
            )

    def _without_halts(self, series: Series, found: pa.Table, sifting: Sifted) -> Sifted:
        """Take quiet rows back in that lie in a halt of the whole market."""
        for span, expected in sifting.quiet:
            self.halts.see(series, span, expected, trio.current_time())
        quiet = tuple(one for one in sifting.quiet if not self.halts.has(series, one[0]))
        if len(quiet) == len(sifting.quiet):
            return sifting
        return Sifted(without_spans(found, [span for span, _ in quiet]), quiet)

    def _say(self) -> None:
        now = trio.current_time()
        if now < self._said_at + _SAY_SECONDS and not self.is_done:
            return
        self._said_at = now
        seconds = max(now - self._began, 1e-9)
        left = (self._files - self._files_done) * seconds / max(1, self._files_done)
        candles = f"{self.rows:,} candles, {self.rows / seconds:,.0f} a second"
        files = f"{self._files_done:,} of {self._files:,} files"
        logger.info("archive: %s, %s, %s s left", files, candles, f"{left:,.0f}")


def _say_faults(files: Mapping[str, int], fault: str) -> None:
    more = f" (and {len(files) - 1:,} more files that cannot be used)" if len(files) > 1 else ""
    logger.warning("%s%s; REST is asked instead", fault, more)


def _whole(files: Sequence[ArchiveFile]) -> Span:
    return Span(files[0].span.from_ms, files[-1].span.to_ms)


def _parsed(
    contents: list[bytes], most_bytes: list[int], series: Series, spans: list[Span]
) -> list[ArchiveRows | DamagedArchiveError]:
    """What is in each of the files, which are in order."""
    with suppress(DamagedArchiveError):
        if together := read_csvs(list(map(unpacked, contents, most_bytes)), series, spans):
            return [*together]
    files = zip(contents, most_bytes, spans, strict=True)
    return [_parsed_alone(*one, series) for one in files]


def _parsed_alone(
    content: bytes, most_bytes: int, span: Span, series: Series
) -> ArchiveRows | DamagedArchiveError:
    try:
        return read_csv(unpacked(content, most_bytes), series, span)
    except DamagedArchiveError as error:
        return error
