"""Publish accepted candles to the lake, by a child process; `lake/worker.py` has its protocol.

The recorder never loads the lake's packages. It begins the process, watches its memory, and keeps
in the journal what has been published. Whatever fails is tried again later: candles wait in the
store, and recording goes on.
"""

import json
import logging
import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import trio

from kline_trio.candle import Series
from kline_trio.config.lake import LakeConfig
from kline_trio.counting import counted
from kline_trio.duration import duration_text
from kline_trio.interval import Span
from kline_trio.quoting import one_line
from kline_trio.recorder.disk_space import retry_while_full
from kline_trio.recorder.environment import RecurringEvent, Storage
from kline_trio.recorder.lake_process import WORKER, LakeProcess, PublishError, TooLargeError
from kline_trio.recorder.statistics import LakeStatistics
from kline_trio.recorder.upkeep import Upkeep
from kline_trio.sharding import Neighbours
from kline_trio.storage.catalog import last_end_ms
from kline_trio.storage.step import OnStep, Step, ignore_step

logger = logging.getLogger(__name__)

MOST_ROWS = 250_000
"""Candles of one commit. A process that needs too much memory is begun anew with half of it."""
_LEAST_ROWS = 10_000
_FIRST_SECONDS = 60.0
"""The first publication begins so long after the start, when the store has been looked through."""
_RETRY_SECONDS = 60.0
"""Before the first retry; each further wait is twice as long, up to the usual pause."""
_MOST_DOUBLINGS = 20
"""A wait of two years: `publish_seconds` is less."""


def retry_seconds(failures: int, most_seconds: float) -> float:
    """Return how long to wait after so many failures in a row."""
    # After weeks without a lake, 2 ** failures is no float any more.
    return min(most_seconds, _RETRY_SECONDS * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))


@attrs.define(eq=False)
class Publisher:
    """Publishes the candles of one store, each so many seconds and when asked."""

    storage: Storage
    lake: LakeConfig
    """With a url."""
    series: Callable[[], Sequence[Series]] = tuple
    """Returns the series that are recorded now."""
    on_neighbours: Callable[[Neighbours], None] = lambda _: None
    """Called with the recorders of the lake, after each publication."""
    command: Sequence[str] = WORKER

    upkeep: Upkeep = attrs.field(init=False)
    neighbours: Neighbours | None = attrs.field(init=False, default=None)
    """The recorders of the lake, as the last publication found them; None: not known yet."""
    rows: int = attrs.field(init=False, default=0)
    """How many candles were sent."""
    inserted: int = attrs.field(init=False, default=0)
    updated: int = attrs.field(init=False, default=0)
    publications: int = attrs.field(init=False, default=0)
    """How many have brought everything to the lake."""
    left: int | None = attrs.field(init=False, default=None)
    """How many candles of the publication at hand are still to come; None: not known yet."""
    problem: str | None = attrs.field(init=False, default=None)
    """Why the last publication failed; None if it did not."""
    _upkeep_fails_since: float | None = attrs.field(init=False, default=None)
    """By Trio's clock; None: the last one was good."""
    upkeep_problem: str | None = attrs.field(init=False, default=None)
    """Why the lake could not be looked after the last time; None if it could."""
    upkeeps: int = attrs.field(init=False, default=0)
    """How often the lake was looked after, well or not."""
    step: Step | None = attrs.field(init=False, default=None)
    """What the upkeep does now; None: none runs."""
    begun: int = attrs.field(init=False, default=0)
    """How many publications have begun."""
    ended: int = attrs.field(init=False, default=0)
    """How many have ended, well or not."""
    news: RecurringEvent = attrs.field(init=False, factory=RecurringEvent)
    """Rings when a part was published, and when a publication or an upkeep has ended."""
    _asked: RecurringEvent = attrs.field(init=False, factory=RecurringEvent)
    _wanted: int = attrs.field(init=False, default=0)
    """How many publications have to begin, since they were asked for."""
    _good_at: float = attrs.field(init=False, factory=trio.current_time)
    """When the last whole publication began, or this recorder, by Trio's clock."""
    _took_seconds: float = attrs.field(init=False, default=0.0)
    _most_rows: int = attrs.field(init=False, default=MOST_ROWS)
    _upkeep_at: float = attrs.field(init=False, default=-math.inf)
    """When the lake was last looked after, by Trio's clock."""
    _one_at_a_time: trio.Lock = attrs.field(init=False, factory=trio.Lock)

    def __attrs_post_init__(self) -> None:
        self.upkeep = Upkeep(self.storage, self.lake, self.command)

    async def run(self) -> None:
        """Publish again and again, until cancelled; look after the lake now and then.

        A failure is logged once, until it is over.
        """
        pause_seconds, failures = min(_FIRST_SECONDS, self.lake.publish_seconds), 0
        while True:
            with trio.move_on_after(pause_seconds):
                while self.begun >= self._wanted:
                    await self._asked.event.wait()
            was = self.problem
            try:
                await self.publish()
            except PublishError as error:
                failures += 1
                if str(error) != was:
                    logger.warning("lake: %s; candles wait in the store", error)
                pause_seconds = retry_seconds(failures, self.lake.publish_seconds)
            else:
                if failures:
                    logger.info("lake: publishing goes on")
                pause_seconds, failures = self.lake.publish_seconds, 0
                await self._keep_up()

    async def _keep_up(self) -> None:
        """Look after the lake if it is time. A failure is logged, and the next time tries again."""
        if trio.current_time() < self._upkeep_at + self.lake.upkeep_seconds:
            return
        was = self.upkeep_problem
        try:
            await self.look_after(compact=self.lake.compact)
        except PublishError as error:
            if str(error) != was:
                logger.warning("lake: upkeep: %s", error)

    async def look_after(self, *, compact: bool, on_step: OnStep = ignore_step) -> None:
        """Compact the lake if asked, and prune the store, as `Upkeep.run` does.

        Raises:
          PublishError: as of `publish`.
          DiskError: as of `publish`.
        """

        def show(step: Step) -> None:
            self.step = step
            self.news.ring()
            on_step(step)

        async with self._one_at_a_time:
            try:
                await self.upkeep.run(compact=compact, on_step=show)
            except PublishError as error:
                self.upkeep_problem = str(error)
                if self._upkeep_fails_since is None:
                    self._upkeep_fails_since = trio.current_time()
                raise
            finally:
                self.step = None
                self.upkeeps += 1
                self.news.ring()
        self.upkeep_problem = self._upkeep_fails_since = None
        self._upkeep_at = trio.current_time()

    def ask_upkeep(self) -> int:
        """Let `run` publish now, and then look after the lake. Return as `ask`."""
        self._upkeep_at = -math.inf
        return self.ask()

    def ask(self) -> int:
        """Let `run` publish now, or after what it does now.

        Return how many publications have ended when that one has.
        """
        self._wanted = self.begun + 1
        self._asked.ring()
        return self._wanted

    async def publish(self, on_part: Callable[[], None] = lambda: None) -> None:
        """Publish everything that is unpublished now.

        If cancelled, what was published so far is kept so in the journal, and the process ends.

        Args:
          on_part: called when a part has been published; `left` and the counts tell how much.

        Raises:
          PublishError: the lake or the process failed. It may be tried again.
          DiskError: the journal cannot be written, for another reason than want of space.
        """
        async with self._one_at_a_time:
            began, self.left = trio.current_time(), None
            rows, updated = self.rows, self.updated
            self.begun += 1
            try:
                await self._publish(on_part)
            except PublishError as error:
                self.problem = str(error)
                raise
            finally:
                self.left = None
                self.ended += 1
                self.news.ring()
            self.problem, self._good_at = None, began
            self.publications += 1
            self._took_seconds = trio.current_time() - began
            sent = counted(self.rows - rows, "candle")
            seconds = duration_text(self._took_seconds)
            changed = f", {self.updated - updated:,} replaced" if self.updated > updated else ""
            logger.info("lake: published %s in %s%s", sent, seconds, changed)

    def statistics(self) -> LakeStatistics:
        """Return what was published, and what fails."""
        return LakeStatistics(
            url=str(self.lake.url),
            publications=self.publications,
            behind_seconds=trio.current_time() - self._good_at,
            late_seconds=self.lake.late_seconds,
            took_seconds=self._took_seconds,
            is_publishing=self.begun > self.ended,
            left=self.left,
            rows=self.rows,
            inserted=self.inserted,
            updated=self.updated,
            copies=None if self.neighbours is None else self.neighbours.copies,
            copies_expected=self.lake.copies,
            problem=self.problem,
            upkeep_problem=self.upkeep_problem,
            upkeep_fails_seconds=self._upkeep_fails_seconds(),
            pruned=self.upkeep.pruned,
            lacking=self.upkeep.lacking,
        )

    def _upkeep_fails_seconds(self) -> float:
        since = self._upkeep_fails_since
        return 0.0 if since is None else trio.current_time() - since

    async def _publish(self, on_part: Callable[[], None]) -> None:
        worker = await LakeProcess.begin(self.command, self.lake.memory_mb)
        try:
            await worker.send(self._request())
            while (sequence := await self._take(worker, on_part)) is None:
                pass
        except TooLargeError:
            self._most_rows = max(_LEAST_ROWS, self._most_rows // 2)
            raise
        finally:
            await worker.end()
        await self._keep({}, sequence, is_all=True)

    def _request(self) -> bytes:
        request = {
            "job": "publish",
            "store": str(self.storage.store.path),
            "most_rows": self._most_rows,
            "lake": self.lake.address(),
            "presence": self._presence(),
        }
        return json.dumps(request).encode() + b"\n"

    def _presence(self) -> dict[str, object]:
        series, lake = self.series(), self.lake
        symbols: dict[str, set[str]] = {}
        for one in series:
            symbols.setdefault(one.trade_type, set()).add(one.symbol)
        return {
            "shard": None if lake.shard is None else str(lake.shard),
            "copies": lake.copies,
            "address_group": lake.address_group,
            "series": len(series),
            "symbols": {market: sorted(some) for market, some in symbols.items()},
            "limit_seconds": lake.presence_seconds,
            "handover_seconds": lake.handover_seconds,
        }

    async def _take(self, worker: LakeProcess, on_part: Callable[[], None]) -> int | None:
        """Take one answer. Return the last sequence number if it is the end, else None."""
        answer = await worker.answer()
        if lake := answer.get("lake"):
            await self._begin(str(lake))
            await worker.send(b"\n")
        elif part := answer.get("part"):
            await self._keep(_spans_of(part["spans"]), part["sequence"])
            self.rows += part["rows"]
            self.inserted += part["inserted"]
            self.updated += part["updated"]
            self.left = part["left"]
            self.news.ring()
            on_part()
        elif neighbours := answer.get("neighbours"):
            self.neighbours = Neighbours(**neighbours)
            self.on_neighbours(self.neighbours)
        elif "done" in answer:
            return int(answer["done"])
        else:
            raise PublishError(one_line(str(answer.get("text", answer))))
        return None

    async def _begin(self, lake: str) -> None:
        """Let the journal keep from now on what is unpublished."""
        journal = self.storage.store.journal
        if journal.lake is not None and journal.lake.lake == lake:
            await self.upkeep.note_address(lake)
            return
        stored = await self.storage.merge_door.run(last_end_ms, self.storage.store.path)
        await retry_while_full(
            self.storage.commit_door.run, journal.begin_lake, secrets.token_hex(6), lake, stored
        )

    async def _keep(
        self, spans: Mapping[Series, Sequence[Span]], sequence: int, *, is_all: bool = False
    ) -> None:
        def keep() -> None:
            self.storage.store.journal.published(spans, sequence, is_all=is_all)

        await retry_while_full(self.storage.commit_door.run, keep)


def _spans_of(rows: Sequence[Sequence[Any]]) -> dict[Series, list[Span]]:
    spans: dict[Series, list[Span]] = {}
    for *names, from_ms, to_ms in rows:
        spans.setdefault(Series(*names), []).append(Span(from_ms, to_ms))
    return spans
