"""One Chromium for all tests of this folder, and the programs that they share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser

from tests.browser.browsing import Visitor, chromium_path, open_chromium, open_visitor
from tests.browser.recording import (
    OrderedExchange,
    Recording,
    open_exchange,
    open_recording,
    open_server,
)
from tests.browser.stores import Ledger, store_of_candles
from tests.browser.stores import many_series as series_of_markets


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium; without it the test is skipped.

    Not for the whole session: while it runs, this thread has an event loop of asyncio.
    """
    path = chromium_path()
    if path is None:
        pytest.skip("CHROMIUM ABSENT: apt-get install chromium")
    with open_chromium(path) as browser:
        yield browser


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Callable[..., Visitor]]:
    """Open a tab, as `open_visitor`, until the end of the test."""
    with ExitStack() as tabs:
        yield lambda *args, **more: tabs.enter_context(open_visitor(chromium, *args, **more))


@pytest.fixture(scope="package")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrderedExchange]:
    """An exchange that runs 60 times faster than real."""
    with open_exchange(tmp_path_factory.mktemp("exchange"), "--speed", "60") as exchange:
        yield exchange


@pytest.fixture(scope="package")
def recording(
    exchange: OrderedExchange, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Recording]:
    """A recorder that all is well with."""
    with open_recording(tmp_path_factory.mktemp("recorder"), exchange) as recording:
        yield recording


@pytest.fixture(scope="package")
def two_years(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    """`serve` of a stopped store: one series of 1m over two years, with its candles."""
    store = tmp_path_factory.mktemp("two-years") / "data"
    store_of_candles(store)
    with open_server(store) as server:
        yield server


@pytest.fixture(scope="package")
def many_series(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    """`serve` of a stopped store: the ledger of 2,500 series over two years."""
    store = tmp_path_factory.mktemp("many") / "data"
    Ledger(series=series_of_markets(2_500)).write(store)
    with open_server(store) as server:
        yield server
