"""What a recorder learns from the presences in a lake: copies, sharers, and moved symbols (pure).

A presence counts as long as it is not older than a limit, by the object store's clock.
"""

from collections.abc import Collection, Sequence

from kline_trio.lake.presence import Presence, Seen, present_copies
from kline_trio.sharding import Neighbours, owner


def neighbours_of(
    mine: Presence,
    every: Sequence[Seen],
    now: float,
    limit_seconds: float,
    handover_seconds: float,
) -> Neighbours:
    """Return what a recorder's presence and those of all say.

    Args:
      mine: the recorder's own presence.
      every: all presences, its own included.
      now: the object store's time, in seconds since 1970.
      limit_seconds: an older presence does not count.
      handover_seconds: how long an owner has to hold a symbol before it is handed over.
    """
    living = [one.presence for one in every if one.age_seconds(now) <= limit_seconds]
    group = mine.address_group
    sharers = 0 if group is None else sum(one.address_group == group for one in living)
    others = [one for one in living if one.recorder != mine.recorder]
    moved = {
        market: _moved(mine, market, symbols, others, now - handover_seconds)
        for market, symbols in mine.held.items()
    }
    return Neighbours(
        copies=present_copies(every, mine.shard, now, limit_seconds),
        sharers=max(1, sharers),
        handed_over={market: symbols for market, symbols in moved.items() if symbols},
    )


def _moved(
    mine: Presence,
    market: str,
    symbols: Collection[str],
    others: Sequence[Presence],
    before: float,
) -> list[str]:
    """Return the symbols whose owner, another shard, has held them since before a time."""
    if mine.shard is None:
        return []
    moved = []
    for symbol in symbols:
        number = owner(market, symbol, mine.shard.count)
        if number == mine.shard.number:
            continue
        holders = [
            one
            for one in others
            if one.shard is not None
            and (one.shard.number, one.shard.count) == (number, mine.shard.count)
        ]
        times = [one.since(market, symbol) for one in holders]
        if any(since is not None and since <= before for since in times):
            moved.append(symbol)
    return moved
