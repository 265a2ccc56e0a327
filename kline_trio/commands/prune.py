"""The command `prune`: remove old months from a store, once they were read back from its lake."""

import argparse
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

from kline_trio.commands.progress import Progress
from kline_trio.commands.publish import beside_recorder, finished, publishing
from kline_trio.commands.signals import Requests, run
from kline_trio.config import Config
from kline_trio.counting import counted
from kline_trio.errors import ConfigError, NoAnswerError
from kline_trio.interval import time_text
from kline_trio.quoting import one_line
from kline_trio.recorder.environment import Environment
from kline_trio.recorder.publisher import Publisher
from kline_trio.recorder.resources import open_store
from kline_trio.recorder.upkeep import LakeJob, months_of
from kline_trio.storage.journal.pruned import Pruned
from kline_trio.storage.step import Step

logger = logging.getLogger(__name__)

_WAITING = "waiting for the running recorder to prune"


def prune(config: Config, options: argparse.Namespace) -> None:
    """Prune, and end. If a recorder runs, let that one prune.

    Raises:
      ConfigError: `[lake]` has no url or no prune_after, or there is no store.
      PublishError: the lake failed; what was removed is in the lake.
      DiskError: the store cannot be read or written.
    """
    config = publishing(config, options)
    if config.lake.prune_after is None:
        problem = 'removes nothing: say when, as prune_after = "90d" under [lake]'
        raise ConfigError([f"{options.config}: {problem}"])
    if options.dry_run:
        run(lambda requests: _look(config, requests), options)
    elif not beside_recorder(config.store.path, options, "prune", _follow):
        run(lambda requests: _prune(config, requests), options)


async def _prune(config: Config, requests: Requests) -> None:
    async with open_store(config, Environment()) as storage:
        publisher = Publisher(storage, config.lake)
        progress = Progress(requests.screen)
        progress.show(Step(f"reading back from {config.lake.url}"))
        job = partial(publisher.look_after, compact=False, on_step=progress.show)
        if not await finished(requests, job):
            logger.info("stopped early: prune again for the rest")
        elif not publisher.upkeep.pruned:
            logger.info("done: nothing was removed")


async def _look(config: Config, requests: Requests) -> None:
    """Read back what could be removed, and print it; change nothing. A recorder may run."""
    months, candles, kept = Counter[str](), Counter[str](), Counter[str]()
    lacking, progress = list[str](), Progress(requests.screen)

    async def look() -> None:
        async with aclosing(LakeJob(config.store.path, config.lake).run(compact=False)) as answers:
            async for answer in answers:
                match answer:
                    case {"step": step}:
                        progress.show(Step(**step))
                    case {"lacking": texts}:
                        lacking.extend(texts)
                    case {"read_back": found}:
                        for one, here in months_of(found):
                            months[_place(one)] += 1
                            candles[_place(one)] += here.rows
                        kept.update(why for *_, why in found["kept"])

    progress.show(Step(f"reading back from {config.lake.url}"))
    if await finished(requests, look):
        with progress.hidden():
            for line in [*lacking, *_lines(months, candles, kept)]:
                print(one_line(line))


def _place(month: Pruned) -> str:
    name = time_text(month.span.from_ms)[:7]
    return f"{name} {month.series.trade_type} {month.series.time_interval}"


def _lines(
    months: Mapping[str, int], candles: Mapping[str, int], kept: Mapping[str, int]
) -> Iterator[str]:
    for place in sorted(months):
        series = counted(months[place], "series", "series")
        yield f"would remove {place}: {series}, {counted(candles[place], 'candle')}"
    for why, count in sorted(kept.items()):
        yield f"would stay: {counted(count, 'month')} of a series: {why}"
    if not months and not kept:
        yield "no month here is old enough"


def _follow(
    line: Mapping[str, Any], lines: Iterator[Mapping[str, Any]], progress: Progress
) -> None:
    while "progress" in line:
        found = line["progress"]
        progress.show(Step(_WAITING) if found is None else Step(**found))
        line = next(lines, {})
    if "answer" not in line:
        raise NoAnswerError("the recorder ended; what it removed is in the lake. Prune again")
    for why, count in sorted(line["answer"]["kept"].items()):
        logger.info("%s: %s", counted(count, "old month stays", "old months stay"), why)
    logger.info("done: the recorder has pruned the store")
