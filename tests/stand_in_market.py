"""One market of the stand-in: its connections, streams and limits."""

import asyncio
import contextlib
import json
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict, dataclass, field, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame as WireFrame
from websockets.http11 import Request, Response

from tests.stand_in_archive import ArchiveFile, QuietLie
from tests.stand_in_candles import (
    GARBAGE,
    Frame,
    Market,
    Row,
    frame_text,
    garbage,
    made_up,
    stream_name,
)
from tests.stand_in_rest import answer, response

if TYPE_CHECKING:
    from tests.stand_in import Exchange

__all__ = ["Venue"]

MAX_STREAMS = 1024
KLINE = re.compile(r"([^@\s]+)@kline_(\w+)")
STREAM = re.compile(r"[^@\s]+@\S+|!\w+(@\S+)?")


class Wire(ServerConnection):
    """A connection that counts what comes in, pongs and pings included."""

    arrived: deque[float]

    def process_event(self, event: object) -> None:
        """Note when a frame came."""
        if isinstance(event, WireFrame):
            if not hasattr(self, "arrived"):
                self.arrived = deque(maxlen=64)
            self.arrived.append(time.monotonic())
        super().process_event(event)  # type: ignore[arg-type]

    def in_last_second(self) -> int:
        """How many messages came in the last second."""
        since = time.monotonic() - 1
        return sum(at > since for at in getattr(self, "arrived", ()))


@dataclass(eq=False)
class Client:
    """One connection: what it asked for, and what it is to be sent."""

    wire: Wire
    deaf: bool
    """It is on a path on which no klines flow."""
    streams: dict[str, None] = field(default_factory=dict)
    combined: bool = True
    muted_until: float = 0.0
    waiting: asyncio.Queue[tuple[str | bytes, dict[str, Any] | None]] = field(
        default_factory=asyncio.Queue
    )

    def put(self, text: str | bytes, truth: dict[str, Any] | None = None) -> None:
        """Send a frame, unless the connection is stalled."""
        if time.monotonic() >= self.muted_until:
            self.waiting.put_nowait((text, truth))


class Venue:
    """One market, with a port of its own."""

    def __init__(self, market: Market, exchange: "Exchange") -> None:
        self.market, self.exchange, self.options = market, exchange, exchange.options
        self.clients: set[Client] = set()
        self.players: dict[str, asyncio.Task[None]] = {}
        self.last_closes: dict[str, tuple[str, str, Row]] = {}
        self.silent_until_ms: dict[str, int] = {}
        self.refusals = dict(self.options.refusals).get(market.trade_type, [])
        self.rest_mode = self.options.rest
        self.lies: dict[str, tuple[int, float]] = {}
        self.quiet_lies: list[QuietLie] = []
        self.port = 0
        self.connections = 0

    @property
    def symbols(self) -> list[str]:
        """The symbols that are listed."""
        replayed = [key[1] for key in self.exchange.archive if key[0] == self.market.trade_type]
        return list(dict.fromkeys([*self.market.symbols, *replayed]))

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen on loopback."""
        async with serve(
            self.talk,
            "127.0.0.1",
            0,
            process_request=self.answer_http,
            create_connection=Wire,
            ping_interval=None,
            compression=None,
            close_timeout=1,
        ) as server:
            self.port = server.sockets[0].getsockname()[1]
            yield
            for client in tuple(self.clients):
                client.wire.transport.abort()

    def answer_http(self, _: ServerConnection, request: Request) -> Response | None:
        """The answer to a plain request or a refused handshake; None lets the handshake go on."""
        url = urlsplit(request.path)
        if "upgrade" not in request.headers.get("Connection", "").lower():
            now_ms, query = self.exchange.clock.now_ms(), parse_qs(url.query)
            if file := ArchiveFile.from_path(unquote(url.path)):
                return self.exchange.venue(file.trade_type).answer_archive(file)
            return answer(
                self.market, url.path, query, self.symbols, now_ms, self.rest_mode,
                self.rows_from, self.given_over_rest, self.lie_ms,
            )  # fmt: skip
        if self.refusals:
            return response(self.refusals.pop(0), "refused by the script", "text/plain")
        if url.path not in (self.market.path, "/stream"):
            return response(404, "<html>no such stream</html>", "text/html")
        return None

    def lie_ms(self, about: str) -> int:
        """By how much it lies about this just now; see `tests/stand_in_rest.py`."""
        ahead_ms, until_ms = self.lies.get(about, (0, 0.0))
        return ahead_ms if self.exchange.clock.now_ms() < until_ms else 0

    def rows_from(self, symbol: str, interval: str, from_ms: int) -> Iterable[Row]:
        """The candles that REST has: all since its history began, whether or not a stream told."""
        if self.exchange.archive:
            return self.exchange.archive.get((self.market.trade_type, symbol, interval), [])
        first_ms = max(from_ms, self.options.start_ms - self.options.history_ms)
        return made_up(self.market, symbol, interval, first_ms, self.options.taste.seed)

    def answer_archive(self, file: ArchiveFile) -> Response:
        """A file that is published, and a note of the candles in it."""
        known = self.rows_from(file.symbol, file.interval, file.from_ms)
        rows = [r for r in takewhile(lambda r: r.t < file.to_ms, known) if r.t >= file.from_ms]
        is_listed = file.symbol in self.symbols and file.is_published(self.exchange.clock.now_ms())
        if not (rows and is_listed):
            return response(404, "<Error><Code>NoSuchKey</Code></Error>", "application/xml")
        for row in rows:
            self.given_over_rest(file.symbol, file.interval, row)
        return response(200, file.content(rows, self.quiet_lies), "application/zip")

    def given_over_rest(self, symbol: str, interval: str, row: Row) -> None:
        """Note a closed candle that was asked for."""
        told = {"trade_type": self.market.trade_type, "symbol": symbol, "interval": interval}
        self.exchange.handed_over(told | {"E": 0, **asdict(row)})

    async def talk(self, wire: ServerConnection) -> None:
        """Serve one connection until it ends."""
        assert isinstance(wire, Wire)
        assert wire.request is not None
        url = urlsplit(wire.request.path)
        client = Client(wire, deaf=url.path != self.market.path)
        self.connections += 1
        self.clients.add(client)
        tasks = [asyncio.create_task(self.send(client)), asyncio.create_task(self.ping(client))]
        try:
            if url.query.startswith("streams="):
                self.subscribe(client, unquote(url.query[8:]).split("/"))
            async for message in wire:
                if wire.in_last_second() > self.market.messages_per_second:
                    await wire.close(1008, "Too many requests")
                    break
                await self.obey(client, message)
        except ConnectionClosed:
            pass
        finally:
            self.clients.discard(client)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            while not client.waiting.empty():
                client.waiting.get_nowait()
                client.waiting.task_done()

    async def send(self, client: Client) -> None:
        """Hand frames over, and keep a record of the closes among them."""
        while True:
            text, truth = await client.waiting.get()
            try:
                await client.wire.send(text)
            except ConnectionClosed:
                return
            finally:
                client.waiting.task_done()
            if truth is not None:
                self.exchange.handed_over(truth)

    async def ping(self, client: Client) -> None:
        """Ask for life, and hang up where there is none."""
        pause = self.options.ping_seconds or self.market.ping_seconds
        while True:
            await asyncio.sleep(pause)
            with contextlib.suppress(ConnectionClosed):
                pong = await client.wire.ping(str(self.exchange.clock.now_ms()))
                try:
                    await asyncio.wait_for(pong, self.options.pong_seconds or pause * 3)
                except TimeoutError:
                    await client.wire.close(1008, "Pong timeout")

    async def obey(self, client: Client, message: str | bytes) -> None:
        """Answer a control message."""
        try:
            request = json.loads(message)
        except ValueError:
            client.put(_error(3, "Invalid JSON: expected value at line 1 column 1", None))
            if self.market.trade_type != "spot":
                await client.waiting.join()
                await client.wire.close(1008, "Invalid JSON")
            return
        fields = request if isinstance(request, dict) else {}
        method, params, id_ = (fields.get(key) for key in ("method", "params", "id"))
        params = params if isinstance(params, list) else []
        if method is None:
            client.put(_error(2, "Invalid request: missing field `method`", id_))
        elif method in ("SUBSCRIBE", "UNSUBSCRIBE"):
            await self.change_streams(client, method, params, id_)
        elif method == "LIST_SUBSCRIPTIONS":
            client.put(json.dumps({"result": list(client.streams), "id": id_}))
        elif method == "GET_PROPERTY":
            client.put(json.dumps({"result": client.combined, "id": id_}))
        else:
            client.put(_error(2, f"Invalid request: unknown variant `{method}`", id_))

    async def change_streams(
        self, client: Client, method: str, names: list[Any], id_: object
    ) -> None:
        """Subscribe or unsubscribe; a stream that does not exist is taken and stays silent."""
        if not all(isinstance(n, str) and STREAM.fullmatch(n) for n in names):
            client.put(_error(2, "Invalid request: invalid stream", id_))
        elif method == "UNSUBSCRIBE":
            for name in names:
                client.streams.pop(name, None)
            client.put(json.dumps({"result": None, "id": id_}))
        elif len({*client.streams, *names}) > MAX_STREAMS:
            client.put('{"error":{"code":4,"msg":"Too many subscriptions"}}')
            await client.waiting.join()
            await client.wire.close(1008, "Too many subscriptions")
        else:
            client.put(json.dumps({"result": None, "id": id_}))
            self.subscribe(client, names)

    def subscribe(self, client: Client, names: list[str]) -> None:
        """Note what a connection wants, and let those streams run that were never asked for."""
        client.streams.update(dict.fromkeys(names))
        if client.deaf:
            return
        for name in names:
            match = KLINE.fullmatch(name)
            if match is None or name in self.players:
                continue
            listed = (s for s in self.symbols if stream_name(s, match[2]) == name)
            if (symbol := next(listed, None)) and match[2] in self.market.intervals:
                self.players[name] = asyncio.create_task(self.play(name, symbol, match[2]))
        self.exchange.look_whether_all_are_subscribed()

    async def play(self, name: str, symbol: str, interval: str) -> None:
        """Publish one stream's frames for as long as the clock runs."""
        for frame in self.exchange.frames_of(self.market, symbol, interval):
            if not await self.exchange.clock.wait(frame.at_ms):
                return
            if frame.row is not None:
                self.last_closes[name] = (symbol, interval, frame.row)
            if frame.at_ms >= self.silent_until_ms.get(name, 0):
                self.publish(name, symbol, interval, frame)

    def publish(self, name: str, symbol: str, interval: str, frame: Frame) -> None:
        """Hand a frame to all who want it."""
        truth = None
        if frame.row is not None:
            truth = {"trade_type": self.market.trade_type, "symbol": symbol,
                     "interval": interval, "E": frame.at_ms, **asdict(frame.row)}  # fmt: skip
        for client in self.clients:
            if name in client.streams and not client.deaf:
                client.put(frame.text, truth)

    def act(self, action: dict[str, Any]) -> None:
        """Do one thing of the script to this market."""
        match action["do"]:
            case "drop":  # what was sent still arrives, but no CLOSE
                for client in self.clients:
                    client.wire.transport.close()
            case "stall":
                for client in self.clients:
                    client.muted_until = time.monotonic() + action.get("seconds", 1e9)
            case "shutdown":
                now = self.exchange.clock.now_ms()
                data = {"e": "serverShutdown", "E": now}
                for client in self.clients:
                    client.put(json.dumps({"stream": "!serverShutdown", "data": data}))
            case "close":
                for client in self.clients:
                    close = client.wire.close(action.get("code", 1001), action.get("reason", ""))
                    self.exchange.later(close)
            case "repeat" | "revise":
                self.say_again(revised=action["do"] == "revise")
            case "garbage":
                self.say_nonsense(action.get("kinds", GARBAGE))
            case "silence":
                until = self.exchange.clock.now_ms() + int(action["seconds"] * 1_000)
                self.silent_until_ms[action["stream"]] = until
            case "refuse":
                self.refusals += [action["status"]] * action.get("count", 1)
            case "rest":
                self.rest_mode = str(action["mode"])
            case "lie" if action["about"] in ("event", "candle"):
                self.say_of_another_time(int(action["ahead"] * 1_000), action["about"])
            case "lie" if action["about"] == "quiet":
                begin_ms = self.options.start_ms + int(action["ahead"] * 1_000)
                end_ms = begin_ms + int(action["seconds"] * 1_000)
                self.quiet_lies.append((action["symbol"], begin_ms, end_ms))
            case "lie":
                until = self.exchange.clock.now_ms() + action.get("seconds", 1e15) * 1_000
                self.lies[action["about"]] = int(action["ahead"] * 1_000), until
            case other:
                raise ValueError(f"unknown action {other!r}")

    def say_again(self, *, revised: bool) -> None:
        """Publish the last close of every stream once more, with another volume if revised."""
        now = self.exchange.clock.now_ms()
        for name, (symbol, interval, row) in self.last_closes.items():
            again = Row(**asdict(row) | ({"v": "4321", "n": row.n + 1} if revised else {}))
            text = frame_text(self.market, symbol, interval, again, now, closed=True)
            self.publish(name, symbol, interval, Frame(now, 0, text, again))

    def say_of_another_time(self, ahead_ms: int, about: str) -> None:
        """Publish a candle of every stream once more: its event, or all of it, at another time."""
        now = self.exchange.clock.now_ms() + ahead_ms
        for name, (symbol, interval, row) in self.last_closes.items():
            moved = about == "candle"
            told = replace(row, t=row.t + ahead_ms, T=row.T + ahead_ms) if moved else row
            text = frame_text(self.market, symbol, interval, told, now, closed=moved)
            self.publish(name, symbol, interval, Frame(now, 0, text, None))

    def say_nonsense(self, kinds: list[str] | tuple[str, ...]) -> None:
        """Send every connection frames that only look like closed candles."""
        now = self.exchange.clock.now_ms()
        for name, (symbol, interval, row) in self.last_closes.items():
            for client in self.clients:
                if name in client.streams and not client.deaf:
                    for kind in kinds:
                        client.put(garbage(kind, self.market, symbol, interval, row, now))


def _error(code: int, words: str, id_: object) -> str:
    return json.dumps({"error": {"code": code, "msg": words}, "id": id_})
