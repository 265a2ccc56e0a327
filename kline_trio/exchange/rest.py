"""The REST interface: time, symbols and klines, within one budget of weight for each pool."""

import logging
import math
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Annotated, Any, TypeVar

import attrs
import httpx2
import msgspec
import trio

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.counting import counted
from kline_trio.errors import RefusedError, UnavailableError
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.exchange.exchange_info import read_exchange_info
from kline_trio.exchange.klines import MAX_SPAN_MS, Answer, Page, read_rows
from kline_trio.exchange.markets import Market
from kline_trio.exchange.protocol import Fault
from kline_trio.exchange.rate_limiter import RateLimiter
from kline_trio.interval import Span
from kline_trio.listing import Listing
from kline_trio.quoting import shown

logger = logging.getLogger(__name__)
clock_logger = logging.getLogger("kline_trio.exchange.clock_sync")

_TIME_BYTES = 1_024
"""An answer of the time endpoint has some 30 bytes."""
_FAULT_BYTES = 64 * 1_024
"""Read no more of an answer other than 200. The exchange's have 100 bytes; a firewall sends pages
for people."""
_INFO_BYTES = 32 * 2**20
"""Spot's exchangeInfo, the longest answer, has some 15 MB."""
_ROW_BYTES = 512
"""A row of klines has 150 to 250 bytes."""
_LARGE_BYTES = 256 * 1_024
"""Larger bodies are parsed away from the event loop: 1 MB takes 20 to 900 ms."""
_ANSWER_SECONDS = 30.0
"""For a whole answer: a server that sends a byte a second must not hold us."""
_SHOWN_CHARACTERS = 120

_BLOCK_SECONDS = {429: 60.0, 418: 120.0}
"""How long to pause if the answer does not say: a minute's budget; the shortest ban."""
_LEAST_BLOCK_SECONDS = 1.0
_BANNED_UNTIL = re.compile(r"banned until (\d{13})\b")
_LOCATION = {403: "a firewall refuses us", 451: "not for this location"}
_ABOUT_THE_QUESTION = -1100
"""Codes at or below this are request errors: do not retry. Those above are about the server, the
network and budgets (Binance docs, errors.md: "10xx", "11xx", "20xx" and beyond)."""

_MINUTE_MS = 60_000
_LOOK_SECONDS = 1.0
_LEAST_SECONDS = 0.5
"""Between two requests: a host whose frames are hours ahead raises a doubt with each frame."""
_WITHOUT_NEWS_SECONDS = 10.0
_LONGEST_WAIT_SECONDS = 60.0

_TURNS = 2
"""Two answers of the time endpoint and two newest candles agree, or one of them is false."""

_Answer = TypeVar("_Answer")


class _Time(msgspec.Struct):
    # The year 9999: a time in microseconds, or a later one, is nonsense.
    serverTime: Annotated[int, msgspec.Meta(ge=0, lt=253_370_764_800_000)]  # noqa: N815 - theirs


@attrs.define(eq=False)
class Reachability:
    """Whether REST answers."""

    problem: str | None = attrs.field(init=False, default=None)
    """Why the last request failed; None if it did not."""
    failing_since: float = attrs.field(init=False, default=math.inf)
    """Local seconds of the first failure since the last answer; infinity if it answered."""

    def failed(self, problem: str) -> None:
        """Note that a request failed."""
        self.problem = problem
        self.failing_since = min(self.failing_since, trio.current_time())

    def answered(self) -> None:
        """Note that a request was answered."""
        self.problem, self.failing_since = None, math.inf


@attrs.frozen
class RestMarket:
    """One market's REST interface. Its hosts are tried in order; a host that works is kept.

    Each request waits for its weight, and raises RefusedError if the exchange refuses it, or
    UnavailableError if no host gave a valid answer. If cancelled, a request is abandoned.
    """

    client: httpx2.AsyncClient
    market: Market
    hosts: tuple[str, ...]
    """Scheme and host of each."""
    pool: RateLimiter
    clock: ExchangeClock
    parse_away: Callable[..., Awaitable[Any]] | None = None
    """Calls a function with its arguments, away from the event loop: for large bodies."""
    reachability: Reachability = attrs.field(init=False, factory=Reachability)
    _in_turn: deque[str] = attrs.field(
        init=False, default=attrs.Factory(lambda self: deque(self.hosts), takes_self=True)
    )
    """The hosts, the one that answered last first."""
    _host_times_ms: dict[str, int] = attrs.field(init=False, factory=dict)
    """The last answer of the time endpoint, by host."""
    _passed_over: set[str] = attrs.field(init=False, factory=set)
    """Entries of exchangeInfo that were logged as no symbols."""

    async def confirm_time(self) -> int:
        """Set the market's clock by the time endpoint ("Check Server Time"); return the time in ms.

        If the answer is far ahead of the clock, request the newest candle of a busy symbol too, and
        both again if they do not agree.

        Raise UnavailableError also if nothing confirms the answer.
        """
        for _ in range(_TURNS):
            time_ms = await self._get("time", {}, self._read_time, weight=1, most_bytes=_TIME_BYTES)
            if self.clock.confirm(time_ms):
                break
            open_time_ms = await self._newest_of_a_busy_symbol(time_ms)
            if open_time_ms is not None and self.clock.confirm_by_candle(open_time_ms):
                break
        if self.clock.now_ms is None:
            raise UnavailableError("nothing confirms the answer of the time endpoint")
        return self.clock.now_ms

    @property
    def estimated_ms(self) -> int | None:
        """The exchange's time by the time endpoint alone, if it can be true. Label log lines with
        it; decide nothing by it.
        """
        time_ms = self._host_times_ms.get(self._in_turn[0])
        return time_ms if time_ms is not None and self.clock.reaches(time_ms) else self.clock.now_ms

    def _read_time(self, body: bytes, host: str) -> int:
        self._host_times_ms[host] = msgspec.json.decode(body, type=_Time).serverTime
        return self._host_times_ms[host]

    async def _newest_of_a_busy_symbol(self, time_ms: int) -> int | None:
        """Return the open time of the market's newest candle; None if it has none.

        First try the symbol of the newest frame: it is busy, but it may be delisted by now. If its
        candle is older than a minute at `time_ms`, try the market's busy symbol too.
        """
        newest_ms: int | None = None
        for symbol in dict.fromkeys((self.clock.newest_symbol, self.market.busy_symbol)):
            if symbol is not None and time_ms >= (newest_ms or 0) + _MINUTE_MS:
                found_ms = await self._newest_of(symbol)
                newest_ms = found_ms if newest_ms is None else max(newest_ms, found_ms or 0)
        if newest_ms is None:
            # An exchange without these symbols, as for tests.
            listings = await self.listings()
            trading = sorted(name for name, one in listings.items() if one.is_trading)
            newest_ms = await self._newest_of(trading[0]) if trading else None
        return newest_ms

    async def _newest_of(self, symbol: str) -> int | None:
        try:
            return await self.newest_open_time_ms(Series(self.market.trade_type, symbol, "1m"))
        except RefusedError as error:
            if error.code is None:
                raise
            return None

    async def listings(self) -> dict[str, Listing]:
        """Return all symbols that the market lists ("Exchange Information"), by symbol.

        A symbol belongs to the market that lists it: since 2026-06-30 neither the futures host nor
        the name tells the two products apart.
        """
        info = await self._get(
            "exchangeInfo",
            {},
            lambda body, _: read_exchange_info(body),
            weight=20 if self.market.pool == "spot" else 1,
            most_bytes=_INFO_BYTES,
        )
        if info.weight_per_minute is not None:
            self.pool.learn_limit(info.weight_per_minute)
        odd = [symbol for symbol in info.odd if symbol not in self._passed_over]
        if odd:
            self._passed_over.update(odd)
            logger.warning(
                "%s: passed over %s, as %a",
                self.market.trade_type,
                counted(
                    len(odd),
                    "entry of its list that can be no symbol",
                    "entries of its list that can be no symbols",
                ),
                odd[0],
            )
        return info.listings

    async def klines(self, series: Series, page: Page, urgency: float) -> Answer:
        """Request a page of candles ("Kline/Candlestick Data"). Return the closed ones.

        The request with the smallest `urgency` is sent first.
        """
        # From before the request: a candle that closes meanwhile may still change.
        times_ms = dict(self._host_times_ms)

        def read(body: bytes, host: str) -> Answer:
            # Before memory is taken for each row.
            if body.count(b"[") > 2 * (page.limit + 2):
                raise UnavailableError(f"an answer of far more than {page.limit} rows")
            asked = page.asked(series.interval)
            answer = read_rows(body, series, page.span, asked, times_ms.get(host, 0))
            return attrs.evolve(answer, host=host)

        return await self._get(
            "klines",
            page.query(series),
            read,
            weight=self.market.kline_weight(page.limit),
            most_bytes=_klines_bytes(page.limit),
            urgency=urgency,
        )

    async def oldest_open_time_ms(self, series: Series, hint_ms: int | None = None) -> int | None:
        """Return the open time of the first candle of a series; None if it has none yet.

        COIN-M counts back from the end of the requested span, so its first candle is found by
        bisecting. `hint_ms` says when the series may have begun; a wrong hint costs requests.
        """
        if not self.market.pages_end_first:
            query = {"startTime": "0", "endTime": str(MAX_TIME_MS)}
            return await self._lone_open_time_ms(series, query)
        first_ms = await self.newest_open_time_ms(series)
        if first_ms is None:
            return None
        interval = series.interval
        at_ms = interval.open_time_ms(first_ms if hint_ms is None else min(hint_ms, first_ms))
        # Go back until no candle is found.
        while (found_ms := await self._newest_before(series, at_ms)) is not None:
            first_ms, at_ms = found_ms, interval.open_time_ms(found_ms - MAX_SPAN_MS // 2)
        while at_ms < first_ms:
            middle_ms = interval.end_time_ms(interval.open_time_ms((at_ms + first_ms) // 2))
            found_ms = await self._newest_before(series, middle_ms)
            if found_ms is None:
                at_ms = middle_ms
            else:
                first_ms = found_ms
        return first_ms

    async def _newest_before(self, series: Series, moment_ms: int) -> int | None:
        """Return the newest candle that opens before a moment, and at most 200 days before."""
        begin_ms = max(0, moment_ms - MAX_SPAN_MS)
        query = {"startTime": str(begin_ms), "endTime": str(moment_ms - 1)}
        return await self._lone_open_time_ms(series, query) if moment_ms > 0 else None

    async def newest_open_time_ms(self, series: Series) -> int | None:
        """Return the open time of the last candle of a series; None if it has none."""
        # Without times, an answer ends with the newest candle on all markets.
        return await self._lone_open_time_ms(series, {})

    async def _lone_open_time_ms(self, series: Series, times: Mapping[str, str]) -> int | None:
        query = {"symbol": series.symbol, "interval": series.time_interval, "limit": "1", **times}
        whole = Span(0, MAX_TIME_MS)
        answer = await self._get(
            "klines",
            query,
            lambda body, _: read_rows(body, series, whole, whole, MAX_TIME_MS),
            weight=self.market.kline_weight(1),
            most_bytes=_klines_bytes(1),
        )
        return answer.candles[0].open_time_ms if answer.candles else None

    async def _get(
        self,
        path: str,
        query: Mapping[str, str],
        read: Callable[[bytes, str], _Answer],
        *,
        weight: int,
        most_bytes: int,
        urgency: float = -math.inf,
    ) -> _Answer:
        """Return what `read` makes of the answer, from its body and host."""
        tried = []
        refused = 0
        for host in tuple(self._in_turn):
            url = f"{host}{self.market.rest_prefix}/{path}"
            await self.pool.acquire(weight, urgency)
            try:
                with trio.fail_after(_ANSWER_SECONDS):
                    body = await self._body(url, query, most_bytes)
                    if len(body) < _LARGE_BYTES or self.parse_away is None:
                        answer = read(body, host)
                    else:
                        answer = await self.parse_away(read, body, host)
                self.reachability.answered()
                return answer
            except RefusedError as error:
                if error.code is not None:
                    self.reachability.answered()
                    raise
                refused += 1
                tried.append(f"{url}: {error}")
            except trio.TooSlowError:
                tried.append(f"{url}: no whole answer within {_ANSWER_SECONDS:g} s")
            # Bytes that are no text raise UnicodeError, a thousand brackets RecursionError, hosts
            # that cannot be names UnicodeError or httpx2.InvalidURL.
            except (
                httpx2.HTTPError,
                httpx2.InvalidURL,
                msgspec.DecodeError,
                UnavailableError,
                UnicodeError,
                RecursionError,
            ) as error:
                tried.append(f"{url}: {shown(str(error) or repr(error.__cause__ or error))}")
            if host == self._in_turn[0]:  # no other request has moved on meanwhile
                self._in_turn.rotate(-1)
        problem = "; ".join(tried)
        self.reachability.failed(problem)
        if refused == len(self.hosts):
            raise RefusedError(problem)
        raise UnavailableError(problem)

    async def _body(self, url: str, query: Mapping[str, str], most_bytes: int) -> bytes:
        body = bytearray()
        async with self.client.stream("GET", url, params=query) as response:
            is_good = response.status_code == httpx2.codes.OK
            async with aclosing(response.aiter_bytes()) as pieces:
                async for piece in pieces:
                    body += piece
                    if is_good and len(body) > most_bytes:
                        raise UnavailableError(f"an answer of more than {most_bytes} bytes")
                    if len(body) > _FAULT_BYTES and not is_good:
                        break
        used = response.headers.get("x-mbx-used-weight-1m", "")
        if used.isascii() and used.isdigit() and len(used) < 10:
            self.pool.learn_used(int(used))
        if not is_good:
            self._refuse(response, bytes(body))
        return bytes(body)

    def _refuse(self, response: httpx2.Response, body: bytes) -> None:
        """Raise the error that an answer other than 200 means."""
        status = response.status_code
        try:
            fault = msgspec.json.decode(body, type=Fault)
        except (msgspec.DecodeError, UnicodeError, RecursionError):  # a page, as of a firewall
            fault = Fault()
        message = f"HTTP {status}"
        if fault.msg:
            message += f": {fault.code} {fault.msg[:_SHOWN_CHARACTERS]!a}"
        if status in _BLOCK_SECONDS:
            self.pool.block(self._block_seconds(response, fault.msg), message)
            raise UnavailableError(message)
        if status in _LOCATION:
            raise RefusedError(f"{message}: {_LOCATION[status]}")
        if fault.code <= _ABOUT_THE_QUESTION:
            raise RefusedError(message, code=fault.code)
        raise UnavailableError(message)

    def _block_seconds(self, response: httpx2.Response, message: str) -> float:
        after = response.headers.get("retry-after", "")
        if after.isascii() and after.isdigit() and len(after) < 9:
            return max(_LEAST_BLOCK_SECONDS, float(after))
        until = _BANNED_UNTIL.search(message)
        if until and self.clock.now_ms is not None:
            return max(_LEAST_BLOCK_SECONDS, (int(until[1]) - self.clock.now_ms) / 1_000)
        return _BLOCK_SECONDS[response.status_code]


def _klines_bytes(limit: int) -> int:
    """Return the size of the largest valid answer of so many rows."""
    return (limit + 2) * _ROW_BYTES


async def sync_clock(rest: RestMarket) -> None:
    """Request the time when no frame moved the clock for a while, or a frame's time is in doubt.

    Run until cancelled. Without answers no candle of that market becomes due. Log when answers fail
    and when they come again.
    """
    wait, is_silent = _LOOK_SECONDS, False
    while True:
        try:
            await rest.confirm_time()
        except UnavailableError as error:
            if not is_silent:
                is_silent = True
                clock_logger.warning("%s: REST gives no answer: %s", rest.market.trade_type, error)
            await trio.sleep(wait)
            wait = min(_LONGEST_WAIT_SECONDS, 2 * wait)
        else:
            if is_silent:
                clock_logger.info("%s: REST gives answers again", rest.market.trade_type)
            wait, is_silent = _LOOK_SECONDS, False
            await trio.sleep(_LEAST_SECONDS)
            await _wait_for_doubt_or_silence(rest.clock)


async def _wait_for_doubt_or_silence(clock: ExchangeClock) -> None:
    last_ms = clock.now_ms
    last_news = trio.current_time()
    while not clock.doubt.is_set() and trio.current_time() < last_news + _WITHOUT_NEWS_SECONDS:
        with trio.move_on_after(_LOOK_SECONDS):
            await clock.doubt.wait()
        if clock.now_ms != last_ms:
            last_ms = clock.now_ms
            last_news = trio.current_time()
