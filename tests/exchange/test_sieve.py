"""The sieve against wsproto and trio-websocket: only forming candles go missing, ever."""

import itertools
import json
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import pytest
import trio
import trio.testing
import trio_websocket
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection, events

from kline_trio.exchange.sieve import Sieve
from kline_trio.exchange.sieved_stream import ReadHandlers, SievedStream

SESSIONS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "ws"
HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
LONGEST_JUDGED = 4096

Message = tuple[object, ...]


def candle(state: str = "false", stream: str = "btcusdt@kline_1m", e: int = 1) -> bytes:
    """A frame's text as Binance spells it."""
    return (
        f'{{"stream":"{stream}","data":{{"e":"kline","E":{e},"s":"BTCUSDT","k":{{"t":0,"T":59999,'
        f'"s":"BTCUSDT","i":"1m","f":1,"L":2,"o":"1.0","c":"1.0","h":"1.0","l":"1.0","v":"2.0",'
        f'"n":2,"x":{state},"q":"2.0","V":"1.0","Q":"1.0","B":"0"}}}}}}'
    ).encode()


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, width: int | None = None
) -> bytes:
    """An unmasked frame; `width` is that of the extended length: 0, 2 or 8, None the least."""
    size = len(payload)
    if width is None:
        width = 0 if size < 126 else 2 if size < 65_536 else 8
    short = {0: size, 2: 126, 8: 127}[width]
    extended = size.to_bytes(width, "big") if width else b""
    return bytes([fin << 7 | rsv << 4 | opcode, short]) + extended + payload


def forming(e: int = 1, stream: str = "btcusdt@kline_1m") -> bytes:
    """A whole frame that the sieve is there to leave out."""
    return frame(TEXT, candle(e=e, stream=stream))


def closed() -> bytes:
    """A whole frame that everything is about."""
    return frame(TEXT, candle("true"))


def is_forming(text: str) -> bool:
    """What a forming candle is, said again in other words than the sieve's."""
    states = re.findall(r'(?<="x").{0,6}', text, re.DOTALL)
    return states == [":false"] and "\\" not in text and len(text.encode()) <= LONGEST_JUDGED


def handshake() -> tuple[WSConnection, WSConnection, bytes]:
    """A client and a server of wsproto, the client yet to hear the server's answer."""
    client, server = WSConnection(ConnectionType.CLIENT), WSConnection(ConnectionType.SERVER)
    server.receive_data(client.send(events.Request(host="host", target="/")))
    assert isinstance(next(server.events()), events.Request)
    return client, server, server.send(events.AcceptConnection())


def hear(client: WSConnection, chunks: Iterable[bytes]) -> Iterator[Message]:
    """What wsproto makes of the chunks: whole messages, each with the number of its fragments."""
    parts: list[str | bytes] = []
    for chunk in chunks:
        if not chunk:  # wsproto takes it for EOF, and no transport passes it on
            continue
        client.receive_data(chunk)
        for event in client.events():
            if isinstance(event, events.TextMessage | events.BytesMessage):
                parts.append(event.data if isinstance(event.data, str) else bytes(event.data))
                if event.message_finished:
                    yield "message", type(parts[0])().join(parts), len(parts)  # type: ignore[arg-type]
                    parts = []
            elif isinstance(event, events.Ping | events.Pong):
                yield type(event).__name__, bytes(event.payload)
            elif isinstance(event, events.CloseConnection):
                yield "close", event.code, event.reason


def without_forming(messages: Iterable[Message]) -> list[Message]:
    """What should be left, from what wsproto made of the unsieved stream fed at one go."""
    return [
        message[:2] if message[0] == "message" else message
        for message in messages
        if not (
            message[0] == "message"
            and isinstance(message[1], str)
            and message[2] == 1
            and is_forming(message[1])
        )
    ]


def without_counts(messages: Iterable[Message]) -> list[Message]:
    """Split reads give wsproto more fragments than there were frames: leave the numbers out."""
    return [message[:2] if message[0] == "message" else message for message in messages]


def split(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The data in reads of these sizes, over and over."""
    position = turn = 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        yield data[position : position + size]
        position += size
        turn += 1


NEAR_MISSES = [
    '"x":false',
    '"x":true',
    '"x": false',
    '"x":falsey',
    '"x":fals',
    '"x":',
    '"x"',
    '"',
    '"x":"x":false',
    '\\"x\\":false',
    '"xx":false',
    "é",
    "燕",
    "x",
    '{"stream":"xrpusdt@kline_1m","data":{',
    "," * 110,
    "," * 126,
    "," * 300,
]
texts = st.one_of(
    st.sampled_from([candle(s).decode() for s in ("false", "true", " false", "falsey", "null")]),
    st.lists(st.sampled_from(NEAR_MISSES), max_size=6).map("".join),
    st.builds(
        lambda size, text: text + "." * (size - len(text)),
        st.sampled_from([125, 126, 127, LONGEST_JUDGED, LONGEST_JUDGED + 1]),
        st.sampled_from(['"x":false', '"x":true']),
    ),
    st.builds(
        lambda size, text: "." * (size - len(text)) + text,
        st.sampled_from([125, 126, LONGEST_JUDGED, LONGEST_JUDGED + 1]),
        st.sampled_from(['"x":false', '"x":fals']),
    ),
    st.text(max_size=20),
)
controls = st.builds(frame, st.sampled_from([PING, PONG]), st.binary(max_size=125))
Unit = tuple[bytes, bool, bool]
"""A frame, whether it carries data, and whether the sieve must leave it out."""


def control_unit(data: bytes) -> Unit:
    return data, False, False


@st.composite
def fragmented(draw: st.DrawFn) -> list[Unit]:
    """A message in fragments cut anywhere, even in a character, with control frames between."""
    text = draw(st.booleans())
    payload = draw(texts).encode() if text else draw(st.binary(max_size=300))
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), min_size=1, max_size=3)))
    bounds = [0, *cuts, len(payload)]
    units: list[Unit] = []
    for index, (begin, end) in enumerate(itertools.pairwise(bounds)):
        opcode = CONTINUATION if index else TEXT if text else BINARY
        part = frame(opcode, payload[begin:end], fin=index == len(cuts))
        units.append((part, True, False))
        if index < len(cuts):
            units.extend(map(control_unit, draw(st.lists(controls, max_size=1))))
    return units


def whole_text(text: str) -> list[Unit]:
    return [(frame(TEXT, text.encode()), True, is_forming(text))]


def whole_bytes(payload: bytes) -> list[Unit]:
    return [(frame(BINARY, payload), True, False)]


units = st.lists(
    st.one_of(
        texts.map(whole_text),
        st.sampled_from([candle().decode(), candle("true").decode()]).map(whole_text),
        st.one_of(st.binary(max_size=200), st.just(candle())).map(whole_bytes),
        controls.map(lambda data: [control_unit(data)]),
        fragmented(),
    ),
    max_size=8,
).map(lambda groups: [unit for group in groups for unit in group])
sizes = st.one_of(
    st.sampled_from([[1], [2], [100_000]]),
    st.lists(st.integers(1, 400), min_size=1, max_size=6),
)
ends = st.sampled_from(
    [b"", frame(CLOSE), frame(CLOSE, b"\x03\xe8bye") + forming() + closed(), forming()[:99]]
)


@given(units, sizes, ends)
@settings(max_examples=150, deadline=None)
def test_wsproto_hears_all_but_the_forming_candles(
    units: list[Unit], sizes: list[int], end: bytes
) -> None:
    """Behind the sieve wsproto gives what it gives without, less the forming candles."""
    client, _, head = handshake()
    unsieved = head + b"".join(unit[0] for unit in units) + end
    expected = without_forming(hear(client, [unsieved]))

    client, _, head = handshake()  # of the same length, with its own accept token
    sieve = Sieve()
    data = head + unsieved[len(head) :]
    assert without_counts(hear(client, map(sieve.feed, split(data, sizes)))) == expected


@given(st.lists(st.one_of(texts, st.binary(max_size=200), st.none()), max_size=8), sizes)
@settings(max_examples=60, deadline=None)
def test_wsproto_hears_another_wsproto(said: list[str | bytes | None], sizes: list[int]) -> None:
    """The same for frames that wsproto's own server has made; None is a ping."""
    client, server, data = handshake()
    for item in said:
        if item is None:
            data += server.send(events.Ping(b"still there?"))
        elif isinstance(item, str):
            middle = len(item) // 2
            data += server.send(events.TextMessage(item))
            data += server.send(events.TextMessage(item[:middle], message_finished=False))
            data += server.send(events.TextMessage(item[middle:]))
        else:
            data += server.send(events.BytesMessage(item))
    expected: list[Message] = []
    for item in said:
        if item is None:
            expected.append(("Ping", b"still there?"))
        elif isinstance(item, bytes):
            expected.append(("message", item))
        else:
            expected += [("message", item)] * (1 if is_forming(item) else 2)
    sieve = Sieve()
    assert without_counts(hear(client, map(sieve.feed, split(data, sizes)))) == expected


@given(units, sizes)
@settings(max_examples=150, deadline=None)
def test_every_other_byte_passes_and_every_frame_is_counted(
    units: list[Unit], sizes: list[int]
) -> None:
    """Byte for byte; `alive` is true in just the feeds in which a data frame ends."""
    sieve = Sieve()
    assert sieve.feed(HEAD) == HEAD
    unit_ends, position = [], 0
    for data, is_data, _ in units:
        position += len(data)
        unit_ends += [position] * is_data
    passed, position = b"", 0
    for chunk in split(b"".join(unit[0] for unit in units), sizes):
        passed += sieve.feed(chunk)
        before, position = position, position + len(chunk)
        assert sieve.alive == any(before < end <= position for end in unit_ends)
    dropped = [data for data, _, drop in units if drop]
    assert passed == b"".join(data for data, _, drop in units if not drop)
    assert (sieve.kept, sieve.candles.dropped) == (len(unit_ends) - len(dropped), len(dropped))
    if dropped:
        assert dropped[-1].endswith(sieve.candles.newest_dropped)
        assert '"x":false' in sieve.candles.newest_dropped.decode()


def mutilated(draw: st.DrawFn) -> bytes:
    """Frames of which some bytes were overwritten: mostly headers gone wrong."""
    data = bytearray(b"".join(unit[0] for unit in draw(units)))
    for _ in range(draw(st.integers(0, 3)) if data else 0):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


odd_frames = st.builds(
    frame,
    st.integers(0, 15),
    st.one_of(st.just(candle()), st.just(b'"x":false'), st.binary(max_size=130)),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 0, 1, 4, 7]),
)


@given(
    st.one_of(
        st.binary(max_size=60),
        st.lists(odd_frames, max_size=6).map(b"".join),
        st.composite(mutilated)(),
    ),
    sizes,
)
@example(b'\x81\x0a"x":false"' + b'x":' + forming(), [100])
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_judged_by_wsproto_alone(data: bytes, sizes: list[int]) -> None:
    """Whatever comes, the sieve changes no verdict; but in what is left out, bytes that are no
    UTF-8 go unnoticed.
    """
    client, _, head = handshake()
    unsieved = list(hear(client, [head + data]))
    expected = without_forming(unsieved)
    client, _, head = handshake()
    sieve = Sieve()
    sieved = without_counts(hear(client, map(sieve.feed, split(head + data, sizes))))
    not_utf8 = expected and expected[-1][0] == "close" and expected[-1][1] == 1007
    if not_utf8 and sieved != expected:
        expected.pop()
        sieved = sieved[: len(expected)]
    assert sieved == expected


@given(st.binary(max_size=40), sizes)
@settings(max_examples=100, deadline=None)
def test_a_response_other_than_101_passes_for_ever(junk: bytes, sizes: list[int]) -> None:
    """Nothing is walked after a refusal, or after what is no HTTP at all."""
    for head in (b"HTTP/1.1 451 Unavailable\r\n\r\n", b"SSH-2.0\r\n\r\n", b"\r\n\r\n"):
        sieve, data = Sieve(), head + junk + forming() + forming()
        assert b"".join(map(sieve.feed, split(data, sizes))) == data
        assert not sieve.head.upgraded
        assert not sieve.alive
        assert sieve.head.status == (451 if b"451" in head else 0)


def walking() -> Sieve:
    """A sieve behind a complete 101."""
    sieve = Sieve()
    sieve.feed(HEAD)
    assert sieve.head.upgraded
    return sieve


@pytest.mark.parametrize(
    "payload",
    [
        candle(),
        candle().replace(b",", b", ").replace(b'"}}', b'" }}'),
        b'{"e":"kline","x":false}',
        b'"x":false',
        b"." * 117 + b'"x":false',
        b"." * (LONGEST_JUDGED - 9) + b'"x":false',
        b'"x":false' + b"." * (LONGEST_JUDGED - 9),
        b'"x":false,"x',
        '{"stream":"燕usdt@kline_1m","x":false}'.encode(),
    ],
)
def test_forming_candles_are_left_out(payload: bytes) -> None:
    """Short, long, at the very end of the payload, in Chinese: all are gone, and are life."""
    sieve = walking()
    assert sieve.feed(frame(TEXT, payload)) == b""
    assert sieve.alive
    assert (sieve.kept, sieve.candles.dropped, sieve.candles.newest_dropped) == (0, 1, payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"1",
        candle("true"),
        candle(" false"),
        candle("False"),
        candle("false") + candle("false"),
        candle("false") + candle("true"),
        candle("true") + candle("false"),
        candle().replace(b'"x":', b'\\"x\\":'),
        candle().replace(b'"x":', b'"X":'),
        b'"x":false"x":true',
        b'"x":false,"x"',
        b'"x":false,"x" :true',
        b'"x":false,"\\u0078":true',
        b'"\\"x":false,"x" :true',
        b'"x":fals',
        b'"x":',
        b"." * 200 + b'"x":fals',
        b"." * (LONGEST_JUDGED - 8) + b'"x":false',
        b'{"result":null,"id":1}',
    ],
)
def test_all_else_is_kept(payload: bytes) -> None:
    """What is not positively a forming candle passes, as the very object that came."""
    sieve = walking()
    for data in (frame(TEXT, payload), frame(BINARY, payload), frame(BINARY, candle())):
        assert sieve.feed(data) is data
        assert sieve.alive
    assert (sieve.kept, sieve.candles.dropped) == (3, 0)


def test_the_letter_of_the_rule_wins_over_its_spirit() -> None:
    """`"x":falsey` is no JSON that Binance could send; as it begins with false, it goes."""
    assert walking().feed(frame(TEXT, candle("falsey"))) == b""


def test_neighbouring_frames_do_not_complete_each_other() -> None:
    """A key that begins in one frame and would end in the next is in neither."""
    sieve = walking()
    data = frame(TEXT, b'"x') + frame(TEXT, b'":false"x":fal') + frame(TEXT, b"se")
    assert sieve.feed(data) is data
    assert (sieve.kept, sieve.candles.dropped) == (3, 0)


def test_no_length_is_taken_for_a_letter() -> None:
    """376 is 0x0178, and 0x78 is an x: one byte of the header looks like the key's."""
    for size in range(len(candle()), 700):
        text = candle().replace(b'"1m"', b'"1m%s"' % (b"_" * (size - len(candle()))))
        run = forming() + frame(TEXT, text) * 2 + closed() + frame(TEXT, text)
        sieve = Sieve()
        assert sieve.feed(HEAD + run) == HEAD + closed()
        assert (sieve.candles.dropped, sieve.kept) == (4, 1)


def test_a_run_of_names_with_an_x_is_left_out() -> None:
    """As a run of others is; the x of the last name is the next that a search finds."""
    names = ["xrpusdt", "btcusdt", "dydxusdt", "axsxxx"]
    run = [forming(stream=f"{name}@kline_1m") for name in names]
    for several in itertools.product([*run, closed(), frame(PING)], repeat=3):
        stays = b"".join(one for one in several if one not in run)
        assert Sieve().feed(HEAD + b"".join(several)) == HEAD + stays


def test_a_mixed_read_is_cut_in_the_right_places() -> None:
    """Frames before, between and after the forming ones come out in one piece."""
    sieve = walking()
    ping = frame(PING, b"1")
    data = closed() + forming() + ping + forming() + forming() + closed() + closed() + forming()
    assert sieve.feed(data) == closed() + ping + closed() + closed()
    assert (sieve.kept, sieve.candles.dropped) == (3, 4)
    assert sieve.feed(forming() * 100) == b""


def test_frames_in_the_read_of_the_head_are_sieved() -> None:
    """Binance may send with its first packet; nothing of it gets by unseen."""
    sieve = Sieve()
    assert sieve.feed(HEAD[:20]) == HEAD[:20]
    assert (sieve.head.upgraded, sieve.alive, sieve.head.status) == (False, False, 0)
    assert sieve.feed(HEAD[20:] + forming() + closed()) == HEAD[20:] + closed()
    assert (sieve.head.upgraded, sieve.alive, sieve.head.status) == (True, True, 101)


def test_the_head_ends_where_h11_says() -> None:
    """h11 takes bare line feeds too: to see the end later would be to begin inside a frame."""
    for head in (b"HTTP/1.1 101\n\n", b"HTTP/1.1 101 OK\r\nA: b\n\r\n"):
        assert Sieve().feed(head + forming() + b"\r\n\r\n") == head + b"\r\n\r\n"


def test_a_head_without_end_is_not_collected() -> None:
    """After 16 KiB all passes, and none of it is kept in memory."""
    sieve = Sieve()
    for _ in range(100):
        assert len(sieve.feed(b"HTTP/1.1 101 " + b"." * 1000)) == 1013
    tail = HEAD + forming()
    assert sieve.feed(tail) is tail
    assert not sieve.head.upgraded


def test_a_fragmented_message_passes_whole() -> None:
    """Though its first fragment looks like a candle; control frames in between change nothing."""
    sieve = walking()
    data = (
        frame(TEXT, candle(), fin=False)
        + frame(PING)
        + frame(CONTINUATION, candle(), fin=False)
        + frame(PONG, b"x")
        + frame(CONTINUATION)
    )
    assert sieve.feed(data) is data
    assert (sieve.kept, sieve.candles.dropped) == (3, 0)
    assert sieve.feed(forming()) == b""


def test_an_empty_control_frame_is_not_held_back() -> None:
    """A ping of two bytes at the end of a read must be answered now, not after the next frame."""
    sieve = walking()
    assert sieve.feed(forming() + frame(PING)) == frame(PING)
    sieve = walking()
    assert sieve.feed(frame(PING)) == frame(PING)
    assert not sieve.alive
    assert sieve.feed(forming()) == b""


@pytest.mark.parametrize(
    "breach",
    [
        pytest.param(b"\x81\x80" + b"mask", id="masked"),
        pytest.param(frame(TEXT, rsv=4), id="RSV1"),
        pytest.param(frame(3), id="reserved opcode"),
        pytest.param(frame(11), id="reserved control opcode"),
        pytest.param(frame(PING, fin=False), id="fragmented ping"),
        pytest.param(frame(PING, b"." * 126), id="long ping"),
        pytest.param(frame(CONTINUATION), id="continuation of nothing"),
        pytest.param(frame(TEXT, fin=False) + frame(TEXT), id="text inside a message"),
        pytest.param(frame(TEXT, b"." * 125, width=2), id="two bytes for 125"),
        pytest.param(frame(TEXT, b"." * 300, width=8), id="eight bytes for 300"),
        pytest.param(b"\x82\x7f\x80" + bytes(7), id="length with its high bit"),
        pytest.param(frame(CLOSE, b"\x03\xe8"), id="CLOSE"),
    ],
)
def test_after_a_breach_or_a_close_everything_passes(breach: bytes) -> None:
    """What follows means nothing to wsproto, so nothing is judged, and nothing is life."""
    sieve = walking()
    sieve.feed(frame(BINARY))
    assert sieve.feed(breach) == breach
    assert sieve.alive == breach.startswith(frame(TEXT, fin=False))
    assert sieve.feed(forming()) == forming()
    assert sieve.candles.dropped == 0
    assert not sieve.alive
    sieve = walking()
    assert sieve.feed(forming() + breach + forming()) == breach + forming()


@pytest.mark.parametrize("size", [LONGEST_JUDGED + 1, 65_535, 65_536, 3_000_000])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_long_frames_pass_as_they_come(size: int, opcode: int) -> None:
    """They are counted down, never collected; life is when they end."""
    sieve = walking()
    data = frame(opcode, (b'"x":false' * (size // 9 + 1))[:size])
    header = len(data) - size
    pieces = [data[:header], *split(data[header:], [1000])]
    for piece in pieces[:-1]:
        assert sieve.feed(piece) is piece
        assert not sieve.alive
    assert sieve.feed(pieces[-1] + forming()) == pieces[-1]
    assert (sieve.kept, sieve.candles.dropped) == (1, 1)


@given(st.binary(max_size=3000), st.integers(1, 700))
@settings(max_examples=50, deadline=None)
def test_little_is_ever_held_back(junk: bytes, size: int) -> None:
    """No more than the longest frame that may yet prove to be a candle, and its header."""
    sieve, came, passed = walking(), 0, 0
    whole = frame(TEXT, b"." * LONGEST_JUDGED)
    for chunk in split(whole + junk + whole * 3, [size]):
        came += len(chunk)
        passed += len(sieve.feed(chunk))
        if not sieve.candles.dropped:
            assert came - passed <= LONGEST_JUDGED + 10


def test_dropped_frames_are_heard_of() -> None:
    """Their stream names leave `unseen`; kept frames are heard where they are decoded."""
    sieve = walking()
    sieve.candles.unseen = {b"btcusdt@kline_1m", b"ethusdt@kline_1m", "燕usdt@kline_1m".encode()}
    sieve.feed(forming() + frame(TEXT, candle("true", stream="ethusdt@kline_1m")))
    assert sieve.candles.unseen == {b"ethusdt@kline_1m", "燕usdt@kline_1m".encode()}
    sieve.feed(forming(stream="燕usdt@kline_1m") + frame(TEXT, b'{"e":"kline","x":false}'))
    assert sieve.candles.unseen == {b"ethusdt@kline_1m"}
    sieve.feed(frame(TEXT, b'{"stream":"ethusdt@kline_1m, "x":false'))
    assert sieve.candles.unseen == {b"ethusdt@kline_1m"}
    assert sieve.candles.dropped == 4


@pytest.mark.parametrize(
    ("name", "forming_candles"),
    [
        ("spot-2021-08-14.txt", 15),
        ("usdt_futures-2021-04-17.txt", 99),
        ("coin_futures-2021-07-22.txt", 33),
    ],
)
def test_recorded_sessions(name: str, forming_candles: int) -> None:
    """Of real sessions just the forming candles are missing, in whatever reads they come."""
    if not SESSIONS.is_dir():
        pytest.skip(f"NOT TESTED on real sessions: {SESSIONS} is absent")
    lines = (SESSIONS / name).read_text().splitlines()
    payloads = [line[line.index("{") :] for line in lines if "{" in line]
    assert len(payloads) > 100
    sieve = walking()
    passed: list[str] = []
    dropped: list[str] = []
    for payload in payloads:
        data = frame(TEXT, payload.encode())
        (passed if sieve.feed(data) else dropped).append(payload)
    assert len(passed) + len(dropped) == len(payloads) == sieve.kept + sieve.candles.dropped

    def still_forming(payload: str) -> bool:
        data = json.loads(payload)["data"]
        return data.get("e") == "kline" and data["k"]["x"] is False

    assert list(map(still_forming, dropped)) == [True] * forming_candles
    assert not any(map(still_forming, passed))
    session = HEAD + b"".join(frame(TEXT, payload.encode()) for payload in payloads)
    kept = HEAD + b"".join(frame(TEXT, payload.encode()) for payload in passed)
    for sizes in ([65_536], [4096], [7], [random.Random(1).randint(1, 900) for _ in range(99)]):
        sieve = Sieve()
        assert b"".join(map(sieve.feed, split(session, sizes))) == kept


# The stream


class Ear:
    """Keeps what a sieved stream reports, with the virtual time of it."""

    def __init__(self) -> None:
        self.lives: list[float] = []
        self.samples: list[tuple[float, bytes]] = []

    def on_life(self) -> None:
        self.lives.append(trio.current_time())

    def on_forming(self, payload: bytes) -> None:
        self.samples.append((trio.current_time(), payload))

    def lay_around(self, stream: trio.abc.Stream) -> SievedStream:
        return SievedStream(stream, ReadHandlers(self.on_life, self.on_forming))


def pair() -> tuple[Ear, SievedStream, trio.abc.Stream]:
    """An ear, the client's sieved end, and the server's raw end."""
    ear, (near, far) = Ear(), trio.testing.memory_stream_pair()
    return ear, ear.lay_around(near), far


async def upgraded_pair() -> tuple[Ear, SievedStream, trio.abc.Stream]:
    """The same behind a complete 101."""
    ear, stream, far = pair()
    await far.send_all(HEAD)
    assert await stream.receive_some() == HEAD
    return ear, stream, far


class Scripted(trio.abc.Stream):
    """A transport that answers each read with the next item, an exception by raising it."""

    def __init__(self, items: Iterable[bytes | BaseException]) -> None:
        self.items = iter(items)
        self.asked: list[int | None] = []

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        self.asked.append(max_bytes)
        item = next(self.items)
        if isinstance(item, BaseException):
            raise item
        return item

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        raise NotImplementedError

    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_kept_and_dropped_frames_are_life_and_pings_are_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Life is told when the frame has ended, though the reader goes on waiting."""
    start = trio.current_time()
    ear, stream, far = await upgraded_pair()

    async def serve() -> None:
        for data in (forming(), frame(PING), closed(), closed()[:50], closed()[50:]):
            await trio.sleep(1)
            await far.send_all(data)
        await trio.sleep(1)
        await far.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        received = [data async for data in stream]
    assert b"".join(received) == frame(PING) + closed() * 2
    assert [life - start for life in ear.lives] == [1, 3, 5]


async def test_forming_candles_are_sampled_once_a_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The first at once, and then the newest, never one twice."""
    start = trio.current_time()
    ear, stream, far = await upgraded_pair()

    async def serve() -> None:
        e = 0
        for pause in [0.25] * 10 + [5] + [0.25] * 3:
            await trio.sleep(pause)
            await far.send_all(forming(e) + forming(e + 1) + closed())
            e += 2
        for _ in range(5):
            await trio.sleep(1)
            await far.send_all(closed())
        await far.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        async for _ in stream:
            pass
    assert [(time - start, json.loads(payload)["data"]["E"]) for time, payload in ear.samples] == [
        (0.25, 1),
        (1.25, 9),
        (2.25, 17),
        (7.5, 21),
        (9.25, 27),
    ]


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("before", [b"", HEAD[:30], b"HTTP/1.1 451 No\r\n\r\n"])
async def test_an_end_before_the_handshake_raises(before: bytes, broken: bool) -> None:
    """Whether by EOF or by reset; a status that was seen is named."""
    end = trio.BrokenResourceError("reset") if broken else b""
    stream = Ear().lay_around(Scripted([before, end] if before else [end]))
    if before:
        assert await stream.receive_some() == before
    with pytest.raises(ConnectionError, match="before it answered the handshake") as caught:
        await stream.receive_some()
    assert ("(status 451)" in str(caught.value)) == (b"451" in before)
    assert caught.value.__cause__ is (end if broken else None)


async def test_an_end_after_the_handshake_passes() -> None:
    """EOF again and again, and a reset as what it is; a frame cut short is of no use to anyone."""
    stream = Ear().lay_around(Scripted([HEAD, forming() + closed()[:9], b"", b""]))
    assert await stream.receive_some() == HEAD
    assert await stream.receive_some() == b""
    assert await stream.receive_some() == b""
    stream = Ear().lay_around(Scripted([HEAD, trio.BrokenResourceError("reset")]))
    assert await stream.receive_some() == HEAD
    with pytest.raises(trio.BrokenResourceError, match="reset"):
        await stream.receive_some()


async def test_max_bytes_is_kept_to_and_reads_are_large() -> None:
    """The surplus waits; the transport is asked for 64 KiB whatever the caller asks for."""
    data = closed() * 3 + forming()
    transport = Scripted([HEAD + data, b""])
    stream = Ear().lay_around(transport)
    received = []
    with trio.testing.assert_checkpoints():
        received.append(await stream.receive_some(7))
    while piece := await stream.receive_some(100):
        received.append(piece)
        if len(received) == 5:
            with trio.testing.assert_checkpoints():
                received.append(await stream.receive_some())
    assert b"".join(received) == HEAD + closed() * 3
    assert [len(piece) for piece in received[:-1]] == [7, 100, 100, 100, 100]
    assert transport.asked == [262_144, 262_144]
    with pytest.raises(ValueError, match="max_bytes"):
        await stream.receive_some(0)


async def test_cancellation_loses_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """A reader that is cancelled over and over, at every wait there is, misses no byte."""
    _, stream, far = pair()
    dice = random.Random(7)
    data = HEAD + b"".join(dice.choice([forming(), closed(), frame(PING)]) for _ in range(99))
    expected = HEAD + data.removeprefix(HEAD).replace(forming(), b"")
    received = b""

    async def serve() -> None:
        for chunk in split(data, [dice.randint(1, 500) for _ in range(50)]):
            await trio.sleep(dice.choice([0, 0.001, 0.01]))
            await far.send_all(chunk)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        cancelled = 0
        while len(received) < len(expected):
            with trio.move_on_after(dice.choice([0, 0.0005, 0.001, 0.02])) as scope:
                received += await stream.receive_some(dice.choice([None, 1, 50]))
            cancelled += scope.cancelled_caught
    assert received == expected
    assert cancelled > 50


async def test_a_flood_of_forming_candles_lets_others_run() -> None:
    """Nothing comes out, yet other tasks go on, and the reader can be cancelled."""
    ear = Ear()
    flood = (HEAD if turn == 0 else forming() * 100 for turn in itertools.count())
    stream = ear.lay_around(Scripted(flood))
    await stream.receive_some()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive_some)
            for _ in range(20):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert stream.sieve.candles.dropped >= 1000
    assert stream.sieve.kept == 0


async def test_a_reader_that_failed_to_report_loses_nothing() -> None:
    """If a callback raises, which is a bug, the bytes of that read are still there."""

    def fail() -> None:
        raise ZeroDivisionError

    stream = SievedStream(Scripted([HEAD + closed()]), ReadHandlers(fail, Ear().on_forming))
    with pytest.raises(ZeroDivisionError):
        await stream.receive_some()
    assert await stream.receive_some() == HEAD + closed()


async def test_sending_and_closing_go_straight_through() -> None:
    """What is sent is not touched; closing forgets what was received."""
    _, stream, far = pair()
    await stream.wait_send_all_might_not_block()
    await stream.send_all(b"GET / " + forming())
    assert await far.receive_some() == b"GET / " + forming()
    await far.send_all(HEAD + closed())
    assert await stream.receive_some(1) == HEAD[:1]
    await stream.aclose()
    assert await far.receive_some() == b""
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()


# trio-websocket on top


async def open_websocket(
    nursery: trio.Nursery, stream: trio.abc.Stream
) -> trio_websocket.WebSocketConnection:
    """The client; by its annotation it wants a socket, by its documentation any stream."""
    return await trio_websocket.wrap_client_stream(
        nursery, cast("trio.SocketStream", stream), "host", "/stream"
    )


async def test_trio_websocket_gets_all_but_the_forming_candles(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The real client over the sieve: its messages, its pongs, its end, and life for all data."""
    ear, stream, far = pair()

    async def serve() -> None:
        request = await trio_websocket.wrap_server_stream(nursery, far)
        server = await request.accept()
        for minute in range(3):
            for second in range(60):
                await trio.sleep(1)
                await server.send_message(candle(e=60 * minute + second).decode())
            await server.send_message(candle("true", e=60 * minute).decode())
            with trio.fail_after(1):
                await server.ping()
        await server.aclose(1008, "enough")

    received: list[str | bytes] = []

    async def read() -> None:
        client = await open_websocket(nursery, stream)
        while True:
            received.append(await client.get_message())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with trio.fail_after(1000), pytest.raises(trio_websocket.ConnectionClosed) as caught:
            await read()
    assert received == [candle("true", e=60 * minute).decode() for minute in range(3)]
    reason = caught.value.reason
    assert reason is not None
    assert (reason.code, reason.reason) == (1008, "enough")
    assert (stream.sieve.kept, stream.sieve.candles.dropped) == (3, 180)
    assert [payload for _, payload in ear.samples] == [candle(e=e) for e in range(180)]
    assert len(ear.lives) >= 180


async def test_trio_websocket_does_not_wait_for_a_server_that_left(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """EOF instead of a response ends the handshake at once; alone, trio-websocket hangs."""
    start = trio.current_time()
    _, stream, far = pair()

    async def serve() -> None:
        await far.receive_some(4096)
        await far.aclose()

    with trio.fail_after(1000), pytest.RaisesGroup(ConnectionError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await open_websocket(nursery, stream)
    assert trio.current_time() == start


async def test_trio_websocket_is_told_of_a_refusal(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A complete refusal is trio-websocket's to report, with status and body."""
    _, stream, far = pair()

    async def serve() -> None:
        request = await trio_websocket.wrap_server_stream(nursery, far)
        await request.reject(451, body=b"restricted location")

    with trio.fail_after(1000), pytest.RaisesGroup(trio_websocket.ConnectionRejected) as caught:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await open_websocket(nursery, stream)
    refusal = caught.value.exceptions[0]
    assert isinstance(refusal, trio_websocket.ConnectionRejected)
    assert (refusal.status_code, refusal.body) == (451, b"restricted location")
    assert stream.sieve.head.status == 451
