"""The log of events, of the ledger, the universe and a running recorder, newest first (pure).

The ledger keeps when a gap was found, and not when it was filled. So a gap that was filled between
two looks at the ledger has an event of that moment, and one that was filled before has one event,
at the time when it was found.
"""

import enum
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter

import attrs

from kline_trio.candle import Candle, Series
from kline_trio.counting import counted
from kline_trio.interval import Span, time_text
from kline_trio.listing import GONE, TRADING
from kline_trio.monitor.page.parameters import key_of
from kline_trio.quoting import shown
from kline_trio.storage.journal.ledger import Gap, Revision, State
from kline_trio.storage.universe import StatusChange

MOST_EVENTS = 1_000
EVENT_COLUMNS = ("id", "time_ms", "kind", "verdict", "trade_type", "series", "text")
_MOST_ALONE = 3
"""More gaps or symbols of a market in the same minute are one event."""
_MINUTE_MS = 60_000
_STATUS_LETTERS = 40
_MOST_NAMES = 5


class Kind(enum.StrEnum):
    """What happened. Programs may rely on these words."""

    GAP_FOUND = "gap_found"
    GAP_FILLED = "gap_filled"
    GAP_CLOSED = "gap_closed"
    DISCONNECTED = "disconnected"
    CONNECTED = "connected"
    LISTED = "listed"
    DELISTED = "delisted"
    STATUS = "status"
    REVISED = "revised"
    VERDICT = "verdict"
    STARTED = "started"


class Tone(enum.StrEnum):
    """How an event is meant."""

    INFO = "info"
    WARNING = "warning"
    BAD = "bad"
    GOOD = "good"


@attrs.frozen(kw_only=True)
class Event:
    """Something that happened."""

    id: str
    """The same event keeps its id."""
    time_ms: int
    """In exchange time."""
    kind: Kind
    tone: Tone
    trade_type: str | None = None
    series: str | None = None
    """The key of the series, if the event is of one alone."""
    text: str
    nth: int = 0
    """The order of events of one time."""

    def values(self) -> dict[str, object]:
        """Return the event as values of JSON, with the keys of `EVENT_COLUMNS`."""
        values = (
            self.id,
            self.time_ms,
            str(self.kind),
            str(self.tone),
            self.trade_type,
            self.series,
            self.text,
        )
        return dict(zip(EVENT_COLUMNS, values, strict=True))


_TONES = {Kind.GAP_FOUND: Tone.WARNING, Kind.GAP_FILLED: Tone.GOOD, Kind.GAP_CLOSED: Tone.BAD}
_STATES = {
    State.PENDING: Kind.GAP_FOUND,
    State.FILLED: Kind.GAP_FILLED,
    State.CLOSED: Kind.GAP_CLOSED,
}

GapPlace = tuple[Series, int]
"""Series and begin of a gap."""


@attrs.frozen
class Healing:
    """When gaps were seen to be filled or closed: differences of two looks at the ledger."""

    seen_ms: Mapping[GapPlace, int] = attrs.field(factory=dict)
    """In exchange time, by the place of each gap."""
    _pending: Mapping[Series, tuple[Span, ...]] = attrs.field(factory=dict)

    def after(self, gaps: Sequence[Gap], now_ms: Mapping[str, int]) -> "Healing":
        """Return what is known after another look.

        Args:
          gaps: the newest gaps of the ledger; older ones are forgotten.
          now_ms: the exchange's time, by market.
        """
        seen: dict[GapPlace, int] = {}
        pending: dict[Series, list[Span]] = defaultdict(list)
        for gap in gaps:
            place = (gap.series, gap.span.from_ms)
            if gap.state is State.PENDING:
                pending[gap.series].append(gap.span)
            elif place in self.seen_ms:
                seen[place] = self.seen_ms[place]
            elif gap.series.trade_type in now_ms and self._was_pending(gap):
                seen[place] = max(gap.first_seen_ms, now_ms[gap.series.trade_type])
        return Healing(seen, {one: tuple(spans) for one, spans in pending.items()})

    def _was_pending(self, gap: Gap) -> bool:
        return any(span.common_with(gap.span) for span in self._pending.get(gap.series, ()))


@attrs.frozen
class _GapEvent:
    """A gap at one moment of its life."""

    gap: Gap
    kind: Kind
    time_ms: int


def gap_events(
    gaps: Iterable[Gap],
    healing: Healing,
    before_ms: int | None = None,
    most: int = MOST_EVENTS,
    *,
    is_grouped: bool = True,
) -> list[Event]:
    """Return the newest events of gaps; many of one market and minute are one event.

    Args:
      gaps: in any order.
      healing: when they were seen to be filled or closed.
      before_ms: only earlier events; None: all.
      most: enough events; some more may be returned.
      is_grouped: False: each gap has events of its own.
    """
    groups: dict[tuple[object, ...], list[_GapEvent]] = defaultdict(list)
    for gap in gaps:
        for one in _life(gap, healing):
            if before_ms is None or one.time_ms < before_ms:
                minute = one.time_ms // _MINUTE_MS
                groups[one.kind, gap.series.trade_type, gap.reason, minute].append(one)
    # The words of thousands of events would take a tenth of a second.
    newest = sorted(groups.values(), key=lambda some: some[0].time_ms // _MINUTE_MS, reverse=True)
    found: list[Event] = []
    last_minute = None
    for members in newest:
        minute = members[0].time_ms // _MINUTE_MS
        if len(found) >= most and minute != last_minute:
            break
        last_minute = minute
        if is_grouped and len(members) > _MOST_ALONE:
            found.append(_group_event(members))
        else:
            found += map(_lone_event, members)
    return found


def _life(gap: Gap, healing: Healing) -> Iterator[_GapEvent]:
    healed_ms = healing.seen_ms.get((gap.series, gap.span.from_ms))
    kind = _STATES[gap.state]
    if healed_ms is None:
        yield _GapEvent(gap, kind, gap.first_seen_ms)
    else:
        yield _GapEvent(gap, Kind.GAP_FOUND, gap.first_seen_ms)
        yield _GapEvent(gap, kind, healed_ms)


def _lone_event(one: _GapEvent) -> Event:
    gap = one.gap
    candles = counted(gap.series.interval.count(gap.span), "candle")
    return Event(
        id=f"{one.kind}:{key_of(gap.series)}:{gap.span.from_ms}",
        time_ms=one.time_ms,
        kind=one.kind,
        tone=_TONES[one.kind],
        trade_type=gap.series.trade_type,
        series=key_of(gap.series),
        text=f"{gap.series}: {candles}, {span_text(gap.span)}: {_fate(one)}",
    )


def _group_event(members: list[_GapEvent]) -> Event:
    first = min(members, key=attrgetter("time_ms"))
    trade_type = first.gap.series.trade_type
    series = len({one.gap.series for one in members})
    candles = sum(one.gap.series.interval.count(one.gap.span) for one in members)
    whole = Span(
        min(one.gap.span.from_ms for one in members), max(one.gap.span.to_ms for one in members)
    )
    many = f"{counted(candles, 'candle')} of {series:,} series"
    minute = first.time_ms // _MINUTE_MS
    return Event(
        id=f"{first.kind}:{trade_type}:{first.gap.reason}:{minute}",
        time_ms=max(one.time_ms for one in members),
        kind=first.kind,
        tone=_TONES[first.kind],
        trade_type=trade_type,
        text=f"{trade_type}: {many}, {span_text(whole)}: {_fate(first)}",
    )


def _fate(one: _GapEvent) -> str:
    """Return why candles are absent, and what became of them."""
    match one.kind:
        case Kind.GAP_FILLED:
            by = "" if one.gap.filled_by is None else f" by {one.gap.filled_by}"
            return f"filled{by}; reason: {one.gap.reason}"
        case Kind.GAP_CLOSED:
            return f"absent for good; reason: {one.gap.reason}"
        case _:
            return f"absent; reason: {one.gap.reason}"


def span_text(span: Span) -> str:
    """Return a span in words; the date stands twice only if it differs."""
    begin, end = (time_text(ms).partition("+")[0] for ms in (span.from_ms, span.to_ms))
    day, _, clock = end.partition(" ")
    return f"{begin} to {clock if begin.startswith(day) and clock else end}"


def status_events(changes: Iterable[StatusChange]) -> list[Event]:
    """Return the events of the universe; many of one market, kind and moment are one event."""
    groups: dict[tuple[object, ...], list[StatusChange]] = defaultdict(list)
    for one in changes:
        groups[one.trade_type, one.time_ms, _kind_of(one)].append(one)
    found = []
    for members in groups.values():
        if len(members) > _MOST_ALONE:
            found.append(_symbols_event(members))
        else:
            found += map(_symbol_event, members)
    return found


def _kind_of(one: StatusChange) -> Kind:
    if one.status == GONE:
        return Kind.DELISTED
    return Kind.LISTED if one.was is None else Kind.STATUS


def _symbol_event(one: StatusChange) -> Event:
    kind, status = _kind_of(one), shown(one.status, _STATUS_LETTERS)
    match kind:
        case Kind.DELISTED:
            what = "gone from the exchange's list"
        case Kind.LISTED:
            what = "listed" if one.status == TRADING else f"listed: {status}"
        case _:
            what = f"{shown(one.was or '', _STATUS_LETTERS)} -> {status}"
    return Event(
        id=f"{kind}:{one.trade_type}/{one.symbol}:{one.time_ms}",
        time_ms=one.time_ms,
        kind=kind,
        tone=Tone.INFO,
        trade_type=one.trade_type,
        text=f"{one.trade_type} {shown(one.symbol, _STATUS_LETTERS)}: {what}",
    )


def _symbols_event(members: list[StatusChange]) -> Event:
    first, kind = members[0], _kind_of(members[0])
    words = {Kind.DELISTED: "gone from the exchange's list", Kind.LISTED: "listed"}
    names = [shown(one.symbol, _STATUS_LETTERS) for one in members[:_MOST_NAMES]]
    rest = len(members) - len(names)
    text = f"{', '.join(names)}{f' and {rest:,} more' if rest else ''}"
    what = f"{counted(len(members), 'symbol')} {words.get(kind, 'with another status')}"
    return Event(
        id=f"{kind}:{first.trade_type}:{first.time_ms}",
        time_ms=first.time_ms,
        kind=kind,
        tone=Tone.INFO,
        trade_type=first.trade_type,
        text=f"{first.trade_type}: {what}: {text}",
    )


def revision_event(one: Revision) -> Event:
    """Return the event of a revision, at the end of its candle: its arrival is not kept."""
    open_ms = one.older.open_time_ms
    differing = [
        name.replace("_", " ")
        for name in attrs.fields_dict(Candle)
        if getattr(one.older, name) != getattr(one.newer, name)
    ]
    kept = "newer" if one.is_newer_kept else "older"
    what = f"{', '.join(differing)} by {one.origin}; the {kept} value is kept"
    return Event(
        id=f"{Kind.REVISED}:{key_of(one.series)}:{open_ms}:{one.origin}",
        time_ms=one.series.interval.end_time_ms(open_ms),
        kind=Kind.REVISED,
        tone=Tone.INFO,
        trade_type=one.series.trade_type,
        series=key_of(one.series),
        text=f"{one.series}: {time_text(open_ms).partition('+')[0]} came with another {what}",
    )


def newest_first(
    parts: Iterable[Iterable[Event]],
    limit: int,
    before_ms: int | None = None,
) -> tuple[list[Event], bool]:
    """Return the newest events of several logs, and whether there are more.

    Args:
      parts: the logs, each in any order.
      limit: how many events at most.
      before_ms: only earlier ones; None: all.
    """
    every = [one for part in parts for one in part if before_ms is None or one.time_ms < before_ms]
    every.sort(key=lambda one: (one.time_ms, one.nth, one.id), reverse=True)
    return every[:limit], len(every) > limit
