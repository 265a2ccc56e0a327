"""The REST interface: what time it is there, and which symbols there are."""

from contextlib import aclosing
from typing import Annotated, TypeVar

import attrs
import httpx2
import msgspec

from kline_trio.errors import UnavailableError
from kline_trio.exchange.markets import Market

__all__ = ["RestMarket"]

_MAX_BODY_BYTES = 64 * 2**20
"""Spot's exchangeInfo, the longest answer, has some 15 MB."""

_Answer = TypeVar("_Answer")


class _Time(msgspec.Struct):
    # The year 9999: a time in microseconds, or a later one, is nonsense.
    serverTime: Annotated[int, msgspec.Meta(ge=0, lt=253_370_764_800_000)]  # noqa: N815 - theirs


class _Symbol(msgspec.Struct):
    symbol: str


class _ExchangeInfo(msgspec.Struct):
    symbols: list[_Symbol]


@attrs.frozen
class RestMarket:
    """One market's REST interface, on hosts that are tried in order."""

    client: httpx2.AsyncClient
    market: Market
    hosts: tuple[str, ...]
    """Scheme and host of each."""

    async def server_time_ms(self) -> int:
        """The exchange's time in milliseconds (Binance docs, "Check Server Time").

        Raises:
          UnavailableError: no host gave an answer that can be used.
        """
        return (await self._get("time", _Time)).serverTime

    async def symbols(self) -> frozenset[str]:
        """All symbols that the market lists, whatever their status ("Exchange Information").

        Raises:
          UnavailableError: no host gave an answer that can be used.
        """
        info = await self._get("exchangeInfo", _ExchangeInfo)
        return frozenset(entry.symbol for entry in info.symbols)

    async def _get(self, what: str, shape: type[_Answer]) -> _Answer:
        tried = []
        for host in self.hosts:
            url = f"{host}{self.market.rest_prefix}/{what}"
            try:
                return msgspec.json.decode(await self._body(url), type=shape)
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
                tried.append(f"{url}: {str(error) or repr(error.__cause__ or error)}")
        raise UnavailableError("; ".join(tried))

    async def _body(self, url: str) -> bytes:
        body = bytearray()
        async with self.client.stream("GET", url) as response:
            if response.status_code != httpx2.codes.OK:
                raise UnavailableError(f"HTTP {response.status_code}")
            async with aclosing(response.aiter_bytes()) as pieces:
                async for piece in pieces:
                    body += piece
                    if len(body) > _MAX_BODY_BYTES:
                        raise UnavailableError(f"an answer of more than {_MAX_BODY_BYTES} bytes")
        return bytes(body)
