"""ccxt pro, as its manual says: `watch_ohlcv_for_symbols` in a loop.

It does not tell which candles are closed, and a loop is not woken for each update. So its own
handler is asked, after it has done its work for an event. An exchange puts all candles on one
connection, whatever their number, so there is an exchange for each connection.
"""

import asyncio
from typing import Any

import ccxt.pro

from benchmarks.peers.counting import Asked, Counter

_COUNTER = Counter()


class _Binance(ccxt.pro.binance):
    def handle_ohlcv(self, client: object, message: dict[str, Any]) -> None:
        super().handle_ohlcv(client, message)
        event = message.get("data", message)
        if event["k"]["x"]:
            _COUNTER.closed(event["s"])


def _exchange(asked: Asked) -> _Binance:
    options = {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}}
    exchange = _Binance({"options": options} | ({"cafile": asked.ca} if asked.ca else {}))
    exchange.urls["api"]["public"] = asked.rest + "/api/v3"
    exchange.urls["api"]["ws"]["spot"] = asked.websocket + "/ws"
    exchange.has["fetchCurrencies"] = False
    return exchange


async def _watch(exchange: _Binance, symbols: list[str]) -> None:
    watched = [[f"{symbol.removesuffix('USDT')}/USDT", "1m"] for symbol in symbols]
    while True:
        await exchange.watch_ohlcv_for_symbols(watched)


async def _main() -> None:
    asked = Asked()
    first = _exchange(asked)
    await first.load_markets()
    async with asyncio.TaskGroup() as tasks:
        for symbols in asked.shards:
            exchange = _exchange(asked)
            exchange.set_markets_from_exchange(first)
            tasks.create_task(_watch(exchange, symbols))


if __name__ == "__main__":
    asyncio.run(_main())
