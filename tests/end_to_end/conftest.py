"""Exchanges and recorders that are stopped, whatever becomes of the test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.end_to_end.expected import Key
from tests.end_to_end.harness import THREE_MARKETS, Recorder, Simulated, StandIn


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[Callable[..., StandIn]]:
    """Starts the second exchange."""
    with ExitStack() as running:

        def start(*options: str | Path) -> StandIn:
            exchange = StandIn(tmp_path, *options)
            running.callback(exchange.close)
            return exchange

        yield start


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[Callable[..., Simulated]]:
    """Starts the built-in exchange, alone."""
    with ExitStack() as running:

        def start(*options: str | Path) -> Simulated:
            exchange = Simulated(tmp_path, *options)
            running.callback(exchange.close)
            return exchange

        yield start


@pytest.fixture(params=["stand_in", "built_in"])
def either(
    request: pytest.FixtureRequest,
    stand_in: Callable[..., StandIn],
    simulated: Callable[..., Simulated],
) -> StandIn | Simulated:
    """Each of both exchanges in its turn, at 120 times real speed."""
    return stand_in() if request.param == "stand_in" else simulated("--speed", "120", "--seed", "3")


@pytest.fixture
def recorder(tmp_path: Path) -> Callable[..., Recorder]:
    """Makes a recorder's folder."""

    def make(exchange: StandIn | Simulated, *streams: Key) -> Recorder:
        return Recorder(tmp_path / "recorder", exchange, streams or THREE_MARKETS)

    return make
