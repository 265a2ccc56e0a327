"""What each peer is asked, and how it counts closed candles and tells what they cost it.

`begin FRAMES CLOSED BYTES` comes on standard input, `counting` is the answer. When so many closed
candles have come, or when `stop` is read, follows one line of JSON.
"""

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TextIO

__all__ = ["Asked", "Counter", "quiet", "symbols"]

_QUIET_SECONDS = 0.1


def symbols(count: int) -> list[str]:
    """The symbols of so many streams, of which all are quoted in USDT."""
    return [f"S{number:04}USDT" for number in range(count)]


def quiet(count: Callable[[], int]) -> int:
    """The count, when it does not grow any more: all that was sent so far has been received."""
    before = -1
    while before != (now := count()):
        before = now
        time.sleep(_QUIET_SECONDS)
    return now


class Asked:
    """The command line of a peer."""

    def __init__(self) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("websocket", help="wss://host:port")
        parser.add_argument("rest", help="http://host:port")
        parser.add_argument("streams", type=int)
        parser.add_argument("--ca", help="certificates to trust")
        parser.add_argument("--connections", type=int, default=1)
        options = parser.parse_args()
        self.websocket: str = options.websocket
        self.rest: str = options.rest
        self.ca: str | None = options.ca
        self.symbols = symbols(options.streams)
        share = -(-options.streams // options.connections)
        self.shards = [
            self.symbols[start : start + share] for start in range(0, options.streams, share)
        ]
        """The symbols of each connection, where the peer does not decide that itself."""

    @property
    def streams(self) -> list[list[str]]:
        """The names of the streams of each connection."""
        return [[f"{name.lower()}@kline_1m" for name in shard] for shard in self.shards]


class Counter:
    """Counts closed candles. Made first of all: what libraries print must not be in its way."""

    def __init__(self, begin: Callable[[int, int], object] | None = None) -> None:
        """For a limit that does not decode: `begin` is told how many frames and bytes will come."""
        self._begin = begin
        self._wanted = 0
        self._moments: list[tuple[str, float]] = []
        self._began = (0.0, 0.0)
        self._told = threading.Lock()
        self._out: TextIO = os.fdopen(os.dup(sys.stdout.fileno()), "w")
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        threading.Thread(target=self._listen, daemon=True).start()

    def closed(self, symbol: str) -> None:
        """A closed candle is there, decoded."""
        moments = self._moments
        moments.append((symbol, time.perf_counter()))
        if len(moments) == self._wanted:
            self.tell()

    def all(self) -> None:
        """All that was announced is there, undecoded."""
        self._moments = [("", time.perf_counter())] * self._wanted
        self.tell()

    def tell(self) -> None:
        """What it has cost so far; only once for each `begin`."""
        cpu, wall = time.process_time(), time.perf_counter()
        if self._told.acquire(blocking=False):
            self._say(
                json.dumps(
                    {
                        "cpu_seconds": cpu - self._began[0],
                        "wall_seconds": wall - self._began[1],
                        "moments": self._moments,
                    }
                )
            )

    def _listen(self) -> None:
        for line in sys.stdin:
            word, *numbers = line.split()
            if word == "begin":
                frames, closed, size = map(int, numbers)
                self._moments, self._wanted = [], closed
                if self._told.locked():
                    self._told.release()
                if self._begin is not None:
                    self._begin(frames, size)
                self._began = (time.process_time(), time.perf_counter())
                self._say("counting")
            else:
                self.tell()
        os._exit(0)

    def _say(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()
