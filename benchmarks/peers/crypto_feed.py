"""cryptofeed, as its examples do it: a feed of candles with a callback; only closed ones come."""

from cryptofeed import FeedHandler
from cryptofeed.connection import RestEndpoint, Routes, WebsocketEndpoint
from cryptofeed.defines import CANDLES
from cryptofeed.exchanges import Binance
from cryptofeed.types import Candle

from benchmarks.peers.counting import Asked, Counter


def _main() -> None:
    counter, asked = Counter(), Asked()

    async def take(candle: Candle, _receipt: float) -> None:
        counter.closed(candle.symbol.replace("-", ""))

    Binance.websocket_endpoints = [WebsocketEndpoint(asked.websocket)]
    Binance.rest_endpoints = [RestEndpoint(asked.rest, routes=Routes("/api/v3/exchangeInfo"))]
    symbols = [f"{symbol.removesuffix('USDT')}-USDT" for symbol in asked.symbols]
    feed = Binance(
        symbols=symbols,
        channels=[CANDLES],
        callbacks={CANDLES: take},
        candle_interval="1m",
        candle_closed_only=True,
    )
    handler = FeedHandler({"log": {"disabled": True}})
    handler.add_feed(feed)
    handler.run()


if __name__ == "__main__":
    _main()
