"""A second exchange: Binance's market streams, written on the `websockets` package.

It imports nothing of kline_trio: two readings of the same documents that agree prove more than
one. `python tests/stand_in.py --help` shows what it can do to a recorder. It prints JSON lines:
its endpoints as soon as it listens, `started` when its clock runs, `ended` when it stands.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # it is run by its path

from tests.stand_in_candles import (
    MARKETS,
    Frame,
    Market,
    empty_stretches,
    frames,
    made_up,
    stream_name,
)
from tests.stand_in_market import Venue
from tests.stand_in_options import Options, options_from


class Clock:
    """The exchange's time: it stands until begun, leaps where nothing is, and stands at its end."""

    def __init__(
        self, start_ms: int, speed: float, until_ms: int | None, leaps: list[tuple[int, int]]
    ) -> None:
        self.start_ms, self.speed, self.until_ms, self.leaps = start_ms, speed, until_ms, leaps
        self.begun = asyncio.Event()
        self._zero = 0.0

    def begin(self) -> None:
        """Let time pass."""
        if not self.begun.is_set():
            self._zero = time.monotonic()
            self.begun.set()

    def now_ms(self) -> int:
        """The time on the exchange."""
        if not self.begun.is_set():
            return self.start_ms
        now = self.start_ms + int((time.monotonic() - self._zero) * self.speed * 1_000)
        for leap, land in self.leaps:
            now += land - leap if now >= leap else 0
        return now if self.until_ms is None else min(now, self.until_ms)

    async def wait(self, at_ms: int) -> bool:
        """Wait for a time; False if the clock stops before."""
        await self.begun.wait()
        if self.until_ms is not None and at_ms > self.until_ms:
            return False
        while (now := self.now_ms()) < at_ms:
            leapt = sum(land - leap for leap, land in self.leaps if now <= leap < at_ms)
            await asyncio.sleep(max(0, at_ms - now - leapt) / 1_000 / self.speed)
        return True


class Exchange:
    """The three markets, their one clock, and what they have told."""

    def __init__(self, options: Options) -> None:
        self.options, self.archive = options, options.archive
        leaps = [*empty_stretches(self.archive)]
        self.clock = Clock(options.start_ms, options.speed, options.until_ms, leaps)
        self.truth: list[dict[str, Any]] = []
        self.venues = [Venue(market, self) for market in MARKETS]
        self.told: set[tuple[Any, ...]] = set()
        self.candles: set[tuple[Any, ...]] = set()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.order = b""

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGUSR1, self.write_truth)
        async with contextlib.AsyncExitStack() as stack:
            for venue in self.venues:
                await stack.enter_async_context(venue.open())
            if not self.archive:
                self.clock.begin()
            if self.options.obey:
                loop.add_reader(sys.stdin.fileno(), self.take_orders)
            _say(self.endpoints())
            for coroutine in (self.play_script(), self.tell_start(), self.tell_end()):
                self.later(coroutine)
            await stop.wait()
            self.write_truth()

    def later(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run something beside; its failure is logged."""
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def venue(self, trade_type: str) -> Venue:
        """A market."""
        return next(one for one in self.venues if one.market.trade_type == trade_type)

    def endpoints(self) -> dict[str, Any]:
        """Where each market is to be found, and the archive."""
        return {"archive": f"http://127.0.0.1:{self.venues[0].port}"} | {
            venue.market.trade_type: {
                "websocket": f"ws://127.0.0.1:{venue.port}{venue.market.path}",
                "rest": f"http://127.0.0.1:{venue.port}",
            }
            for venue in self.venues
        }

    def frames_of(self, market: Market, symbol: str, interval: str) -> Iterator[Frame]:
        """What a stream says from now on."""
        taste = self.options.taste
        if self.archive:
            rows = iter(self.archive.get((market.trade_type, symbol, interval), []))
            return frames(market, symbol, interval, rows, taste)
        now = self.clock.now_ms()
        rows = made_up(market, symbol, interval, now, taste.seed)
        return (f for f in frames(market, symbol, interval, rows, taste) if f.at_ms >= now)

    def look_whether_all_are_subscribed(self) -> None:
        """A replay begins when somebody listens to all of it."""
        if self.archive and all(
            any(
                stream_name(symbol, interval) in client.streams
                for venue in self.venues
                if venue.market.trade_type == trade_type
                for client in venue.clients
            )
            for trade_type, symbol, interval in self.archive
        ):
            self.clock.begin()

    def handed_over(self, truth: dict[str, Any]) -> None:
        """Note a close that some connection was given; other connections add nothing to it."""
        candle = (*(truth[key] for key in ("trade_type", "symbol", "interval", "t")),)
        told = (*candle, truth["E"])
        # What comes over REST (E is 0) fills what is absent, and replaces nothing.
        if told not in self.told and (truth["E"] or candle not in self.candles):
            self.told.add(told)
            self.candles.add(candle)
            self.truth.append(truth)

    async def play_script(self) -> None:
        """Do what the script says when its time has come."""
        for action in self.options.script:
            if await self.clock.wait(action["at_ms"]):
                self.act(action)

    def take_orders(self) -> None:
        """Do at once what whole JSON lines on standard input say, each as an action of a script."""
        arrived = os.read(sys.stdin.fileno(), 65_536)
        if not arrived:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        *lines, self.order = (self.order + arrived).split(b"\n")
        for line in lines:
            self.act(json.loads(line))

    def act(self, action: dict[str, Any]) -> None:
        """Do one thing to a market, or to all of them, and say so."""
        for venue in self.venues:
            if action.get("market", venue.market.trade_type) == venue.market.trade_type:
                venue.act(action)
        _say({"event": action["do"], "at_ms": self.clock.now_ms()})

    async def tell_start(self) -> None:
        """Say when the clock begins to run."""
        await self.clock.begun.wait()
        _say({"event": "started"})

    async def tell_end(self) -> None:
        """Say when the clock has stopped and all is handed over."""
        if self.archive:
            await self.clock.begun.wait()
            await asyncio.gather(*(p for venue in self.venues for p in venue.players.values()))
        elif self.clock.until_ms is None:
            return
        else:
            await self.clock.wait(self.clock.until_ms)
        await asyncio.sleep(0.05)  # frames of the last moment
        for venue in self.venues:
            for client in tuple(venue.clients):
                await client.waiting.join()
        _say({"event": "ended", "closes": len(self.truth)})

    def write_truth(self) -> None:
        """Write all closes that were handed over, as JSON lines."""
        if self.options.truth is not None:
            half = self.options.truth.with_suffix(".half")
            lines = (json.dumps(truth, ensure_ascii=False) + "\n" for truth in self.truth)
            half.write_text("".join(lines), encoding="utf-8")
            Path.replace(half, self.options.truth)
            _say({"event": "truth", "closes": len(self.truth)})


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def main() -> None:
    """Serve as the command line asks."""
    asyncio.run(Exchange(options_from(sys.argv[1:])).run())


if __name__ == "__main__":
    main()
