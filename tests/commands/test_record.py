"""What tail prints, and which series it shows."""

from pathlib import Path

import attrs
import httpx2
import pytest
import trio
import trio.testing

from kline_trio.candle import ReceivedCandle
from kline_trio.commands.record import _digits, open_tail
from kline_trio.config import Config
from kline_trio.errors import UnavailableError
from kline_trio.simulator.exchange import Exchange
from tests.builders import (
    COIN,
    SPOT,
    START_MS,
    USDT,
    patterns,
    truth,
)
from tests.recorder.test_supervisor import config_in as plain_config_in
from tests.virtual import Transport, joined


@attrs.define
class NoList(Transport):
    """Gives no list of symbols of the USDT-margined market."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/fapi/v1/exchangeInfo":
            return httpx2.Response(503, stream=httpx2.ByteStream(b""))
        return await super().handle_async_request(request)


async def test_tail_shows_closed_candles_and_stores_nothing(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    shown = set()

    def show(received: ReceivedCandle) -> None:
        shown.add(received.series)

    async with (
        joined(exchange) as environment,
        open_tail(plain_config_in(tmp_path), show, environment),
    ):
        await trio.sleep(10)
    assert shown == {SPOT, USDT, COIN}
    assert not list(tmp_path.iterdir())  # noqa: ASYNC240 - a test may block


async def test_it_prints_a_line_for_each_candle_with_the_end_of_its_interval(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exchange = Exchange(start_ms=START_MS)
    async with (
        joined(exchange) as environment,
        open_tail(plain_config_in(tmp_path, SPOT), environment=environment),
    ):
        await trio.sleep(10)
    first, *more = capsys.readouterr().out.splitlines()
    [candle] = truth(exchange, SPOT, START_MS, START_MS + 60_000)
    begin, *told = first.split(" open ")
    assert begin == "2024-06-30 15:01:00+00:00 spot BTCUSDT-1m"
    words = f"open {told[0]}".split()
    assert words[::2] == ["open", "high", "low", "close", "volume", "trades"]
    values = (candle.open, candle.high, candle.low, candle.close, candle.volume, candle.trade_num)
    assert tuple(map(float, words[1::2])) == values
    assert len(more) >= 7


@pytest.mark.parametrize(
    ("number", "digits"),
    [
        (109876.54, "109876.54"),
        (1234567.891, "1234567.891"),
        (0.00000012, "0.00000012"),
        (123456789012.5, "123456789012.5"),
        (1e22, "10000000000000000000000"),
        (100.0, "100"),
        (0.0, "0"),
    ],
)
def test_it_prints_the_digits_that_the_exchange_sent(number: float, digits: str) -> None:
    assert _digits(number) == digits


async def test_patterns_that_match_nothing_are_named(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = '[streams.spot]\n1m = ["BTCUSDT", "*USTD", "!XX*"]\n1h = { quote = "UDST" }\n'
    config = Config.from_text(text, name="", folder=tmp_path)
    async with joined(Exchange(start_ms=START_MS)) as environment:
        async with open_tail(config, lambda _: None, environment):
            await trio.sleep(1)
    assert [one.getMessage() for one in caplog.records if "matches no" in one.getMessage()] == [
        "spot 1m: *USTD matches no symbol that trades",
        "spot 1m: !XX* matches no symbol",
        "spot 1h: { quote = UDST } matches no symbol that trades",
    ]


async def test_a_market_without_a_list_of_symbols_keeps_no_other_series_from_being_shown(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exchange = Exchange(start_ms=START_MS)
    every = patterns('[streams.usdt_futures]\n1m = ["*"]\n')
    config = attrs.evolve(plain_config_in(tmp_path, SPOT), patterns=every)
    shown = set()

    def show(received: ReceivedCandle) -> None:
        shown.add(received.series)

    async with joined(exchange) as environment:
        environment = attrs.evolve(environment, http_transport=NoList(exchange))
        async with open_tail(config, show, environment):
            await trio.sleep(10)
        assert shown == {SPOT}
        assert "usdt_futures: its list of symbols" in caplog.text
        with pytest.raises(UnavailableError, match="usdt_futures: its list of symbols"):
            async with open_tail(attrs.evolve(config, streams=()), show, environment):
                pass
