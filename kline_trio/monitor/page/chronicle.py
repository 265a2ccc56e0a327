"""What a running recorder went through: events from the differences of its snapshots (pure)."""

from collections import deque
from collections.abc import Mapping, Sequence

import attrs

from kline_trio.counting import counted
from kline_trio.duration import duration_text
from kline_trio.monitor.health import Health, Verdict
from kline_trio.monitor.page.event_log import MOST_EVENTS, Event, Kind, Tone
from kline_trio.recorder.statistics import ConnectionStatistics, Statistics

_START_SECONDS = 60.0
"""If the exchange's time is not known for so long, the local clock labels the events."""
_TONES = {Verdict.OK: Tone.GOOD, Verdict.DEGRADED: Tone.WARNING, Verdict.BAD: Tone.BAD}


@attrs.frozen
class _Place:
    """A connection's place, over all connections that have it one after the other."""

    trade_type: str
    ends: int
    """How many connections have ended by themselves."""
    is_delivering: bool
    last_end: str | None


@attrs.define
class _Outage:
    """A place that delivers nothing."""

    event: Event
    ends_before: int
    began_at: float


@attrs.define(eq=False)
class Chronicle:
    """The events of one recorder since its start; the oldest are forgotten."""

    version: int = attrs.field(init=False, default=0)
    """Another number after each change."""
    _events: deque[Event] = attrs.field(init=False, factory=lambda: deque(maxlen=MOST_EVENTS))
    _places: dict[str, _Place] = attrs.field(init=False, factory=dict)
    _outages: dict[str, _Outage] = attrs.field(init=False, factory=dict)
    _verdict: Verdict | None = attrs.field(init=False, default=None)
    _now_ms: int | None = attrs.field(init=False, default=None)

    @property
    def events(self) -> Sequence[Event]:
        """The events, in no promised order."""
        return tuple(self._events)

    def look(self, found: Statistics, health: Health, now: float) -> None:
        """Take a snapshot, and note what has changed since the one before.

        Args:
          found: the snapshot.
          health: the verdict on it.
          now: when it was made, by Trio's clock.
        """
        now_ms = exchange_now_ms(found)
        if now_ms is None and self._now_ms is None:
            if found.process.uptime_seconds < _START_SECONDS:
                return
            now_ms = round(found.wall_time * 1_000)
        if now_ms is not None:
            self._now_ms = max(now_ms, self._now_ms or 0)
        if self._verdict is None:
            text = f"The recorder runs: kline_trio {found.version}, pid {found.process.pid}"
            self._add(Kind.STARTED, Tone.INFO, text, subject=str(found.process.pid))
        self._look_at_verdict(health)
        places = _places(found)
        for name, place in places.items():
            self._look_at_place(name, place, now)
        self._places.update(places)

    def _look_at_verdict(self, health: Health) -> None:
        before, self._verdict = self._verdict, health.verdict
        if before is None and health.verdict is Verdict.OK:
            return
        if before is not health.verdict:
            why = "; ".join(one.text for one in health.reasons[:2])
            text = f"Health is {health.verdict}{': ' if why else ''}{why}"
            self._add(Kind.VERDICT, _TONES[health.verdict], text)

    def _look_at_place(self, name: str, place: _Place, now: float) -> None:
        before = self._places.get(name)
        outage = self._outages.get(name)
        if before is not None and place.ends > before.ends:
            if outage is None:
                text = f"{name}: the connection ended: {place.last_end}"
                tone = Tone.INFO if place.is_delivering else Tone.WARNING
                event = self._add(
                    Kind.DISCONNECTED, tone, text, trade_type=place.trade_type, subject=name
                )
                if not place.is_delivering:
                    self._outages[name] = _Outage(event, before.ends, now)
            else:
                ends = counted(place.ends - outage.ends_before, "connection")
                text = f"{name}: {ends} ended, the last: {place.last_end}"
                self._replace(outage, attrs.evolve(outage.event, text=text))
        elif outage is not None and place.is_delivering:
            seconds = duration_text(now - outage.began_at)
            text = f"{name}: a connection delivers again, after {seconds}"
            self._add(Kind.CONNECTED, Tone.GOOD, text, trade_type=place.trade_type, subject=name)
            del self._outages[name]

    def _add(
        self,
        kind: Kind,
        tone: Tone,
        text: str,
        *,
        trade_type: str | None = None,
        subject: str = "",
    ) -> Event:
        assert self._now_ms is not None
        self.version += 1
        event = Event(
            id=f"{kind}:{subject}:{self._now_ms}:{self.version}",
            time_ms=self._now_ms,
            kind=kind,
            tone=tone,
            trade_type=trade_type,
            text=text,
            nth=self.version,
        )
        self._events.append(event)
        return event

    def _replace(self, outage: _Outage, event: Event) -> None:
        self.version += 1
        for place, one in enumerate(self._events):
            if one is outage.event:
                self._events[place] = event
        outage.event = event


def exchange_now_ms(found: Statistics) -> int | None:
    """Return the latest exchange time of all markets; None: none is known."""
    return max((one.exchange_ms for one in found.markets if one.exchange_ms), default=None)


def _places(found: Statistics) -> Mapping[str, _Place]:
    by_name: dict[str, tuple[str, list[ConnectionStatistics]]] = {}
    for market in found.markets:
        for one in market.listener.connections:
            by_name.setdefault(one.name, (market.trade_type, []))[1].append(one)
    return {
        name: _Place(
            trade_type,
            max(one.reconnects for one in some),
            any(one.is_delivering for one in some),
            max(some, key=lambda one: one.reconnects).last_end,
        )
        for name, (trade_type, some) in by_name.items()
    }
