"""What is opened around the work, and closed after it, whatever becomes of the work."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx2
import trio

from kline_trio.config import Config
from kline_trio.errors import StoreInUseError
from kline_trio.recorder.filling import Http, Storage
from kline_trio.recorder.seams import Door, Seams
from kline_trio.storage.store import Store

__all__ = ["lone_error_plain", "open_http", "open_store"]

_REST_SECONDS = 10.0
_CLOSE_SECONDS = 5.0


@asynccontextmanager
async def open_store(config: Config, seams: Seams, advice: str = "") -> AsyncIterator[Storage]:
    """Hold the store while the body runs.

    Raises:
      StoreInUseError: another process holds it; the advice goes behind its words.
      DiskError: it cannot be made, read or written.
    """
    commit_door, merge_door = Door(seams.on_disk), Door(seams.on_disk)
    try:
        store = await commit_door.run(Store.open, config.store.path, config.store.layout)
    except StoreInUseError as error:
        raise StoreInUseError(f"{error}{advice}") from None
    try:
        yield Storage(store, commit_door, merge_door)
    finally:
        # The deadline bounds the wait for the door; the job itself cannot be cut off.
        with trio.move_on_after(_CLOSE_SECONDS, shield=True):
            await commit_door.run(store.close)


@asynccontextmanager
async def open_http(config: Config, seams: Seams) -> AsyncIterator[Http]:
    """Ask over HTTP while the body runs."""
    # No proxy from the environment: the WebSockets could not follow.
    async with httpx2.AsyncClient(
        transport=seams.http_transport, timeout=_REST_SECONDS, trust_env=False
    ) as client:
        yield Http.of(config, client)


@contextmanager
def lone_error_plain() -> Iterator[None]:
    """Raise a lone error as itself: nurseries wrap even one error, once for each level."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, BaseExceptionGroup | trio.Cancelled):
            raise
        raise error from None
