"""What a connection is owed of a replay, and how scripted faults change the timeline."""

from bisect import bisect_left
from collections.abc import Callable, Sequence

import attrs

from kline_trio.simulator.calendar import next_open_ms
from kline_trio.simulator.faults import LateClose, OmitClose, RepeatClose, ReviseClose
from kline_trio.simulator.feed import Event
from kline_trio.simulator.frames import kline_event
from kline_trio.simulator.quotes import first_version
from kline_trio.simulator.record import Happened, Record
from kline_trio.simulator.replay import Frame
from kline_trio.simulator.script import Script

__all__ = ["ReplayFeed", "with_faults"]


class ReplayFeed:
    """One connection's place in the timeline of its market; see `Feed`.

    Args:
        frames: The market's frames by time.
        now_ms: Exchange time of the connection; what lies before it is never sent.
        on_subscribed: Told each stream that is subscribed.
        record: Where scripted faults are noted when their frame is due.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        now_ms: int,
        on_subscribed: Callable[[str], None],
        record: Record,
    ) -> None:
        self._frames = frames
        self._place = bisect_left(frames, now_ms, key=lambda frame: frame.due_ms)
        self._streams: dict[str, int] = {}
        self._on_subscribed = on_subscribed
        self._record = record

    def subscribe(self, stream: str, now_ms: int) -> None:
        """See `Feed`."""
        self._streams[stream] = now_ms
        self._on_subscribed(stream)

    def unsubscribe(self, stream: str) -> None:
        """See `Feed`."""
        self._streams.pop(stream, None)

    def next_due_ms(self) -> int | None:
        """See `Feed`; every frame of the market counts, subscribed or not."""
        return self._frames[self._place].due_ms if self._place < len(self._frames) else None

    def take(self, now_ms: int, limit: int) -> list[Event]:
        """See `Feed`; frames are never left out, however late the connection is."""
        events: list[Event] = []
        while self._place < len(self._frames) and len(events) < limit:
            frame = self._frames[self._place]
            if frame.due_ms > now_ms:
                break
            self._place += 1
            # A connection that lags asks for what was due before it subscribed.
            if self._streams.get(frame.stream, frame.due_ms + 1) <= frame.due_ms:
                if frame.fault is not None:
                    self._note(frame, frame.fault)
                if not frame.omitted:
                    events.append(Event(frame.due_ms, frame.stream, _text(frame), frame.closes_ms))
        return events

    def _note(self, frame: Frame, fault: str) -> None:
        self._record.add(
            Happened(
                fault=fault,
                trade_type=frame.trade_type,
                stream=frame.stream,
                open_ms=frame.closes_ms,
                from_ms=frame.due_ms,
                until_ms=frame.due_ms,
            )
        )


def with_faults(frames: Sequence[Frame], script: Script) -> tuple[Frame, ...]:
    """Return the timeline of one market with the scripted faults of single closes in it."""
    changed: list[Frame] = []
    for frame in frames:
        fault = None
        if frame.closes_ms is not None:
            fault = script.close_fault(frame.stream, frame.closes_ms)
        if fault is None:
            changed.append(frame)
            continue
        marked = attrs.evolve(frame, fault=type(fault).__name__)
        match fault:
            case OmitClose():
                changed.append(attrs.evolve(marked, omitted=True))
            case LateClose(late_ms=late_ms):
                interval = frame.stream.rpartition("_")[2]
                end_ms = next_open_ms(interval, fault.open_ms)
                changed.append(attrs.evolve(marked, due_ms=end_ms + late_ms))
            case RepeatClose(after_ms=after_ms):
                changed += [frame, attrs.evolve(marked, due_ms=frame.due_ms + after_ms)]
            case ReviseClose(after_ms=after_ms):
                earlier = frame.kline and first_version(frame.kline)
                changed.append(attrs.evolve(frame, kline=earlier))
                changed.append(attrs.evolve(marked, due_ms=frame.due_ms + after_ms))
    return tuple(sorted(changed, key=lambda frame: frame.due_ms))


def _text(frame: Frame) -> str:
    if frame.kline is None:
        return frame.text
    return kline_event(
        frame.kline,
        frame.due_ms,
        closed=frame.closes_ms is not None,
        blanks=frame.trade_type == "usdt_futures",
    )
