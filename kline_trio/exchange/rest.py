"""The REST interface: the time, the symbols and the klines, within one budget for each pool."""

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
from kline_trio.errors import RefusedError, UnavailableError
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.exchange.exchange_info import read_exchange_info
from kline_trio.exchange.klines import MAX_SPAN_MS, Answer, Page, read_rows
from kline_trio.exchange.markets import Market
from kline_trio.exchange.rate_limiter import RateLimiter
from kline_trio.interval import Span
from kline_trio.listing import Listing
from kline_trio.quoting import shown

__all__ = ["RestMarket", "sync_clock"]

logger = logging.getLogger(__name__)
clock_logger = logging.getLogger("kline_trio.exchange.clock_sync")

_TIME_BYTES = 1_024
"""An answer about the time has some 30 bytes."""
_FAULT_BYTES = 64 * 1_024
"""Of an answer other than 200 as much is read: the exchange's have 100 bytes, but a firewall sends
pages for people."""
_INFO_BYTES = 32 * 2**20
"""Spot's exchangeInfo, the longest answer, has some 15 MB."""
_ROW_BYTES = 512
"""A row of klines has 150 to 250 bytes."""
_LARGE_BYTES = 256 * 1_024
"""A body from here on is parsed away from the event loop: there 1 MB takes 20 to 900 ms."""
_ANSWER_SECONDS = 30.0
"""For a whole answer: a server that sends a byte a second is none."""
_SHOWN_CHARACTERS = 120

_BLOCK_SECONDS = {429: 60.0, 418: 120.0}
"""How long to ask nothing where the answer does not say: a minute's budget, the shortest ban."""
_LEAST_BLOCK_SECONDS = 1.0
_BANNED_UNTIL = re.compile(r"banned until (\d{13})\b")
_LOCATION = {403: "a firewall refuses us", 451: "not for this location"}
_ABOUT_THE_QUESTION = -1100
"""What has this code or one below it is about what was asked; those above are about the server,
the network and budgets (Binance docs, errors.md: "10xx", "11xx", "20xx" and beyond)."""

_MINUTE_MS = 60_000
_LOOK_SECONDS = 1.0
_LEAST_SECONDS = 0.5
"""Between two questions: a host whose frames are hours ahead raises a doubt with each of them."""
_WITHOUT_NEWS_SECONDS = 10.0
_LONGEST_WAIT_SECONDS = 60.0

_TURNS = 2
"""Two answers of the time endpoint and two newest candles agree, or one of them lies."""

_Answer = TypeVar("_Answer")


async def _at_once(read: Callable[[bytes, str], _Answer], body: bytes, host: str) -> _Answer:
    return read(body, host)


class _Time(msgspec.Struct):
    # The year 9999: a time in microseconds, or a later one, is nonsense.
    serverTime: Annotated[int, msgspec.Meta(ge=0, lt=253_370_764_800_000)]  # noqa: N815 - theirs


class _Fault(msgspec.Struct):
    code: int = 0
    msg: str = ""


@attrs.frozen
class RestMarket:
    """One market's REST interface, on hosts that are tried in order; one that works is kept."""

    client: httpx2.AsyncClient
    market: Market
    hosts: tuple[str, ...]
    """Scheme and host of each."""
    pool: RateLimiter
    clock: ExchangeClock
    parse_away: Callable[..., Awaitable[Any]] = _at_once
    """Runs a function away from the event loop, with its argument: for large bodies."""
    _in_turn: deque[str] = attrs.field(
        init=False, default=attrs.Factory(lambda self: deque(self.hosts), takes_self=True)
    )
    """The hosts, from the one on that answered last."""
    _told_ms: dict[str, int] = attrs.field(init=False, factory=dict)
    """What time each host told last."""
    _passed_over: set[str] = attrs.field(init=False, factory=set)
    """What was said once to be no symbol."""

    async def confirm_time(self) -> int:
        """Set the market's clock by the exchange's own ("Check Server Time"); milliseconds.

        Where that is far ahead of what was known, the newest candle of a busy symbol is asked for,
        by turns with it.

        Raises:
          UnavailableError: no host gave an answer that can be used, or nothing confirms it.
        """
        for _ in range(_TURNS):
            time_ms = await self._get("time", {}, 1, -math.inf, _TIME_BYTES, self._read_time)
            if self.clock.confirm(time_ms):
                break
            open_time_ms = await self._newest_of_a_busy_symbol(time_ms)
            if open_time_ms is not None and self.clock.confirm_by_candle(open_time_ms):
                break
        if self.clock.now_ms is None:
            raise UnavailableError("the exchange's time is told by nobody but the time endpoint")
        return self.clock.now_ms

    @property
    def estimated_ms(self) -> int | None:
        """The exchange's time, in the words of the endpoint alone if they can be true. A label:
        nothing may be decided by it.
        """
        told_ms = self._told_ms.get(self._in_turn[0])
        return told_ms if told_ms is not None and self.clock.reaches(told_ms) else self.clock.now_ms

    def _read_time(self, body: bytes, host: str) -> int:
        self._told_ms[host] = msgspec.json.decode(body, type=_Time).serverTime
        return self._told_ms[host]

    async def _newest_of_a_busy_symbol(self, time_ms: int) -> int | None:
        """Return the open time of the newest candle there is; None if the market has none.

        A symbol of which a frame has come is as busy as any, but it may be delisted by now.

        Args:
          time_ms: how late it should be; a second symbol is asked for only if the first is not.
        """
        newest_ms: list[int] = []
        for symbol in dict.fromkeys((self.clock.newest_symbol, self.market.busy_symbol)):
            if symbol is not None and time_ms >= max(newest_ms, default=0) + _MINUTE_MS:
                newest_ms += await self._newest_of(symbol)
        if not newest_ms:
            # An exchange without these, as for tests.
            listings = await self.listings()
            trading = sorted(name for name, one in listings.items() if one.is_trading)
            newest_ms = await self._newest_of(trading[0]) if trading else []
        return max(newest_ms, default=None)

    async def _newest_of(self, symbol: str) -> list[int]:
        try:
            open_time_ms = await self.newest_open_time_ms(self._series_of(symbol))
        except RefusedError as error:
            if error.code is None:
                raise
            return []
        return [] if open_time_ms is None else [open_time_ms]

    def _series_of(self, symbol: str) -> Series:
        return Series(self.market.trade_type, symbol, "1m")

    async def listings(self) -> dict[str, Listing]:
        """All symbols that the market lists ("Exchange Information"), by symbol.

        What its own list holds is a market's: since 2026-06-30 neither a futures host nor a name
        tells one product from the other.

        Raises:
          UnavailableError: no host gave an answer that can be used.
        """
        weight = 20 if self.market.pool == "spot" else 1
        info = await self._get(
            "exchangeInfo",
            {},
            weight,
            -math.inf,
            _INFO_BYTES,
            lambda body, _: read_exchange_info(body),
        )
        if info.weight_per_minute is not None:
            self.pool.learn_limit(info.weight_per_minute)
        odd = [symbol for symbol in info.odd if symbol not in self._passed_over]
        if odd:
            self._passed_over.update(odd)
            logger.warning(
                "%s: passed over %d entries of its list that can be no symbols, as %a",
                self.market.trade_type,
                len(odd),
                odd[0],
            )
        return info.listings

    async def klines(self, series: Series, page: Page, urgency: float) -> Answer:
        """The closed candles of a page ("Kline/Candlestick Data").

        Args:
          series: whose candles.
          page: which, of `pages`.
          urgency: the smallest is served first.

        Raises:
          RefusedError: the exchange will not answer this question.
          UnavailableError: no host gave an answer that can be used.
        """
        # Of before it was asked: what closes meanwhile may still change.
        told_ms = dict(self._told_ms)

        def read(body: bytes, host: str) -> Answer:
            _check_rows(body, page.limit)
            asked = page.asked(series.interval)
            answer = read_rows(body, series, page.span, asked, told_ms.get(host, 0))
            return attrs.evolve(answer, host=host)

        most_bytes = _klines_bytes(page.limit)
        query = page.query(series)
        return await self._get("klines", query, page.weight, urgency, most_bytes, read)

    async def oldest_open_time_ms(self, series: Series, hint_ms: int | None = None) -> int | None:
        """The open time of the first candle there is of a series; None if there is none yet.

        COIN-M counts back from the end of what is asked for, so its first candle is found by
        bisecting.

        Args:
          series: whose.
          hint_ms: when it may have begun. If that is wrong, it takes more questions.

        Raises:
          RefusedError: the exchange will not answer this question.
          UnavailableError: no host gave an answer that can be used.
        """
        if not self.market.pages_end_first:
            query = {"startTime": "0", "endTime": str(MAX_TIME_MS)}
            return await self._lone_open_time_ms(series, query)
        first_ms = await self.newest_open_time_ms(series)
        if first_ms is None:
            return None
        interval = series.interval
        at_ms = interval.open_time_ms(first_ms if hint_ms is None else min(hint_ms, first_ms))
        # Back to where nothing was; what is there comes before what the answers have shown.
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
        """The open time of the last candle there is of a series; None if there is none.

        Raises:
          RefusedError: the exchange will not answer this question.
          UnavailableError: no host gave an answer that can be used.
        """
        # Without times an answer ends with the newest candle there is, on all markets.
        return await self._lone_open_time_ms(series, {})

    async def _lone_open_time_ms(self, series: Series, times: Mapping[str, str]) -> int | None:
        query = {"symbol": series.symbol, "interval": series.time_interval, "limit": "1", **times}
        whole = Span(0, MAX_TIME_MS)
        answer = await self._get(
            "klines",
            query,
            self.market.kline_weight(1),
            -math.inf,
            _klines_bytes(1),
            lambda body, _: read_rows(body, series, whole, whole, MAX_TIME_MS),
        )
        return answer.candles[0].open_time_ms if answer.candles else None

    async def _get(
        self,
        what: str,
        query: Mapping[str, str],
        weight: int,
        urgency: float,
        most_bytes: int,
        read: Callable[[bytes, str], _Answer],
    ) -> _Answer:
        tried = []
        refused = 0
        for host in tuple(self._in_turn):
            url = f"{host}{self.market.rest_prefix}/{what}"
            await self.pool.acquire(weight, urgency)
            try:
                with trio.fail_after(_ANSWER_SECONDS):
                    body = await self._body(url, query, most_bytes)
                    if len(body) < _LARGE_BYTES:
                        return read(body, host)
                    answer: _Answer = await self.parse_away(read, body, host)
                    return answer
            except RefusedError as error:
                if error.code is not None:
                    raise
                refused += 1
                tried.append(f"{url}: {error}")
            except trio.TooSlowError:
                tried.append(f"{url}: no whole answer within {_ANSWER_SECONDS:g} s")
            # Bytes that are no text show as UnicodeError, a thousand brackets as RecursionError,
            # hosts that cannot be names as UnicodeError or httpx2.InvalidURL.
            except (
                httpx2.HTTPError,
                httpx2.InvalidURL,
                msgspec.DecodeError,
                UnavailableError,
                UnicodeError,
                RecursionError,
            ) as error:
                tried.append(f"{url}: {shown(str(error) or repr(error.__cause__ or error))}")
            if host == self._in_turn[0]:  # no other request has come so far meanwhile
                self._in_turn.rotate(-1)
        if refused == len(self.hosts):
            raise RefusedError("; ".join(tried))
        raise UnavailableError("; ".join(tried))

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
        """Raises what an answer other than 200 means."""
        status = response.status_code
        fault = _fault(body)
        said = f"HTTP {status}"
        if fault.msg:
            said += f": {fault.code} {fault.msg[:_SHOWN_CHARACTERS]!a}"
        if status in _BLOCK_SECONDS:
            self.pool.block(self._block_seconds(response, fault.msg))
            raise UnavailableError(said)
        if status in _LOCATION:
            raise RefusedError(f"{said}: {_LOCATION[status]}")
        if fault.code <= _ABOUT_THE_QUESTION:
            raise RefusedError(said, code=fault.code)
        raise UnavailableError(said)

    def _block_seconds(self, response: httpx2.Response, message: str) -> float:
        after = response.headers.get("retry-after", "")
        if after.isascii() and after.isdigit() and len(after) < 9:
            return max(_LEAST_BLOCK_SECONDS, float(after))
        until = _BANNED_UNTIL.search(message)
        if until and self.clock.now_ms is not None:
            return max(_LEAST_BLOCK_SECONDS, (int(until[1]) - self.clock.now_ms) / 1_000)
        return _BLOCK_SECONDS[response.status_code]


def _klines_bytes(limit: int) -> int:
    """The size of the largest right answer of so many rows."""
    return (limit + 2) * _ROW_BYTES


def _check_rows(body: bytes, limit: int) -> None:
    """Refuse an answer of far more rows than its limit, before memory is taken for each.

    Raises:
      UnavailableError: it is one.
    """
    if body.count(b"[") > 2 * (limit + 2):
        raise UnavailableError(f"an answer of far more than {limit} rows")


def _fault(body: bytes) -> _Fault:
    """The exchange's own words; none where the body is a page for people, as of a firewall."""
    try:
        return msgspec.json.decode(body, type=_Fault)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _Fault()


async def sync_clock(rest: RestMarket) -> None:
    """Ask for the time when no frame has told it for a while, or one told what is doubtful.

    Until cancelled. As long as no answer can be had, nothing of that market becomes due. That is
    said when it begins, and when it ends.
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
            await _frames_stop_telling(rest.clock)


async def _frames_stop_telling(clock: ExchangeClock) -> None:
    told_ms = clock.now_ms
    last_news = trio.current_time()
    while not clock.is_doubted and trio.current_time() < last_news + _WITHOUT_NEWS_SECONDS:
        with trio.move_on_after(_LOOK_SECONDS):
            await clock.doubt.wait()
        if clock.now_ms != told_ms:
            told_ms = clock.now_ms
            last_news = trio.current_time()
