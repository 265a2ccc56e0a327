"""The events that a connection reports while it runs, and the reason of its end: plain values."""

import enum

import attrs

from kline_trio.exchange.protocol import ContractChanged, ServerShutdown


class CloseReason(enum.Enum):
    """Why a connection ended."""

    UNREACHABLE = "not reached"
    REFUSED = "refused"
    STALLED = "stalled"
    LOST = "lost"
    SHUTDOWN = "shut down by the server"
    RETIRED = "replaced"


@attrs.frozen
class Disconnected:
    """How a connection ended."""

    why: CloseReason
    detail: str
    status: int | None = None
    """The HTTP status of a refusal."""
    retry_after_seconds: float | None = None
    """The wait that a refusal asks for."""
    had_candle: bool = False
    """Whether at least one valid candle came, closed or forming."""

    def __str__(self) -> str:
        return f"{self.why.value}: {self.detail}"


@attrs.frozen
class FirstCandle:
    """The first valid candle of this connection came, closed or forming."""


@attrs.frozen
class Ready:
    """From this event time on all streams deliver. Quiet streams may have given nothing."""

    event_time_ms: int


@attrs.frozen
class BadFrame:
    """A frame that was refused, and why."""

    reason: str
    text: str | bytes


@attrs.frozen
class SilentStreams:
    """Streams that were acknowledged and then gave no frame for so long."""

    names: tuple[str, ...]
    seconds: float


@attrs.frozen
class RefusedStream:
    """A stream that the exchange refused, and its error message."""

    name: str
    message: str


ConnectionEvent = (
    FirstCandle
    | Ready
    | ServerShutdown
    | BadFrame
    | SilentStreams
    | RefusedStream
    | ContractChanged
)
"""An event that a connection reports while it runs."""
