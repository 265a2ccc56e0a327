"""What a connection tells of itself while it lives, and how it ended: values, and nothing else."""

import enum

import attrs

from kline_trio.exchange.protocol import ContractChanged

__all__ = [
    "BadFrame",
    "CloseReason",
    "ConnectionEvent",
    "Disconnected",
    "Heard",
    "Ready",
    "RefusedStream",
    "ShutdownAnnounced",
    "SilentStreams",
]


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
    """How a connection's life ended."""

    why: CloseReason
    detail: str
    status: int | None = None
    """The HTTP status of a refusal."""
    retry_after_seconds: float | None = None
    """What a refusal asked us to wait."""
    heard: bool = False
    """Whether at least one valid candle came, closed or forming."""


@attrs.frozen
class Heard:
    """The first valid candle of this connection has come, closed or forming."""


@attrs.frozen
class Ready:
    """All of its streams deliver, from this event time on; streams without trades are believed."""

    event_time_ms: int


@attrs.frozen
class ShutdownAnnounced:
    """The server will end this connection soon, without saying when."""


@attrs.frozen
class BadFrame:
    """A frame that could not be taken, and why."""

    reason: str
    text: str | bytes


@attrs.frozen
class SilentStreams:
    """Streams that were acknowledged and then gave nothing for so long."""

    names: tuple[str, ...]
    seconds: float


@attrs.frozen
class RefusedStream:
    """A stream that the exchange would not subscribe, and its words."""

    name: str
    message: str


ConnectionEvent = (
    Heard | Ready | ShutdownAnnounced | BadFrame | SilentStreams | RefusedStream | ContractChanged
)
"""What a connection tells of itself while it lives."""
