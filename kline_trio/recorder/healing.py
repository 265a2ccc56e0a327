"""Compares stores of earlier versions with their ledger, once, beside the recording."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path, PurePosixPath

import attrs

from kline_trio.candle import Series
from kline_trio.errors import DamagedError
from kline_trio.recorder.room import with_room
from kline_trio.recorder.seams import Door
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.holes import Holdings, holdings, unlisted_files
from kline_trio.storage.journal_view import journal_view
from kline_trio.storage.layout import Layout
from kline_trio.storage.store import Store

__all__ = ["heal"]

logger = logging.getLogger(__name__)

_SERIES_A_JOB = 100
"""A stop waits for the job that is under way."""
_MOST_LOOKS = 10
"""A merge between look and transaction makes a look worthless; merges are a minute apart."""


@attrs.frozen
class _Work:
    """What is to be done at this start."""

    to_compare: tuple[Series, ...] = ()
    """These have never been compared with the ledger."""
    pending: tuple[Series, ...] = ()
    """These have, but some of their pending candles may be stored."""
    unlisted: Mapping[Series, Collection[Path]] = attrs.field(factory=dict)


async def heal(
    store: Store, commit_door: Door, merge_door: Door, named: Callable[[], None]
) -> None:
    """Give every due candle that is neither stored nor in the ledger a gap row.

    An earlier version could lose such candles in silence. Each series is compared once; the
    journal keeps which ones were, in the transaction that writes their gap rows, so that a kill
    costs one series. At every start, pending candles that are stored become `filled`, too.

    Args:
      store: which.
      commit_door: the way to its journal; without room behind it, wait.
      merge_door: the way to its files.
      named: called after gap rows were written, to wake whoever asks for them.

    Raises:
      DiskError: the store cannot be read or written, for another reason than want of room.
    """
    work = await merge_door.run(_find_work, store.path)
    for some in _batches(work.pending):
        for look in await merge_door.run(_look, store, some, work.unlisted, store.layout):
            if look.stored_pending():
                # Only some of its files were read: a look that finds what is missing reads all.
                stored = attrs.evolve(look, account=None)
                await _compare(store, commit_door, merge_door, stored, work, store.layout)
    total = 0
    for some in _batches(work.to_compare):
        for look in await merge_door.run(_look, store, some, work.unlisted, None):
            count = await _compare(store, commit_door, merge_door, look, work, None)
            total += count
            if count:
                named()
    if work.to_compare:
        logger.info(
            "compared %s series with the ledger, once for this version: %s candles found missing",
            f"{len(work.to_compare):,}",
            f"{total:,}",
        )


def _batches(series: Sequence[Series]) -> Iterator[tuple[Series, ...]]:
    rest = iter(series)
    while some := tuple(islice(rest, _SERIES_A_JOB)):
        yield some


async def _compare(
    store: Store,
    commit_door: Door,
    merge_door: Door,
    look: Holdings,
    work: _Work,
    near_pending: Layout | None,
) -> int:
    """Write down what a look found; look again if the files have changed since."""
    for _ in range(_MOST_LOOKS):
        count = await with_room(commit_door, store.compare, look)
        if count is not None:
            if count:
                _say(look, count)
            return count
        [again] = await merge_door.run(_look, store, (look.series,), work.unlisted, near_pending)
        look = again if near_pending is None else attrs.evolve(again, account=None)
    logger.warning("%s: its files change too fast, it is compared at the next start", look.series)
    return 0


def _say(look: Holdings, count: int) -> None:
    holes = look.missing()
    logger.warning(
        "%s: %s candles found missing, neither stored nor in the ledger, in %s gaps from %s to %s;"
        " they are asked for now",
        look.series,
        f"{count:,}",
        f"{len(holes):,}",
        *(
            datetime.fromtimestamp(ms / 1_000, UTC).isoformat(" ", "seconds")
            for ms in (holes[0].from_ms, holes[-1].to_ms)
        ),
    )


def _find_work(store_path: Path) -> _Work:
    with disk_errors(store_path):
        with journal_view(store_path) as journal:
            never = journal.to_compare()
            listed = [PurePosixPath(path) for some in journal.listed().values() for path, _ in some]
        if not never:
            return _Work()
        return _Work(
            tuple(one for one in never if never[one]),
            tuple(one for one in never if not never[one]),
            unlisted_files(store_path, listed, _warn),
        )


def _look(
    store: Store,
    some: Collection[Series],
    unlisted: Mapping[Series, Collection[Path]],
    near_pending: Layout | None,
) -> list[Holdings]:
    with disk_errors(store.path):
        return holdings(store.path, _warn, some, unlisted, near_pending)


def _warn(path: Path, error: DamagedError) -> None:
    logger.warning("%s; what it held counts as absent", error)
