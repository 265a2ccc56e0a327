"""Compares stores of earlier versions with their ledger, once, beside the recording."""

import logging
from datetime import UTC, datetime

from kline_trio.recorder.disk_space import retry_while_full
from kline_trio.recorder.environment import Storage
from kline_trio.storage.holdings import Holdings, LedgerComparison, ledger_comparisons

__all__ = ["heal"]

logger = logging.getLogger(__name__)

_MOST_LOOKS = 10
"""A merge between look and transaction makes a look worthless; merges are a minute apart."""


async def heal(storage: Storage) -> None:
    """Give every due candle that is neither stored nor in the ledger a gap row.

    An earlier version could lose such candles in silence. Each series is compared once; the
    journal keeps which ones were, in the transaction that writes their gap rows, so that a kill
    costs one series. At every start, pending candles that are stored become `filled`, too.

    Args:
      storage: without room behind the commit door, wait.

    Raises:
      DiskError: the store cannot be read or written, for another reason than want of room.
    """
    store, merge_door = storage.store, storage.merge_door
    compared = total = 0
    for some in await merge_door.run(ledger_comparisons, store.path, store.layout):
        for look in await merge_door.run(some.look):
            count = await _compare(storage, some, look)
            if count:
                total += count
                storage.gaps_named.ring()
        if some.is_first:
            compared += len(some.series)
    if compared:
        logger.info(
            "compared %s series with the ledger, once for this version: %s candles found missing",
            f"{compared:,}",
            f"{total:,}",
        )


async def _compare(storage: Storage, some: LedgerComparison, look: Holdings) -> int:
    """Write down what a look found; look again if the files have changed since.

    Returns:
      how many candles became gaps.
    """
    for _ in range(_MOST_LOOKS):
        count: int | None = await retry_while_full(
            storage.commit_door.run, storage.store.journal.compare, look
        )
        if count is not None:
            if count:
                _say(look, count)
            return count
        look = await storage.merge_door.run(some.look_again, look.series)
    logger.warning("%s: its files change too fast, it is compared at the next start", look.series)
    return 0


def _say(look: Holdings, count: int) -> None:
    holes = look.missing()
    logger.warning(
        "%s: %s candles found missing, neither stored nor in the ledger, in %s gaps from %s to %s;"
        " they are asked for now",
        look.series,
        f"{count:,}",
        f"{len(holes):,}",
        *(
            datetime.fromtimestamp(ms / 1_000, UTC).isoformat(" ", "seconds")
            for ms in (holes[0].from_ms, holes[-1].to_ms)
        ),
    )
