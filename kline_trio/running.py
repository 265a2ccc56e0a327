"""The commands that run for long: record, tail and simulate, until a signal or a time."""

import argparse
import logging
import math
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import attrs
import trio

from kline_trio.commands.backfill import GIVE_UP_SECONDS, fill
from kline_trio.commands.tail import open_tail
from kline_trio.config import Config, HistoryConfig
from kline_trio.console import log_lines
from kline_trio.errors import ConfigError
from kline_trio.recorder.lifetimes import check_ways
from kline_trio.recorder.supervisor import Recorder, open_recorder
from kline_trio.signals import Asked, listen_for
from kline_trio.storage.memory import use_system_memory

__all__ = ["backfill", "record", "simulate", "tail"]

logger = logging.getLogger(__name__)


def record(config: Config, options: argparse.Namespace) -> None:
    """Record until SIGINT, SIGTERM or the end of `--for`; at SIGHUP read recorder.toml anew."""

    async def main(asked: Asked) -> None:
        async with _exchange(config, options) as lead:
            stop_asked = asked.wait_to_stop
            async with open_recorder(lead(config), stop_asked=stop_asked) as recorder:
                while not await asked.to_stop():
                    await _reread(options.config, lead, recorder)

    use_system_memory()
    _run(main, options, signal.SIGHUP)


async def _reread(path: Path, lead: Callable[[Config], Config], recorder: Recorder) -> None:
    try:
        config = await trio.to_thread.run_sync(Config.from_toml, path)
        await trio.to_thread.run_sync(check_ways, config)
    except ConfigError as error:
        logger.error("the configuration stays as it was, for that in %s is no good:", path)
        for problem in error.problems:
            logger.error("%s", problem)
    else:
        recorder.reconfigure(lead(config))


def backfill(config: Config, options: argparse.Namespace) -> None:
    """Fetch what is absent, until that is done or SIGINT or SIGTERM come."""
    if options.since is not None:
        since = datetime.fromtimestamp(options.since / 1_000, UTC)
        config = attrs.evolve(config, history=HistoryConfig(since=since))

    async def main(asked: Asked) -> None:
        async with _exchange(config, options) as lead:
            done = await fill(
                lead(config),
                options.until,
                stop_asked=asked.wait_to_stop,
                give_up_seconds=math.inf if options.wait else GIVE_UP_SECONDS,
            )
            filled = f"{done.filled:,} candles filled in"
            if done.absent is None:
                logger.info("stopped early: %s; what is absent is not known yet", filled)
            elif done.absent:
                logger.info("stopped early: %s, %s still absent", filled, f"{done.absent:,}")
            else:
                logger.info("done: %s", filled)

    options.seconds = None
    _run(main, options)


def tail(config: Config, options: argparse.Namespace) -> None:
    """Print closed candles until SIGINT, SIGTERM or the end of `--for`; nothing is stored."""

    async def main(asked: Asked) -> None:
        async with _exchange(config, options) as lead, open_tail(lead(config)):
            await asked.wait_to_stop()

    _run(main, options)


def simulate(options: argparse.Namespace) -> None:
    """Serve the built-in exchange until SIGINT, SIGTERM or the end of `--for`."""
    from kline_trio.simulating import exchange_alone

    async def main(asked: Asked) -> None:
        async with exchange_alone(options) as endpoints:
            for trade_type, websocket in endpoints.websocket.items():
                print(f'[endpoints.{trade_type}]\nwebsocket = "{websocket}"')
                print(f'rest = "{endpoints.rest[trade_type]}"\n', flush=True)
            print(f'[endpoints]\narchive = "{endpoints.archive}"\n', flush=True)
            await asked.wait_to_stop()

    _run(main, options)


@asynccontextmanager
async def _exchange(
    config: Config, options: argparse.Namespace
) -> AsyncIterator[Callable[[Config], Config]]:
    """Gives what makes of a configuration one to run with: led to the built-in exchange, or not."""
    if not options.simulate:
        yield lambda config: config
        return
    # What records from the real one starts in less time without it.
    from kline_trio.simulating import exchange_beside

    async with exchange_beside(config, options) as lead:
        yield lead


def _run(
    main: Callable[[Asked], Awaitable[None]], options: argparse.Namespace, *more: signal.Signals
) -> None:
    ended_as_asked = False

    async def watched() -> None:
        nonlocal ended_as_asked
        with listen_for(math.inf if options.seconds is None else options.seconds, more) as asked:
            await main(asked)
        ended_as_asked = True

    with log_lines(debug=options.debug):
        trio.run(watched)
    # A `Cancelled` that gets lost in a library would end the program in silence, with status 0
    # (trio-websocket#184): a recorder that stops unasked must never look like one that was asked.
    if not ended_as_asked:
        raise RuntimeError("it ended without having been asked to")
