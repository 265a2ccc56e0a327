"""The exchange's own account of what went wrong in fact."""

from collections import Counter, deque
from collections.abc import Mapping

import attrs

__all__ = ["Happened", "Record"]


@attrs.frozen(kw_only=True)
class Happened:
    """One thing that went wrong in fact, to compare a recorder's own account with."""

    fault: str
    """Name of the fault's class."""
    trade_type: str
    stream: str | None = None
    """The stream hit, None where the whole connection or market was."""
    open_ms: int | None = None
    """Open time of the candle whose closing frame was hit or lost."""
    connection: int | None = None
    """Number of the connection hit, where it is one alone; see `Connection`."""
    from_ms: int
    until_ms: int
    """Exclusive end of a span; equal to ``from_ms`` for a moment."""


class Record:
    """What really happened, each thing once however many connections it hit.

    Args:
        most: So many are kept, the newest; months of faults would be remembered for ever.
    """

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self._happened: deque[Happened] = deque()
        self._seen: set[Happened] = set()
        self._counts: Counter[str] = Counter()

    @property
    def happened(self) -> tuple[Happened, ...]:
        """The newest things, in the order in which they happened."""
        return tuple(self._happened)

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each fault struck, by its name, those forgotten included."""
        return dict(self._counts)

    def add(self, happened: Happened) -> None:
        """Note a thing unless it is noted already."""
        if happened in self._seen:
            return
        self._seen.add(happened)
        self._happened.append(happened)
        self._counts[happened.fault] += 1
        if len(self._happened) > self._most:
            self._seen.remove(self._happened.popleft())
