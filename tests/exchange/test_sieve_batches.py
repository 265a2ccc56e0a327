"""Batches of forming candles, found all at once: the sieve leaves out the same, byte for byte."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kline_trio.exchange.sieve import CandleFilter, FrameBatch, Sieve, forming_batches
from tests.exchange.test_sieve import (
    CLOSE,
    HEAD,
    LONGEST_JUDGED,
    PING,
    TEXT,
    Unit,
    candle,
    closed,
    forming,
    frame,
    mutilated,
    sizes,
    split,
    units,
)

NEVER, ALWAYS = 10**9, 0


def found(data: bytes) -> dict[int, FrameBatch]:
    return forming_batches(data, LONGEST_JUDGED)


def sieved(data: bytes, reads: Sequence[int], batches_from_bytes: int) -> tuple[object, ...]:
    """All that can be seen of a sieve."""
    sieve = Sieve(CandleFilter(takes_closed=True), batches_from_bytes=batches_from_bytes)
    steps = []
    for chunk in split(HEAD + data, list(reads)):
        passed = sieve.feed(chunk)
        steps.append(
            (passed, sieve.alive, sieve.candles.taken, sieve.candles.newest_dropped, sieve._held)
        )
    return steps, sieve.kept, sieve.candles.dropped, sieve.candles.closed


@given(units, sizes)
@settings(max_examples=80, deadline=None)
def test_a_large_read_and_a_walk_leave_the_same_out(units: list[Unit], reads: list[int]) -> None:
    data = b"".join(unit[0] for unit in units) * 3
    assert sieved(data, reads, ALWAYS) == sieved(data, reads, NEVER)


@given(st.composite(mutilated)(), sizes)
@example(forming() + forming()[:4] + b"x", [10_000])
@settings(max_examples=80, deadline=None)
def test_so_they_do_of_frames_gone_wrong(data: bytes, reads: list[int]) -> None:
    for piece in (data, forming() + data + forming() * 2):
        assert sieved(piece, reads, ALWAYS) == sieved(piece, reads, NEVER)


def test_a_batch_ends_before_what_is_not_a_forming_candle() -> None:
    """The last frame of the data is left to the walk, whatever it is."""
    size = len(forming())
    data = forming() * 3 + closed() + forming() * 2 + frame(PING) + forming() * 2
    second = 3 * size + len(closed())
    third = second + 2 * size + 2
    assert found(data) == {
        0: FrameBatch([0, size, 2 * size], 3 * size),
        second: FrameBatch([second], second + size),  # a ping is no header that is looked for
        third: FrameBatch([third], third + size),
    }


def test_nobody_goes_to_the_end_of_a_batch_from_within_a_payload() -> None:
    """Where a frame begins is known by whoever walked to it, not by what looks like a header."""
    decoy = frame(TEXT, b"." * 200 + forming() * 2 + b"." * 200)
    data = forming() * 2 + decoy + forming() * 2
    assert len(found(data)) == 3
    sieve = Sieve(batches_from_bytes=ALWAYS)
    sieve.feed(HEAD)
    assert sieve.feed(data) == decoy
    assert sieve.candles.dropped == 4


@pytest.mark.parametrize(
    "payload",
    [
        candle() + b'"x"',
        candle() + b'"x":false',
        candle().replace(b'"x":false', b'"x":true'),
        candle().replace(b'"x":false', b'"x":fals3'),
        candle().replace(b'"x":false', b'"y":false'),
        candle().replace(b"}}}", b"," * LONGEST_JUDGED + b"}}}"),
        b'x":false' + b"." * (0x122 - 8),  # behind a length that ends with a quotation mark
        json.dumps({"stream": "x" * 300}).encode(),
    ],
)
def test_a_batch_holds_nothing_that_the_sieve_keeps(payload: bytes) -> None:
    data = forming() + frame(TEXT, payload) + forming() * 2
    assert sum(len(batch.begins) for batch in found(data).values()) <= 2
    assert sieved(data, [10_000], ALWAYS) == sieved(data, [10_000], NEVER)


@pytest.mark.parametrize(
    "name", ["xrpusdt@kline_1m", "币安人生usdt@kline_1m", "1000xusdt@kline_1m"]
)
def test_names_are_no_keys_and_no_headers(name: str) -> None:
    """The Chinese one has the byte of a header in it: 安 is E5 AE 89, 币 is E5 B8 81."""
    data = forming(stream=name) * 5
    [batch] = found(data).values()
    assert len(batch.begins) == 4


def test_little_data_has_no_batches() -> None:
    for size in range(40):
        assert found((forming() * 2)[:size]) == {}
        assert found(b"\x81~\x00\x7e" * 10 + b"\x81" * size) == {}


def test_a_close_ends_the_walk_and_no_batch_leads_over_it() -> None:
    data = forming() * 4 + frame(CLOSE) + forming() * 4
    assert sieved(data, [10_000], ALWAYS) == sieved(data, [10_000], NEVER)
    assert sieved(data, [10_000], ALWAYS)[2] == 4


def test_streams_in_a_large_read_are_heard_of() -> None:
    sieve = Sieve(batches_from_bytes=ALWAYS)
    sieve.candles.unseen = {b"btcusdt@kline_1m", b"ethusdt@kline_1m"}
    sieve.feed(HEAD + forming() * 3 + forming(stream="ethusdt@kline_1m") + forming())
    assert sieve.candles.unseen == set()
    assert sieve.candles.dropped == 5
