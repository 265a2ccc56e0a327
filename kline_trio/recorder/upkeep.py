"""Now and then, compact the lake, and remove months here that were read back from it.

The work is done by a child process, as that of `recorder/publisher.py`. It reads the store and
never writes to it: what it has read back goes into the journal, and then out of the files.
"""

import json
import logging
import os
import socket
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import attrs

from kline_trio.candle import Series
from kline_trio.config.lake import LakeConfig
from kline_trio.counting import counted
from kline_trio.errors import DamagedError, DiskFullError
from kline_trio.interval import Span
from kline_trio.quoting import one_line
from kline_trio.recorder.disk_space import retry_while_full
from kline_trio.recorder.environment import Storage
from kline_trio.recorder.lake_process import WORKER, LakeProcess, PublishError, TooLargeError
from kline_trio.storage.in_lake import InLake
from kline_trio.storage.journal.pruned import Pruned
from kline_trio.storage.pruning import PrunedFiles, ReadBack
from kline_trio.storage.step import OnStep, Step, ignore_step

logger = logging.getLogger(__name__)

_MOST_ROWS = 200_000
"""In memory at once. A process that needs too much memory is begun anew with half of it."""
_LEAST_ROWS = 10_000
_MB = 1_000_000
_EFFECTS = ("months stay here", "; pruning goes on")
"""Of a full disk, and of its end, for the log."""

Months = Sequence[tuple[Pruned, ReadBack]]


@attrs.frozen(eq=False)
class LakeJob:
    """The upkeep of a lake by a child process, which changes nothing here."""

    store_path: Path
    lake: LakeConfig
    """With a url."""
    command: Sequence[str] = WORKER

    async def run(
        self, *, compact: bool, most_rows: int = _MOST_ROWS
    ) -> AsyncGenerator[Mapping[str, Any]]:
        """Give the answers of the process, but for the last one; `lake/worker.py` lists them.

        Use it with `contextlib.aclosing`, so that the process ends with the loop.

        Args:
          compact: whether to compact the lake first.
          most_rows: candles in memory at once.

        Raises:
          PublishError: the lake or the process failed. It may be tried again.
        """
        request = {
            "job": "upkeep",
            "store": str(self.store_path),
            "lake": self.lake.address(),
            "holder": f"{socket.gethostname()} pid {os.getpid()}",
            "compact": compact,
            "keep_seconds": self.lake.prune_after,
            "most_rows": most_rows,
        }
        process = await LakeProcess.begin(self.command, self.lake.memory_mb)
        try:
            await process.send(json.dumps(request).encode() + b"\n")
            while "done" not in (answer := await process.answer()):
                if "failed" in answer:
                    raise PublishError(one_line(str(answer.get("text", answer))))
                yield answer
        finally:
            await process.end()


@attrs.define(eq=False)
class Upkeep:
    """Compacts the lake of one store, and prunes the store."""

    storage: Storage
    lake: LakeConfig
    """With a url."""
    command: Sequence[str] = WORKER

    lacking: tuple[str, ...] = attrs.field(init=False, default=())
    """What the lake lacks of months that were removed here, as the last look found."""
    pruned: int = attrs.field(init=False, default=0)
    """How many candles were removed here."""
    freed_bytes: int = attrs.field(init=False, default=0)
    kept: Counter[str] = attrs.field(init=False, factory=Counter)
    """How many months the last pruning left here, by the reason."""
    _most_rows: int = attrs.field(init=False, default=_MOST_ROWS)
    _noted: str | None = attrs.field(init=False, default=None)
    """The lake's address, which the journal has."""

    async def run(self, *, compact: bool, on_step: OnStep = ignore_step) -> None:
        """Compact the lake if asked; look after pruned months; prune, if `prune_after` says so.

        If cancelled, what was removed so far is kept so in the journal, and the process ends.

        Args:
          compact: whether to compact the lake.
          on_step: called with what is done.

        Raises:
          PublishError: the lake or the process failed. It may be tried again.
          DiskError: the journal cannot be written, for another reason than want of space.
        """
        removable: dict[Series, list[ReadBack]] = defaultdict(list)
        job = LakeJob(self.storage.store.path, self.lake, self.command)
        self.kept.clear()
        try:
            answers = job.run(compact=compact, most_rows=self._most_rows)
            await self._follow(answers, removable, on_step)
        finally:
            # If this is cancelled, the months are read back again the next time.
            await self._remove(removable, on_step)
        for why, count in self.kept.most_common():
            logger.info("lake: %s: %s", counted(count, "old month stays", "old months stay"), why)

    async def _follow(
        self,
        answers: AsyncGenerator[Mapping[str, Any]],
        removable: dict[Series, list[ReadBack]],
        on_step: OnStep,
    ) -> None:
        try:
            async with aclosing(answers):
                async for answer in answers:
                    match answer:
                        case {"step": step}:
                            on_step(Step(**step))
                        case {"compacted": done}:
                            _log_compacted(done)
                        case {"lacking": texts}:
                            self._note_lacking(tuple(texts))
                        case {"read_back": found}:
                            self.kept.update(why for *_, why in found["kept"])
                            for one, here in await self._into_journal(months_of(found)):
                                removable[one.series].append(here)
        except TooLargeError:
            self._most_rows = max(_LEAST_ROWS, self._most_rows // 2)
            raise

    def _note_lacking(self, texts: tuple[str, ...]) -> None:
        if texts != self.lacking:
            for text in texts:
                logger.error("lake: %s", one_line(text))
            if not texts:
                logger.info("lake: has all months again that were removed here")
        self.lacking = texts

    async def note_address(self, lake: str) -> None:
        """Keep where a lake is now that has pruned months: it may have moved.

        Raises:
          DiskError: the journal cannot be read or written; a full disk is waited for.
        """
        address = self._address()
        if address == self._noted:
            return

        def note() -> None:
            journal, path = self.storage.store.journal, self.storage.store.path
            if InLake.read(path).addresses.get(lake, address) != address:
                journal.keep_pruned([], {lake: address})

        await self._commit(note)
        self._noted = address

    def _address(self) -> str:
        return json.dumps(self.lake.address(), sort_keys=True)

    async def _commit(self, job: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401
        run = self.storage.commit_door.run
        return await retry_while_full(run, job, *arguments, effects=_EFFECTS)

    async def _into_journal(self, months: Months) -> Months:
        """Keep in the journal what the lake alone has from now on. Return what may be removed."""
        journal = self.storage.store.journal
        every = [one for one, _ in months]
        kept = set(await self._commit(journal.prune, every, self._address()))
        return [(one, here) for one, here in months if one in kept]

    async def _remove(self, removable: Mapping[Series, list[ReadBack]], on_step: OnStep) -> None:
        """Remove months from the files. What cannot be removed stays for the next time."""
        store, doors = self.storage.store, self.storage
        rows, freed = self.pruned, self.freed_bytes
        for done, (series, months) in enumerate(sorted(removable.items())):
            on_step(Step(f"removing months of {series}", done, len(removable), "series"))
            listed = await doors.commit_door.run(store.journal.files, [series])
            try:
                files: PrunedFiles = await doors.merge_door.run(
                    store.remove_months, series, months, listed
                )
            except (DamagedError, DiskFullError) as error:
                files = PrunedFiles(problem=str(error))
            if files.problem is not None:
                logger.warning("lake: %s: its months stay here: %s", series, files.problem)
            await self._commit(store.journal.list_pruned, files.written, files.removed)
            self.pruned += files.rows
            self.freed_bytes += files.freed_bytes
        if self.pruned > rows:
            count = counted(self.pruned - rows, "candle")
            size = f"{(self.freed_bytes - freed) / _MB:,.1f} MB"
            logger.info("lake: removed %s here that the lake has, %s", count, size)


def months_of(found: Mapping[str, Any]) -> Months:
    """Return the months of an answer that could be removed, as `lake/worker.py` sends them."""
    return [_month_of(row) for row in found["months"]]


def _month_of(row: Sequence[Any]) -> tuple[Pruned, ReadBack]:
    *names, from_ms, to_ms, lake, version, there, checksum, exchange_ms, here, mine = row
    span = Span(from_ms, to_ms)
    pruned = Pruned(Series(*names), span, lake, version, there, checksum, exchange_ms)
    return pruned, ReadBack(span, here, mine)


def _log_compacted(done: Mapping[str, Any]) -> None:
    if done["jobs"]:
        before, after = (counted(done[f"files_{when}"], "file") for when in ("before", "after"))
        logger.info("lake: compacted, %s became %s", before, after)
    if done["doubled"]:
        what = counted(done["doubled"], "row was there twice", "rows were there twice")
        logger.warning("lake: %s, and not by kline_trio: those of the higher rank stay", what)
