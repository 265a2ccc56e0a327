"""What time it is on the exchange, by its own words alone."""

import attrs

__all__ = ["ExchangeClock"]

_DAY_MS = 86_400_000
_BELIEVED_STEP_MS = 3_600_000
"""Whoever claims more than an hour since the last word must be confirmed by another."""


@attrs.define(eq=False)
class ExchangeClock:
    """The latest time that a market has told; it never runs on by itself, and never back.

    So a wrong local clock can do no harm, and an exchange whose time runs 600 times faster, or
    stands years away, is recorded like any other.
    """

    now_ms: int | None = attrs.field(init=False, default=None)
    """None until the time endpoint has answered, and another word agreed with it."""
    first_heard_ms: int | None = attrs.field(init=False, default=None)
    """What the first frame told, whether or not it was believed."""
    is_doubted: bool = attrs.field(init=False, default=False)
    """Whether frames tell of a time that the time endpoint should confirm."""
    _frame_ms: int | None = attrs.field(init=False, default=None)
    """What the last frame told, believed or not."""
    _answer_ms: int | None = attrs.field(init=False, default=None)
    """And what the time endpoint did."""

    @property
    def began_ms(self) -> int | None:
        """When it was first heard of: frames may tell the time before the endpoint does."""
        first_ms, now_ms = self.first_heard_ms, self.now_ms
        if now_ms is None or first_ms is None or not 0 <= now_ms - first_ms <= _DAY_MS:
            return now_ms
        return first_ms

    def hear(self, event_time_ms: int) -> None:
        """A valid frame had this event time."""
        if self.first_heard_ms is None:
            self.first_heard_ms = event_time_ms
        self._frame_ms = event_time_ms
        if self.now_ms is None or event_time_ms > self.now_ms + _BELIEVED_STEP_MS:
            self.is_doubted = True
        elif event_time_ms > self.now_ms:
            self.now_ms = event_time_ms

    def confirm(self, time_ms: int) -> bool:
        """The time endpoint said this; whether it is believed.

        One wrong answer, with nothing else to go by, would make hours due that are still to come.
        """
        witnesses = (self._frame_ms, self._answer_ms)
        self._answer_ms = time_ms
        is_leap = self.now_ms is None or time_ms > self.now_ms + _BELIEVED_STEP_MS
        if is_leap and not any(
            told_ms is not None and abs(time_ms - told_ms) <= _BELIEVED_STEP_MS
            for told_ms in witnesses
        ):
            return False
        self.now_ms = max(time_ms, self.now_ms or 0)
        self.is_doubted = False
        return True
