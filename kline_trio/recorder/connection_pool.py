"""Which connections one market should have now, and when one replaces another (pure).

The streams are dealt out to shards, no more to each than fit on a connection. A shard has one slot
for each connection that is to carry its streams, and a slot always has a connection. A slot's next
connection is dialled while the one before still delivers, and replaces it when both have delivered
the same stretch of the exchange's time. So splitting, redundancy, reconnecting and rolling over are
one mechanism.

Times in seconds are local and monotonic. Times in milliseconds are the exchange's.
"""

import itertools
import math
from collections import deque
from collections.abc import Iterator, Mapping

import attrs

from kline_trio.candle import Series
from kline_trio.exchange.connection_events import Disconnected

_OVERLAP_MS = 35_000
"""Both connections deliver for this long. Closes have come up to 30 s late (nautilus_trader#1705):
a close that is late on the older connection may have been sent before the newer one was there."""
_LONGEST_OVERLAP_SECONDS = 120.0
"""Replace a connection after this time, even if its event time does not advance."""
_DIAL_SPACING_SECONDS = 0.5
"""Between two dials of a market. Other markets do not delay its first dial."""
_SLOT_SPACING_SECONDS = 3.0
"""The least time between two dials of a slot, whether the first succeeds or not."""
_WINDOW_SECONDS = 300.0
_DIALS_IN_A_WINDOW = 150
"""Half of what is allowed to an address in five minutes (Binance docs, "WebSocket Limits")."""
_MOST_CONNECTIONS = 2
"""The most connections of one slot at the same time."""


@attrs.define(eq=False)
class ConnectionHandle:
    """One connection, from its dial to its end."""

    slot: "Slot"
    began_at: float
    ends_at: float
    """When another connection is to replace it."""
    nth_address: int
    """Which of the host's addresses it tries first, modulo their number."""
    host: int | None
    """Index of its host; None: one of the hosts before a reconfiguration."""

    is_heard: bool = False
    """Whether at least one valid candle came."""
    newest_ms: int = 0
    """The newest event time that it delivered."""
    ready_ms: int | None = None
    """The event time from which on it delivers all of its streams."""
    ready_at: float = math.inf
    is_retired: bool = False

    @property
    def delivers(self) -> bool:
        """Whether it delivers something, as far as is known."""
        return self.is_heard and not self.is_retired


@attrs.define(eq=False)
class Slot:
    """A place for a connection that carries a shard's streams."""

    shard: "Shard"
    copy: int
    """Which of the shard's slots, from 0 on."""
    handles: list[ConnectionHandle] = attrs.field(factory=list)
    """Its connections, the oldest first."""
    failures: int = 0
    """How many connections in a row heard nothing."""
    stalls: int = 0
    """How many of those ended because no data came."""
    reconnects: int = 0
    """How many connections have ended by themselves."""
    last_end: Disconnected | None = None
    """How the last of those ended."""
    host: int = 0
    """Index of the host to dial next, modulo their number. A host that was heard is kept."""
    not_before: float = -math.inf
    """When it may next be dialled."""

    @property
    def dial_due_at(self) -> float:
        """When it should have one more connection."""
        living = [one for one in self.handles if not one.is_retired]
        if not living:
            return -math.inf
        return living[-1].ends_at if len(living) < _MOST_CONNECTIONS else math.inf


@attrs.define(eq=False)
class Shard:
    """Streams that share their connections."""

    number: int
    streams: dict[str, Series]
    slots: list[Slot] = attrs.field(factory=list)

    @property
    def handles(self) -> list[ConnectionHandle]:
        """The connections of all its slots."""
        return [one for slot in self.slots for one in slot.handles]


@attrs.define(eq=False)
class Dials:
    """Limits how often the markets together dial.

    One for all markets: only spot documents how many dials it allows an address, and it is not
    documented whether those of the futures count too.
    """

    sharers: int = 1
    """How many recorders share the address, and so the dials that it is allowed."""
    _moments: deque[float] = attrs.field(
        init=False, factory=lambda: deque(maxlen=_DIALS_IN_A_WINDOW)
    )

    def add(self, now: float) -> None:
        """Count a dial."""
        self._moments.append(now)

    def next_at(self) -> float:
        """Return when the next dial is allowed."""
        most = max(1, _DIALS_IN_A_WINDOW // self.sharers)
        if len(self._moments) < most:
            return -math.inf
        return self._moments[-most] + _WINDOW_SECONDS


@attrs.frozen
class Plan:
    """The connections to begin and to retire now."""

    begin: tuple[ConnectionHandle, ...]
    retire: tuple[ConnectionHandle, ...]
    again_at: float
    """When to plan again, if nothing happens before."""


@attrs.define(eq=False)
class ConnectionPool:
    """The shards of one market, and the connections of their slots."""

    streams_per_connection: int
    redundancy: int
    max_age_seconds: float
    dials: Dials
    """Shared with the other markets."""

    shards: list[Shard] = attrs.field(init=False, factory=list)
    _released: list[ConnectionHandle] = attrs.field(init=False, factory=list)
    """Connections whose slot is gone, to be retired."""
    _dialled_at: float = attrs.field(init=False, default=-math.inf)

    def handles(self) -> list[ConnectionHandle]:
        """Return the connections of all slots."""
        return [one for slot in self._slots() for one in slot.handles]

    def set_streams(
        self, streams: Mapping[str, Series]
    ) -> tuple[dict[str, Shard], dict[str, Shard]]:
        """Carry these streams from now on, and no others; those that stay keep their shard.

        Returns:
          the added streams, each with its shard; and the removed streams, each with its old shard.
        """
        removed = {}
        for shard in self.shards:
            for name in [name for name in shard.streams if name not in streams]:
                del shard.streams[name]
                removed[name] = shard
        have = {name for shard in self.shards for name in shard.streams}
        new = [name for name in streams if name not in have]
        free = sum(self.streams_per_connection - len(shard.streams) for shard in self.shards)
        added = {}
        for name in new[:free]:
            shard = min(self.shards, key=lambda one: len(one.streams))
            shard.streams[name] = streams[name]
            added[name] = shard
        for names in _split_evenly(new[len(added) :], self.streams_per_connection):
            shard = self._new_shard()
            shard.streams = {name: streams[name] for name in names}
            added |= dict.fromkeys(names, shard)
        self._drop_empty_shards()
        return added, removed

    def move(self, name: str) -> tuple[Shard, Shard]:
        """Give a stream to another shard, a new one if need be. Return the old and the new one."""
        old = self.shard_of(name)
        others = [
            one
            for one in self.shards
            if one is not old and len(one.streams) < self.streams_per_connection
        ]
        new = min(others, key=lambda one: len(one.streams)) if others else self._new_shard()
        new.streams[name] = old.streams.pop(name)
        self._drop_empty_shards()
        return old, new

    def shard_of(self, name: str) -> Shard:
        """Return the shard of a stream that the pool carries."""
        return next(shard for shard in self.shards if name in shard.streams)

    def resize(self, redundancy: int) -> None:
        """Have so many connections for each stream from now on."""
        self.redundancy = redundancy
        for shard in self.shards:
            if len(shard.slots) > redundancy:
                shard.slots.sort(key=_seniority)
            for copy, slot in enumerate(shard.slots):
                slot.copy = copy
            self._released += [one for slot in shard.slots[redundancy:] for one in slot.handles]
            del shard.slots[redundancy:]
            self._fill_slots(shard)

    def reset_hosts(self) -> None:
        """Begin with the first host again: the list of hosts has changed."""
        for slot in self._slots():
            slot.host = 0
        for handle in self.handles():
            handle.host = None

    def renew(self) -> None:
        """Have another connection replace each, as soon as possible."""
        for handle in self.handles():
            handle.ends_at = -math.inf

    def plan(self, now: float, chances: Iterator[float]) -> Plan:
        """Return the connections to begin and to retire now. The pool counts that as done.

        Args:
          now: local seconds.
          chances: numbers from 0 to 1, so that connections that began together do not end together.
        """
        retire, self._released = self._released, []
        begin: list[ConnectionHandle] = []
        again_at = math.inf
        # Those without data first.
        slots = sorted(self._slots(), key=lambda slot: any(one.is_heard for one in slot.handles))
        for slot in slots:
            retire += self._overtaken(slot, now)
            due = max(slot.not_before, self._next_dial_at(), slot.dial_due_at)
            if due <= now:
                # Up to a tenth earlier.
                age = self.max_age_seconds * (1 - next(chances) / 10)
                handle = ConnectionHandle(slot, now, now + age, _free_address(slot), slot.host)
                slot.handles.append(handle)
                slot.not_before = now + _SLOT_SPACING_SECONDS
                self._dialled_at = now
                self.dials.add(now)
                begin.append(handle)
                due = slot.dial_due_at
            again_at = min(again_at, due)
            if any(not one.is_retired for one in slot.handles[:-1]):
                again_at = min(again_at, slot.handles[-1].ready_at + _LONGEST_OVERLAP_SECONDS)
        for handle in retire:
            handle.is_retired = True
        return Plan(tuple(begin), tuple(retire), again_at)

    def end(self, handle: ConnectionHandle, *, stalled: bool) -> None:
        """Take in that a connection has ended, and whether it ended because no data came."""
        slot = handle.slot
        if handle in slot.handles:
            slot.handles.remove(handle)
        if handle.is_heard:
            slot.failures = slot.stalls = 0
        elif not handle.is_retired:
            slot.failures += 1
            slot.stalls += stalled
            # The slot passes a host once, however many connections to it fail. A failed connection
            # to an earlier host does not pass the present one.
            slot.host += handle.host == slot.host

    def delivered_ms(self) -> int | None:
        """Return the event time up to which all shards with data have delivered; None: no data."""
        delivering = ([one for one in shard.handles if one.delivers] for shard in self.shards)
        return min(
            (max(one.newest_ms for one in some) for some in delivering if some), default=None
        )

    def _slots(self) -> list[Slot]:
        return [slot for shard in self.shards for slot in shard.slots]

    def _overtaken(self, slot: Slot, now: float) -> list[ConnectionHandle]:
        """Return the connections that the slot's newest can replace without a hole."""
        newest = slot.handles[-1] if slot.handles else None
        if newest is None or newest.ready_ms is None:
            return []
        enough_ms = newest.ready_ms + _OVERLAP_MS
        is_overdue = now >= newest.ready_at + _LONGEST_OVERLAP_SECONDS
        return [
            one
            for one in slot.handles[:-1]
            if not one.is_retired
            and (min(one.newest_ms, newest.newest_ms) >= enough_ms or is_overdue)
        ]

    def _next_dial_at(self) -> float:
        return max(self._dialled_at + _DIAL_SPACING_SECONDS, self.dials.next_at())

    def _new_shard(self) -> Shard:
        taken = {shard.number for shard in self.shards}
        number = next(number for number in itertools.count(1) if number not in taken)
        shard = Shard(number, {})
        self._fill_slots(shard)
        self.shards.append(shard)
        return shard

    def _fill_slots(self, shard: Shard) -> None:
        shard.slots += [Slot(shard, copy) for copy in range(len(shard.slots), self.redundancy)]

    def _drop_empty_shards(self) -> None:
        self._released += [
            one for shard in self.shards if not shard.streams for one in shard.handles
        ]
        self.shards = [shard for shard in self.shards if shard.streams]


def _seniority(slot: Slot) -> tuple[float, bool]:
    """Sort first the slots that have delivered all of their streams for longest.

    A slot that was merely heard may not have asked for all streams yet, so it comes after those. A
    slot that is not heard comes last.
    """
    delivering = [one for one in slot.handles if one.delivers]
    ready = [one.ready_ms for one in delivering if one.ready_ms is not None]
    return min(ready, default=math.inf), not delivering


def _free_address(slot: Slot) -> int:
    """Return the number of an address that no connection of the shard's other slots uses.

    How many addresses there are is not known here: a slot that fails again and again tries each.
    """
    taken = {
        one.nth_address for one in slot.shard.handles if one.slot is not slot and not one.is_retired
    }
    return next(nth for nth in itertools.count(slot.copy + slot.failures) if nth not in taken)


def _split_evenly(names: list[str], most: int) -> list[list[str]]:
    """Split the names into the fewest parts of at most `most`, nearly equal in length."""
    parts = math.ceil(len(names) / most)
    return [
        names[len(names) * part // parts : len(names) * (part + 1) // parts]
        for part in range(parts)
    ]
