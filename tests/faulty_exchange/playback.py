"""Faults of single closes in a replay."""

from collections.abc import Sequence

import attrs

from kline_trio.simulator.calendar import next_open_ms
from kline_trio.simulator.faults import Incident, IncidentLog, Script
from kline_trio.simulator.feed import Feed
from kline_trio.simulator.frames import Event
from kline_trio.simulator.replay import Frame

__all__ = ["FaultyReplayFeed", "Mark", "Marks", "with_faults"]


@attrs.frozen
class Mark:
    """What a scripted fault made of a frame."""

    fault: str
    """Name of the fault's class."""
    is_omitted: bool


Marks = dict[tuple[int, str, int | None], Mark]
"""By due time, stream and the open time of the candle that the frame closes."""


class FaultyReplayFeed:
    """A feed of a replay that leaves out the closes that a fault omits, and notes the faults."""

    def __init__(self, feed: Feed, trade_type: str, marks: Marks, log: IncidentLog) -> None:
        self.subscribe = feed.subscribe
        self.unsubscribe = feed.unsubscribe
        self.next_due_ms = feed.next_due_ms
        self._take = feed.take
        self._trade_type = trade_type
        self._marks = marks
        self._log = log

    def take(self, now_ms: int, limit: int) -> list[Event]:
        return [event for event in self._take(now_ms, limit) if self._is_sent(event)]

    def _is_sent(self, event: Event) -> bool:
        mark = self._marks.get((event.due_ms, event.stream, event.closes_ms))
        if mark is None:
            return True
        when = event.due_ms, event.due_ms
        hit = event.stream, event.closes_ms
        self._log.add(Incident(mark.fault, self._trade_type, *when, *hit))
        return not mark.is_omitted


def with_faults(frames: Sequence[Frame], script: Script, marks: Marks) -> list[Frame]:
    """Return the timeline of one market with the scripted faults of single closes in it.

    Args:
        frames: The timeline.
        script: The script.
        marks: Filled with what is to be noted when a changed frame is due.
    """
    changed: list[Frame] = []
    for frame in frames:
        fault = None
        if frame.closes_ms is not None:
            fault = script.close_fault(frame.stream, frame.closes_ms)
        if fault is None:
            changed.append(frame)
            continue
        end_ms = next_open_ms(frame.stream.rpartition("_")[2], fault.open_ms)
        dues_ms = fault.dues_ms(frame.due_ms, end_ms)
        for nth, due_ms in enumerate(dues_ms):
            kline = frame.kline and fault.sent(frame.kline, nth)
            changed.append(attrs.evolve(frame, due_ms=due_ms, kline=kline))
        if not dues_ms:
            changed.append(frame)
        last = changed[-1]
        marks[last.due_ms, last.stream, last.closes_ms] = Mark(type(fault).__name__, not dues_ms)
    return sorted(changed, key=lambda frame: frame.due_ms)
