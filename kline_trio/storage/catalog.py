"""What a store holds, by its files' own words: no layout and no journal is needed."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pyarrow.parquet as pq

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.errors import DamagedError, KlineTrioError
from kline_trio.interval import Span
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.files import begins_ms, bounds_ms, open_parquet, owner_of
from kline_trio.storage.journal_view import journal_view
from kline_trio.storage.layout import SUFFIXES
from kline_trio.storage.table import BEGIN, END, runs_of

__all__ = ["candle_files", "last_end_ms", "open_files", "series", "stored_spans"]


def series(path: str | os.PathLike[str]) -> list[Series]:
    """The series that the store holds candles of, in order.

    Raises:
      KlineTrioError: there is no such folder, or a file in it is damaged; its text names it.
    """
    store_path = Path(path)
    if not store_path.is_dir():
        raise KlineTrioError(f"there is no folder {store_path}")
    return sorted(last_end_ms(store_path))


def last_end_ms(path: str | os.PathLike[str]) -> dict[Series, int]:
    """The end of each stored series' newest candle; nothing if there is no store.

    Raises:
      KlineTrioError: a file in the store is damaged; its text names it.
    """
    store_path = Path(path)
    with disk_errors(store_path):
        # The journal first, as in `read`.
        with journal_view(store_path) as journal:
            ends = {
                owner: owner.interval.end_time_ms(newest_ms)
                for owner, newest_ms in journal.newest_ms().items()
            }
        for _, owner, file in open_files(candle_files(store_path)):
            for group in range(file.metadata.num_row_groups):
                _, end_ms = bounds_ms(file, group, END)
                ends[owner] = max(end_ms, ends.get(owner, end_ms))
    return ends


def stored_spans(
    store_path: Path,
    wanted: Mapping[Series, int],
    on_damage: Callable[[Path, DamagedError], None],
) -> dict[Series, list[Span]]:
    """The stored candles of each series from an open time on, as spans, in order.

    Args:
      store_path: the store's folder.
      wanted: from where on, for each series.
      on_damage: told of each file that cannot be read, which is passed over.

    Raises:
      KlineTrioError: the journal or the disk refuses.
    """
    found: dict[Series, list[Span]] = {series: [] for series in wanted}
    # The journal first, as in `read`.
    with journal_view(store_path) as journal:
        for owner, times in groupby(journal.open_times(), key=itemgetter(0)):
            if owner in wanted:
                later = (ms for _, ms in times if ms >= wanted[owner])
                found[owner] += owner.interval.runs(later)
    for path in candle_files(store_path):
        try:
            for _, owner, file in open_files([path]):
                from_ms = wanted.get(owner, MAX_TIME_MS)
                for group in range(file.num_row_groups):
                    if bounds_ms(file, group, BEGIN)[1] >= from_ms:
                        begins = begins_ms(file, group, path)
                        found[owner] += runs_of(owner, begins[begins >= from_ms])
        except DamagedError as error:
            on_damage(path, error)
    return {series: _joined(spans) for series, spans in found.items()}


def _joined(spans: list[Span]) -> list[Span]:
    """In order, and those that touch or overlap as one."""
    joined: list[Span] = []
    for span in sorted(spans):
        if joined and span.from_ms <= joined[-1].to_ms:
            joined[-1] = Span(joined[-1].from_ms, max(joined[-1].to_ms, span.to_ms))
        else:
            joined.append(span)
    return joined


def candle_files(store_path: Path) -> list[Path]:
    """The Parquet files in the folder and below, by path, whoever wrote them."""
    # Twice, since some file systems can leave a name out of a listing while the file under it is
    # replaced. No file is replaced twice in the time that this takes.
    return sorted({*_scan(store_path), *_scan(store_path)})


def _scan(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, onerror=_fail_unless_gone):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            # A pipe of that name would be waited for without end.
            if name.endswith(SUFFIXES) and not name.startswith(".") and path.is_file():
                yield path


def _fail_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def open_files(paths: list[Path]) -> Iterator[tuple[Path, Series, pq.ParquetFile]]:
    """Opens those of the files that are ours, each until the next one is asked for."""
    for path in paths:
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(open_parquet(path))
            except FileNotFoundError:
                # Moved away since it was listed.
                continue
            owner = owner_of(file, path)
            if owner is not None:
                yield path, owner, file
