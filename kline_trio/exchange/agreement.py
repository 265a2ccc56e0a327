"""Whether two witnesses tell the same time, however fast it runs (pure)."""

from enum import Enum

import attrs

from kline_trio.interval import Span

__all__ = ["Agreement", "Witness"]

_SAME_MS = 120_000
_ENOUGH = 4
"""Of so many times in turn, one that is a lie stands outside the others' order."""


class Witness(Enum):
    """Who tells the time of an exchange."""

    FRAMES = "frames"
    ENDPOINT = "endpoint"
    CANDLES = "candles"


@attrs.define
class Agreement:
    """What two witnesses have told: they agree if their times are two minutes apart, or less.

    On an exchange that runs faster, what is true goes on by more than that between two questions.
    There they agree by turns, each time not before the one that was told last: a frame that was
    heard between two answers has a time between theirs, whether a day lasts a day or nine
    milliseconds. A lie has not: it is later than what the other witness tells next, or earlier than
    what it told last.
    """

    _latest: dict[Witness, int] = attrs.field(init=False, factory=dict)
    _told: list[tuple[Witness, Span]] = attrs.field(init=False, factory=list)
    """The last ones; of several that a witness told in a row, the earliest."""

    def tell(self, witness: Witness, time: Span) -> int | None:
        """Take in what a witness tells, after all that was told before.

        Args:
          witness: one of the two.
          time: when it is, at the least and (exclusive) at the most.

        Returns:
          A time that has come, by what both have told; None if they do not agree yet.
        """
        self._latest[witness] = time.from_ms
        first_ms, last_ms = min(self._latest.values()), max(self._latest.values())
        if len(self._latest) > 1 and last_ms - first_ms <= _SAME_MS:
            return first_ms
        return self._tell_by_turns(witness, time)

    def _tell_by_turns(self, witness: Witness, time: Span) -> int | None:
        told = self._told
        if told and told[-1][0] is witness:
            if len(told) > 1 and _is_before(time, told[-2][1]):
                # The other's word stands against two of its own: which is the lie comes out next.
                told.pop()
            elif time.from_ms < told[-1][1].from_ms:
                told[-1] = (witness, time)
            return None
        if told and _is_before(time, told[-1][1]):
            # It may only have been under way for longer.
            return None
        told.append((witness, time))
        if len(told) < _ENOUGH:
            return None
        (_, first), (_, second), *_ = told
        del told[0]
        return max(first.from_ms, second.from_ms)


def _is_before(time: Span, other: Span) -> bool:
    return time.to_ms <= other.from_ms
