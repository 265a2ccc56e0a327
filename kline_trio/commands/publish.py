"""The command `publish`: bring everything that is unpublished to the lake, now."""

import argparse
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from kline_trio.commands.control import answers
from kline_trio.commands.interrupts import raise_from_now_on
from kline_trio.commands.log import log_lines
from kline_trio.commands.progress import Progress, open_progress
from kline_trio.commands.signals import Requests, run
from kline_trio.config import Config
from kline_trio.counting import counted
from kline_trio.errors import ConfigError, NoAnswerError, NotRunningError
from kline_trio.recorder.environment import Environment
from kline_trio.recorder.publisher import Publisher
from kline_trio.recorder.resources import open_store
from kline_trio.storage.simulated import simulated_store
from kline_trio.storage.step import Step

logger = logging.getLogger(__name__)

_LINE_SECONDS = 30.0

Follow = Callable[[Mapping[str, Any], Iterator[Mapping[str, Any]], Progress], None]


def publish(config: Config, options: argparse.Namespace) -> None:
    """Publish, and end. If a recorder runs, let that one publish.

    Raises:
      ConfigError: `[lake]` has no url.
      PublishError: the lake failed; what was published stays.
      DiskError: the store cannot be read or written.
    """
    config = publishing(config, options)
    if beside_recorder(config.store.path, options, "publish", _follow):
        return

    async def main(requests: Requests) -> None:
        async with open_store(config, Environment()) as storage:
            publisher = Publisher(storage, config.lake)
            progress = Progress(requests.screen)

            def show() -> None:
                progress.show(_step(publisher.rows, publisher.left))

            progress.show(Step(f"publishing to {config.lake.url}"))
            if not await finished(requests, partial(publisher.publish, show)):
                sent = counted(publisher.rows, "candle")
                logger.info("stopped early: %s published; publish again for the rest", sent)

    run(main, options)


async def finished(requests: Requests, job: Callable[[], Awaitable[object]]) -> bool:
    """Run a job until it ends or a stop is asked for. Return whether it has ended."""
    has_ended = False
    async with trio.open_nursery() as nursery:

        async def stop() -> None:
            await requests.wait_for_stop()
            nursery.cancel_scope.cancel()

        nursery.start_soon(stop)
        await job()
        has_ended = True
        requests.finish()
        nursery.cancel_scope.cancel()
    return has_ended


def publishing(config: Config, options: argparse.Namespace) -> Config:
    """Return the configuration of a store that is published, or of the simulated one beside it.

    Raises:
      ConfigError: `[lake]` has no url, or there is no store.
    """
    if options.simulate:
        path = simulated_store(options.config)
        config = attrs.evolve(
            config, store=attrs.evolve(config.store, path=path), lake=config.lake.simulated()
        )
    if config.lake.url is None:
        problem = 'publishes nothing: name a lake, as url = "s3://bucket/klines" under [lake]'
        raise ConfigError([f"{options.config}: {problem}"])
    if not config.store.path.is_dir():
        raise ConfigError([f"there is no store {config.store.path} to publish"])
    return config


def _step(rows: int, left: int | None) -> Step:
    return Step("publishing", rows, None if left is None else rows + left, "candle")


def beside_recorder(store: Path, options: argparse.Namespace, request: str, follow: Follow) -> bool:
    """Let a store's running recorder do what is asked. Return False if none runs.

    Args:
      store: its folder.
      options: of the command.
      request: to the recorder, `publish` or `prune`.
      follow: called with the first line of the answer, the lines after it, and where to show them.

    Raises:
      NoAnswerError: the recorder does not answer, or could not do it.
    """
    lines = answers(store, _LINE_SECONDS, request=request)
    try:
        with open_progress(may_draw=not options.quiet) as progress:
            progress.show(Step(f"waiting for the running recorder to {request}"))
            first = next(lines, {})
    except NotRunningError:
        return False
    raise_from_now_on()
    with log_lines(debug=options.debug, quiet=options.quiet, log_format="text") as screen:
        follow(first, lines, Progress(screen))
    return True


def _follow(
    line: Mapping[str, Any], lines: Iterator[Mapping[str, Any]], progress: Progress
) -> None:
    while (found := line.get("progress")) is not None:
        progress.show(_step(found["rows"], found["left"]))
        line = next(lines, {})
    if "answer" not in line:
        raise NoAnswerError("the recorder ended; what it published stays. Publish again")
    logger.info("done: the recorder has published everything")
