"""Exchanges and recorders that are stopped, whatever becomes of the test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.end_to_end.harness import Key, Recorder, Simulated, StandIn

THREE_MARKETS: list[Key] = [
    ("spot", "BTCUSDT", "1m"),
    ("spot", "BNBUSDT", "1m"),
    ("usdt_futures", "ETHUSDT", "1m"),
    ("coin_futures", "BTCUSD_PERP", "3m"),
]


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[Callable[..., StandIn]]:
    """Starts the second exchange."""
    with ExitStack() as running:

        def start(*options: str | Path, script: list[dict[str, object]] | None = None) -> StandIn:
            exchange = StandIn(tmp_path, *options, script=script or [])
            running.callback(exchange.program.close)
            return exchange

        yield start


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[Callable[..., Simulated]]:
    """Starts the built-in exchange, alone."""
    with ExitStack() as running:

        def start(*options: str | Path) -> Simulated:
            exchange = Simulated(tmp_path, *options)
            running.callback(exchange.program.close)
            return exchange

        yield start


@pytest.fixture
def recorder(tmp_path: Path) -> Callable[..., Recorder]:
    """Makes a recorder's folder."""

    def make(exchange: StandIn | Simulated, *streams: Key) -> Recorder:
        return Recorder(tmp_path / "recorder", exchange, streams or THREE_MARKETS)

    return make
