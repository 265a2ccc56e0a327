"""The whole recorder over real sockets and TLS, WebSockets and REST alike."""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trustme

import kline_trio
from kline_trio.candle import Series
from kline_trio.config import Config, ConnectionConfig, EndpointConfig, StoreConfig
from kline_trio.errors import ConfigError
from kline_trio.recorder.supervisor import open_recorder
from kline_trio.simulator.exchange import Exchange
from kline_trio.simulator.server import Endpoints
from tests.faulty_exchange import FaultyExchange
from tests.faulty_exchange.tls import open_tls_exchange

SERIES = (
    Series("spot", "BTCUSDT", "1m"),
    Series("usdt_futures", "ETHUSDT", "1m"),
    Series("coin_futures", "BTCUSD_PERP", "1m"),
)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def config_in(folder: Path, endpoints: Endpoints, ca_file: Path | None) -> Config:
    return Config(
        streams=SERIES,
        store=StoreConfig(path=folder / "data"),
        endpoints={
            name: EndpointConfig(websocket=(url,), rest=(endpoints.rest[name],))
            for name, url in endpoints.websocket.items()
        },
        archive=endpoints.archive,
        connection=ConnectionConfig(ca_file=ca_file, redundancy=2, connect_seconds=5),
    )


def authority_file(folder: Path, authority: trustme.CA) -> Path:
    path = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - another system is waited for
            await trio.sleep(0.05)


async def test_candles_come_over_tls_from_an_exchange_whose_authority_the_user_names(
    tmp_path: Path, authority: trustme.CA, server: ssl.SSLContext
) -> None:
    """Rolled over once, too."""
    exchange = FaultyExchange(speed=60)
    async with open_tls_exchange(exchange, server) as endpoints:
        assert endpoints.websocket["spot"].startswith("wss://")
        config = config_in(tmp_path, endpoints, authority_file(tmp_path, authority))
        async with open_recorder(config) as recorder:
            seen = dict.fromkeys(SERIES, 0)
            candles = recorder.candles()
            with trio.fail_after(60):
                async for received in candles:
                    seen[received.series] += 1
                    if seen[SERIES[0]] == 4:
                        recorder.reconnect()
                    if min(seen.values()) >= 12:
                        break
        opened = exchange.statistics["spot"].opened
    assert opened >= 4, "two connections, and two in their place"
    for series in SERIES:
        frame = kline_trio.read(tmp_path / "data", series.trade_type, series.symbol, "1m")
        gaps = frame.index.to_series().diff().dropna().unique()
        assert len(gaps) == 1, "no minute is missing"


async def test_an_exchange_of_an_unknown_authority_is_refused_and_said_so(
    tmp_path: Path, server: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kline_trio")
    async with open_tls_exchange(Exchange(speed=60), server) as endpoints:
        async with open_recorder(config_in(tmp_path, endpoints, None)):
            await until(lambda: "the certificate is refused" in caplog.text)
    assert "receiving" not in caplog.text


async def test_a_file_that_holds_no_certificates_is_a_mistake_at_the_start(
    tmp_path: Path, server: ssl.SSLContext
) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("nothing\n")
    async with open_tls_exchange(Exchange(speed=60), server) as endpoints:
        with pytest.raises(ConfigError, match=r"connection\.ca_file: .*holds no certificate"):
            async with open_recorder(config_in(tmp_path, endpoints, path)):
                pytest.fail("it began")
