"""The command `record`: record until a signal or a time; at SIGHUP read recorder.toml anew."""

import argparse
import logging
import signal
from collections.abc import Callable
from pathlib import Path

import trio

from kline_trio.commands.running import Requests, exchange_of, run
from kline_trio.config import Config
from kline_trio.errors import ConfigError
from kline_trio.recorder.resources import check_connection
from kline_trio.recorder.supervisor import Recorder, open_recorder
from kline_trio.storage.memory import use_system_memory

__all__ = ["record"]

logger = logging.getLogger("kline_trio.running")


def record(config: Config, options: argparse.Namespace) -> None:
    """Record until SIGINT, SIGTERM or the end of `--for`."""

    async def main(requests: Requests) -> None:
        async with exchange_of(config, options) as lead:
            stop_asked = requests.wait_for_stop
            async with open_recorder(lead(config), stop_asked=stop_asked) as recorder:
                while not await requests.is_stop():
                    await _reload(options.config, lead, recorder)

    use_system_memory()
    run(main, options, signal.SIGHUP)


async def _reload(path: Path, lead: Callable[[Config], Config], recorder: Recorder) -> None:
    try:
        config = await trio.to_thread.run_sync(Config.from_toml, path)
        await trio.to_thread.run_sync(check_connection, config)
    except ConfigError as error:
        logger.error("the configuration stays as it was, for that in %s is no good:", path)
        for problem in error.problems:
            logger.error("%s", problem)
    else:
        recorder.reconfigure(lead(config))
