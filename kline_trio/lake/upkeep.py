"""Compact and vacuum a lake. Both may run beside publishers, readers, and each other.

A compaction writes sorted files, which nobody sees, and then one commit replaces the old files by
them. The commit is made only as the version after the one that was looked at (no retry by the
library), and only if that version still has all of the old files. So neither another compaction nor
a MERGE in between can be undone, and no row can be there twice. `optimize` of the library gives no
such guarantee: two of them that begin at the same version both succeed, and double all rows
(deltalake 1.6).
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties
from deltalake.transaction import AddAction, RemoveAction

from kline_trio.lake.compaction_plan import TARGET_BYTES, DataFile, Job, Partition, jobs_of
from kline_trio.lake.errors import ConflictError, ForeignLakeError, LakeError, lake_errors
from kline_trio.lake.lease import FolderLease, Lease, boot_clock, holder_of, lease
from kline_trio.lake.location import Location
from kline_trio.lake.objects import Objects
from kline_trio.lake.proof import require_conditions
from kline_trio.lake.schema import CANDLES, PARTITIONS
from kline_trio.lake.sorted_files import COLUMNS, WrittenFile, write_sorted
from kline_trio.lake.sorting import MOST_ROWS, SortedRows
from kline_trio.lake.tables import LakeTable, open_table
from kline_trio.storage.step import OnStep, Step, ignore_step
from kline_trio.storage.table import BEGIN

if TYPE_CHECKING:
    from datetime import datetime

_MOST_TRIES = 20
_WHOLE_BYTES = 32 << 20
"""A file up to this size is read by one request."""
_BATCH_ROWS = 65_536
_TABLE = "candles"
_MOST_SECONDS = 6 * 3_600
"""Between the first new file and the commit: `vacuum` removes files that no version has, after a
day."""

Pause = Callable[[int], None]
"""Waits before the n-th retry of a commit."""


@attrs.frozen
class Compacted:
    """What a compaction has done."""

    jobs: int = 0
    """Commits: groups of files that were replaced."""
    given_up: int = 0
    """Groups that another program changed meanwhile; they are for the next time."""
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    rows: int = 0
    doubled: int = 0
    """Rows that were removed, since a row of a higher rank had the same key."""
    held_by: str | None = None
    """The program that compacts now, so that nothing was done; None: nothing stood in the way."""

    def plus(self, other: "Compacted") -> "Compacted":
        """Return the sum of both."""
        names = [one.name for one in attrs.fields(Compacted) if one.name != "held_by"]
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        return attrs.evolve(self, **sums)


def compact(
    location: Location,
    holder: str,
    pause: Pause,
    on_step: OnStep = ignore_step,
    *,
    scratch: Path | None = None,
    now: float | None = None,
    most_rows: int = MOST_ROWS,
    target_bytes: int = TARGET_BYTES,
) -> Compacted:
    """Rewrite the lake's candles into few files that are sorted by symbol and time.

    If another program compacts, nothing is done. If nothing is to be done, nothing is committed.
    A kill at any moment loses nothing; files that were not committed are removed by `vacuum`.

    Args:
      location: the lake.
      holder: the name of this program in the lease, for others to read.
      pause: waits before the n-th retry of a commit.
      on_step: called at the begin of each step.
      scratch: a folder on a local disk, with room for twice the rows of the largest month; None:
        the system's folder for temporary files.
      now: seconds since 1970, to decide which days and months are over; None: the object store's
        time.
      most_rows: how many rows are in memory at once.
      target_bytes: the size of a file.

    Raises:
      ForeignLakeError: the table is not one that this version may rewrite.
      LakeError: the lake cannot be read or written. What was committed before stays.
      OSError: the local disk is full.
    """
    on_step(Step("looking at the lake"))
    table = open_table(location, _TABLE)
    if table is None:
        raise ForeignLakeError(f"{location.url}: there is no lake yet: publish first")
    require_conditions(location)
    objects = Objects.of(location)
    with lease(objects, holder) as held:
        if held is None:
            return Compacted(held_by=holder_of(objects) or "another program")
        now = objects.now() if now is None else now
        jobs = [
            job
            for partition, files in sorted(files_of(location, table).items())
            for job in jobs_of(partition, files, now)
        ]
        total, done, size = Compacted(), 0, sum(job.size for job in jobs)
        for job in jobs:
            tell = partial(on_step, Step(str(job.partition), done, size, "byte"))
            tell()
            held.keep()
            with tempfile.TemporaryDirectory(prefix="kline_trio-", dir=scratch) as folder:
                run = _Run(location, objects, job, held, pause, Path(folder), tell)
                total = total.plus(run.replaced(most_rows, target_bytes))
            done += job.size
        return total


def files_of(location: Location, table: LakeTable) -> dict[Partition, list[DataFile]]:
    """Return the files of the table of candles, from the table's log alone.

    Raises:
      ForeignLakeError: the log lacks what kline_trio writes, or names what it may not rewrite.
      LakeError: the log cannot be read.
    """
    url = location.table_url(_TABLE)
    with lake_errors(f"{url}: its log cannot be read"):
        actions: Any = table.delta.get_add_actions(flatten=True)
        found = pa.table(actions)
        protocol = table.delta.protocol()
        fields: Any = table.delta.schema().to_arrow()
    if protocol.min_reader_version > 1 or protocol.min_writer_version > 2:
        raise ForeignLakeError(f"{url}: another program has changed its protocol: left as it is")
    if unknown := set(pa.schema(fields).names) - set(CANDLES.names):
        names = ", ".join(sorted(unknown))
        raise ForeignLakeError(f"{url}: has columns that this version does not know: {names}")
    partitions: dict[Partition, list[DataFile]] = {}
    for row in found.to_pylist():
        partition = Partition(*(row[f"partition.{name}"] for name in PARTITIONS))
        partitions.setdefault(partition, []).append(_data_file(url, row))
    return partitions


def _data_file(url: str, row: dict[str, Any]) -> DataFile:
    path: str = row["path"]
    last: datetime | None = row.get(f"max.{BEGIN}")
    rows, first, final = map(row.get, ("num_records", "min.symbol", "max.symbol"))
    if rows is None or first is None or final is None or last is None or "://" in path:
        raise ForeignLakeError(f"{url}: {path}: another program has written this file")
    return DataFile(path, row["size_bytes"], rows, first, final, last.timestamp())


@attrs.define(eq=False)
class _Run:
    """One job that is done."""

    location: Location
    objects: Objects
    job: Job
    lease: Lease | FolderLease
    pause: Pause
    folder: Path
    """For temporary files; empty."""
    tell: Callable[[], None]
    """Tells the step again, after each file: a process that says nothing for long is ended."""

    def replaced(self, most_rows: int, target_bytes: int) -> Compacted:
        """Replace the files of the job; return what was done."""
        job, added, began = self.job, list[AddAction](), boot_clock()
        rows = SortedRows(self._pieces, job.rows, self.folder, most_rows)
        written = 0
        for one in write_sorted(rows, self.folder, target_bytes):
            added.append(self._uploaded(one))
            written += one.rows
            self.lease.keep()
            self.tell()
        if rows.read != job.rows or written != rows.read - rows.doubled:
            self._discard(added)
            raise LakeError(
                f"{self.location.table_url(_TABLE)}: {job.partition}: its files have {rows.read:,}"
                f" rows, and the log says {job.rows:,}: left as it is"
            )
        if not self._commit(added, began + _MOST_SECONDS):
            return Compacted(given_up=1)
        size = sum(one.size for one in added)
        return Compacted(
            1, 0, len(job.files), len(added), job.size, size, rows=written, doubled=rows.doubled
        )

    def _pieces(self, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        for file in self.job.files:
            self.tell()
            path = f"{_TABLE}/{file.path}"
            with lake_errors(f"{self.location.url}/{path}: cannot be read"):
                yield from self._read(path, file, columns)

    def _read(self, path: str, file: DataFile, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        wanted = COLUMNS if columns is None else pa.schema([COLUMNS.field(one) for one in columns])
        source = self.objects.open(path, whole=file.size <= _WHOLE_BYTES)
        with pq.ParquetFile(source) as parquet:
            present = [one for one in wanted.names if one in parquet.schema_arrow.names]
            for batch in parquet.iter_batches(_BATCH_ROWS, columns=present):
                yield _with_columns(pa.Table.from_batches([batch]), wanted)

    def _uploaded(self, file: WrittenFile) -> AddAction:
        partition = attrs.asdict(self.job.partition)
        folder = "/".join(f"{name}={value}" for name, value in partition.items())
        path = f"{folder}/{file.path.name}"
        size = self.objects.upload(f"{_TABLE}/{path}", file.path)
        file.path.unlink()
        return AddAction(path, size, partition, _now_ms(), True, file.stats)  # noqa: FBT003

    def _commit(self, added: Sequence[AddAction], deadline: float) -> bool:
        """Replace the files in one commit. Return whether they were replaced.

        After the first try the new files are never deleted here, even if it failed: a request
        whose answer was lost may still arrive.
        """
        url = self.location.table_url(_TABLE)
        mine = {one.path for one in added}
        for tried in range(1, _MOST_TRIES + 1):
            table = open_table(self.location, _TABLE)
            if table is None:
                raise ConflictError(f"{url}: is gone")
            present = {one.path for one in files_of(self.location, table)[self.job.partition]}
            if mine <= present:
                return True  # the answer to a commit was lost
            if not {one.path for one in self.job.files} <= present:
                return False
            self.lease.keep()
            if boot_clock() > deadline:
                return False  # this program was paused
            try:
                with lake_errors(f"{url}: cannot be written"):
                    table.delta.create_write_transaction(
                        [*added, *self._removed()],
                        mode="append",
                        schema=table.delta.schema(),
                        partition_by=PARTITIONS,
                        commit_properties=CommitProperties(
                            custom_metadata={"kline_trio": f"compacted {self.job.partition}"},
                            max_commit_retries=0,
                        ),
                    )
                return True
            except ConflictError:
                if tried == _MOST_TRIES:
                    return False
                self.pause(tried)
        raise AssertionError("unreachable")

    def _removed(self) -> list[RemoveAction]:
        partition: dict[str, str | None] = attrs.asdict(self.job.partition)
        # As a change of data: the library does not see other conflicts with what is none.
        return [
            RemoveAction(one.path, True, _now_ms(), one.size, partition)  # noqa: FBT003
            for one in self.job.files
        ]

    def _discard(self, added: Sequence[AddAction]) -> None:
        self.objects.discard(f"{_TABLE}/{one.path}" for one in added)


def _with_columns(table: pa.Table, wanted: pa.Schema) -> pa.Table:
    """Return the columns in their order and types; one that an earlier version lacked is null."""
    arrays = [
        table[one.name].cast(one.type)
        if one.name in table.column_names
        else pa.nulls(table.num_rows, one.type)
        for one in wanted
    ]
    return pa.Table.from_arrays(arrays, schema=wanted)


def _now_ms() -> int:
    return round(time.time() * 1_000)
