"""The command `simulate` and the option `--simulate`: serve the built-in exchange."""

import argparse
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

import attrs
import trio

from kline_trio.candle import TRADE_TYPES, Series
from kline_trio.commands.signals import Requests, run
from kline_trio.config import Config, EndpointConfig
from kline_trio.errors import ConfigError
from kline_trio.exchange.protocol import stream_name
from kline_trio.simulator.exchange import DEFAULT_START_MS, Exchange
from kline_trio.simulator.replay import Replay
from kline_trio.simulator.server import Endpoints, open_exchange
from kline_trio.simulator.symbols import listed_symbols
from kline_trio.storage.catalog import last_end_ms
from kline_trio.storage.simulated import simulated_store

_SPEED = 60.0
"""Exchange seconds for each local second: a minute closes every second."""


def simulate(options: argparse.Namespace) -> None:
    """Serve the built-in exchange until SIGINT, SIGTERM or the end of `--for`."""

    async def main(requests: Requests) -> None:
        exchange = _exchange((), options, options.start)
        async with open_exchange(exchange) as endpoints:
            print(toml_of(endpoints), flush=True)
            await requests.wait_for_stop()

    run(main, options)


def toml_of(endpoints: Endpoints) -> str:
    """Return the tables of recorder.toml that name an exchange's endpoints."""
    tables = [
        f'[endpoints.{name}]\nwebsocket = "{url}"\nrest = "{endpoints.rest[name]}"\n'
        for name, url in endpoints.websocket.items()
    ]
    return "\n".join([*tables, f'[endpoints]\narchive = "{endpoints.archive}"\n'])


@asynccontextmanager
async def built_in_exchange(
    config: Config, options: argparse.Namespace, begin: Callable[[Iterable[int]], int] = min
) -> AsyncIterator[Callable[[Config], Config]]:
    """Serve the built-in exchange while the body runs. Give what points a configuration to it.

    The function also replaces the path of the store by that of `simulated_store`.

    Args:
      config: of the recorder.
      options: those of `--simulate`.
      begin: chooses from the ends of the stored series when the exchange begins, without `--start`.
        The earliest: candles that are sent again are the same, those left out are lost.

    Raises:
      ConfigError: the options describe no exchange.
    """
    path = simulated_store(options.config)
    start_ms = options.start
    if start_ms is None:
        ends_ms = await trio.to_thread.run_sync(last_end_ms, path)
        ends = [ends_ms[one] for one in config.streams if one in ends_ms]
        start_ms = begin(ends) if ends else None
    async with open_exchange(_exchange(config.streams, options, start_ms)) as endpoints:
        hosts = {
            trade_type: EndpointConfig(websocket=(websocket,), rest=(endpoints.rest[trade_type],))
            for trade_type, websocket in endpoints.websocket.items()
        }
        yield lambda config: attrs.evolve(
            config,
            store=attrs.evolve(config.store, path=path),
            archive=endpoints.archive,
            endpoints=hosts,
            lake=config.lake.simulated(),
        )


def _exchange(
    streams: Sequence[Series], options: argparse.Namespace, start_ms: int | None
) -> Exchange:
    start_ms = DEFAULT_START_MS if start_ms is None else start_ms
    wanted = {name: [one for one in streams if one.trade_type == name] for name in TRADE_TYPES}
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
