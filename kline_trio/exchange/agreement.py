"""Whether two witnesses give the same time, however fast it runs (pure)."""

from enum import Enum

import attrs

from kline_trio.interval import Span

_SAME_MS = 120_000
_ENOUGH = 4
"""Of four times in turn, a false one stands outside the order of the others."""


class Witness(Enum):
    """A source of the exchange's time."""

    FRAMES = "frames"
    ENDPOINT = "endpoint"
    CANDLES = "candles"


@attrs.define
class Agreement:
    """The times of two witnesses. They agree if their times are at most two minutes apart.

    On an exchange that runs faster, true time moves on by more than that between two requests.
    There the witnesses agree by turns, if no time is before the last one of the other: a frame that
    comes between two answers has a time between theirs, whether a day lasts a day or nine
    milliseconds. A false time has not: it is later than the next time of the other witness, or
    earlier than its last one.
    """

    _latest: dict[Witness, int] = attrs.field(init=False, factory=dict)
    _turns: list[tuple[Witness, Span]] = attrs.field(init=False, factory=list)
    """The last times by turns; of several in a row of one witness, the earliest."""

    def add(self, witness: Witness, time: Span) -> int | None:
        """Take in a witness's time, as a span: it is at least `from_ms`, and below `to_ms`.

        Return a time that has come by both witnesses; None if they do not agree yet.
        """
        self._latest[witness] = time.from_ms
        first_ms, last_ms = min(self._latest.values()), max(self._latest.values())
        if len(self._latest) > 1 and last_ms - first_ms <= _SAME_MS:
            return first_ms
        return self._agree_by_turns(witness, time)

    def _agree_by_turns(self, witness: Witness, time: Span) -> int | None:
        turns = self._turns
        if turns and turns[-1][0] is witness:
            if len(turns) > 1 and _is_before(time, turns[-2][1]):
                # The other's time contradicts two of its own: the next time shows the false one.
                turns.pop()
            elif time.from_ms < turns[-1][1].from_ms:
                turns[-1] = (witness, time)
            return None
        if turns and _is_before(time, turns[-1][1]):
            # It may only have been under way for longer.
            return None
        turns.append((witness, time))
        if len(turns) < _ENOUGH:
            return None
        (_, first), (_, second), *_ = turns
        del turns[0]
        return max(first.from_ms, second.from_ms)


def _is_before(time: Span, other: Span) -> bool:
    return time.to_ms <= other.from_ms
