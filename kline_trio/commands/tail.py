"""The command `tail`: show closed candles as they come, and store nothing."""

import argparse
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal

import trio

from kline_trio.candle import ReceivedCandle
from kline_trio.commands.running import Requests, exchange_of, run
from kline_trio.config import Config
from kline_trio.errors import UnavailableError
from kline_trio.exchange.clock_sync import sync_clock
from kline_trio.recorder.environment import Environment
from kline_trio.recorder.lifetimes import lone_error_plain, open_http
from kline_trio.recorder.supervisor import CANDLES_IN_CHANNEL, listeners_of, open_network
from kline_trio.symbols import resolve

__all__ = ["open_tail", "tail"]


def tail(config: Config, options: argparse.Namespace) -> None:
    """Print closed candles until SIGINT, SIGTERM or the end of `--for`; nothing is stored."""

    async def main(requests: Requests) -> None:
        async with exchange_of(config, options) as lead, open_tail(lead(config)):
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
    """Show each closed candle as it comes, while the body runs; store nothing.

    Args:
      config: as for the recorder; its store is not touched.
      show: called with each candle; by default, print one line.
      environment: to the world.

    Raises:
      UnavailableError: no list that patterns need is to be had, and there is nothing else to show.
    """
    environment = environment or Environment()
    send, receive = trio.open_memory_channel[ReceivedCandle](CANDLES_IN_CHANNEL)
    with lone_error_plain():
        async with trio.open_nursery() as showing:
            showing.start_soon(_show_all, receive, show)
            async with open_http(config, environment) as http:
                series, unlisted = await resolve(config.streams, config.patterns, http.markets)
                if unlisted and not series:
                    raise UnavailableError("; ".join(map(": ".join, unlisted.items())))
                listeners = listeners_of(config, environment, http, send)
                for trade_type, listener in listeners.items():
                    listener.listen_to([one for one in series if one.trade_type == trade_type])
                async with open_network(listeners, send) as network:
                    # A candle is held until it is known what time it is.
                    for trade_type in sorted({one.trade_type for one in series}):
                        network.start_soon(sync_clock, http.markets[trade_type])
                    yield


async def _show_all(
    receive: trio.MemoryReceiveChannel[ReceivedCandle], show: Callable[[ReceivedCandle], None]
) -> None:
    with receive:
        async for received in receive:
            show(received)
