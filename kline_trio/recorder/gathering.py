"""One line of the log for what happens to many within a short while."""

import math
from collections.abc import Callable, Collection, Mapping

import attrs
import trio

__all__ = ["Gathered", "some"]

_SAY_SECONDS = 5.0
_SHOWN_NAMES = 10


@attrs.define(eq=False)
class Gathered:
    """Says the first of a kind at once, and what follows within some seconds in one line.

    It has no task: its owner calls `flush`, at `due_at` or now and then, and `close` at the end.
    """

    say: Callable[[Mapping[str, int], str], None]
    """Takes the names, each with how often, and what was told of the last one."""
    _waiting: dict[str, int] = attrs.field(init=False, factory=dict)
    _detail: str = attrs.field(init=False, default="")
    _quiet_until: float = attrs.field(init=False, default=-math.inf)

    @property
    def due_at(self) -> float:
        """When something is to be said; infinity if nothing waits."""
        return self._quiet_until if self._waiting else math.inf

    def add(self, name: str, detail: str = "", count: int = 1) -> None:
        """It happened to this one."""
        self._waiting[name] = self._waiting.get(name, 0) + count
        self._detail = detail
        self.flush()

    def flush(self) -> None:
        """Say what waits, if it has waited long enough."""
        if trio.current_time() >= self.due_at:
            self.close()

    def close(self) -> None:
        """Say what waits."""
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            self._quiet_until = trio.current_time() + _SAY_SECONDS
            self.say(waiting, self._detail)


def some(names: Collection[str]) -> str:
    """Return the names, or the first of them and how many more there are."""
    shown = ", ".join(list(names)[:_SHOWN_NAMES])
    more = len(names) - _SHOWN_NAMES
    return f"{shown} and {more:,} more" if more > 0 else shown
