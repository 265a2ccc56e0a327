"""unicorn-binance-websocket-api on picows, with a callback that is given decoded events."""

import threading
from typing import Any

from unicorn_binance_websocket_api import BinanceWebSocketApiManager

from benchmarks.peers.counting import Asked, Counter


def _main() -> None:
    counter, asked = Counter(), Asked()

    def take(event: dict[str, Any]) -> None:
        if "data" in event and event["data"]["k"]["x"]:
            counter.closed(event["data"]["s"])

    manager = BinanceWebSocketApiManager(
        exchange="binance.com",
        websocket_base_uri=asked.websocket + "/",
        restful_base_uri=asked.rest + "/",
        websocket_library="picows",
        output_default="dict",
        warn_on_update=False,
    )

    def subscribe(shard: list[str]) -> None:
        markets = [name.lower() for name in shard]
        manager.create_stream("kline_1m", markets, process_stream_data=take)

    # It subscribes 350 streams in five seconds, and blocks meanwhile.
    for shard in asked.shards:
        threading.Thread(target=subscribe, args=[shard]).start()
    threading.Event().wait()


if __name__ == "__main__":
    _main()
