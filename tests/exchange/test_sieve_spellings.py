"""No text that any reader of JSON takes for a closed candle is left out, however it is spelt."""

import json

import pytest

from kline_trio.candle import Series
from kline_trio.exchange.protocol import CandleClosed, decode, stream_name
from kline_trio.exchange.sieve import Sieve
from tests.fakes import kline_frame
from tests.fuzzing.frames import TEXT, wire
from tests.fuzzing.hostile import HEAD

BTC = Series("spot", "BTCUSDT", "1m")


@pytest.mark.parametrize(
    "said",
    [
        '"x":false,"x":true',
        '"x":false,"x" :true',
        '"x":false,"\\u0078":true',
        '"\\u0078":true,"y":{"x":false}',
        '"x" :true,"y":{"x":false}',
        '"x"\t:true,"\\"x":false',
    ],
)
def test_a_close_in_another_spelling_beside_a_decoy_is_delivered(said: str) -> None:
    """Found by fuzzing: one `"x":false` alone does not yet say that the candle forms."""
    text = kline_frame(BTC).replace('"x":true', said)
    assert json.loads(text)["data"]["k"]["x"] is True
    assert isinstance(decode(text, {stream_name(BTC): BTC}), CandleClosed)
    sieve = Sieve()
    sieve.feed(HEAD)
    frame = wire(TEXT, text.encode())
    assert sieve.feed(frame) is frame


def test_a_header_is_no_part_of_a_key() -> None:
    """Found by a test of runs: behind a length that ends with 34, a quotation mark."""
    forming = wire(TEXT, kline_frame(BTC, closed=False).encode())
    half = wire(TEXT, b'x":false' + b"." * (0x122 - 8))
    assert b'"x":false' in half
    for batches_from_bytes in (0, 10_000):
        sieve = Sieve(batches_from_bytes=batches_from_bytes)
        sieve.feed(HEAD)
        assert sieve.feed(forming * 2 + half + forming * 2) == half


def test_a_read_of_many_escapes_and_candles_is_walked_once() -> None:
    """Where frames with and without escapes alternate, each is judged by its own bytes."""
    forming = wire(TEXT, kline_frame(BTC, closed=False).encode())
    escaped = wire(TEXT, kline_frame(BTC, closed=False).replace("BTC", "\\u0042TC").encode())
    ping = wire(9, b"\\")
    sieve = Sieve()
    sieve.feed(HEAD)
    assert sieve.feed((forming + escaped + ping + forming) * 30) == (escaped + ping) * 30
    assert (sieve.kept, sieve.candles.dropped) == (30, 60)
