"""Hostile inputs from seeded dice: texts that are almost candles, and bytes almost WebSocket.

Hypothesis shrinks and remembers, and gives some hundred inputs a second; ten million of them ask
for something that only draws, as cheaply as may be.
"""

import zlib
from collections.abc import Callable, Sequence
from random import Random

from tests.fuzzing.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    wire,
)

__all__ = ["Hostile"]

_EXCHANGES: Sequence[tuple[bytes, bytes]] = (
    # What is swapped for what: the key that the sieve looks for, first of all.
    (b'"x":true', b'"x":false'),
    (b'"x":false', b'"x":true'),
    (b'"x":false', b'"x" :true'),
    (b'"x":true', b'"x": false'),
    (b'"x":', b'"x" :'),
    (b'"x":', b'"x":\n'),
    (b'"x":', b'\\"x\\":'),
    (b'"x":', b'"X":'),
    (b'"x"', b'"\\u0078"'),
    (b'"x":true', b'"x":true,"x":false'),
    (b'"x":true', b'"x":false,"x":true'),
    (b'"x":false', b'"x":false,"x":true'),
    (b'"x":true', b'"x":false,"\\u0078":true'),
    (b'"x":true', b'"\\u0078":true,"x":false'),
    (b'"x":true', b'"x" :true,"x":false'),
    (b'"x":true', b'"x":false,"x" :true'),
    (b'"x":true', b'"x"\t:true,"\\"x":false'),
    (b'"k":{', b'"k":{"x":false,'),
    (b'"k":{', b'"z":{"x":false},"k":{'),
    (b'"k":{', b'"z":{"x":true},"k":{'),
    (b'"k":{', b'"k":{"z":"\\"x\\":false",'),
    (b'"k":{', b'"k":{"x":false},"k":{'),
    (b'}}', b'},"z":{"x":false}}'),
    (b'"data":{', b'"data":{"x":false,'),
    (b'"data":{', b'"data":{"e":"depthUpdate"},"data":{'),
    (b'"x":true', b'"x":"true"'),
    (b'"x":true', b'"x":1'),
    (b'"x":true', b'"x":null'),
    (b'"x":true', b'"x":truex'),
    (b'"x":false', b'"x":falsey'),
    (b'"x":false', b'"x":fals'),
    (b'"x":', b'"x"'),
    (b'"x"', b'x'),
    # Who it is, and when.
    (b'"s":"', b'"s":"X'),
    (b'"s":"BTC', b'"s":"ETH'),
    (b'"s":"BTCUSDT"', b'"s":"btcusdt"'),
    (b'"s":"', b'"s":null,"S":"'),
    (b'"i":"1m"', b'"i":"1M"'),
    (b'"i":"1', b'"i":"3'),
    (b'"stream":"', b'"stream":"\\u0062'),
    (b'"stream":"', b'"stream":"x'),
    (b'"stream":"', b'"stream":null,"Stream":"'),
    (b"@kline_1m", b"@kline_1M"),
    (b"@kline_", b"@depth_"),
    (b'"e":"kline"', b'"e":"kLine"'),
    (b'"e":"kline"', b'"e":"depthUpdate","e":"kline"'),
    (b'"E":', b'"E":1,"E":'),
    (b'"E":1', b'"E":-1'),
    (b'"E":1', b'"E":1.'),
    (b'"E":', b'"E":"",'),
    (b'"t":', b'"t":1'),
    (b'"t":1', b'"t":-1'),
    (b'"t":', b'"t":6e4,"y":'),
    (b'"t":', b'"t":0,"T":'),
    (b"0000,", b"0001,"),
    (b'"n":', b'"n":-'),
    (b'"n":', b'"n":1e'),
    (b'"n":', b'"n":99999999999999999999'),
    (b'"n":', b'"n":true,"m":'),
    # Numbers.
    (b'"o":"', b'"o":"-'),
    (b'"o":"', b'"o":"9'),
    (b'"l":"', b'"l":"9'),
    (b'"h":"', b'"h":"0.0'),
    (b'"c":"', b'"c":" '),
    (b'"c":"', b'"c":"+'),
    (b'"v":"', b'"v":"1_'),
    (b'"v":"', b'"v":"NaN","y":"'),
    (b'"q":"', b'"q":"Infinity","y":"'),
    (b'"q":"', b'"q":"1e'),
    (b'"q":"', b'"q":' + b"7" * 300 + b',"y":"'),
    (b'"Q":"', b'"Q":"' + b"8" * 30),
    (b'"Q":"', b'"Q":"\\u0031'),
    (b'"V":"', b'"V":"\\ud800'),
    (b'"V":"', b'"V":"\xd9\xa1'),
    (b'"V":"', b'"V":null,"W":"'),
    (b'.', b','),
    (b'.', b'..'),
    (b'"o":"', b'"c":"1","o":"'),
    # Blanks, brackets, and what is no JSON.
    (b":", b": "),
    (b":", b" \t:\r\n"),
    (b",", b" , "),
    (b",", b",,"),
    (b"{", b"{ "),
    (b"}", b" }"),
    (b"}", b"}}"),
    (b"{", b"["),
    (b'"', b"'"),
    (b'"', b'\\"'),
    (b"{", b'{"deep":' + b"[" * 300 + b"]" * 300 + b","),
    (b"{", b'{"deep":' + b"[" * 3_000 + b"]" * 3_000 + b","),
    (b"{", b'{"error":{},'),
    (b"{", b'{"id":[],'),
    (b"{", b'{"result":false,'),
    (b"{", b'{"data":'),
)  # fmt: skip

_JUNK = (
    b'"x":', b'"x":false', b'"x":true', b'"x"', b"\\", b"\\u0078", b'"', b"{", b"}", b"[", b"]",
    b":", b",", b" ", b"\n", b"\x00", b"\xff", b"\xe7", "燕".encode(), b"\xef\xbb\xbf", b"false",
    b"true", b"null", b"NaN", b"-", b"0", b"e9", b'"k":{', b"\x81\x7e", b"\x81", b"\x01", b"\x80",
    b"\x88\x00", b"\x89\x00", b"\x81\x7f\x00\x00", b"HTTP/1.1 101 \r\n\r\n",
)  # fmt: skip

_SIZES = (
    0, 1, 124, 125, 126, 127, 128, 255, 256, 4094, 4095, 4096, 4097, 4098, 8191,
    34, 120, 0x122, 0x178,  # a length that is a quotation mark, or an x
)  # fmt: skip
_LONG_SIZES = (65_533, 65_534, 65_535, 65_536, 65_537, 70_000)

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
_HEADS = (
    HEAD,
    HEAD.replace(b"\r\n", b"\n"),
    b"HTTP/1.0 101\n\r\n",
    b"HTTP/1.1 101\r\rX\r\n\r\n",
    b"HTTP/1.1 1010 Almost\r\n\r\n",
    b"http/1.1 101 Lower\r\n\r\n",
    b"HTTP/1.1  101 Blank\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD,
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\n\r\n" + HEAD,
    b"HTTP/1.1 451 No\r\n\r\n",
    b"\r\n\r\n" + HEAD,
    b"\n" + HEAD,
    b"SSH-2.0-OpenSSH\r\n",
    HEAD[:-2] + b"X: " + b"y" * 16_300 + b"\r\n\r\n",
    HEAD[:-2] + b"X: " + b"y" * 16_384 + b"\r\n\r\n",
    HEAD[:-2] + b"X: " + b"y" * 20_000 + b"\r\n\r\n",
    b"",
)


class Hostile:
    """Draws inputs; the same for the same dice and payloads."""

    def __init__(self, dice: Random, payloads: Sequence[bytes]) -> None:
        self._draw = dice.random
        self._payloads = payloads
        self._wired = [wire(TEXT, payload) for payload in payloads]
        self._deflated = [zlib.compress(payload)[2:-4] for payload in payloads[:40]]
        self._piece = (
            *[self._as_it_is] * 8,
            *[self._mutated] * 5,
            *[self._fragments] * 3,
            *[self._control] * 2,
            *[self._odd_frame] * 3,
            *[self._padded] * 2,
            self._rare,
        )

    def _below(self, limit: int) -> int:
        return int(self._draw() * limit)

    # Texts

    def text(self) -> bytes:
        """A payload that was mutated once or a few times."""
        payload = self._payloads[self._below(len(self._payloads))]
        while True:
            payload = _TEXT_CHANGES[self._below(len(_TEXT_CHANGES))](self, payload)
            if self._draw() < 0.7:
                return payload

    def _exchange(self, payload: bytes) -> bytes:
        # Most exchanges fit only some payloads: try a few.
        for _ in range(4):
            old, new = _EXCHANGES[self._below(len(_EXCHANGES))]
            if old in payload:
                times = -1 if self._draw() < 0.1 else 1 + self._below(2)
                return payload.replace(old, new, times)
        return payload

    def _flip(self, payload: bytes) -> bytes:
        if not payload:
            return b"\x00"
        at = self._below(len(payload))
        flipped = payload[at] ^ 1 << self._below(8)
        return payload[:at] + bytes((flipped,)) + payload[at + 1 :]

    def _cut(self, payload: bytes) -> bytes:
        return payload[: self._below(len(payload) + 1)]

    def _leave_out(self, payload: bytes) -> bytes:
        at = self._below(len(payload) + 1)
        return payload[:at] + payload[at + 1 + self._below(12) :]

    def _repeat(self, payload: bytes) -> bytes:
        at = self._below(len(payload) + 1)
        end = at + self._below(60)
        return payload[:end] + payload[at:]

    def _insert(self, payload: bytes) -> bytes:
        at = self._below(len(payload) + 1)
        return payload[:at] + _JUNK[self._below(len(_JUNK))] + payload[at:]

    def _splice(self, payload: bytes) -> bytes:
        other = self._payloads[self._below(len(self._payloads))]
        return payload[: self._below(len(payload) + 1)] + other[self._below(len(other) + 1) :]

    def _swap_values(self, payload: bytes) -> bytes:
        members = payload.split(b",")
        if len(members) < 2:
            return payload
        here, there = self._below(len(members)), self._below(len(members))
        one, other = members[here].partition(b":"), members[there].partition(b":")
        members[here] = one[0] + one[1] + other[2]
        members[there] = other[0] + other[1] + one[2]
        return b",".join(members)

    def _double_a_member(self, payload: bytes) -> bytes:
        members = payload.split(b",")
        here, there = self._below(len(members)), self._below(len(members))
        members.insert(there, members[here])
        return b",".join(members)

    # Streams

    def stream(self, head: bytes = HEAD) -> tuple[bytes, list[int]]:
        """What a server sends, and where the reads of it end, the last one at its end."""
        pieces = [head]
        for _ in range(1 + self._below(4)):
            self._piece[self._below(len(self._piece))](pieces)
        data = b"".join(pieces)
        if self._draw() < 0.25:
            data = self._damage(data, pieces)
        return data, self._reads(len(data), pieces)

    def stream_with_any_head(self) -> tuple[bytes, list[int]]:
        """The same behind an answer to the handshake that is cut or changed anywhere."""
        head = _HEADS[self._below(len(_HEADS))]
        if self._draw() < 0.5:
            change = (self._flip, self._cut, self._insert, self._leave_out)[self._below(4)]
            head = change(head)
        return self.stream(head)

    def _as_it_is(self, pieces: list[bytes]) -> None:
        pieces.append(self._wired[self._below(len(self._wired))])

    def _mutated(self, pieces: list[bytes]) -> None:
        pieces.append(wire(TEXT, self.text()))

    def _padded(self, pieces: list[bytes]) -> None:
        long = self._draw() < 0.02
        sizes = _LONG_SIZES if long else _SIZES
        size = sizes[self._below(len(sizes))]
        payload = self._payloads[self._below(len(self._payloads))]
        blanks = b" " * (size - len(payload))
        padded = (
            payload + blanks,
            blanks + payload,
            payload[-size:] if size else b"",
            (b'x":false' + b" " * size)[:size],
        )
        width = 8 if long and self._draw() < 0.4 else None
        pieces.append(wire(TEXT, padded[self._below(4)], width=width))

    def _fragments(self, pieces: list[bytes]) -> None:
        payload = self._payloads[self._below(len(self._payloads))]
        opcode = TEXT if self._draw() < 0.9 else BINARY
        cuts = sorted(self._below(len(payload) + 1) for _ in range(1 + self._below(3)))
        begin = 0
        for cut in (*cuts, len(payload)):
            pieces.append(wire(opcode, payload[begin:cut], fin=cut == len(payload)))
            opcode, begin, chance = CONTINUATION, cut, self._draw()
            if chance < 0.15:
                self._control(pieces)
            elif chance < 0.2:
                self._as_it_is(pieces)  # in the middle of another message
            elif chance < 0.24:
                pieces.pop()
            elif chance < 0.27:
                pieces.append(pieces[-1])

    def _control(self, pieces: list[bytes]) -> None:
        size = (0, 4, 13, 125, 125, 126)[self._below(6)]
        payload = self._payloads[self._below(len(self._payloads))][:size]
        pieces.append(wire(PING if self._draw() < 0.6 else PONG, payload))

    def _odd_frame(self, pieces: list[bytes]) -> None:
        payload = self._payloads[self._below(len(self._payloads))]
        match self._below(10):
            case 0:
                frame = wire(TEXT, payload, rsv=1 + self._below(7))
            case 1:
                frame = wire(TEXT, self._deflated[self._below(len(self._deflated))], rsv=4)
            case 2:
                frame = wire(TEXT, payload, mask=(b"\0\0\0\0", b"\x01\x02\x03\x04")[self._below(2)])
            case 3:
                frame = wire(TEXT, payload[:126], width=2)
            case 4:
                frame = wire(TEXT, payload, width=8)
            case 5:
                frame = wire(TEXT, payload, length=len(payload) + self._below(9) - 4)
            case 6:
                huge = (2**63 - 1, 2**63, 2**64 - 1, 2**32, 70_000)[self._below(5)]
                frame = wire(TEXT, payload, width=8, length=huge)
            case 7:
                frame = wire(self._below(16), payload, fin=self._draw() < 0.7)
            case 8:
                frame = wire(CONTINUATION, payload, fin=self._draw() < 0.7)
            case _:
                frame = wire(BINARY, payload if self._draw() < 0.5 else self.text())
        pieces.append(frame)

    def _rare(self, pieces: list[bytes]) -> None:
        chance = self._draw()
        if chance < 0.6:
            reason = (b"", b"\x03\xe8", b"\x03\xe9bye", b"\x03", b"\x00\x00", b"\x03\xe8\xff")
            pieces.append(wire(CLOSE, reason[self._below(len(reason))]))
        else:
            pieces.append(bytes(self._below(256) for _ in range(self._below(40))))

    def _damage(self, data: bytes, pieces: list[bytes]) -> bytes:
        kind = self._below(8)
        if kind < 4:  # in the header of a frame
            at = self._border(pieces) + self._below(4)
            if at < len(data):
                flipped = data[at] ^ 1 << self._below(8)
                return data[:at] + bytes((flipped,)) + data[at + 1 :]
        elif kind < 6:
            begin = len(pieces[0])
            return data[:begin] + (self._flip, self._leave_out)[kind - 4](data[begin:])
        elif kind == 6:
            at = self._border(pieces)
            return data[:at] + _JUNK[self._below(len(_JUNK))] + data[at:]
        return data[: len(pieces[0]) + self._below(len(data) - len(pieces[0]) + 1)]

    def _border(self, pieces: list[bytes]) -> int:
        count = 1 + self._below(len(pieces))
        return sum(map(len, pieces[:count]))

    def _reads(self, size: int, pieces: list[bytes]) -> list[int]:
        chance = self._draw()
        if size > 2_000 and chance > 0.4:
            chance *= 0.4
        if chance < 0.2:
            return [size]
        if chance < 0.27:
            return [*range(4_096, size, 4_096), size]
        if chance < 0.34:
            return [min(len(pieces[0]), size), size]
        if chance < 0.65:
            ends = {self._below(size) for _ in range(1 + self._below(4))}
        elif chance < 0.9:  # where a header, or the key, may be torn
            ends = {self._border(pieces) + self._below(12) - 4 for _ in range(1 + self._below(3))}
        elif chance < 0.95:
            ends = {self._below(size)}
        elif chance < 0.998:
            begin = self._border(pieces) - self._below(30)
            ends = set(range(begin, begin + 8 + self._below(16)))
        else:
            ends = set(range(1, size))
        return [*sorted(end for end in ends if 0 < end < size), size]


_TEXT_CHANGES: Sequence[Callable[[Hostile, bytes], bytes]] = (
    *[Hostile._exchange] * 9,
    *[Hostile._flip] * 2,
    *[Hostile._insert] * 2,
    Hostile._cut,
    Hostile._leave_out,
    Hostile._repeat,
    Hostile._splice,
    Hostile._swap_values,
    Hostile._double_a_member,
)
