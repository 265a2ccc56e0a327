"""Looks regularly whether the store on the disk still is the one that the recorder holds."""

import trio

from kline_trio.recorder.environment import Storage

__all__ = ["guard"]

_SECONDS = 10.0
"""A commit looks too; this is for the time in which nothing is committed."""


async def guard(storage: Storage) -> None:
    """Compare the files that the store holds open with their names, until cancelled.

    Raises:
      StoreInUseError: the lock's file was deleted or replaced.
      DiskError: the journal was, or another program wrote to it.
    """
    while True:
        await trio.sleep(_SECONDS)
        await storage.commit_door.run(storage.store.check_held)
