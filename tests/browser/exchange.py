"""The built-in exchange as a program whose faults begin and end when its parent says so.

A test that waits for what a page shows cannot know beforehand when an outage is to begin. Each line
of standard input is an order, as JSON: `{"begin": "Silence", "trade_type": "spot", "stream":
"ethusdt@kline_1m"}` begins a fault, which lasts until `{"end": "Silence"}`; with `for_ms` it ends
by itself. Each order is answered with a line that holds the exchange's time.

    python -m tests.browser.exchange --speed 60
"""

import argparse
import json
import sys
from collections.abc import Iterable
from typing import Any

import attrs
import trio

from kline_trio.commands.simulate import toml_of
from kline_trio.simulator.exchange import DEFAULT_START_MS
from kline_trio.simulator.faults import Fault, Outage, RestFault, Silence, SpanFault, Stall
from kline_trio.simulator.rest import Request, Response
from kline_trio.simulator.server import open_exchange
from kline_trio.simulator.symbols import TRADE_TYPES
from tests.faulty_exchange import FaultyExchange, Refuse, plausible_symbols
from tests.faulty_exchange.script import FaultyScript

__all__ = ["HOSTILE", "SEED", "ObedientExchange", "main"]

SEED = 8
HOSTILE = '<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>'
"""What REST says during a `RestFault`, if it is hostile; the page must show it as text."""
_KINDS: dict[str, type[SpanFault]] = {
    one.__name__: one for one in (Outage, Refuse, RestFault, Silence, Stall)
}
_EVER_MS = 1 << 52


class _OpenScript(FaultyScript):
    """A script whose faults change while it is played."""

    def replace(self, faults: Iterable[Fault]) -> None:
        """Play these faults from now on."""
        FaultyScript.__init__(self, self.trade_type, faults)


class ObedientExchange(FaultyExchange):
    """An exchange whose faults begin and end by orders.

    Args:
        start_ms: Exchange time at the start.
        speed: Exchange seconds in one local second.
        symbols: How many symbols each market lists; 0: the built-in ones.
        forming: Whether candles are sent while they form.
        is_hostile: Whether REST sends markup when it is at fault.
    """

    def __init__(
        self, *, start_ms: int, speed: float, symbols: int, forming: bool, is_hostile: bool = False
    ) -> None:
        self._is_hostile = is_hostile
        self._struck: list[SpanFault] = []
        self._open: list[_OpenScript] = []
        listed = {name: plausible_symbols(name, symbols) for name in TRADE_TYPES if symbols}
        super().__init__(
            seed=SEED, start_ms=start_ms, speed=speed, listed=listed or None, forming=forming
        )

    def _script(self, trade_type: str, faults: Iterable[Fault]) -> FaultyScript:
        script = _OpenScript(trade_type, faults)
        self._open.append(script)
        self._scripts[trade_type] = script
        return script

    def obey(self, order: dict[str, Any], now_ms: int) -> None:
        """Begin or end a fault.

        Raises:
            KeyError: There is no such fault.
        """
        ending = order.pop("end", None)
        if ending is not None:
            self._struck = [self._ended(one, ending, now_ms) for one in self._struck]
        else:
            kind, lasts_ms = _KINDS[order.pop("begin")], order.pop("for_ms", None)
            until_ms = _EVER_MS if lasts_ms is None else now_ms + lasts_ms
            self._struck.append(kind(from_ms=now_ms, until_ms=until_ms, **order))
        for script in self._open:
            script.replace(self._struck)

    def _ended(self, fault: SpanFault, name: str, now_ms: int) -> SpanFault:
        is_meant = type(fault).__name__ == name and fault.until_ms == _EVER_MS
        return attrs.evolve(fault, until_ms=now_ms) if is_meant else fault

    def answer(self, request: Request) -> Response:
        """Answer an HTTP request; while REST is at fault, perhaps with markup in the message."""
        answer = super().answer(request)
        script = self._scripts[request.trade_type]
        if (
            not self._is_hostile
            or answer.status < 500
            or script.in_force(RestFault, request.now_ms) is None
        ):
            return answer
        return attrs.evolve(answer, body=json.dumps({"code": -1001, "msg": HOSTILE}).encode())


def main(arguments: list[str]) -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.exchange", description=__doc__)
    parser.add_argument("--start-ms", type=int, default=DEFAULT_START_MS)
    parser.add_argument("--speed", type=float, default=60.0)
    parser.add_argument("--symbols", type=int, default=0)
    parser.add_argument("--closes-only", action="store_true", help="nothing while candles form")
    parser.add_argument("--hostile", action="store_true", help="markup, when REST is at fault")
    options = parser.parse_args(arguments)
    exchange = ObedientExchange(
        start_ms=options.start_ms,
        speed=options.speed,
        symbols=options.symbols,
        forming=not options.closes_only,
        is_hostile=options.hostile,
    )
    trio.run(_serve, exchange)


async def _serve(exchange: ObedientExchange) -> None:
    async with open_exchange(exchange) as endpoints:
        print(toml_of(endpoints), flush=True)
        async with trio.lowlevel.FdStream(sys.stdin.fileno()) as orders:
            await _obey(exchange, orders)


async def _obey(exchange: ObedientExchange, orders: trio.abc.ReceiveStream) -> None:
    waiting = b""
    while arrived := bytes(await orders.receive_some()):
        *lines, waiting = (waiting + arrived).split(b"\n")
        for line in lines:
            now_ms = exchange.now_ms(trio.current_time())
            exchange.obey(json.loads(line), now_ms)
            print(json.dumps({"obeyed_ms": now_ms}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
