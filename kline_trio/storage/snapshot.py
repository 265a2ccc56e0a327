"""A store as it is at one moment, in another folder, without a byte of it copied twice."""

import os
from pathlib import Path, PurePosixPath

import attrs

from kline_trio.errors import ConfigError
from kline_trio.storage.catalog import candle_files, open_files
from kline_trio.storage.disk import disk_errors, make_folders, sync_folder
from kline_trio.storage.file_list import MergedFile
from kline_trio.storage.files import crc32_of
from kline_trio.storage.journal import Journal
from kline_trio.storage.journal_view import journal_view
from kline_trio.storage.places import HOUSE, journal_path, universe_path
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


def snapshot(store_path: Path, into: Path) -> Snapshot:
    """Makes a store of hard links to all candle files and the universe, and a copy of the journal.

    A recorder may run: the journal is copied first, and a candle leaves it only after the file
    that holds it is in place, so that all that was accepted is in the one or the other. Files are
    replaced and never changed, so that a link keeps what it found.

    Raises:
      ConfigError: there is no store, or the snapshot's place is taken, or inside the store.
      DiskError: the disk refused, as for a place on another file system.
    """
    store_path, into = store_path.absolute(), into.absolute()
    if not (store_path / HOUSE).is_dir():
        raise ConfigError([f"there is no store in {store_path}"])
    if into.is_relative_to(store_path):
        raise ConfigError([f"{into} is inside the store: name a folder beside it"])
    work = work_folder(into)
    with disk_errors(work):
        begun = (work / HOUSE).stat().st_mtime
        with journal_view(store_path) as journal:
            journal.copy_to(journal_path(work))
        for path in candle_files(store_path):
            _link(path, work / path.relative_to(store_path))
        if universe_path(store_path).exists():
            _link(universe_path(store_path), universe_path(work))
        made = Journal.open(journal_path(work))
        try:
            _keep_young_files(made, work, begun - _MERGE_SECONDS)
            waiting = made.rows()
        finally:
            made.close()
        files = candle_files(work)
        for folder in sorted({work, work / HOUSE, *(path.parent for path in files)}):
            sync_folder(folder)
        os.replace(work, into)  # noqa: PTH105 - an empty folder there may go
        sync_folder(into.parent)
    return Snapshot(len(files), waiting)


def _link(path: Path, link: Path) -> None:
    make_folders(link.parent)
    for attempt in range(1, _LINK_ATTEMPTS + 1):
        try:
            link.hardlink_to(path)
        except FileNotFoundError:
            # Set aside by the recorder since it was listed; or replaced in this very moment, when
            # the file that was found has no name any more, and none may be given to it.
            if path.exists() and attempt == _LINK_ATTEMPTS:
                raise
        else:
            return


def _keep_young_files(journal: Journal, work: Path, since: float) -> None:
    """Brings the journal's copy up to the files that were replaced after it was made.

    By the file system's own clock; reading more files than need be does no harm.
    """
    young = [path for path in candle_files(work) if path.stat().st_mtime >= since]
    known = {file.path: file for file in journal.files()}
    for path, owner, file in open_files(young):
        place = PurePosixPath(path.relative_to(work))
        rows = file.metadata.num_rows
        merged = MergedFile(place, owner, rows, path.stat().st_size, crc32_of(path))
        if known.get(merged.path) != merged:
            journal.forget(merged, ())
