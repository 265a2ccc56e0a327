"""Which files of the lake's candles are rewritten together (pure).

A publication adds files that hold few rows, or rows in any order. Compaction rewrites them, sorted
by symbol and time. Its files are cut where the symbol changes, so their ranges of symbols never
overlap. Their names begin with `sorted-`: a MERGE that changes such a file writes another name.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath

import attrs

SORTED = "sorted-"
"""How the names of compacted files begin."""
TARGET_BYTES = 128 << 20
"""Of a file."""
SMALL_BYTES = 32 << 20
"""A compacted file of a month that is not over is joined with new ones up to this size."""
LATE_SECONDS = 2 * 86_400
"""A month is rewritten as a whole so long after its end: most late candles are there by then."""
_DAY_SECONDS = 86_400
_DAY_LATE_SECONDS = 3 * 3_600
"""A day is over so long after its end: it was published then, by the hour."""
_FEW_FILES = 8
_FEW_ROWS = 0.01


@attrs.frozen(order=True)
class Partition:
    """A month of a market and an interval."""

    trade_type: str
    time_interval: str
    month: str
    """As `2026-11`."""

    def __str__(self) -> str:
        return f"{self.trade_type} {self.time_interval} {self.month}"

    @property
    def end(self) -> float:
        """When the month ends, in seconds since 1970."""
        year, month = map(int, self.month.split("-"))
        year, month = year + month // 12, month % 12 + 1
        return datetime(year, month, 1, tzinfo=UTC).timestamp()


@attrs.frozen
class DataFile:
    """A file of the table of candles, as the table's log describes it."""

    path: str
    """Relative to the table."""
    size: int
    """In bytes."""
    rows: int
    first_symbol: str
    last_symbol: str
    """Inclusive."""
    last_begin: float
    """The greatest open time, in seconds since 1970."""

    @property
    def is_sorted(self) -> bool:
        """Whether compaction wrote the file."""
        return PurePosixPath(self.path).name.startswith(SORTED)


@attrs.frozen
class Job:
    """Files that are replaced by sorted ones, in one commit."""

    partition: Partition
    files: tuple[DataFile, ...]

    @property
    def size(self) -> int:
        """Of the files, in bytes."""
        return sum(one.size for one in self.files)

    @property
    def rows(self) -> int:
        """How many rows the files have."""
        return sum(one.rows for one in self.files)


def jobs_of(partition: Partition, files: Sequence[DataFile], now: float) -> tuple[Job, ...]:
    """Return what is to be rewritten in a partition; nothing if it is compact.

    Of a month that is over, files are rewritten together whose ranges of symbols overlap. Of one
    that is not, the files of past days are rewritten, together with small compacted files.

    Args:
      partition: the month.
      files: all its files.
      now: the object store's time, in seconds since 1970.
    """
    if now >= partition.end + LATE_SECONDS:
        groups = [one for one in _overlapping(files) if _is_worth(one)]
    else:
        group = _past(files, now)
        groups = [group] if len(group) > 1 or any(not one.is_sorted for one in group) else []
    return tuple(Job(partition, tuple(group)) for group in groups)


def _past(files: Iterable[DataFile], now: float) -> list[DataFile]:
    """Return the files of past days that are not sorted yet, and the sorted ones that are small."""
    today = (now - _DAY_LATE_SECONDS) // _DAY_SECONDS * _DAY_SECONDS
    small = [one for one in files if one.is_sorted and one.size < SMALL_BYTES]
    return small + [one for one in files if not one.is_sorted and one.last_begin < today]


def _overlapping(files: Iterable[DataFile]) -> Iterator[list[DataFile]]:
    """Give the files in groups that have no symbol in common."""
    group: list[DataFile] = []
    last = ""
    for one in sorted(files, key=lambda one: (one.first_symbol, one.last_symbol, one.path)):
        if group and one.first_symbol > last:
            yield group
            group = []
        last = one.last_symbol if not group else max(last, one.last_symbol)
        group.append(one)
    if group:
        yield group


def _is_worth(group: Sequence[DataFile]) -> bool:
    """Return whether a group of a past month is rewritten now.

    Late candles come in small numbers. A large file is not written again for each of them.
    """
    unsorted = [one for one in group if not one.is_sorted]
    ours = [one for one in group if one.is_sorted]
    if len(list(_overlapping(ours))) < len(ours):
        return True  # those of single days
    if not unsorted:
        return False
    rows = sum(one.rows for one in unsorted)
    is_cheap = sum(one.size for one in group) <= SMALL_BYTES
    return (
        is_cheap
        or len(unsorted) >= _FEW_FILES
        or rows >= _FEW_ROWS * sum(one.rows for one in group)
    )
