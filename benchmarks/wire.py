"""One connection of the sending exchange: its handshakes, what is asked on it, and its TLS.

Frames that are made beforehand are encrypted beforehand too, and TLS records cannot change places:
so whoever makes and sends them holds the wire's lock meanwhile, and replies wait for it.
"""

import base64
import hashlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import attrs

from benchmarks.frames import candle, framed

__all__ = ["Wire"]

_READ_BYTES = 65_536
_PIECE_BYTES = 1 << 20
_STUCK_SECONDS = 20
_CLOSE, _PING, _PONG = 8, 9, 10


@attrs.define(eq=False)
class Wire:
    """One connection, as the sender sees it."""

    socket: socket.socket
    context: ssl.SSLContext | None
    names: list[str] = attrs.field(init=False, factory=list)
    """Streams, in the order in which they were asked for."""
    wrapped: bool = attrs.field(init=False, default=True)
    """Whether each event comes with the name of its stream, as it does under `/stream`."""
    _known: set[str] = attrs.field(init=False, factory=set)
    lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)
    _incoming: ssl.MemoryBIO = attrs.field(init=False, factory=ssl.MemoryBIO)
    _outgoing: ssl.MemoryBIO = attrs.field(init=False, factory=ssl.MemoryBIO)
    _tls: ssl.SSLObject | None = attrs.field(init=False, default=None)
    _received: bytes = attrs.field(init=False, default=b"")

    def serve(self, subscribed: Callable[[int], None]) -> None:
        """Answer until the peer has gone; tells how many streams came, each with a first frame."""
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stuck = struct.pack("ll", _STUCK_SECONDS, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, stuck)
            self._shake_hands()
            subscribed(self._add(self._switch()))
            while True:
                kind, payload = self._message()
                if kind == _CLOSE:
                    return
                if kind == _PING:
                    self._reply(framed(payload, _PONG))
                elif kind != _PONG:
                    subscribed(self._answer(json.loads(payload)))
        except OSError:
            return

    def sealed(self, data: bytes) -> bytes:
        """What goes over the wire for the data: with TLS, one record."""
        if self._tls is None:
            return data
        self._tls.write(data)
        return self._outgoing.read()

    def send(self, data: bytes) -> None:
        """Sends what is sealed; not all of it, if the peer goes, or takes nothing."""
        view = memoryview(data)
        try:
            for start in range(0, len(view), _PIECE_BYTES):
                self.socket.sendall(view[start : start + _PIECE_BYTES])
        except OSError:
            return

    def _answer(self, request: dict[str, object]) -> int:
        names = request["params"]
        assert isinstance(names, list)
        self._reply(framed(json.dumps({"result": None, "id": request["id"]}).encode()))
        return self._add(names) if request["method"] == "SUBSCRIBE" else 0

    def _add(self, names: list[str]) -> int:
        # As on the exchange, asking for a stream again changes nothing.
        names = [name for name in dict.fromkeys(names) if name not in self._known]
        self._known.update(names)
        self.names += names
        for name in names:
            self._reply(candle(name, 0, 0, wrapped=self.wrapped))
        return len(names)

    def _reply(self, data: bytes) -> None:
        with self.lock:
            self.socket.sendall(self.sealed(data))

    def _shake_hands(self) -> None:
        if self.context is None:
            return
        self._tls = self.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.socket.sendall(self._outgoing.read())
                self._incoming.write(self._from_socket())
            else:
                self.socket.sendall(self._outgoing.read())
                return

    def _switch(self) -> list[str]:
        """The WebSocket's handshake; the streams that its path names."""
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (
            line.partition(":") for line in lines
        )}  # fmt: skip
        self._reply(_switching(headers["sec-websocket-key"].encode()))
        url = urlsplit(first.split(" ")[1])
        self.wrapped = url.path.startswith("/stream")
        if self.wrapped:
            listed = parse_qs(url.query).get("streams", [""])[0]
        else:
            listed = url.path.removeprefix("/ws").removeprefix("/")
        return [name for name in listed.split("/") if "@" in name]

    def _from_socket(self) -> bytes:
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise ConnectionResetError
        return data

    def _receive(self) -> None:
        if self._tls is None:
            self._received += self._from_socket()
            return
        while True:
            with self.lock:
                try:
                    data = self._tls.read(_READ_BYTES)
                except ssl.SSLWantReadError:
                    pass
                else:
                    if not data:
                        raise ConnectionResetError
                    self._received += data
                    return
            self._incoming.write(self._from_socket())

    def _message(self) -> tuple[int, bytes]:
        """A frame's opcode and payload. What is asked fits into one frame."""
        while True:
            data = self._received
            if len(data) > 5:
                length, start = data[1] & 0x7F, 2
                if length >= 126:
                    start = 4 if length == 126 else 10
                    length = int.from_bytes(data[2:start], "big")
                end = start + 4 + length
                if len(data) >= end:
                    self._received = data[end:]
                    mask = (data[start : start + 4] * (length // 4 + 1))[:length]
                    both = int.from_bytes(data[start + 4 : end], "big") ^ int.from_bytes(
                        mask, "big"
                    )
                    return data[0] & 0x0F, both.to_bytes(length, "big")
            self._receive()


def _switching(key: bytes) -> bytes:
    # RFC 6455, section 4.2.2.
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()  # noqa: S324
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )
