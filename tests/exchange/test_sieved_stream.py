"""What a sieved stream does beside: it rests between reads, and takes closed candles out.

A rest that several connections take together ends for each when it should.
"""

import math
import random
from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.exchange.sieve import CandleFilter, Sieve
from kline_trio.exchange.sieved_stream import ReadHandlers, ReadPacer, SharedTimer, SievedStream
from tests.exchange.test_sieve import (
    CLOSE,
    HEAD,
    LONGEST_JUDGED,
    PING,
    TEXT,
    Message,
    Scripted,
    candle,
    closed,
    forming,
    frame,
    handshake,
    hear,
    is_forming,
    mutilated,
    sizes,
    split,
    without_counts,
)

REST_SECONDS = 0.5


class Clocked(Scripted):
    """Keeps when it was read."""

    def __init__(self, items: Sequence[bytes | BaseException]) -> None:
        super().__init__(items)
        self.read_at: list[float] = []

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        self.read_at.append(trio.current_time())
        return await super().receive_some(max_bytes)


def resting(
    stream: trio.abc.Stream,
    rest_seconds: float = REST_SECONDS,
    on_closed: Callable[[Sequence[bytes]], Awaitable[None]] | None = None,
) -> SievedStream:
    handlers = ReadHandlers(lambda: None, lambda _payload: None, on_closed)
    return SievedStream(stream, handlers, ReadPacer(rest_seconds))


async def test_it_rests_between_reads_from_the_first_data_frame_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The handshake and pings are not slowed; a candle is not either, the read behind it is."""
    begin = trio.current_time()
    data = [HEAD[:40], HEAD[40:], frame(PING), frame(PING), closed(), forming(), frame(PING), b""]
    transport = Clocked(data)
    stream = resting(transport)
    received = []
    while piece := await stream.receive_some():
        received.append((piece, trio.current_time() - begin))
    assert received == [
        (HEAD[:40], 0),
        (HEAD[40:], 0),
        (frame(PING), 0),
        (frame(PING), 0),
        (closed(), 0),
        (frame(PING), 2 * REST_SECONDS),
    ]
    assert [at - begin for at in transport.read_at] == [0, 0, 0, 0, 0, 0.5, 1.0, 1.5]


async def ignore(_payloads: Sequence[bytes]) -> None:
    await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("on_closed", [None, ignore])
@pytest.mark.parametrize(
    ("rest", "read_at"),
    [
        (0.02, [0, 0.02, 0.08, 0.16, 0.18, 0.2, 0.22]),
        (0.04, [0, 0.04, 0.08, 0.16, 0.2, 0.24, 0.28]),
        (0.25, [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5]),
    ],
)
async def test_it_rests_longer_as_long_as_candles_only_form(
    autojump_clock: trio.testing.MockClock,
    rest: float,
    read_at: list[float],
    on_closed: Callable[[Sequence[bytes]], Awaitable[None]] | None,
) -> None:
    """Nobody waits for them; once one has closed, others will. But never beyond 80 ms."""
    begin = trio.current_time()
    half = closed()[:200]
    data = [HEAD + forming(), forming(), forming(), closed(), closed() + forming(), half, b""]
    transport = Clocked(data)
    stream = resting(transport, rest, on_closed)
    while await stream.receive_some():
        pass
    assert [at - begin for at in transport.read_at] == pytest.approx(read_at)


async def test_a_forming_candle_is_the_first_data_frame_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    begin = trio.current_time()
    transport = Clocked([HEAD + forming(), closed(), b""])
    stream = resting(transport)
    assert await stream.receive_some() == HEAD
    assert await stream.receive_some() == closed()
    assert [at - begin for at in transport.read_at] == [0, REST_SECONDS]


async def test_what_is_decoded_waits_for_no_rest(autojump_clock: trio.testing.MockClock) -> None:
    """A caller that takes little at a time gets it at once, as long as there is some."""
    begin = trio.current_time()
    transport = Clocked([HEAD + closed() * 3, b""])
    stream = resting(transport)
    received = b""
    while len(received) < len(HEAD + closed() * 3):
        received += await stream.receive_some(50)
        assert trio.current_time() == begin
    assert await stream.receive_some() == b""
    assert trio.current_time() == begin + REST_SECONDS


async def test_time_spent_on_a_read_is_rest_too(autojump_clock: trio.testing.MockClock) -> None:
    begin = trio.current_time()
    transport = Clocked([HEAD + closed(), closed(), b""])
    stream = resting(transport)
    await stream.receive_some()
    await trio.sleep(0.4)
    await stream.receive_some()
    await trio.sleep(3)
    await stream.receive_some()
    assert [at - begin for at in transport.read_at] == [0, REST_SECONDS, REST_SECONDS + 3]


async def test_a_backlog_is_worked_off_without_a_rest(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Else so much a rest would be the most that could ever be received."""
    begin = trio.current_time()
    much = forming() * (50_000 // len(forming()))
    transport = Clocked([HEAD, much, much, much, forming(), b""])
    stream = resting(transport)
    assert await stream.receive_some() == HEAD
    assert await stream.receive_some() == b""
    assert [at - begin for at in transport.read_at] == [0, 0, 0, 0, 0, REST_SECONDS]


async def test_whoever_is_cancelled_while_it_rests_loses_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """And the rest is not begun anew."""
    begin = trio.current_time()
    transport = Clocked([HEAD + closed(), closed(), b""])
    stream = resting(transport)
    await stream.receive_some()
    for _ in range(4):
        with trio.move_on_after(REST_SECONDS / 8) as scope:
            await stream.receive_some()
        assert scope.cancelled_caught
    assert await stream.receive_some() == closed()
    assert [at - begin for at in transport.read_at] == [0, REST_SECONDS]


def is_closed(text: object) -> bool:
    """What a closed candle is, said by what a forming one is."""
    return (
        isinstance(text, str)
        and len(text.encode()) <= LONGEST_JUDGED
        and text.count('"x"') == text.count('"x":true') == 1
        and "\\" not in text
    )


def is_taken(message: Message) -> bool:
    return message[0] == "message" and message[2] == 1 and is_closed(message[1])


def is_left_out(message: Message) -> bool:
    return (
        message[0] == "message"
        and message[2] == 1
        and isinstance(message[1], str)
        and (is_forming(message[1]) or is_closed(message[1]))
    )


@given(st.composite(mutilated)(), sizes, st.sampled_from([b"", frame(CLOSE) + closed()]))
@settings(max_examples=300, deadline=None)
def test_closed_candles_are_taken_out_however_they_were_split(
    data: bytes, sizes: list[int], end: bytes
) -> None:
    """Each once, in order, and nothing else; wsproto hears the rest as it was."""
    client, _, head = handshake()
    heard = list(hear(client, [head + data + end]))
    if heard and heard[-1][0] == "close" and heard[-1][1] == 1007:
        return  # bytes that are no UTF-8 go unnoticed in what is left out
    client, _, head = handshake()
    sieve = Sieve(CandleFilter(takes_closed=True))
    taken: list[bytes] = []
    passed = []
    for chunk in split(head + data + end, sizes):
        before = sieve.frames
        passed.append(sieve.feed(chunk))
        taken += sieve.candles.taken
        assert sieve.alive == (sieve.frames > before)
    assert [text.decode() for text in taken] == [m[1] for m in heard if is_taken(m)]
    assert sieve.candles.closed == len(taken)
    expected = without_counts(m for m in heard if not is_left_out(m))
    assert without_counts(hear(client, passed)) == expected


def test_only_what_is_positively_closed_is_taken() -> None:
    sieve = Sieve(CandleFilter(takes_closed=True))
    sieve.feed(HEAD)
    for kept in (
        candle(" true"),
        candle("True"),
        candle("true") + candle("true"),
        b'"x":tru',
        candle("true") + b"\\",
    ):
        data = frame(TEXT, kept)
        assert sieve.feed(data) is data
        assert sieve.candles.taken == []
    assert sieve.feed(closed() + forming() + frame(PING) + closed()) == frame(PING)
    assert sieve.candles.taken == [candle("true")] * 2
    assert (sieve.kept, sieve.candles.dropped, sieve.candles.closed, sieve.frames) == (5, 1, 2, 8)


@pytest.mark.parametrize("key", [b'"x":false', b'"x":true'])
def test_a_key_does_not_begin_in_a_header(key: bytes) -> None:
    """A length of 34 is a quotation mark; and 120 is an x, in a header of two bytes as of four."""
    sieve = Sieve(CandleFilter(takes_closed=True))
    sieve.feed(HEAD)
    for kept in (key[1:] + b"." * (34 - len(key) + 1), b'":false' + b"." * 113, b"." * 0x178):
        data = frame(TEXT, kept)
        assert b"x" in data[:4] or b'"' in data[:2]
        assert sieve.feed(data) is data
    for taken in (120, 0x178):
        assert sieve.feed(frame(TEXT, key + b"." * (taken - len(key)))) == b""


@pytest.mark.parametrize("state", ["false", "true"])
def test_names_with_an_x_are_names(state: str) -> None:
    sieve = Sieve(CandleFilter(takes_closed=True))
    sieve.feed(HEAD)
    payload = candle(state, "xrpusdt@kline_1m")
    for kept in (payload.replace(b"v", b"x"), payload + b'"x"', payload.replace(b'"x"', b'"xx"')):
        data = frame(TEXT, kept)
        assert sieve.feed(data) is data
    assert sieve.feed(frame(TEXT, payload) * 3 + frame(TEXT, b"x" * 300)) == frame(TEXT, b"x" * 300)
    assert sieve.candles.dropped + sieve.candles.closed == 3


def test_a_closed_candle_is_heard_of() -> None:
    sieve = Sieve(CandleFilter(takes_closed=True))
    sieve.candles.unseen = {b"btcusdt@kline_1m", b"ethusdt@kline_1m"}
    sieve.feed(HEAD + closed())
    assert sieve.candles.unseen == {b"ethusdt@kline_1m"}


class Taker:
    """Takes closed candles, and may be slow."""

    def __init__(self, slow_seconds: float = 0) -> None:
        self.slow_seconds = slow_seconds
        self.told: list[str] = []

    def lay_around(self, stream: trio.abc.Stream) -> SievedStream:
        handlers = ReadHandlers(
            on_life=lambda: self.told.append("life"),
            on_closed=self.take,
            on_forming=lambda _payload: self.told.append("forming"),
        )
        return SievedStream(stream, handlers)

    async def take(self, payloads: Sequence[bytes]) -> None:
        await trio.sleep(self.slow_seconds)
        assert set(payloads) == {candle("true")}
        self.told.append(f"{len(payloads)} closed")


async def test_a_read_is_told_as_life_then_closed_candles_then_a_forming_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What a forming candle tells of the time is told when all that came before is delivered."""
    taker = Taker(slow_seconds=3)
    transport = Scripted([HEAD, closed() + forming() + closed(), frame(PING), b""])
    stream = taker.lay_around(transport)
    assert await stream.receive_some() == HEAD
    assert await stream.receive_some() == frame(PING)
    assert taker.told == ["life", "2 closed", "forming"]
    assert trio.current_time() == pytest.approx(3)


async def test_what_else_a_read_brought_survives_a_taker_that_is_cut_off(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """By a cancellation, and by the end of the stream."""
    stream = Taker(slow_seconds=3).lay_around(Scripted([HEAD, frame(PING) + closed()]))
    assert await stream.receive_some() == HEAD
    with trio.move_on_after(1):
        await stream.receive_some()
    assert await stream.receive_some() == frame(PING)

    stream = Taker(slow_seconds=3).lay_around(Scripted([HEAD, frame(PING) + closed()]))
    assert await stream.receive_some() == HEAD

    async def close() -> None:
        await trio.sleep(1)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close)
        assert await stream.receive_some() == frame(PING)
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()


async def test_a_taker_that_failed_is_remembered() -> None:
    """trio-websocket's reader may lose what was raised."""
    failure = ZeroDivisionError()

    async def fail(_payloads: Sequence[bytes]) -> None:
        await trio.lowlevel.checkpoint()
        raise failure

    handlers = ReadHandlers(lambda: None, lambda _payload: None, fail)
    stream = SievedStream(Scripted([HEAD + closed()]), handlers)
    with pytest.raises(ZeroDivisionError):
        await stream.receive_some()
    assert stream.bug is failure
    assert await stream.receive_some() == HEAD


async def test_all_that_wait_for_a_moment_go_on_in_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shared_timer, woken = SharedTimer(), []

    async def wait(moment: float) -> None:
        await shared_timer.until(moment)
        woken.append((moment, trio.current_time()))

    async with trio.open_nursery() as nursery:
        for moment in (1.0, 1.0, 2.0, 0.5, 1.0):
            nursery.start_soon(wait, moment)
    assert sorted(woken) == [(0.5, 0.5), (1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (2.0, 2.0)]


async def test_each_moment_has_one_timer(autojump_clock: trio.testing.MockClock) -> None:
    """Who waits for a later one is not woken by an earlier."""
    shared_timer, steps = SharedTimer(), 0

    class Steps(trio.abc.Instrument):
        def before_task_step(self, _task: trio.lowlevel.Task) -> None:
            nonlocal steps
            steps += 1

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(shared_timer.until, 10.0)
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(Steps())
        for moment in range(1, 10):
            await shared_timer.until(moment)
        assert steps < 50


async def test_a_moment_that_is_past_is_not_waited_for() -> None:
    with trio.fail_after(1):
        await SharedTimer().until(trio.current_time())
        await SharedTimer().until(-math.inf)


@pytest.mark.parametrize("seed", range(20))
async def test_nobody_wakes_early_or_late_whoever_is_cancelled(
    autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    shared_timer, chance, late = SharedTimer(), random.Random(seed), []

    async def wait(begin: float, moment: float, given_up: float) -> None:
        await trio.sleep_until(begin)
        with trio.move_on_at(given_up) as scope:
            await shared_timer.until(moment)
        expected = given_up if scope.cancelled_caught else max(begin, moment)
        if trio.current_time() != expected or scope.cancelled_caught != (
            max(begin, given_up) <= moment and begin < moment and given_up < moment
        ):
            late.append((begin, moment, given_up, trio.current_time()))

    async with trio.open_nursery() as nursery:
        for _ in range(30):
            begin, moment = chance.randrange(20), chance.randrange(20) + 0.5
            given_up = begin + chance.choice([0.25, 3.25, math.inf])
            nursery.start_soon(wait, begin, moment, given_up)
    assert late == []
