"""The commands `record` and `tail`: store closed candles, or print them."""

import argparse
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import trio

from kline_trio.candle import ReceivedCandle
from kline_trio.commands.running import Requests, exchange_of, run
from kline_trio.config import Config
from kline_trio.errors import ConfigError, UnavailableError
from kline_trio.exchange.clock_sync import sync_clock
from kline_trio.recorder.environment import Environment
from kline_trio.recorder.lifetimes import check_ways, lone_error_plain, open_http
from kline_trio.recorder.supervisor import (
    CANDLES_IN_CHANNEL,
    Recorder,
    listeners_of,
    open_network,
    open_recorder,
)
from kline_trio.storage.memory import use_system_memory
from kline_trio.symbols import resolved

__all__ = ["open_tail", "record", "tail"]

logger = logging.getLogger("kline_trio.running")


def record(config: Config, options: argparse.Namespace) -> None:
    """Record until SIGINT, SIGTERM or the end of `--for`. At SIGHUP, read recorder.toml again."""

    async def main(requests: Requests) -> None:
        async with exchange_of(config, options) as redirect:
            stop_asked = requests.wait_for_stop
            async with open_recorder(redirect(config), stop_asked=stop_asked) as recorder:
                while not await requests.is_stop():
                    await _reload(options.config, redirect, recorder)

    use_system_memory()
    run(main, options, signal.SIGHUP)


async def _reload(path: Path, redirect: Callable[[Config], Config], recorder: Recorder) -> None:
    try:
        config = await trio.to_thread.run_sync(Config.from_toml, path)
        await trio.to_thread.run_sync(check_ways, config)
    except ConfigError as error:
        logger.error("the configuration stays as it was, for that in %s is no good:", path)
        for problem in error.problems:
            logger.error("%s", problem)
    else:
        recorder.reconfigure(redirect(config))


def tail(config: Config, options: argparse.Namespace) -> None:
    """Print closed candles until SIGINT, SIGTERM or the end of `--for`; nothing is stored."""

    async def main(requests: Requests) -> None:
        async with exchange_of(config, options) as redirect, open_tail(redirect(config)):
            await requests.wait_for_stop()

    run(main, options)


def _print(received: ReceivedCandle) -> None:
    series, candle = received.series, received.candle
    end_seconds = series.interval.end_time_ms(candle.open_time_ms) // 1_000
    print(
        f"{datetime.fromtimestamp(end_seconds, UTC)} {series} open {_digits(candle.open)}"
        f" high {_digits(candle.high)} low {_digits(candle.low)} close {_digits(candle.close)}"
        f" volume {_digits(candle.volume)} trades {candle.trade_num}",
        flush=True,
    )


def _digits(number: float) -> str:
    """Return the digits that the exchange sent, without zeros at the end."""
    # The shortest decimal that is this float; `g` would round it to six digits.
    return f"{Decimal(repr(number)):f}".removesuffix(".0")


@asynccontextmanager
async def open_tail(
    config: Config,
    show: Callable[[ReceivedCandle], None] = _print,
    environment: Environment | None = None,
) -> AsyncIterator[None]:
    """Call a function with each closed candle while the body runs; store nothing.

    Args:
      config: as for the recorder; the function does not touch its store.
      show: called with each candle; by default, print one line.
      environment: network, disk and clocks.

    Raises:
      UnavailableError: a list of symbols that patterns need cannot be fetched, and no series is
        configured besides.
    """
    environment = environment or Environment()
    send, receive = trio.open_memory_channel[ReceivedCandle](CANDLES_IN_CHANNEL)
    with lone_error_plain():
        async with trio.open_nursery() as showing:
            showing.start_soon(_show_all, receive, show)
            async with open_http(config, environment) as http:
                series, unlisted = await resolved(config.streams, config.patterns, http.markets)
                if unlisted and not series:
                    raise UnavailableError("; ".join(map(": ".join, unlisted.items())))
                listeners = listeners_of(config, environment, http, send)
                for trade_type, listener in listeners.items():
                    listener.listen_to([one for one in series if one.trade_type == trade_type])
                async with open_network(listeners, send) as network:
                    # Listeners hold candles back until the exchange's time is known.
                    for trade_type in sorted({one.trade_type for one in series}):
                        network.start_soon(sync_clock, http.markets[trade_type])
                    yield


async def _show_all(
    receive: trio.MemoryReceiveChannel[ReceivedCandle], show: Callable[[ReceivedCandle], None]
) -> None:
    with receive:
        async for received in receive:
            show(received)
