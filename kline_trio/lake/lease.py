"""The lease of a lake: which recorder compacts it now. Correctness never depends on the lease.

On an object store the lease is one object. Whoever makes or replaces it under the condition that
nobody else did (If-None-Match, If-Match) holds it until it expires, by the clock of the object
store. In a folder it is a lock of the file system, which ends with its process.
"""

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from kline_trio.lake.errors import ConflictError, LakeError
from kline_trio.lake.location import INTERNAL
from kline_trio.lake.objects import Objects
from kline_trio.storage.disk import disk_errors, make_folders

_PATH = f"{INTERNAL}/lease.json"
_LOCK = f"{INTERNAL}/lease.lock"
LEASE_SECONDS = 900.0
_MARGIN_SECONDS = 2.0
"""The times of objects are whole seconds on S3."""


class LeaseLostError(LakeError):
    """The lease expired while its holder was paused, and another program may hold it now."""


def boot_clock() -> float:
    """Return seconds that pass while the machine is suspended, too."""
    # CLOCK_MONOTONIC stands still while the machine is suspended; a lease goes on expiring.
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


@attrs.frozen
class LeaseState:
    """The content of the lease's object."""

    holder: str | None
    """The recorder or the program; None: it was given back."""
    seconds: float
    """How long the lease is valid after it was written."""

    @classmethod
    def from_content(cls, content: bytes) -> "LeaseState":
        """Return the state that an object holds. A damaged one counts as given back."""
        try:
            values = json.loads(content)
            holder, seconds = values["holder"], float(values["seconds"])
        except (ValueError, TypeError, KeyError):
            return cls(None, 0.0)
        return cls(holder if isinstance(holder, str) else None, seconds)

    def content(self, nonce: str) -> bytes:
        """Return the content of an object.

        Args:
          nonce: differs each time, since the etag of some stores is the MD5 of the content.
        """
        values = {"holder": self.holder, "seconds": self.seconds, "nonce": nonce}
        return f"{json.dumps(values)}\n".encode()

    def holder_at(self, now: float, modified: float) -> str | None:
        """Return who holds the lease; None: anybody may take it.

        Args:
          now: the object store's time, in seconds since 1970.
          modified: when the object was written, by the same clock.
        """
        has_expired = now > modified + self.seconds + _MARGIN_SECONDS
        return None if has_expired else self.holder


@attrs.define(eq=False)
class Lease:
    """A lease that this program holds."""

    _objects: Objects
    holder: str
    seconds: float
    _etag: str | None
    _written: float
    """By `_clock`, before the request was sent that wrote it."""
    _clock: Callable[[], float]

    def keep(self) -> None:
        """Renew the lease if a third of its time is over. Call it before each commit.

        Raises:
          LeaseLostError: another program has taken it; or it has expired and cannot be renewed.
        """
        age = self._clock() - self._written
        if age < self.seconds / 3:
            return
        try:
            self._write(LeaseState(self.holder, self.seconds))
        except ConflictError:
            raise LeaseLostError(
                f"{self._objects.url}: the lease of {self.holder} expired, and was taken by another"
                " program"
            ) from None
        except LakeError as error:
            if age >= self.seconds - _MARGIN_SECONDS:
                raise LeaseLostError(f"the lease of {self.holder} expired: {error}") from error

    def give_back(self) -> None:
        """Let others take the lease at once. If that fails, they wait until it expires."""
        with contextlib.suppress(LakeError):
            self._write(LeaseState(None, 0.0))

    def _write(self, state: LeaseState) -> None:
        written = self._clock()
        content = state.content(secrets.token_hex(8))
        self._etag = self._objects.replace(_PATH, content, self._etag)
        self._written = written


@attrs.frozen(eq=False)
class FolderLease:
    """A lease on a folder, which its process holds for as long as the process lives."""

    holder: str
    _descriptor: int

    def keep(self) -> None:
        """Do nothing: a lock of the file system does not expire."""

    def give_back(self) -> None:
        """Let others take the lease at once."""
        os.close(self._descriptor)


def take(
    objects: Objects,
    holder: str,
    seconds: float = LEASE_SECONDS,
    clock: Callable[[], float] = boot_clock,
) -> Lease | FolderLease | None:
    """Take the lease of a lake; None: another program holds it.

    Args:
      objects: of the lake.
      holder: the name of this recorder or program, for others to read.
      seconds: how long the lease is valid without being renewed.
      clock: of this machine, in seconds from any moment; it does not stop while it is suspended.

    Raises:
      LakeError: the object store gave no answer, or refuses.
      DiskError: the folder cannot be written.
    """
    if objects.is_folder:
        return _take_folder(Path(objects.url), holder)
    found, written = objects.get(_PATH), clock()
    content = LeaseState(holder, seconds).content(secrets.token_hex(8))
    try:
        if found is None:
            etag = objects.create(_PATH, content)
        else:
            before = LeaseState.from_content(found.content)
            if before.holder is not None:
                # After a moment without an answer, the time is later than it says: no harm.
                if before.holder_at(objects.now(), found.meta.modified) is not None:
                    return None
                written = clock()
            etag = objects.replace(_PATH, content, found.meta.etag)
    except ConflictError:
        return None
    return Lease(objects, holder, seconds, etag, written, clock)


def _take_folder(folder: Path, holder: str) -> FolderLease | None:
    path = folder / _LOCK
    with disk_errors(path):
        make_folders(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        with disk_errors(path):
            raise
    return FolderLease(holder, descriptor)


@contextlib.contextmanager
def lease(
    objects: Objects, holder: str, seconds: float = LEASE_SECONDS
) -> Iterator[Lease | FolderLease | None]:
    """Hold the lease during the body, which gets None if another program holds it.

    Raises:
      LakeError, DiskError: as `take`.
    """
    taken = take(objects, holder, seconds)
    try:
        yield taken
    finally:
        if taken is not None:
            taken.give_back()


def holder_of(objects: Objects) -> str | None:
    """Return who holds a lake's lease, as far as it can be seen without writing; None: nobody.

    An expired lease is shown as held.

    Raises:
      LakeError: the object store gave no answer, or refuses.
    """
    found = None if objects.is_folder else objects.get(_PATH)
    return None if found is None else LeaseState.from_content(found.content).holder
