"""The four seams between the recorder and the world, and the doors to its store.

Tests replace the seams, and so run months in seconds.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from random import Random
from typing import Any, TypeVar, TypeVarTuple

import attrs
import httpx2
import trio

from kline_trio.config import ConnectionConfig
from kline_trio.exchange.connection import Dial
from kline_trio.exchange.dialer import Dialer
from kline_trio.exchange.sieved_stream import SharedTimer
from kline_trio.recorder.connection_pool import Dials
from kline_trio.storage.store import Store

_Arguments = TypeVarTuple("_Arguments")
_Result = TypeVar("_Result")


@attrs.frozen(kw_only=True)
class Environment:
    """How the recorder reaches network, disk and clocks; the defaults are the real ones."""

    dial: Dial | None = None
    """Opens a stream to a WebSocket URL; None is the network."""
    http_transport: httpx2.AsyncBaseTransport | None = None
    """Carries REST requests; None is httpx2's own."""
    on_disk: Callable[..., Awaitable[Any]] = trio.to_thread.run_sync
    """Runs a job that touches the disk, away from the event loop. It never abandons a job: if
    cancelled, a job on the disk is whole, or was never begun."""
    wall_clock: Callable[[], float] = time.time
    """Seconds since 1970. A label only: the recorder decides nothing by it."""
    random: Random = attrs.field(factory=Random)
    """Jitter."""
    shared_timer: SharedTimer = attrs.field(factory=SharedTimer)
    """All connections pause together between reads."""
    dials: Dials = attrs.field(factory=Dials)
    """All markets share the dials that an address is allowed, in the time of one Trio run."""

    def dial_for(self, connection: ConnectionConfig) -> Dial:
        """Return the function that opens streams as a configuration says."""
        return self.dial or Dialer(ca_file=connection.ca_file, proxy=connection.proxy).dial

    def now(self) -> datetime:
        """Return the time of the wall clock, UTC."""
        return datetime.fromtimestamp(self.wall_clock(), UTC)


@attrs.define(eq=False)
class SerialExecutor:
    """A door to the disk: it runs one job at a time, each in a thread."""

    _on_disk: Callable[..., Awaitable[Any]]
    _one_at_a_time: trio.CapacityLimiter = attrs.field(
        init=False, factory=lambda: trio.CapacityLimiter(1)
    )
    _busy_since: float | None = attrs.field(init=False, default=None)

    @property
    def busy_seconds(self) -> float:
        """How long the door is held already; 0 if nobody holds it."""
        return 0.0 if self._busy_since is None else trio.current_time() - self._busy_since

    async def run(self, job: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> _Result:
        """Run a job and return its result. If cancelled, a job that has begun is finished first."""
        async with self.held() as run:
            result: _Result = await run(job, *arguments)
            return result

    @asynccontextmanager
    async def held(self) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
        """Hold the door while the body runs jobs by the yielded function.

        No other job runs between what the body computes and its jobs. So memory follows the disk,
        and a plan is not outdated when it is written.
        """
        async with self._one_at_a_time:
            self._busy_since = trio.current_time()
            try:
                yield self._on_disk
            finally:
                self._busy_since = None


@attrs.define(eq=False)
class RecurringEvent:
    """An event that can be set again and again."""

    event: trio.Event = attrs.field(init=False, factory=trio.Event)
    """Is set by the next ring."""

    def ring(self) -> None:
        """Wake all tasks that wait now."""
        self.event.set()
        self.event = trio.Event()


@attrs.frozen(eq=False)
class Storage:
    """An open store, and the two doors to it."""

    store: Store
    commit_door: SerialExecutor
    """For jobs that use the journal."""
    merge_door: SerialExecutor
    """For jobs that use the files only."""
    gaps_named: RecurringEvent = attrs.field(factory=RecurringEvent)
    """Rings when the ledger has new pending rows, or a span may be asked for again."""
