"""Remove files that no version of the lake's tables needs any more.

A compaction leaves the files that it replaced, since a reader may be reading them. A publisher or
a compaction that was killed leaves files that no version has. Both are removed after a retention,
by the clocks of this machine and the object store: so the two must agree.
"""

import re
import time
from collections.abc import Callable
from pathlib import PurePosixPath

import attrs

from kline_trio.duration import duration_text
from kline_trio.errors import ConfigError
from kline_trio.lake.errors import ForeignLakeError, LakeError, lake_errors
from kline_trio.lake.location import Location
from kline_trio.lake.objects import Objects
from kline_trio.lake.proof import require_conditions
from kline_trio.lake.schema import TABLES
from kline_trio.lake.tables import LakeTable, open_table
from kline_trio.storage.step import OnStep, Step, ignore_step

RETENTION_SECONDS = 7 * 86_400
"""The default: the retention in the properties of the tables."""
LEAST_RETENTION_SECONDS = 86_400
"""A reader may work for so long with the version that it opened; so may a writer."""
MOST_CLOCK_ERROR_SECONDS = 300
_OURS = re.compile(r"(part|sorted)-[0-9A-Za-z.-]+\.parquet", re.ASCII)


@attrs.frozen
class Vacuumed:
    """What was removed, or would be."""

    files: tuple[str, ...] = ()
    """Of all tables, relative to the lake."""
    scratch: int = 0
    """How many scratch objects that a killed program has left."""
    foreign: tuple[str, ...] = ()
    """Old files in the tables' folders that no program of ours has made. They stay."""


def vacuum(
    location: Location,
    retention_seconds: float = RETENTION_SECONDS,
    on_step: OnStep = ignore_step,
    *,
    dry_run: bool = False,
    clock: Callable[[], float] = time.time,
) -> Vacuumed:
    """Remove the files that no version needs which is younger than the retention.

    Args:
      location: the lake.
      retention_seconds: who opened a version, reads it safely for so long.
      on_step: called at the begin of each step.
      dry_run: remove nothing, and return what would be removed.
      clock: this machine's, in seconds since 1970.

    Raises:
      ConfigError: the retention is shorter than readers need.
      ForeignLakeError: there is no lake, or it is not ours.
      LakeError: the clocks differ; or the lake cannot be read or written.
    """
    if retention_seconds < LEAST_RETENTION_SECONDS:
        least = duration_text(LEAST_RETENTION_SECONDS)
        given = duration_text(retention_seconds)
        problem = f"a retention of {given}: readers may work with a version for {least}"
        raise ConfigError([f"{problem}, so {least} are the least"])
    on_step(Step("looking at the lake"))
    opened = {name: open_table(location, name) for name in TABLES}
    if opened["candles"] is None:
        raise ForeignLakeError(f"{location.url}: there is no lake")
    if not dry_run:
        require_conditions(location)
    objects = Objects.of(location)
    now = _time_of_both(objects, clock)
    files, foreign = list[str](), list[str]()
    tables = [table for table in opened.values() if table is not None]
    for done, table in enumerate(tables):
        on_step(Step(f"removing old files of {table.name}", done, len(tables), "table"))
        some, others = _vacuum(location, objects, table, retention_seconds, dry_run=dry_run)
        files += some
        foreign += others
    swept = 0 if dry_run else objects.sweep(now - LEAST_RETENTION_SECONDS, on_step)
    return Vacuumed(tuple(files), swept, tuple(foreign))


def clock_error_seconds(objects: Objects, clock: Callable[[], float] = time.time) -> float:
    """Return how far this machine's clock is ahead of the object store's.

    Args:
      objects: of the lake; a scratch object is written.
      clock: this machine's, in seconds since 1970.

    Returns:
      seconds; nothing below a second says anything.

    Raises:
      LakeError: the object store gave no answer, or refuses.
    """
    before = clock()
    store = objects.now()
    after = clock()
    # The store's clock was read between the two, and S3 leaves out the fraction of the second.
    low, high = before - store - 1, after - store
    return max(low, 0.0) + min(high, 0.0)


def _time_of_both(objects: Objects, clock: Callable[[], float]) -> float:
    """Return the time, if this machine and the object store agree on it."""
    error = clock_error_seconds(objects, clock)
    if abs(error) > MOST_CLOCK_ERROR_SECONDS:
        direction = "ahead of" if error > 0 else "behind"
        raise LakeError(
            f"{objects.url}: this machine's clock is {duration_text(abs(error))} {direction} the"
            " object store's, so that files which are in use would look old: set the clock (NTP)"
        )
    return clock()


def _vacuum(
    location: Location,
    objects: Objects,
    table: LakeTable,
    retention_seconds: float,
    *,
    dry_run: bool,
) -> tuple[list[str], list[str]]:
    hours = -(-int(retention_seconds) // 3_600)

    def run(*, full: bool, dry_run: bool) -> list[str]:
        with lake_errors(f"{location.table_url(table.name)}: cannot be cleaned up"):
            # `enforce_retention_duration` would refuse less than the tables' seven days.
            return table.delta.vacuum(
                hours, dry_run=dry_run, enforce_retention_duration=False, full=full
            )

    replaced, every = (set(run(full=full, dry_run=True)) for full in (False, True))
    others = sorted(every - replaced)
    # The log knows the files for a while after they were removed. Nothing to do is no commit.
    replaced &= {one.path.removeprefix(f"{table.name}/") for one in objects.list(table.name)}
    left = [one for one in others if _OURS.fullmatch(PurePosixPath(one).name)]
    foreign = [one for one in others if one not in set(left)]
    if not dry_run:
        if replaced:
            run(full=False, dry_run=False)
        objects.delete(f"{table.name}/{one}" for one in left)
    return (
        [f"{table.name}/{one}" for one in (*sorted(replaced), *left)],
        [f"{table.name}/{one}" for one in foreign],
    )
