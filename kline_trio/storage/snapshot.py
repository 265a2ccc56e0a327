"""A store as it is at one moment, in another folder: of hard links where the disk has them."""

import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import attrs

from kline_trio.errors import ConfigError, DamagedError
from kline_trio.storage.catalog import candle_files, open_files
from kline_trio.storage.disk import copy_durably, disk_errors, link, make_folders, sync_folder
from kline_trio.storage.files import crc32_of
from kline_trio.storage.journal.manifest import FileEntry
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.journal.writer import Journal
from kline_trio.storage.paths import HOUSE, journal_path, universe_path
from kline_trio.storage.unite import work_folder

__all__ = ["Snapshot", "snapshot"]

_LINK_ATTEMPTS = 100
_MERGE_SECONDS = 600
"""Longer than any merge takes from the end of its writing to its line in the journal."""


@attrs.frozen
class Snapshot:
    """What a snapshot holds."""

    files: int
    waiting: int
    """How many candles are in its journal."""
    copied: int = 0
    """How many of the files are copies, since the disk allows no hard links between the two."""
    damaged: tuple[str, ...] = ()
    """What is wrong with each new file that cannot be read; the snapshot has it all the same."""


def snapshot(
    store_path: Path, into: Path, on_file: Callable[[int, int], None] = lambda *_: None
) -> Snapshot:
    """Makes a store of hard links to all candle files and the universe, and a copy of the journal.

    On another disk, or one without hard links, files are copied. If it fails, nothing is left.

    A recorder may run: the journal is copied first, and a candle leaves it only after the file
    that holds it is in place, so that all that was accepted is in the one or the other. Files are
    replaced and never changed, so that a link keeps what it found.

    Args:
      store_path: the store's folder.
      into: the snapshot's.
      on_file: called after each file with how many are done, and how many there are.

    Raises:
      ConfigError: there is no store, or the snapshot's place is taken, or inside the store.
      DiskError: the disk refused.
    """
    store_path, into = store_path.absolute(), into.absolute()
    if not (store_path / HOUSE).is_dir():
        raise ConfigError([f"there is no store in {store_path}"])
    if into.is_relative_to(store_path):
        raise ConfigError([f"{into} is inside the store: name a folder beside it"])
    copied = 0
    with work_folder(into) as work, disk_errors(work):
        # The clock of the copy's disk need not be that of the store's.
        begun = min((work / HOUSE).stat().st_mtime, time.time())
        with journal_view(store_path) as journal:
            journal.copy_to(journal_path(work))
        every = candle_files(store_path)
        for done, path in enumerate(every, 1):
            copied += not _link(path, work / path.relative_to(store_path))
            on_file(done, len(every))
        if universe_path(store_path).exists():
            _link(universe_path(store_path), universe_path(work))
        made = Journal.open(journal_path(work))
        try:
            damaged = _keep_young_files(made, work, begun - _MERGE_SECONDS)
            waiting = made.rows()
        finally:
            made.close()
        files = candle_files(work)
        for folder in sorted({work, work / HOUSE, *(path.parent for path in files)}):
            sync_folder(folder)
    told = tuple(text.replace(str(work), str(store_path)) for text in damaged)
    return Snapshot(len(files), waiting, copied, told)


def _link(path: Path, new: Path) -> bool:
    """Give the snapshot a file; False if it is a copy."""
    make_folders(new.parent)
    for attempt in range(1, _LINK_ATTEMPTS + 1):
        try:
            is_link = link(path, new)
            if not is_link:
                copy_durably(path, new)
        except FileNotFoundError:
            # Set aside by the recorder since it was listed; or replaced in this very moment, when
            # the file that was found has no name any more, and none may be given to it.
            if path.exists() and attempt == _LINK_ATTEMPTS:
                raise
        else:
            return is_link
    return True


def _keep_young_files(journal: Journal, work: Path, since: float) -> list[str]:
    """Brings the journal's copy up to the files that were replaced after it was made.

    By the file system's own clock; reading more files than need be does no harm.

    Returns:
      what is wrong with each file that cannot be read.
    """
    damaged: list[str] = []

    def tell(_: Path, error: DamagedError) -> None:
        damaged.append(str(error))

    young = [path for path in candle_files(work) if path.stat().st_mtime >= since]
    known = {file.path: file for file in journal.files()}
    for path, owner, file in open_files(young, tell):
        place = PurePosixPath(path.relative_to(work))
        rows = file.metadata.num_rows
        merged = FileEntry(place, owner, rows, path.stat().st_size, crc32_of(path))
        if known.get(merged.path) != merged:
            journal.list_file(merged)
    return damaged
