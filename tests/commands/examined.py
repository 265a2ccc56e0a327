"""A machine and an exchange without faults, for the tests of `doctor`; a test adds one."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import httpx2
import trio
import trio.testing

from kline_trio.candle import Series
from kline_trio.commands.doctor import examine
from kline_trio.commands.examination import Surroundings
from kline_trio.commands.finding import Finding, Verdict, text_of
from kline_trio.config import Config
from kline_trio.exchange.probe import Reached, Target
from tests.builders import SPOT
from tests.fakes import Peer, Script, ScriptedExchange

NOW_MS = 1_700_000_000_000
PATH = Path("recorder.toml")
MONTHLY = "{trade_type}_{symbol}_{time_interval}.pqt/{month}.parquet"
FUTURE = Series("usdt_futures", "BTCUSDT", "1m")


async def at_once(job: Callable[..., object], *arguments: object) -> object:
    """Run a job of the disk in no time: a virtual clock jumps while a thread works."""
    await trio.lowlevel.checkpoint()
    return job(*arguments)


async def reached(target: Target) -> Reached:
    await trio.sleep(0.1)
    return Reached(target=target, addresses=("192.0.2.1",), seconds=0.1)


async def deliver(peer: Peer, series: Series = SPOT) -> None:
    """A script: a route that sends a frame, as routes should."""
    await peer.accept()
    await peer.subscribed()
    await trio.sleep(0.3)
    await peer.candle(series, closed=False)
    await peer.gone()


def healthy(request: httpx2.Request) -> httpx2.Response:
    """Answer as a healthy exchange does."""
    match request.url.path.rpartition("/")[2]:
        case "time":
            weight = {"x-mbx-used-weight-1m": "12"}
            return httpx2.Response(200, json={"serverTime": NOW_MS}, headers=weight)
        case "exchangeInfo":
            names = ("BTCUSDT", "ETHUSDT", "BTCUSD_PERP")
            symbols = [{"symbol": name, "status": "TRADING"} for name in names]
            symbols.append({"symbol": "OLDUSDT", "status": "BREAK"})
            return httpx2.Response(200, json={"symbols": symbols})
        case _:
            return httpx2.Response(200, text=f"{'a1' * 32}  a file\n")


Answer = Callable[[httpx2.Request], httpx2.Response]


def instead(word: str, *answer: object, **more: Any) -> Answer:  # noqa: ANN401 - of a Response
    """Answer URLs that have a word in this way, and others as a healthy exchange."""

    def handle(request: httpx2.Request) -> httpx2.Response:
        if word in str(request.url):
            return httpx2.Response(*answer, **more)  # type: ignore[arg-type]
        return healthy(request)

    return handle


@attrs.define
class World:
    """A machine and an exchange without faults; a test adds one."""

    config: Config
    script: Script = deliver
    answer: Answer | Callable[[httpx2.Request], Awaitable[httpx2.Response]] = healthy
    now_ms: float = NOW_MS
    asked: list[str] = attrs.field(factory=list)
    exchange: ScriptedExchange = attrs.field(init=False)
    surroundings: Surroundings = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.exchange = ScriptedExchange([lambda peer: self.script(peer)])
        self.surroundings = Surroundings(
            reach=reached,
            dial=self.exchange.dial,
            http_transport=httpx2.MockTransport(self._handle),
            in_thread=at_once,
            wall_clock=lambda: self.now_ms / 1_000,
            open_files=lambda: 1_024,
        )

    async def _handle(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request.url.path)
        answer = self.answer(request)
        return answer if isinstance(answer, httpx2.Response) else await answer

    def change(self, **changes: object) -> None:
        """Change the configuration."""
        self.config = attrs.evolve(self.config, **changes)  # type: ignore[arg-type]

    def replace(self, **changes: object) -> None:
        """Change the surroundings."""
        self.surroundings = attrs.evolve(self.surroundings, **changes)  # type: ignore[arg-type]

    async def examine(self) -> list[Finding]:
        """Return all findings."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.exchange.serve)
            found = await examine(self.config, PATH, self.surroundings)
            nursery.cancel_scope.cancel()
        return found

    async def faults(self) -> list[Finding]:
        """Return the findings that are not ok."""
        return [one for one in await self.examine() if one.verdict is not Verdict.OK]

    async def fault(self) -> Finding:
        """Return the only finding that is not ok."""
        faults = await self.faults()
        assert len(faults) == 1, faults
        return faults[0]


def of(check: str, findings: Sequence[Finding]) -> list[Finding]:
    return [one for one in findings if one.check == check]


def says(finding: Finding, line: str, advice: str) -> bool:
    """Whether a finding is shown in these words; the advice in these and perhaps more."""
    shown, _, told = text_of(finding).partition("\n")
    assert " ".join(shown.split()) == line
    assert told.startswith(f"{' ' * 18}-> {advice}")
    return True
