"""The process that sends: `benchmarks.load` starts it, and tells it by lines what to send.

`burst MINUTES TICKS`, `pace FRAMES_A_SECOND SECONDS` and `close` make frames ready, `go` sends
them. Bursts are rendered, and encrypted with one TLS record for each frame, before they are sent:
so sending costs a copy into the socket, and cannot be what is measured.
"""

import argparse
import itertools
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import attrs

from benchmarks.frames import TICKS, candle
from benchmarks.wire import Wire

__all__ = ["main"]

_SLICE_SECONDS = 0.005
"""A closing minute is sent in slices: a write for each frame would take a core of its own."""


def main(arguments: list[str]) -> int:
    """Serve one recorder, told by lines what to send."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sending", description=__doc__)
    parser.add_argument("streams", type=int, help="on all connections together")
    parser.add_argument("--pem", help="key and certificate; without, no TLS")
    options = parser.parse_args(arguments)
    context = None
    if options.pem:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.pem)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        _say(listener.getsockname()[1])
        sender = _Sender(options.streams)
        threading.Thread(target=sender.listen, args=[listener, context], daemon=True).start()
        sender.whole.wait()
        _say("subscribed")
        for line in sys.stdin:
            match line.split():
                case ["burst", count, ticks]:
                    sender.burst(int(count), int(ticks))
                case ["pace", rate, seconds]:
                    sender.pace(int(rate), int(seconds))
                case ["close"]:
                    sender.close()
    return 0


@attrs.define(eq=False)
class _Sender:
    """All connections, and the minute that comes next."""

    streams: int
    wires: list[Wire] = attrs.field(init=False, factory=list)
    whole: threading.Event = attrs.field(init=False, factory=threading.Event)
    minute: int = attrs.field(init=False, default=0)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock)
    _subscribed: int = attrs.field(init=False, default=0)

    def listen(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        """Take connections, for as long as the process lives."""
        while True:
            wire = Wire(listener.accept()[0], context)
            self.wires.append(wire)
            threading.Thread(target=wire.serve, args=[self._count], daemon=True).start()

    def burst(self, count: int, ticks: int) -> None:
        """So many minutes, as fast as they are taken."""
        with self._all_locked():
            pieces = {
                wire: [
                    candle(name, each, tick, ticks, wrapped=wire.wrapped)
                    for each in range(self.minute, self.minute + count)
                    for tick in range(ticks)
                    for name in wire.names
                ]
                for wire in self._wires()
            }
            size = sum(len(frame) for frames in pieces.values() for frame in frames)
            sealed = {wire: b"".join(map(wire.sealed, frames)) for wire, frames in pieces.items()}
            del pieces
            closed = self.streams * count
            begun = _await_go(closed * ticks, closed, size, len(sealed))
            threads = [
                threading.Thread(target=wire.send, args=[data]) for wire, data in sealed.items()
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        _tell(begun)
        self.minute += count

    def pace(self, rate: int, seconds: int) -> None:
        """A real minute of as many streams as there are, each frame at its own moment.

        Updates spread evenly over it, but all candles close in its last second.
        """
        streams = list(self._dealt())
        total = rate * seconds
        updates = total - len(streams)
        begun = _await_go(total, len(streams), 0, len(self._wires()))
        began = time.perf_counter()
        for number in range(updates):
            wire, name = streams[number % len(streams)]
            _sleep_until(began + number * (seconds - 1) / updates)
            self._send(wire, name, number * 58 // updates)
        for number, (wire, name) in enumerate(streams):
            _sleep_until(began + seconds - 1 + number / len(streams))
            self._send(wire, name, TICKS - 1)
        _tell(begun)
        self.minute += 1

    def close(self) -> None:
        """All candles close within one second; tells when each was sent."""
        streams = list(self._dealt())
        slices = max(1, min(round(1 / _SLICE_SECONDS), len(streams)))
        with self._all_locked():
            bounds = [len(streams) * at // slices for at in range(slices + 1)]
            ready = [self._slice(streams[a:b]) for a, b in itertools.pairwise(bounds)]
            size = sum(len(data) for parts in ready for data, _ in parts.values())
            begun = _await_go(len(streams), len(streams), size, len(self._wires()))
            began = time.perf_counter()
            sent = []
            for at, parts in enumerate(ready):
                _sleep_until(began + at / slices)
                for wire, (data, names) in parts.items():
                    now = time.perf_counter()
                    wire.send(data)
                    sent += [f"{name.partition('@')[0].upper()} {now:.6f}" for name in names]
        _tell(begun)
        _say(*sent)
        self.minute += 1

    def _slice(self, streams: list[tuple[Wire, str]]) -> dict[Wire, tuple[bytes, list[str]]]:
        parts: dict[Wire, tuple[bytes, list[str]]] = {}
        for wire, name in streams:
            data, names = parts.get(wire, (b"", []))
            frame = candle(name, self.minute, TICKS - 1, wrapped=wire.wrapped)
            parts[wire] = (data + wire.sealed(frame), [*names, name])
        return parts

    def _send(self, wire: Wire, name: str, tick: int) -> None:
        with wire.lock:
            wire.send(wire.sealed(candle(name, self.minute, tick, wrapped=wire.wrapped)))

    def _wires(self) -> list[Wire]:
        return [wire for wire in self.wires if wire.names]

    def _dealt(self) -> Iterator[tuple[Wire, str]]:
        """The first streams of all connections, then their second ones, and so on."""
        wires = self._wires()
        for names in itertools.zip_longest(*(wire.names for wire in wires)):
            yield from ((wire, name) for wire, name in zip(wires, names, strict=True) if name)

    def _all_locked(self) -> ExitStack:
        stack = ExitStack()
        for wire in self._wires():
            stack.enter_context(wire.lock)
        return stack

    def _count(self, streams: int) -> None:
        with self._lock:
            self._subscribed += streams
            if self._subscribed >= self.streams:
                self.whole.set()


def _say(*words: object) -> None:
    print(*words, flush=True)


def _await_go(*numbers: int) -> tuple[float, float]:
    _say(*numbers)
    assert sys.stdin.readline() == "go\n"
    return time.process_time(), time.perf_counter()


def _tell(begun: tuple[float, float]) -> None:
    cpu, wall = begun
    _say(time.process_time() - cpu, time.perf_counter() - wall)


def _sleep_until(moment: float) -> None:
    wait = moment - time.perf_counter()
    if wait > 0:
        time.sleep(wait)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
