"""Prove that an object store keeps the conditions of a write, before anything is written to it.

A Delta table is a row of objects that are each made once. Some servers of S3 ignore the headers
If-None-Match and If-Match: two recorders would replace each other's commits, and rows would be
lost without an error. So the conditions are tried on scratch objects, alone and as a race.
"""

import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kline_trio.lake.errors import ConflictError, ForeignLakeError, LakeError
from kline_trio.lake.location import Location
from kline_trio.lake.objects import SCRATCH, Objects

_RACERS = 2
_RACES = 4
_ADVICE = (
    "recorders would overwrite each other's commits there: use a store that keeps If-None-Match"
    " and If-Match, such as Amazon S3 or SeaweedFS"
)
_Value = TypeVar("_Value")

_proven: set[tuple[str, str | None]] = set()
"""The lakes that this process has proven, by address and endpoint."""
_lock = threading.Lock()


def require_conditions(location: Location) -> None:
    """Prove a lake's object store, once in the life of a process.

    Raises:
      ForeignLakeError: the object store ignores the conditions of a write.
      DiskError: the lake is a folder on a network file system.
      LakeError: the object store gave no answer, or refuses.
    """
    place = (location.url, location.endpoint)
    with _lock:
        is_proven = place in _proven
    if not is_proven:
        prove(Objects.of(location))
        with _lock:
            _proven.add(place)


def prove(objects: Objects) -> None:
    """Prove that a lake's object store keeps the conditions of a write.

    A folder of this machine has no conditions but that of a new file, which its file system keeps.

    Raises:
      ForeignLakeError: the object store ignores them; the message says which one.
      LakeError: the object store gave no answer, or refuses.
    """
    paths = [f"{SCRATCH}/{secrets.token_hex(16)}.proof" for _ in range(1 + _RACES)]
    try:
        etag = _prove_create(objects, paths[0])
        if not objects.is_folder:
            _prove_replace(objects, paths[0], etag)
        for path in paths[1:]:
            _race(objects, path)
    finally:
        objects.discard(paths)


def _prove_create(objects: Objects, path: str) -> str | None:
    first = _content()
    etag = objects.create(path, first)
    if _is_accepted(lambda: objects.create(path, _content())):
        raise _ignores(objects, "If-None-Match", "a second write of the same object succeeded")
    _require_content(objects, path, first, "If-None-Match")
    return etag


def _prove_replace(objects: Objects, path: str, first_etag: str | None) -> None:
    second = _content()
    etag = objects.replace(path, second, first_etag)
    if etag is None or etag == first_etag:
        raise _ignores(objects, "If-Match", "an object has the same etag after its content changed")
    if _is_accepted(lambda: objects.replace(path, _content(), first_etag)):
        raise _ignores(objects, "If-Match", "a write with the etag of an old content succeeded")
    _require_content(objects, path, second, "If-Match")


def _race(objects: Objects, path: str) -> None:
    """Let several writers make the same object at once, and then replace it."""
    contents = [_content() for _ in range(_RACERS)]
    won = _at_once([_try(objects.create, path, one) for one in contents])
    etag = _require_one(objects, path, contents, won, "If-None-Match")
    if not objects.is_folder:
        contents = [_content() for _ in range(_RACERS)]
        won = _at_once([_try(objects.replace, path, one, etag) for one in contents])
        _require_one(objects, path, contents, won, "If-Match")


def _require_one(
    objects: Objects, path: str, contents: Sequence[bytes], won: Sequence[bool], header: str
) -> str | None:
    """Require that one writer of a race has won, and that its content stays; return the etag."""
    if not any(won):
        raise ConflictError(f"{objects.url}/{path}: no writer of a race succeeded: try again")
    if sum(won) != 1:
        how_many = f"{sum(won)} of {len(won)} writers that began at once succeeded"
        raise _ignores(objects, header, how_many)
    return _require_content(objects, path, contents[won.index(True)], header)


def _require_content(objects: Objects, path: str, content: bytes, header: str) -> str | None:
    found = objects.get(path)
    if found is None:
        raise LakeError(f"{objects.url}/{path}: was written, and is not there")
    if found.content != content:
        raise _ignores(objects, header, "a write that it refused was done all the same")
    return found.meta.etag


def _try(write: Callable[..., object], *arguments: object) -> Callable[[], bool]:
    return lambda: _is_accepted(lambda: write(*arguments))


def _is_accepted(write: Callable[[], object]) -> bool:
    try:
        write()
    except ConflictError:
        return False
    return True


def _at_once(jobs: Sequence[Callable[[], _Value]]) -> list[_Value]:
    """Run jobs in threads that begin in the same moment."""
    begin = threading.Barrier(len(jobs))

    def run(job: Callable[[], _Value]) -> _Value:
        begin.wait()
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def _content() -> bytes:
    # A nonce: the etag of some stores is the MD5 of the content.
    return f"kline_trio tries conditional writes: {secrets.token_hex(16)}\n".encode()


def _ignores(objects: Objects, header: str, how: str) -> ForeignLakeError:
    return ForeignLakeError(
        f"{objects.url}: this object store ignores the header {header} ({how}); {_ADVICE}"
    )
