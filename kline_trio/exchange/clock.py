"""What time it is on the exchange, by its own words alone."""

import attrs

__all__ = ["ExchangeClock"]

_BELIEVED_STEP_MS = 3_600_000
"""A frame that claims more than an hour since the last one must be confirmed."""


@attrs.define(eq=False)
class ExchangeClock:
    """The latest time that a market has told; it never runs on by itself, and never back.

    So a wrong local clock can do no harm, and an exchange whose time runs 600 times faster, or
    stands years away, is recorded like any other.
    """

    now_ms: int | None = attrs.field(init=False, default=None)
    """None until the time endpoint has answered once."""
    first_heard_ms: int | None = attrs.field(init=False, default=None)
    """What the first frame told, whether or not it was believed."""
    is_doubted: bool = attrs.field(init=False, default=False)
    """Whether frames tell of a time that the time endpoint should confirm."""

    def hear(self, event_time_ms: int) -> None:
        """A valid frame had this event time."""
        if self.first_heard_ms is None:
            self.first_heard_ms = event_time_ms
        if self.now_ms is None or event_time_ms > self.now_ms + _BELIEVED_STEP_MS:
            self.is_doubted = True
        elif event_time_ms > self.now_ms:
            self.now_ms = event_time_ms

    def confirm(self, time_ms: int) -> None:
        """The time endpoint said this."""
        self.now_ms = max(time_ms, self.now_ms or 0)
        self.is_doubted = False
