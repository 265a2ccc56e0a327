"""What years of a lake cost in bytes and requests: arithmetic over counted facts (pure).

A month is simulated hour by hour: each hour is published, each day is compacted as
`compaction_plan` decides, and the month once more after its end. Nothing is read or written. The
facts say what a row, a file, a commit and a job cost; `lake_facts` counts them.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import attrs

from kline_trio.interval import DAY_MS, INTERVALS, Span
from kline_trio.lake.compaction_plan import SORTED, TARGET_BYTES, DataFile, Partition, jobs_of
from kline_trio.lake.plan import MOST_ROWS, month_span
from kline_trio.lake.sorting import MOST_ROWS as SORTED_AT_ONCE

__all__ = ["Facts", "Month", "Part", "Prices", "Requests", "month_of_lake", "price"]

_HOUR_MS = 3_600_000
_MONTH = "2026-11"
"""30 days; it begins on a Sunday."""
_MARGIN_MS = 5 * 60_000
"""A compaction begins so long after the hour at which a day may be compacted."""
_SAFE_HOURS = 3
_LATE_DAYS = 2
_WHOLE_BYTES = 32 << 20
"""Up to this size, a compaction reads a file by one request."""
_RETAINED_DAYS = 7
_LISTED = 1_000
"""Names of an answer to a list request."""


@attrs.frozen
class Requests:
    """How many requests, by the classes of price lists."""

    writes: float = 0.0
    """PUT, POST and lists."""
    reads: float = 0.0
    """GET and HEAD."""
    deletes: float = 0.0

    def plus(self, other: "Requests", times: float = 1.0) -> "Requests":
        """Return the sum of these, and so many times the others."""
        return Requests(
            self.writes + times * other.writes,
            self.reads + times * other.reads,
            self.deletes + times * other.deletes,
        )


@attrs.frozen(kw_only=True)
class Facts:
    """What was measured or counted."""

    row_bytes: Mapping[str, float]
    """Of a compacted row, by interval."""
    new_row_bytes: float
    """Of a row as it is published."""
    new_file_bytes: float
    """What a published file has besides."""
    store_row_bytes: Mapping[str, float]
    """Of a row of the local store, by interval."""
    publication: Requests
    """With one commit of one file, on the mean of the log's checkpoints."""
    more_file: Requests
    """Of the same commit."""
    more_commit: Requests
    """Of as many rows as a commit has at most."""
    compaction: Requests
    """That finds nothing to do."""
    job: Requests
    """That joins small files; its reads of files and its writes of data come on top."""
    upload: Requests
    """Of a compacted file of the target size."""
    large_read: Requests
    """Of each MiB of a file that is not read whole, once."""
    vacuum: Requests
    """That finds nothing to do, with a page of names."""
    vacuum_lists: float
    """How often it asks for all names of the table."""
    log_commit_bytes: float
    """Of a commit in the table's log, and of each file in it."""
    checkpoint_file_bytes: float
    """Of a file in a checkpoint of the log."""
    checkpoint_every: int = 20
    """Versions."""


@attrs.frozen
class Part:
    """A month of a market and an interval."""

    trade_type: str
    time_interval: str
    rows: int
    size: float
    """Of the compacted files, in bytes."""
    files: int
    published_files: int
    written: float
    """Bytes that were written: published and compacted."""
    read: float
    """Bytes that compactions read."""
    jobs: int
    requests: Requests
    """Of the compactions."""
    store_bytes: float
    """The same rows in the local store."""


@attrs.frozen
class Month:
    """A month of the whole lake."""

    parts: tuple[Part, ...]
    commits: int
    """Of publications."""
    publishing: Requests
    compacting: Requests
    removing: Requests
    """By vacuum, with as many files as in the first month."""
    log_bytes: float
    """Of seven days of commits, and of a checkpoint of this month's files."""

    @property
    def rows(self) -> int:
        """How many candles there are."""
        return sum(one.rows for one in self.parts)

    @property
    def requests(self) -> Requests:
        """Return the sum."""
        return self.publishing.plus(self.compacting).plus(self.removing)


@attrs.frozen
class Prices:
    """Assumptions; a price list says what holds."""

    writes: float
    """Of 1,000."""
    reads: float
    """Of 1,000."""
    gb_month: float


def price(prices: Prices, requests: Requests, gb_months: float) -> float:
    """Return what requests and storage cost."""
    per_request = (requests.writes * prices.writes + requests.reads * prices.reads) / 1_000
    return per_request + gb_months * prices.gb_month


def month_of_lake(
    facts: Facts, symbols: Mapping[str, int], intervals: Mapping[str, Sequence[str]]
) -> Month:
    """Simulate a month.

    Args:
      facts: what a row, a file, a commit and a job cost.
      symbols: how many each market has.
      intervals: those that are recorded of each market.
    """
    span = month_span(_MONTH)
    places = [(market, name) for market in sorted(intervals) for name in intervals[market]]
    new = {place: [0] * _hours(span) for place in places}
    commits, publishing = 0, Requests()
    for hour in range(_hours(span)):
        due = Span(span.from_ms + hour * _HOUR_MS, span.from_ms + (hour + 1) * _HOUR_MS)
        rows = {(market, name): symbols[market] * _closing(name, due) for market, name in places}
        total, places_due = sum(rows.values()), sum(map(bool, rows.values()))
        of_hour = max(1, -(-total // MOST_ROWS))
        commits += of_hour
        # Commits take the places one after the other, so each cut adds one file.
        publishing = (
            publishing.plus(facts.publication)
            .plus(facts.more_file, max(0, places_due - 1))
            .plus(facts.more_commit, of_hour - 1)
        )
        for place, count in rows.items():
            new[place][hour] = count
    parts = tuple(_part(facts, place, symbols[place[0]], new[place], span) for place in places)
    looks = _days(span)
    compacting = Requests().plus(facts.compaction, looks)
    for part in parts:
        compacting = compacting.plus(part.requests)
    removed = sum(one.published_files for one in parts)
    present = sum(one.files for one in parts) + removed * _RETAINED_DAYS / looks
    pages = math.ceil(present / _LISTED) - 1
    removing = Requests(deletes=removed).plus(facts.vacuum, looks)
    removing = removing.plus(Requests(writes=facts.vacuum_lists * pages), looks)
    jobs = sum(one.jobs for one in parts)
    week = _RETAINED_DAYS / looks
    log = facts.log_commit_bytes * (commits + jobs + removed) * week
    log += facts.checkpoint_file_bytes * present
    return Month(parts, commits, publishing, compacting, removing, log)


def _closing(name: str, due: Span) -> int:
    """Return how many candles of a series close in a time, its end included."""
    interval = INTERVALS[name]
    if interval.duration_ms is None:
        return int(datetime.fromtimestamp(due.to_ms / 1_000, UTC).day == 1 and _is_day(due.to_ms))
    duration_ms, phase_ms = interval.duration_ms, interval.phase_ms
    return (due.to_ms - phase_ms) // duration_ms - (due.from_ms - phase_ms) // duration_ms


def _is_day(time_ms: int) -> bool:
    return time_ms % DAY_MS == 0


def _part(
    facts: Facts, place: tuple[str, str], symbols: int, new: Sequence[int], span: Span
) -> Part:
    market, name = place
    partition = Partition(market, name, _MONTH)
    row_bytes = facts.row_bytes[name]
    files: list[DataFile] = []
    requests, written, read, jobs, published = Requests(), 0.0, 0.0, 0, 0

    def compact(now: float) -> None:
        nonlocal files, requests, written, read, jobs
        for job in jobs_of(partition, files, now):
            jobs += 1
            passes = 2 if job.rows > SORTED_AT_ONCE else 1
            requests = requests.plus(facts.job)
            for one in job.files:
                if one.size <= _WHOLE_BYTES:
                    requests = requests.plus(Requests(reads=passes))
                    read += passes * one.size
                else:
                    requests = requests.plus(facts.large_read, one.size / (1 << 20))
                    read += one.size
            gone = {one.path for one in job.files}
            made = _sorted_files(job.rows, row_bytes, symbols, job.files, jobs)
            for one in made:
                requests = requests.plus(facts.upload, max(one.size / TARGET_BYTES, 1 / 26))
                written += one.size
            files = [one for one in files if one.path not in gone] + made

    for hour, rows in enumerate(new):
        end = (span.from_ms + (hour + 1) * _HOUR_MS) / 1_000
        if rows:
            count = max(1, round(rows / MOST_ROWS))
            published += count
            for number in range(count):
                share = rows // count + (number < rows % count)
                size = facts.new_file_bytes + share * facts.new_row_bytes
                written += size
                first, last = number * symbols // count, (number + 1) * symbols // count - 1
                files.append(
                    DataFile(
                        f"part-{hour}-{number}", round(size), share, _name(first), _name(last),
                        end - 1,
                    )
                )  # fmt: skip
        if (hour + 1) % 24 == _SAFE_HOURS and hour >= 24:
            compact(end + _MARGIN_MS / 1_000)
    compact(span.to_ms / 1_000 + _LATE_DAYS * 86_400 + _MARGIN_MS / 1_000)
    rows = sum(new)
    return Part(
        market, name, rows, sum(one.size for one in files), len(files), published, written, read,
        jobs, requests, rows * facts.store_row_bytes[name],
    )  # fmt: skip


def _sorted_files(
    rows: int, row_bytes: float, symbols: int, old: Sequence[DataFile], number: int
) -> list[DataFile]:
    """Return the files that a job makes: each ends where the symbol changes."""
    size = rows * row_bytes
    count = min(symbols, max(1, round(size / TARGET_BYTES)))
    last_begin = max(one.last_begin for one in old)
    return [
        DataFile(
            f"{SORTED}{number}-{one}", round(size / count), rows // count + (one < rows % count),
            _name(one * symbols // count), _name((one + 1) * symbols // count - 1), last_begin,
        )
        for one in range(count)
    ]  # fmt: skip


def _name(symbol: int) -> str:
    return f"S{symbol:05}"


def _hours(span: Span) -> int:
    return (span.to_ms - span.from_ms) // _HOUR_MS


def _days(span: Span) -> int:
    return (span.to_ms - span.from_ms) // DAY_MS
