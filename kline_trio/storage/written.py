"""Files that were written and are not in the manifest yet.

A merge and an archive fill may write the same file one after the other, and reach the journal in
the other order. Only the newest file may become the manifest's entry; and what an older one brought
counts only if the newer one was made of it.
"""

import enum
import os
import threading
from pathlib import PurePosixPath

import attrs

from kline_trio.storage.file_list import FileEntry, is_as_listed

__all__ = ["Standing", "WrittenFiles"]

_MOST_OLDER = 16
"""More than jobs that write at the same time; the rest was given up, as after a full disk."""


class Standing(enum.Enum):
    """What a written file is when it reaches the journal."""

    NEWEST = "newest"
    """It is what stands at its path."""
    CONTINUED = "continued"
    """A newer file was made of it, and holds all that it held."""
    VOID = "void"
    """A newer file was made of something else."""


@attrs.define(eq=False)
class _Chain:
    newest: FileEntry
    older: list[FileEntry]
    """Each was made of the one before, and the newest of the last; none has been kept yet."""
    is_newest_kept: bool = False


@attrs.define(eq=False)
class WrittenFiles:
    """By path, for a thread that writes files and another one that keeps them in the journal."""

    _chains: dict[PurePosixPath, _Chain] = attrs.field(init=False, factory=dict)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)

    def newest(self, path: PurePosixPath, now: os.stat_result | None) -> FileEntry | None:
        """Return what was written last at a path, if the journal may not know it yet.

        Args:
          path: relative to the store's folder.
          now: what stands there now. If that is another file, nothing is returned.
        """
        with self._lock:
            chain = self._chains.get(path)
            return chain.newest if chain and is_as_listed(chain.newest, now) else None

    def add(self, merged: FileEntry, made_of: FileEntry | None) -> None:
        """Note that a file was written.

        Args:
          merged: the file.
          made_of: what `newest` gave, if that file stood there; else None.
        """
        with self._lock:
            older: list[FileEntry] = []
            chain = self._chains.get(merged.path)
            if chain is not None and chain.newest is made_of:
                older = chain.older if chain.is_newest_kept else [*chain.older, chain.newest]
            self._chains[merged.path] = _Chain(merged, older[-_MOST_OLDER:])

    def standing(self, merged: FileEntry) -> Standing:
        """Return what a file is now that it reaches the journal."""
        with self._lock:
            chain = self._chains.get(merged.path)
            if chain is not None and chain.newest is merged:
                return Standing.NEWEST
            is_older = chain is not None and any(one is merged for one in chain.older)
            return Standing.CONTINUED if is_older else Standing.VOID

    def kept(self, merged: FileEntry) -> None:
        """Note that the journal has what it is to know of a file."""
        with self._lock:
            chain = self._chains.get(merged.path)
            if chain is None:
                return
            if chain.newest is merged:
                chain.is_newest_kept = True
            chain.older = [one for one in chain.older if one is not merged]
            if chain.is_newest_kept and not chain.older:
                del self._chains[merged.path]
