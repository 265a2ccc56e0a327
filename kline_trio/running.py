"""The commands that run for long: record, tail and simulate, until a signal or a time."""

import argparse
import logging
import math
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from types import FrameType

import attrs
import trio

from kline_trio.candle import TRADE_TYPES, ReceivedCandle, Series
from kline_trio.config import Config, EndpointConfig, HistoryConfig
from kline_trio.console import log_lines
from kline_trio.errors import ConfigError
from kline_trio.exchange.protocol import stream_name
from kline_trio.recorder.supervisor import fill, open_recorder, open_tail
from kline_trio.simulator.alongside import open_exchange
from kline_trio.simulator.exchange import DEFAULT_START_MS, Exchange
from kline_trio.simulator.replay import Replay
from kline_trio.simulator.symbols import listed_symbols
from kline_trio.storage.catalog import last_end_ms

__all__ = ["backfill", "record", "simulate", "tail"]

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_SPEED = 60.0
"""How many seconds pass on the built-in exchange in one of ours: a minute closes every second."""


def record(config: Config, options: argparse.Namespace) -> None:
    """Record until SIGINT, SIGTERM or the end of `--for`."""

    async def main(stop_asked: Callable[[], Awaitable[None]]) -> None:
        async with _exchange(config, options) as reached, open_recorder(reached):
            await stop_asked()

    _run(main, options)


def backfill(config: Config, options: argparse.Namespace) -> None:
    """Fetch what is absent, until that is done or SIGINT or SIGTERM come."""
    if options.since is not None:
        since = datetime.fromtimestamp(options.since / 1_000, UTC)
        config = attrs.evolve(config, history=HistoryConfig(since=since))

    async def main(stop_asked: Callable[[], Awaitable[None]]) -> None:
        async with _exchange(config, options) as reached:
            filled = await fill(reached, options.until, stop_asked=stop_asked)
            logger.info("done: %s candles filled in", f"{filled:,}")

    options.seconds = None
    _run(main, options)


def tail(config: Config, options: argparse.Namespace) -> None:
    """Print closed candles until SIGINT, SIGTERM or the end of `--for`; nothing is stored."""

    async def main(stop_asked: Callable[[], Awaitable[None]]) -> None:
        async with _exchange(config, options) as reached, open_tail(reached, _print):
            await stop_asked()

    _run(main, options)


def simulate(options: argparse.Namespace) -> None:
    """Serve the built-in exchange until SIGINT, SIGTERM or the end of `--for`."""

    async def main(stop_asked: Callable[[], Awaitable[None]]) -> None:
        async with open_exchange(_made_exchange((), options, options.start)) as endpoints:
            for trade_type, websocket in endpoints.websocket.items():
                print(f'[endpoints.{trade_type}]\nwebsocket = "{websocket}"')
                print(f'rest = "{endpoints.rest[trade_type]}"\n', flush=True)
            print(f'[endpoints]\narchive = "{endpoints.archive}"\n', flush=True)
            await stop_asked()

    _run(main, options)


@asynccontextmanager
async def _exchange(config: Config, options: argparse.Namespace) -> AsyncIterator[Config]:
    """The configuration to run with: as it is, or led to the built-in exchange."""
    if not options.simulate:
        yield config
        return
    path = options.config.absolute().parent / "data-simulated"
    start_ms = options.start
    if start_ms is None:
        ends_ms = await trio.to_thread.run_sync(last_end_ms, path)
        # The earliest end: what is sent again is the same again, and what is left out is lost.
        start_ms = min((ends_ms[one] for one in config.streams if one in ends_ms), default=None)
    async with open_exchange(_made_exchange(config.streams, options, start_ms)) as endpoints:
        yield attrs.evolve(
            config,
            store=attrs.evolve(config.store, path=path),
            archive=endpoints.archive,
            endpoints={
                trade_type: EndpointConfig(
                    websocket=(websocket,), rest=(endpoints.rest[trade_type],)
                )
                for trade_type, websocket in endpoints.websocket.items()
            },
        )


def _made_exchange(
    streams: Sequence[Series], options: argparse.Namespace, start_ms: int | None
) -> Exchange:
    if start_ms is None:
        start_ms = DEFAULT_START_MS
    wanted: dict[str, list[Series]] = {trade_type: [] for trade_type in TRADE_TYPES}
    for one in streams:
        wanted[one.trade_type].append(one)
    expected = {name: [stream_name(one) for one in them] for name, them in wanted.items()}
    try:
        replay = None
        if options.replay:
            replay = Replay.from_files(options.replay, expected if streams else None)
        return Exchange(
            seed=options.seed or 0,
            start_ms=start_ms,
            speed=_SPEED if options.speed is None else options.speed,
            listed={
                name: listed_symbols(name, [one.symbol for one in them], at_ms=start_ms)
                for name, them in wanted.items()
            },
            replay=replay,
        )
    except (OSError, ValueError) as error:
        raise ConfigError([f"the built-in exchange: {error}"]) from None


def _run(
    main: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]], options: argparse.Namespace
) -> None:
    ended_as_asked = False

    async def watched() -> None:
        nonlocal ended_as_asked
        with _stop_asked(options.seconds) as stop_asked:
            await main(stop_asked)
        ended_as_asked = True

    with log_lines(debug=options.debug):
        trio.run(watched)
    # A `Cancelled` that gets lost in a library would end the program in silence, with status 0
    # (trio-websocket#184): a recorder that stops unasked must never look like one that was asked.
    if not ended_as_asked:
        raise RuntimeError("it ended without having been asked to")


@contextmanager
def _stop_asked(seconds: float | None) -> Iterator[Callable[[], Awaitable[None]]]:
    """Gives the function that waits for a signal, or until so many seconds have passed.

    Signals count from the start, also while a store is still being opened.
    """
    asked = trio.Event()
    token = trio.lowlevel.current_trio_token()
    first: int | None = None

    def tell(number: int) -> None:
        name = signal.Signals(number).name
        logger.info("%s: stopping; a second signal ends at once", name)
        asked.set()

    def receive(number: int, _: FrameType | None) -> None:
        nonlocal first
        if first is not None:
            os._exit(128 + number)
        first = number
        token.run_sync_soon(tell, number)

    async def wait() -> None:
        with trio.move_on_after(math.inf if seconds is None else seconds):
            await asked.wait()

    # Not trio.open_signal_receiver: it hands a signal to a task, and none may be free to take it.
    before = {number: signal.signal(number, receive) for number in _SIGNALS}
    try:
        yield wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(received: ReceivedCandle) -> None:
    series, candle = received.series, received.candle
    end_seconds = series.interval.end_time_ms(candle.open_time_ms) // 1_000
    print(
        f"{datetime.fromtimestamp(end_seconds, UTC)} {series} open {candle.open:g}"
        f" high {candle.high:g} low {candle.low:g} close {candle.close:g}"
        f" volume {candle.volume:g} trades {candle.trade_num}",
        flush=True,
    )
