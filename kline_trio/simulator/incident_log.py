"""The log of what really went wrong in the exchange."""

from collections import Counter, deque
from collections.abc import Mapping

import attrs

from kline_trio.simulator.faults import SpanFault

__all__ = ["Incident", "IncidentLog"]


@attrs.frozen
class Incident:
    """One fault that really struck, to compare a recorder's ledger with."""

    fault: str
    """Name of the fault's class."""
    trade_type: str
    from_ms: int
    until_ms: int
    """Exclusive end of a span; equal to ``from_ms`` for a moment."""
    stream: str | None = None
    """The stream hit, None where the whole connection or market was."""
    open_ms: int | None = None
    """Open time of the candle whose closing frame was hit or lost."""
    connection: int | None = None
    """Number of the connection hit, where it is one alone."""

    @classmethod
    def of(cls, fault: SpanFault) -> "Incident":
        """Return the incident of a fault with a span."""
        name, stream = type(fault).__name__, getattr(fault, "stream", None)
        return cls(name, fault.trade_type, fault.from_ms, fault.until_ms, stream)


class IncidentLog:
    """The incidents, each once however many connections it hit.

    Args:
        most: Keep this many, the newest, so that months of faults take no more memory.
    """

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self._incidents: deque[Incident] = deque()
        self._seen: set[Incident] = set()
        self._counts: Counter[str] = Counter()

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """The newest incidents, in the order in which they happened."""
        return tuple(self._incidents)

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each fault struck, by its name, forgotten incidents included."""
        return dict(self._counts)

    def add(self, incident: Incident) -> None:
        """Add an incident unless the log has it already."""
        if incident in self._seen:
            return
        self._seen.add(incident)
        self._incidents.append(incident)
        self._counts[incident.fault] += 1
        if len(self._incidents) > self._most:
            self._seen.remove(self._incidents.popleft())
