"""Which connections one market should have now, and when one takes another's place (pure).

The streams are dealt out to shards, no more to each than fit on a connection. A shard has as many
seats as there are to be connections for each of its streams, and a seat always has a life: one
connection, from its dial to its end. A seat's next life is begun while the one before still
delivers, and takes over when both have delivered the same stretch of the exchange's time. So
splitting, redundancy, reconnecting and rolling over are one mechanism.

Times in seconds are local and monotonic, times in milliseconds the exchange's.
"""

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import attrs

from kline_trio.candle import Series

__all__ = ["ConnectionHandle", "ConnectionPool", "Dials", "Plan", "Shard", "Slot"]

_OVERLAP_MS = 35_000
"""For so long both lives deliver. Closes have come up to 30 s late (nautilus_trader#1705), and one
that was late on the older connection may have come before the newer one was there."""
_LONGEST_OVERLAP_SECONDS = 120.0
"""Where the older one's time does not go on."""
_DIAL_SPACING_SECONDS = 0.5
"""Between two dials of a market; its first need not wait for other markets."""
_SEAT_SPACING_SECONDS = 3.0
"""From one dial of a seat to its next at least, however it went."""
_WINDOW_SECONDS = 300.0
_DIALS_IN_A_WINDOW = 150
"""Half of what is allowed to an address in five minutes (Binance docs, "WebSocket Limits")."""
_MOST_LIVES = 2
"""Of one seat at the same time."""


@attrs.define(eq=False)
class ConnectionHandle:
    """One connection, from its dial to its end."""

    seat: "Slot"
    began_at: float
    ends_at: float
    """When another is to take its place."""
    nth: int
    """Which of the host's addresses it tries first, counted over the end from the first again."""
    host: int | None
    """Which of the hosts it is to; None: one of those that there were before."""

    is_heard: bool = False
    """Whether at least one valid candle came."""
    newest_ms: int = 0
    """The newest event time that it told."""
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
    """Which of the shard's connections, from 0 on."""
    lives: list[ConnectionHandle] = attrs.field(factory=list)
    """The oldest first."""
    failures: int = 0
    """How many lives in a row heard nothing."""
    stalls: int = 0
    """How many of those waited for data in vain."""
    host: int = 0
    """Which of the hosts is its turn, counted over the end; one that was heard is kept."""
    not_before: float = -math.inf
    """When it may next be dialled."""


@attrs.define(eq=False)
class Shard:
    """Streams that share their connections."""

    number: int
    streams: dict[str, Series]
    seats: list[Slot] = attrs.field(factory=list)


@attrs.define(eq=False)
class Dials:
    """When an address has dialled, and so when it may again.

    One for all markets: only spot says how many dials it allows an address, and nobody whether
    those of the futures are counted with them.
    """

    _moments: deque[float] = attrs.field(
        init=False, factory=lambda: deque(maxlen=_DIALS_IN_A_WINDOW)
    )

    def add(self, now: float) -> None:
        """It dials now."""
        self._moments.append(now)

    def next_at(self) -> float:
        """From when on it may dial again."""
        if len(self._moments) < _DIALS_IN_A_WINDOW:
            return -math.inf
        return self._moments[0] + _WINDOW_SECONDS


@attrs.frozen
class Plan:
    """What is to be done now."""

    begin: tuple[ConnectionHandle, ...]
    retire: tuple[ConnectionHandle, ...]
    again_at: float
    """When to ask again, if nothing happens before."""


@attrs.define(eq=False)
class ConnectionPool:
    """The shards of one market, and the lives on their seats."""

    streams_per_connection: int
    redundancy: int
    max_age_seconds: float
    dials: Dials
    """Shared with the other markets."""

    shards: list[Shard] = attrs.field(init=False, factory=list)
    _going: list[ConnectionHandle] = attrs.field(init=False, factory=list)
    """Lives without a seat, to be retired."""
    _dialled_at: float = attrs.field(init=False, default=-math.inf)

    def lives(self) -> Iterator[ConnectionHandle]:
        """All that have a seat."""
        for shard in self.shards:
            for seat in shard.seats:
                yield from seat.lives

    @property
    def is_split(self) -> bool:
        """Whether there are several shards."""
        return len(self.shards) > 1

    def streams(self) -> dict[str, Series]:
        """All that are wanted, by name."""
        return {name: one for shard in self.shards for name, one in shard.streams.items()}

    def want(self, streams: Mapping[str, Series]) -> tuple[dict[str, Shard], dict[str, Shard]]:
        """These streams are wanted, and no others; those that stay keep their shard.

        Returns:
          which were added, and to which shard; and which were taken out of which.
        """
        taken = {}
        for shard in self.shards:
            for name in [name for name in shard.streams if name not in streams]:
                del shard.streams[name]
                taken[name] = shard
        have = self.streams()
        new = [name for name in streams if name not in have]
        added = {}
        for name in new[: self._room()]:
            shard = min(self.shards, key=lambda one: len(one.streams))
            shard.streams[name] = streams[name]
            added[name] = shard
        for names in _dealt(new[len(added) :], self.streams_per_connection):
            shard = self._new_shard()
            shard.streams = {name: streams[name] for name in names}
            added |= dict.fromkeys(names, shard)
        for shard in [one for one in self.shards if not one.streams]:
            self.shards.remove(shard)
            self._unseat(shard.seats)
        return added, taken

    def move(self, name: str) -> tuple[Shard, Shard]:
        """Give a stream to another shard, a new one if need be; from which to which."""
        old = self.shard_of(name)
        others = [
            one
            for one in self.shards
            if one is not old and len(one.streams) < self.streams_per_connection
        ]
        new = min(others, key=lambda one: len(one.streams)) if others else self._new_shard()
        new.streams[name] = old.streams.pop(name)
        if not old.streams:
            self.shards.remove(old)
            self._unseat(old.seats)
        return old, new

    def shard_of(self, name: str) -> Shard:
        """The shard of a stream that is wanted."""
        return next(shard for shard in self.shards if name in shard.streams)

    def resize(self, redundancy: int) -> None:
        """Have so many connections for each stream from now on."""
        self.redundancy = redundancy
        for shard in self.shards:
            if len(shard.seats) > redundancy:
                shard.seats.sort(key=_seniority)
            for copy, seat in enumerate(shard.seats):
                seat.copy = copy
            self._unseat(shard.seats[redundancy:])
            del shard.seats[redundancy:]
            self._seat(shard)

    def begin_with_first_host(self) -> None:
        """There are other hosts than before."""
        for shard in self.shards:
            for seat in shard.seats:
                seat.host = 0
        for life in self.lives():
            life.host = None

    def renew(self) -> None:
        """Have another life take the place of each, as soon as may be."""
        for life in self.lives():
            life.ends_at = -math.inf

    def plan(self, now: float, chances: Iterator[float]) -> Plan:
        """What is to be done; it counts as done.

        Args:
          now: local seconds.
          chances: numbers from 0 to 1, so that lives that began together do not end together.
        """
        retire, self._going = self._going, []
        begin: list[ConnectionHandle] = []
        again_at = math.inf
        for seat in self._seats():
            retire += self._overtaken(seat, now)
            due = max(seat.not_before, self._next_dial_at(), _wants_life_at(seat))
            if due <= now:
                # Up to a tenth earlier.
                age = self.max_age_seconds * (1 - next(chances) / 10)
                life = ConnectionHandle(seat, now, now + age, _free_number(seat), seat.host)
                seat.lives.append(life)
                seat.not_before = now + _SEAT_SPACING_SECONDS
                self._dialled_at = now
                self.dials.add(now)
                begin.append(life)
                due = _wants_life_at(seat)
            again_at = min(again_at, due)
            if any(not life.is_retired for life in seat.lives[:-1]):
                again_at = min(again_at, seat.lives[-1].ready_at + _LONGEST_OVERLAP_SECONDS)
        for life in retire:
            life.is_retired = True
        return Plan(tuple(begin), tuple(retire), again_at)

    def end(self, life: ConnectionHandle, *, stalled: bool) -> None:
        """A life has ended: whether it had waited for data in vain, or not."""
        seat = life.seat
        if life in seat.lives:
            seat.lives.remove(life)
        if life.is_heard:
            seat.failures = seat.stalls = 0
        elif not life.is_retired:
            seat.failures += 1
            seat.stalls += stalled
            # The turn of a host passes once, however many lives it fails; and no life of before
            # takes the turn of another host.
            seat.host += life.host == seat.host

    def told_ms(self) -> int | None:
        """The event time up to which every shard that is heard at all has delivered."""
        told = [
            max(life.newest_ms for seat in shard.seats for life in seat.lives if life.delivers)
            for shard in self.shards
            if any(life.delivers for seat in shard.seats for life in seat.lives)
        ]
        return min(told, default=None)

    def _seats(self) -> list[Slot]:
        """All; those that have nothing first."""
        seats = [seat for shard in self.shards for seat in shard.seats]
        return sorted(seats, key=lambda seat: any(life.is_heard for life in seat.lives))

    def _overtaken(self, seat: Slot, now: float) -> list[ConnectionHandle]:
        """The lives whose place the newest can take without a hole."""
        newest = seat.lives[-1] if seat.lives else None
        if newest is None or newest.ready_ms is None:
            return []
        enough_ms = newest.ready_ms + _OVERLAP_MS
        patient = now < newest.ready_at + _LONGEST_OVERLAP_SECONDS
        return [
            life
            for life in seat.lives[:-1]
            if not life.is_retired
            and (min(life.newest_ms, newest.newest_ms) >= enough_ms or not patient)
        ]

    def _next_dial_at(self) -> float:
        return max(self._dialled_at + _DIAL_SPACING_SECONDS, self.dials.next_at())

    def _room(self) -> int:
        return sum(self.streams_per_connection - len(shard.streams) for shard in self.shards)

    def _new_shard(self) -> Shard:
        taken = {shard.number for shard in self.shards}
        number = next(number for number in range(1, len(taken) + 2) if number not in taken)
        shard = Shard(number, {})
        self._seat(shard)
        self.shards.append(shard)
        return shard

    def _seat(self, shard: Shard) -> None:
        shard.seats += [Slot(shard, copy) for copy in range(len(shard.seats), self.redundancy)]

    def _unseat(self, seats: Iterable[Slot]) -> None:
        self._going += [life for seat in seats for life in seat.lives]


def _wants_life_at(seat: Slot) -> float:
    """When a seat should have another life than those that it has."""
    lives = [life for life in seat.lives if not life.is_retired]
    if not lives:
        return -math.inf
    return lives[-1].ends_at if len(lives) < _MOST_LIVES else math.inf


def _seniority(seat: Slot) -> tuple[float, bool]:
    """What sorts first those that have delivered all of their streams for longest.

    One that was merely heard may not have asked for all streams yet, so it comes after those; one
    that is not heard comes last.
    """
    delivering = [life for life in seat.lives if life.delivers]
    ready = [life.ready_ms for life in delivering if life.ready_ms is not None]
    return min(ready, default=math.inf), not delivering


def _free_number(seat: Slot) -> int:
    """Of an address on which none of the shard's other copies is.

    How many addresses there are is not known here: a copy that fails again and again comes to each.
    """
    taken = {
        life.nth
        for other in seat.shard.seats
        for life in other.lives
        if other is not seat and not life.is_retired
    }
    return next(nth for nth in itertools.count(seat.copy + seat.failures) if nth not in taken)


def _dealt(names: list[str], most: int) -> list[list[str]]:
    """The names in as few parts as may be, none longer than that, all about as long."""
    parts = math.ceil(len(names) / most)
    return [
        names[len(names) * part // parts : len(names) * (part + 1) // parts]
        for part in range(parts)
    ]
