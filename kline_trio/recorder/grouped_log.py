"""One log line for what happens to many series, symbols or files within a few seconds."""

import math
from collections.abc import Callable, Collection, Mapping

import attrs
import trio

_GROUP_SECONDS = 5.0
_SHOWN_NAMES = 10


@attrs.define(eq=False)
class GroupedLog:
    """Writes the first event of a kind at once, and those of the next seconds as one line.

    It has no task: its owner calls `flush`, at `due_at` or now and then, and `close` at the end.
    """

    write: Callable[[Mapping[str, int], str], None]
    """Called with the names, each with its count, and the detail of the last one."""
    _waiting: dict[str, int] = attrs.field(init=False, factory=dict)
    _detail: str = attrs.field(init=False, default="")
    _quiet_until: float = attrs.field(init=False, default=-math.inf)

    @property
    def due_at(self) -> float:
        """When a line is due, in local seconds; infinity if nothing waits."""
        return self._quiet_until if self._waiting else math.inf

    def add(self, name: str, detail: str = "", count: int = 1) -> None:
        """Count an event of this name, and write the line if it is due."""
        self._waiting[name] = self._waiting.get(name, 0) + count
        self._detail = detail
        self.flush()

    def flush(self) -> None:
        """Write the line if it is due."""
        if trio.current_time() >= self.due_at:
            self.close()

    def close(self) -> None:
        """Write the line at once if anything waits."""
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            self._quiet_until = trio.current_time() + _GROUP_SECONDS
            self.write(waiting, self._detail)


def first_names(names: Collection[str]) -> str:
    """Return the names, or the first ten of them and the number of the others."""
    shown = ", ".join(list(names)[:_SHOWN_NAMES])
    more = len(names) - _SHOWN_NAMES
    return f"{shown} and {more:,} more" if more > 0 else shown
