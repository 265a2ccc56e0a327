"""The lake's small objects, apart from its tables: read, written on conditions, listed, and aged.

The time of everything here is the object store's, as its answers give it.
"""

import contextlib
import io
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import obstore
import pyarrow as pa

from kline_trio.lake.errors import ConflictError, LakeError, lake_errors
from kline_trio.lake.location import INTERNAL, Location
from kline_trio.storage.step import OnStep, Step, ignore_step

if TYPE_CHECKING:
    from datetime import datetime

    from obstore.store import LocalStore, S3Store

SCRATCH = f"{INTERNAL}/scratch"
_MOST_CONNECTIONS = 4
"""Parts of a large upload at once, of 5 MB each."""


@attrs.frozen
class Meta:
    """What the object store says of an object."""

    path: str
    """Relative to the lake."""
    size: int
    """In bytes."""
    modified: float
    """Seconds since 1970 by the object store's clock; S3 has whole seconds."""
    etag: str | None
    """Changes with the content. It is the MD5 of the content on some stores."""


@attrs.frozen
class Found:
    """An object with its content."""

    meta: Meta
    content: bytes


@attrs.frozen(eq=False)
class Objects:
    """The objects below a lake's address. Paths are relative to the lake."""

    url: str
    _store: "S3Store | LocalStore"

    @classmethod
    def of(cls, location: Location) -> "Objects":
        """Return the objects of a lake.

        Raises:
          DiskError: the lake is a folder that cannot be made, or is on a network file system.
          LakeError: the settings cannot be used.
        """
        return cls(location.url, location.objects())

    @property
    def is_folder(self) -> bool:
        """Whether the lake is a folder of this machine, which has no `replace`."""
        return not self.url.startswith("s3://")

    def get(self, path: str) -> Found | None:
        """Return an object; None: there is none.

        Raises:
          LakeError: the object store gave no answer, or refuses.
        """
        with self._errors(path, "cannot be read"):
            try:
                answer = obstore.get(self._store, path)
                meta: Any = answer.meta
                return Found(_meta(meta), bytes(answer.bytes()))
            except FileNotFoundError:
                return None

    def put(self, path: str, content: bytes) -> None:
        """Write an object, in place of the one that is there.

        Raises:
          LakeError: the object store gave no answer, or refuses.
        """
        with self._errors(path, "cannot be written"):
            obstore.put(self._store, path, content, use_multipart=False)

    def create(self, path: str, content: bytes) -> str | None:
        """Write an object that is not there yet, and return its etag.

        Args:
          path: of the object.
          content: with a nonce. So a lost answer is no conflict: the object is read, and has it.

        Raises:
          ConflictError: there is an object with another content.
          LakeError: the object store gave no answer, or refuses.
        """
        return self._put_if(path, content, "create")

    def replace(self, path: str, content: bytes, etag: str | None) -> str | None:
        """Write an object in place of the one with an etag, and return the new etag.

        Args:
          path: of the object.
          content: with a nonce, since some stores have the same etag for the same content.
          etag: of the object that was read.

        Raises:
          ConflictError: there is none, or it has another etag and another content.
          LakeError: the object store gave no answer, or refuses.
        """
        return self._put_if(path, content, {"e_tag": etag})

    def _put_if(self, path: str, content: bytes, mode: Any) -> str | None:  # noqa: ANN401
        try:
            with self._errors(path, "cannot be written"):
                done = obstore.put(self._store, path, content, mode=mode, use_multipart=False)
                return done["e_tag"]
        except ConflictError:
            found = self.get(path)
            if found is None or found.content != content:
                raise
            return found.meta.etag

    def upload(self, path: str, file: Path) -> int:
        """Write a local file as an object, in parts if it is large; return its size in bytes.

        Raises:
          LakeError: the object store gave no answer, or refuses. There is no object then.
          OSError: the file cannot be read.
        """
        size = file.stat().st_size
        with self._errors(path, "cannot be written"):
            obstore.put(self._store, path, file, max_concurrency=_MOST_CONNECTIONS)
        return size

    def open(self, path: str, *, whole: bool) -> pa.NativeFile:
        """Return an object for reading at any place.

        Args:
          path: of the object.
          whole: read it by one request, into memory.

        Raises:
          LakeError: there is none, the object store gave no answer, or refuses.
        """
        with self._errors(path, "cannot be read"):
            if whole:
                return pa.BufferReader(bytes(obstore.get(self._store, path).bytes()))
            size = obstore.head(self._store, path)["size"]
            return pa.PythonFile(_Ranges(self._store, path, size), "r")

    def list(self, prefix: str) -> Sequence[Meta]:
        """Return what is below a folder, by path.

        Raises:
          LakeError: the object store gave no answer, or refuses.
        """
        with self._errors(prefix, "cannot be listed"):
            found: Iterable[Any] = obstore.list(self._store, f"{prefix}/").collect()
            return sorted(map(_meta, found), key=lambda one: one.path)

    def delete(self, paths: Iterable[str]) -> None:
        """Remove objects; one that is not there counts as removed.

        Raises:
          LakeError: the object store gave no answer, or refuses.
        """
        for path in paths:
            with self._errors(path, "cannot be deleted"), contextlib.suppress(FileNotFoundError):
                obstore.delete(self._store, path)

    def now(self) -> float:
        """Return the object store's time, which is that of an object that is written for it.

        Returns:
          seconds since 1970, up to a second too low on S3.

        Raises:
          LakeError: the object store gave no answer, or refuses to write.
        """
        path = f"{SCRATCH}/{secrets.token_hex(16)}.time"
        self.put(path, b"The time of this object is the time of the object store.\n")
        try:
            found = self.get(path)
        finally:
            self.discard([path])
        if found is None:
            raise LakeError(f"{self.url}/{path}: was written, and is not there")
        return found.meta.modified

    def discard(self, paths: Iterable[str]) -> None:
        """Remove scratch objects if it can be done; `sweep` removes what stays."""
        with contextlib.suppress(LakeError):
            self.delete(paths)

    def sweep(self, before: float, on_step: OnStep = ignore_step) -> int:
        """Remove scratch objects that were last written before a time of the object store.

        Returns:
          how many were removed.

        Raises:
          LakeError: the object store gave no answer, or refuses.
        """
        on_step(Step("removing scratch objects"))
        old = [one.path for one in self.list(SCRATCH) if one.modified < before]
        self.delete(old)
        return len(old)

    def _errors(self, path: str, what: str) -> contextlib.AbstractContextManager[None]:
        return lake_errors(f"{self.url}/{path}: {what}")


class _Ranges(io.RawIOBase):
    """An object as a file; each read is one request. (obstore's own reader has no `closed`.)."""

    def __init__(self, store: "S3Store | LocalStore", path: str, size: int) -> None:
        self._store, self._path, self._size = store, path, size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._size, self._at + size)
        if end <= self._at:
            return b""
        content = bytes(obstore.get_range(self._store, self._path, start=self._at, end=end))
        self._at += len(content)
        return content


def _meta(answer: Any) -> Meta:  # noqa: ANN401 - a dictionary of obstore
    modified: datetime = answer["last_modified"]
    return Meta(answer["path"], answer["size"], modified.timestamp(), answer["e_tag"])
