"""What a power cut can leave of a folder, by the calls that were made: pure, and nasty.

What a sync has returned for is there. Of all else, each write, cut and change of a name may be kept
or lost by itself, and a write may be torn; only what POSIX promises is relied on. A sync of a file
is not one of its name, and a sync of a folder is one of its names alone.
"""

import itertools
import random
from collections.abc import Iterator
from pathlib import PurePosixPath

import attrs

__all__ = ["Change", "DiskModel", "Files"]

Files = dict[PurePosixPath, bytes | None]
"""What is in a folder, by relative path; None is a folder."""


@attrs.frozen
class Change:
    """Something that is not synced yet."""

    inode: int | None = None
    """The file that it changes; None for a change of names."""
    offset: int = 0
    data: bytes | None = None
    """What was written; None is a cut to `offset`."""
    remove: PurePosixPath | None = None
    add: PurePosixPath | None = None
    added: int = 0
    """The inode that gets the name `add`; 0 is a folder."""

    def torn(self) -> "Change | None":
        """A write of which only the first half arrived."""
        if self.data is None or len(self.data) < 2:
            return None
        return attrs.evolve(self, data=self.data[: len(self.data) // 2])


@attrs.define
class DiskModel:
    """A disk that is followed call by call."""

    names: dict[PurePosixPath, int]
    """As programs see them now."""
    durable_names: dict[PurePosixPath, int]
    durable: dict[int, bytes]
    """The content of each inode that survives."""
    pending: list[Change] = attrs.field(factory=list)
    """In order."""
    _open: dict[int, PurePosixPath | int] = attrs.field(factory=dict)
    _next: int = 1_000

    @classmethod
    def of(cls, files: Files) -> "DiskModel":
        """A disk on which all this is durable."""
        names, durable = {}, {}
        for number, (path, content) in enumerate(sorted(files.items()), 1):
            names[path] = 0 if content is None else number
            if content is not None:
                durable[number] = content
        return cls(names, dict(names), durable, next=len(files) + 1_000)

    def call(self, name: str, arguments: list[str], root: PurePosixPath) -> None:
        """Follows a line of the trace."""

        def place(text: str) -> PurePosixPath:
            return PurePosixPath(text).relative_to(root)

        if name == "open":
            self._opened(int(arguments[0]), place(arguments[2]))
        elif name == "close":
            self._open.pop(int(arguments[0]), None)
        elif name == "write":
            self._write(int(arguments[0]), int(arguments[1]), bytes.fromhex(arguments[2]))
        elif name == "ftruncate":
            self._write(int(arguments[0]), int(arguments[1]), None)
        elif name == "fsync":
            self._sync(int(arguments[0]))
        elif name == "fsync failed":
            self._forget_pages(int(arguments[0]))
        elif name == "mkdir":
            self._rename(None, place(arguments[0]), 0)
        elif name == "unlink":
            self._rename(place(arguments[0]), None, 0)
        elif name == "rename":
            old = place(arguments[0])
            self._rename(old, place(arguments[1]), self.names[old])
        elif name == "link":
            self._rename(None, place(arguments[1]), self.names[place(arguments[0])])

    def _opened(self, descriptor: int, path: PurePosixPath) -> None:
        if path != PurePosixPath() and path not in self.names:
            self._next += 1
            self._rename(None, path, self._next)
        inode = self.names.get(path, 0)
        self._open[descriptor] = inode or path

    def _rename(self, old: PurePosixPath | None, new: PurePosixPath | None, inode: int) -> None:
        if old is not None:
            self.names.pop(old, None)
        if new is not None:
            self.names[new] = inode
        self.pending.append(Change(remove=old, add=new, added=inode))

    def _write(self, descriptor: int, offset: int, data: bytes | None) -> None:
        inode = self._open.get(descriptor)
        if isinstance(inode, int):
            self.pending.append(Change(inode=inode, offset=offset, data=data))

    def _sync(self, descriptor: int) -> None:
        what = self._open.get(descriptor)
        kept = []
        for change in self.pending:
            if _is_synced(change, what):
                _apply(change, self.durable_names, self.durable)
            else:
                kept.append(change)
        self.pending = kept

    def _forget_pages(self, descriptor: int) -> None:
        # The pages of a failed sync are clean, and what was in them is never written.
        what = self._open.get(descriptor)
        self.pending = [change for change in self.pending if change.inode != what]

    def after_a_cut(self, chance: random.Random, most: int) -> Iterator[Files]:
        """What could be left: all or nothing of what is pending, and one or two that differ."""
        whole = [*self.pending]
        yield self._left(whole)
        yield self._left([])
        singles: list[list[Change]] = []
        for at, change in enumerate(whole):
            singles.append(whole[:at] + whole[at + 1 :])
            singles.append([change])
            torn = change.torn()
            if torn is not None:
                singles += [[*whole[:at], torn, *whole[at + 1 :]], [torn]]
        pairs = [
            [change for at, change in enumerate(whole) if at not in two]
            for two in itertools.combinations(range(len(whole)), 2)
        ] + [[whole[one], whole[two]] for one, two in itertools.combinations(range(len(whole)), 2)]
        chance.shuffle(pairs)
        for kept in singles + pairs[:most]:
            yield self._left(kept)

    def _left(self, kept: list[Change]) -> Files:
        names, contents = dict(self.durable_names), dict(self.durable)
        for change in kept:
            _apply(change, names, contents)
        files: Files = {}
        for path, inode in sorted(names.items()):
            is_reached = path.parent == PurePosixPath() or path.parent in files
            # The index of a WAL is never on the disk in any sense that counts.
            if is_reached and not path.name.endswith("-shm"):
                files[path] = contents.get(inode, b"") if inode else None
        return files


def _is_synced(change: Change, what: PurePosixPath | int | None) -> bool:
    """Whether a sync of this file or folder is one of the change."""
    if isinstance(what, int):
        return change.inode == what
    # A renamed file counts where it went.
    path = change.add or change.remove
    return path is not None and path.parent == what


def _apply(change: Change, names: dict[PurePosixPath, int], contents: dict[int, bytes]) -> None:
    if change.inode is not None:
        content = contents.get(change.inode, b"")
        if change.data is None:
            content = content[: change.offset].ljust(change.offset, b"\0")
        else:
            end = change.offset + len(change.data)
            content = (
                content[: change.offset].ljust(change.offset, b"\0") + change.data + content[end:]
            )
        contents[change.inode] = content
    if change.remove is not None:
        names.pop(change.remove, None)
    if change.add is not None:
        names[change.add] = change.added
