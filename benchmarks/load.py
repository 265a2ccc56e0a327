"""An exchange that only sends: a process of its own, so that its CPU is not the recorder's.

`Load` starts it and speaks to it by lines: `burst MINUTES` and `pace FRAMES_A_SECOND SECONDS` make
frames ready, `go` sends them. A burst is rendered, and encrypted with one TLS record for each
frame, before it is sent: so sending costs a copy into the socket, and cannot be what is measured.
"""

import argparse
import base64
import hashlib
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import trustme

from benchmarks.made_up import MINUTE_MS, START_MS

__all__ = ["TICKS", "Load", "Sent", "open_load"]

TICKS = 60
"""Frames of each stream in a minute of a burst; the last one is closed."""

_FRAME = (
    '{"stream":"%s@kline_1m","data":{"e":"kline","E":%d,"s":"%s","k":{"t":%d,"T":%d,"s":"%s",'
    '"i":"1m","f":%d,"L":%d,"o":"%d.46000000","c":"%d.47000000","h":"%d.48000000",'
    '"l":"%d.45000000","v":"0.20926000","n":31,"x":%s,"q":"6076.58918320","V":"0.10436000",'
    '"Q":"3030.45472920","B":"0"}}}'
)
"""As spot sent it on 2022-05-29, digit for digit."""


@attrs.frozen
class Sent:
    """What was sent, and what that cost the sender."""

    frames: int
    closed: int
    cpu_seconds: float
    wall_seconds: float


@attrs.frozen
class Load:
    """The sending process, as its parent sees it."""

    process: subprocess.Popen[str]
    url: str

    def ready(self, command: str) -> tuple[int, int]:
        """Wait until the frames of a `burst` or a `pace` are made: how many, how many closed."""
        self._say(command)
        frames, closed = self._hear()
        return int(frames), int(closed)

    def go(self) -> None:
        """Send them."""
        self._say("go")

    def sent(self) -> Sent:
        """Wait until all is sent."""
        frames, closed, cpu, wall = self._hear()
        return Sent(int(frames), int(closed), float(cpu), float(wall))

    def subscribed(self) -> None:
        """Wait until each connection has subscribed its streams and has got a frame of each."""
        self._hear()

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def _hear(self) -> list[str]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the sender has ended"
        return line.split()


@contextmanager
def open_load(folder: Path, *, connections: int, streams: int, secure: bool) -> Iterator[Load]:
    """A sender for so many connections with so many streams each; `ca.pem` is in the folder."""
    authority, name = trustme.CA(), "localhost"
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    command = [sys.executable, "-m", "benchmarks.load", str(connections), str(streams)]
    command += ["--pem", str(folder / "server.pem")] if secure else []
    process = subprocess.Popen(  # noqa: S603 - ourselves
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield Load(process, f"{'wss' if secure else 'ws'}://{name}:{port}/stream")
        finally:
            process.kill()


@attrs.define(eq=False)
class _Wire:
    """One connection, as the sender sees it."""

    socket: socket.socket
    context: ssl.SSLContext | None
    names: list[str] = attrs.field(init=False, factory=list)
    _incoming: ssl.MemoryBIO = attrs.field(init=False, factory=ssl.MemoryBIO)
    _outgoing: ssl.MemoryBIO = attrs.field(init=False, factory=ssl.MemoryBIO)
    _tls: ssl.SSLObject | None = attrs.field(init=False, default=None)
    _received: bytes = attrs.field(init=False, default=b"")

    def serve(self, streams: int) -> None:
        """Handshakes and subscription, up to the first frame of each stream."""
        if self.context is not None:
            self._tls = self.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
            self._retry_handshake(self._tls)
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        key = next(
            line.split(b":", 1)[1].strip()
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key:")
        )
        self.socket.sendall(self.sealed(_switching(key)))
        while len(self.names) < streams:
            request = json.loads(self._message())
            self.names += [name.partition("@")[0] for name in request["params"]]
            reply = json.dumps({"result": None, "id": request["id"]}).encode()
            self.socket.sendall(self.sealed(_framed(reply)))
        for name in self.names:
            self.socket.sendall(self.sealed(_candle(name, 0, 0)))

    def sealed(self, data: bytes) -> bytes:
        """What goes over the wire for the data: with TLS, one record."""
        if self._tls is None:
            return data
        self._tls.write(data)
        return self._outgoing.read()

    def _retry_handshake(self, tls: ssl.SSLObject) -> None:
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self.socket.sendall(self._outgoing.read())
                self._incoming.write(self.socket.recv(65_536))
            else:
                self.socket.sendall(self._outgoing.read())
                return

    def _receive(self) -> None:
        while True:
            if self._tls is None:
                data = self.socket.recv(65_536)
            else:
                try:
                    data = self._tls.read(65_536)
                except ssl.SSLWantReadError:
                    self._incoming.write(self.socket.recv(65_536))
                    continue
            assert data, "the recorder has gone"
            self._received += data
            return

    def _message(self) -> bytes:
        while True:
            data = self._received
            if len(data) > 8:
                length, start = data[1] & 0x7F, 2
                if length == 126:
                    length, start = int.from_bytes(data[2:4], "big"), 4
                end = start + 4 + length
                if len(data) >= end:
                    self._received = data[end:]
                    mask = (data[start : start + 4] * (length // 4 + 1))[:length]
                    both = int.from_bytes(data[start + 4 : end], "big") ^ int.from_bytes(
                        mask, "big"
                    )
                    return both.to_bytes(length, "big")
            self._receive()


def _switching(key: bytes) -> bytes:
    # RFC 6455, section 4.2.2.
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()  # noqa: S324
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


def _framed(payload: bytes) -> bytes:
    size = len(payload)
    return (bytes((0x81, size)) if size < 126 else b"\x81\x7e" + size.to_bytes(2, "big")) + payload


def _candle(name: str, minute: int, tick: int, ticks: int = TICKS) -> bytes:
    """The frame of a stream at a tick of a minute; the last tick closes it."""
    start, symbol, price = START_MS + minute * MINUTE_MS, name.upper(), 29_000 + minute % 1_000
    closed = tick == ticks - 1
    event = start + (MINUTE_MS + 3 if closed else tick * (MINUTE_MS // ticks))
    first = 1_384_844_002 + minute * 100
    text = _FRAME % (
        name, event, symbol, start, start + MINUTE_MS - 1, symbol, first, first + tick,
        price, price, price, price, "true" if closed else "false",
    )  # fmt: skip
    return _framed(text.encode())


def main(arguments: list[str]) -> int:
    """Serve one recorder, told by lines what to send."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("connections", type=int)
    parser.add_argument("streams", type=int, help="of each connection")
    parser.add_argument("--pem", help="key and certificate; without, no TLS")
    options = parser.parse_args(arguments)
    context = None
    if options.pem:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.pem)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _say(listener.getsockname()[1])
        wires = []
        threads = []
        for _ in range(options.connections):
            wire = _Wire(listener.accept()[0], context)
            wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wires.append(wire)
            threads.append(threading.Thread(target=wire.serve, args=[options.streams]))
            threads[-1].start()
    for thread in threads:
        thread.join()
    _say("subscribed")
    minute = 0
    for line in sys.stdin:
        match line.split():
            case ["burst", count]:
                minute = _burst(wires, minute, int(count))
            case ["pace", rate, seconds]:
                minute = _pace(wires, minute, int(rate), int(seconds))
    return 0


def _say(*words: object) -> None:
    print(*words, flush=True)


def _await_go(frames: int, closed: int) -> tuple[float, float]:
    _say(frames, closed)
    assert sys.stdin.readline() == "go\n"
    return time.process_time(), time.perf_counter()


def _tell(frames: int, closed: int, begun: tuple[float, float]) -> None:
    cpu, wall = begun
    _say(frames, closed, time.process_time() - cpu, time.perf_counter() - wall)


def _burst(wires: list[_Wire], minute: int, count: int) -> int:
    pieces = [
        b"".join(
            wire.sealed(_candle(name, each, tick))
            for each in range(minute, minute + count)
            for tick in range(TICKS)
            for name in wire.names
        )
        for wire in wires
    ]
    closed = sum(len(wire.names) for wire in wires) * count
    begun = _await_go(closed * TICKS, closed)
    threads = [
        threading.Thread(target=wire.socket.sendall, args=[piece])
        for wire, piece in zip(wires, pieces, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _tell(closed * TICKS, closed, begun)
    return minute + count


def _pace(wires: list[_Wire], minute: int, rate: int, seconds: int) -> int:
    # A real minute of as many streams as are there: their updates spread evenly over it, but all
    # closed candles in its last second.
    streams = [
        (wires[number], name)
        for names in zip(*(wire.names for wire in wires), strict=True)
        for number, name in enumerate(names)
    ]
    total = rate * seconds
    updates = total - len(streams)
    begun = _await_go(total, len(streams))
    began = time.perf_counter()
    for number in range(updates):
        wire, name = streams[number % len(streams)]
        tick = number * 58 // updates
        _sleep_until(began + number * (seconds - 1) / updates)
        wire.socket.sendall(wire.sealed(_candle(name, minute, tick)))
    for number, (wire, name) in enumerate(streams):
        _sleep_until(began + seconds - 1 + number / len(streams))
        wire.socket.sendall(wire.sealed(_candle(name, minute, TICKS - 1)))
    _tell(total, len(streams), begun)
    return minute + 1


def _sleep_until(moment: float) -> None:
    wait = moment - time.perf_counter()
    if wait > 0:
        time.sleep(wait)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
