"""Renew a recorder's presence in the lake after a publication, and learn who else is there."""

import socket
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import attrs

from kline_trio import __version__
from kline_trio.lake.location import Location
from kline_trio.lake.neighbours import neighbours_of
from kline_trio.lake.objects import Objects
from kline_trio.lake.presence import (
    Presence,
    held_since,
    read_presence,
    read_presences,
    write_presence,
)
from kline_trio.lake.publish import unpublished_spans
from kline_trio.sharding import Neighbours, Shard
from kline_trio.storage.journal.reader import journal_view


@attrs.frozen(kw_only=True)
class Said:
    """What a recorder says of itself."""

    shard: Shard | None
    copies: int
    address_group: str | None
    series: int
    """How many series it records."""
    symbols: Mapping[str, Collection[str]]
    """Those that it records, by market."""
    limit_seconds: float
    """An older presence of another recorder does not count."""
    handover_seconds: float
    """How long another recorder has to hold a symbol before this one may give it up."""

    @classmethod
    def from_request(cls, request: Mapping[str, Any]) -> "Said":
        """Return what a request of `recorder/publisher.py` says."""
        shard = request["shard"]
        return cls(**{**request, "shard": None if shard is None else Shard.from_text(shard)})


def renew_presence(location: Location, store_path: Path, said: Said) -> Neighbours:
    """Write a recorder's presence, and return what the presences of all say.

    Args:
      location: the lake.
      store_path: of the recorder's store, whose journal knows the lake.
      said: what the recorder says of itself.

    Raises:
      LakeError: the object store cannot be used.
      KlineTrioError: the journal cannot be read.
    """
    with journal_view(store_path) as journal:
        state, found = journal.lake(), journal.unpublished()
    assert state is not None
    waiting = unpublished_spans(store_path, found)
    objects = Objects.of(location)
    before = read_presence(objects, state.recorder)
    local, now = time.time(), objects.now()
    mine = Presence(
        recorder=state.recorder,
        host=socket.gethostname(),
        version=__version__,
        shard=said.shard,
        copies=said.copies,
        address_group=said.address_group,
        published=now,
        unpublished=sum(
            one.interval.count(span) for one, spans in waiting.items() for span in spans
        ),
        series=said.series,
        held=held_since(said.symbols, {} if before is None else before.presence.held, now),
        clock_error_seconds=local - now,
    )
    write_presence(objects, mine)
    every = read_presences(objects)
    return neighbours_of(mine, every, now, said.limit_seconds, said.handover_seconds)
