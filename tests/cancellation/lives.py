"""Short lives of a recorder that go through all that it does, to be stopped at each step."""

import functools
import math
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest
import trio

from kline_trio.candle import Series
from kline_trio.commands.backfill import fill
from kline_trio.config import (
    CompletenessConfig,
    Config,
    ConnectionConfig,
    HistoryConfig,
    StoreConfig,
    UniverseConfig,
)
from kline_trio.exchange.protocol import stream_name
from kline_trio.recorder.environment import Environment
from kline_trio.recorder.supervisor import Recorder, open_recorder
from kline_trio.selection import Rule, Selection
from kline_trio.simulator import http_side, market
from kline_trio.simulator.prices import Quotes
from tests.faulty_exchange import Delisting, Drop, Fault, FaultyExchange, OmitClose

__all__ = ["LIVES", "Life", "Stops", "remembered_candles"]

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
MINUTE_MS = 60_000
SPEED = 1_200.0
FIRST_MS = 1_719_759_600_000  # 2024-06-30 15:00
"""When the first life begins, which each store has behind it."""
BEGIN_MS = FIRST_MS + 3 * DAY_MS
"""When the life begins that is stopped: the archives have files of the days between."""
SINCE_MS = FIRST_MS - 2 * DAY_MS

STAYING = Series("spot", "BTCUSDT", "5m")
TAKEN_OUT = Series("spot", "ETHUSDT", "5m")
"""It is removed in the life, and added again."""
ENDING = Series("usdt_futures", "ETHUSDT", "5m")
"""Its symbol is delisted while no recorder runs."""
SERIES = (STAYING, TAKEN_OUT, ENDING)
LISTED = {
    "spot": (STAYING.symbol, TAKEN_OUT.symbol),
    # And one that is not recorded: of a list that lost all symbols a recorder looks again later.
    "usdt_futures": (ENDING.symbol, "BTCUSDC"),
    "coin_futures": (),
}
DELISTED_MS = BEGIN_MS - HOUR_MS
FAULTS: tuple[Fault, ...] = (
    OmitClose(trade_type="spot", stream=stream_name(STAYING), open_ms=BEGIN_MS + 10 * MINUTE_MS),
    Drop(trade_type="spot", at_ms=BEGIN_MS + 22 * MINUTE_MS),
    Delisting(trade_type=ENDING.trade_type, symbol=ENDING.symbol, at_ms=DELISTED_MS),
)


@attrs.define
class Stops:
    """Both ways to stop a life, from anywhere."""

    outermost: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """Around the whole life."""
    body: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """Around what the life does while it records."""
    asked: trio.Event = attrs.field(factory=trio.Event)

    def politely(self) -> None:
        """Ask the life to end."""
        self.body.cancel()
        self.asked.set()

    def at_once(self) -> None:
        """Cancel the life."""
        self.outermost.cancel()


def exchange_from(start_ms: int, speed: float = SPEED) -> FaultyExchange:
    """Return an exchange that begins at this time; it is always the same one."""
    return FaultyExchange(
        start_ms=start_ms, speed=speed, listed=LISTED, faults=FAULTS, forming=False
    )


def config_in(folder: Path, *, since_ms: int | None = SINCE_MS, is_last: bool = False) -> Config:
    """Return a configuration that makes everything happen within a few seconds.

    Args:
      folder: where the store is.
      since_ms: from when on the past is fetched; None: not at all.
      is_last: whether nothing needs to be merged any more.
    """
    since = None if since_ms is None else datetime.fromtimestamp(since_ms / 1_000, UTC)
    return Config(
        streams=(STAYING, TAKEN_OUT),
        patterns=(Selection(ENDING.trade_type, ENDING.time_interval, (Rule(pattern="*USDT"),)),),
        store=StoreConfig(
            path=folder / "data",
            merge_seconds=60.0 if is_last else 0.5,
            max_merge_seconds=60.0 if is_last else 2.0,
            drain_seconds=0.0 if is_last else 0.3,
        ),
        connection=ConnectionConfig(stall_seconds=5.0, read_pause_seconds=0.0),
        completeness=CompletenessConfig(attempts=2, attempt_seconds=0.1),
        universe=UniverseConfig(refresh_seconds=0.4),
        history=HistoryConfig(since=since),
    )


@contextmanager
def remembered_candles() -> Iterator[None]:
    """Let exchanges share made-up candles and archive files: thousands of lives need the same."""
    files: dict[str, tuple[int, bytes]] = {}
    pack = http_side.HttpSide._zip

    def zipped(self: http_side.HttpSide, match: re.Match[str], now_ms: int) -> bytes | None:
        published_ms, content = files.get(match["name"] + match["folder"], (math.inf, None))
        if now_ms >= published_ms:
            return content
        content = pack(self, match, now_ms)
        if content is not None:
            files[match["name"] + match["folder"]] = now_ms, content
        return content

    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(market, "Quotes", functools.cache(Quotes))
        patches.setattr(Quotes, "kline", functools.cache(Quotes.kline))
        patches.setattr(http_side.HttpSide, "_zip", zipped)
        yield


Script = Callable[[Recorder, Config], Awaitable[None]]


async def record_with(
    script: Script, config: Config, environment: Environment, stops: Stops
) -> None:
    """Record while the script runs, unless the life is stopped before."""
    async with open_recorder(config, environment) as recorder:
        with stops.body:
            await script(recorder, config)


async def fill_once(config: Config, environment: Environment, stops: Stops) -> None:
    """Fetch what is absent, unless it is stopped before."""
    await fill(config, environment=environment, stop_asked=stops.asked.wait)


async def _everything(recorder: Recorder, config: Config) -> None:
    """Do what users do; the faults and the store's past do the rest."""
    await trio.sleep(1.1)
    recorder.remove_symbols(TAKEN_OUT.trade_type, TAKEN_OUT.time_interval, TAKEN_OUT.symbol)
    await trio.sleep(1.2)
    recorder.add_symbols(TAKEN_OUT.trade_type, TAKEN_OUT.time_interval, TAKEN_OUT.symbol)
    await trio.sleep(0.3)
    ways = attrs.evolve(config.connection, redundancy=2)
    recorder.reconfigure(attrs.evolve(config, connection=ways))
    # Until the ended series is sealed.
    await trio.sleep(10.0)


async def _record(config: Config, environment: Environment, stops: Stops) -> None:
    await record_with(_everything, config, environment, stops)


@attrs.frozen
class Life:
    """What is run, and stopped."""

    name: str
    run: Callable[[Config, Environment, Stops], Awaitable[None]]


LIVES = {one.name: one for one in (Life("record", _record), Life("fill", fill_once))}
