"""nautilus_trader, as its examples do it: a live node, and an actor that is given bars.

A bar comes when its candle is closed; forming ones are decoded too, and dropped by the adapter.
"""

from nautilus_trader.adapters.binance import (
    BINANCE,
    BinanceAccountType,
    BinanceDataClientConfig,
    BinanceLiveDataClientFactory,
)
from nautilus_trader.common.actor import Actor
from nautilus_trader.config import InstrumentProviderConfig, LoggingConfig, TradingNodeConfig
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.data import Bar, BarType

from benchmarks.peers.counting import Asked, Counter


class _Counting(Actor):
    """Subscribes all bars, and counts those that come."""

    def __init__(self, asked: Asked, counter: Counter) -> None:
        super().__init__()
        self._asked = asked
        self._counter = counter

    def on_start(self) -> None:
        for symbol in self._asked.symbols:
            self.subscribe_bars(BarType.from_str(f"{symbol}.BINANCE-1-MINUTE-LAST-EXTERNAL"))

    def on_bar(self, bar: Bar) -> None:
        self._counter.closed(bar.bar_type.instrument_id.symbol.value)


def _main() -> None:
    counter, asked = Counter(), Asked()
    client = BinanceDataClientConfig(
        api_key="none",
        api_secret="none",  # noqa: S106 - it is asked for, and used for nothing
        account_type=BinanceAccountType.SPOT,
        base_url_http=asked.rest,
        base_url_ws=asked.websocket,
        instrument_provider=InstrumentProviderConfig(load_all=True),
    )
    node = TradingNode(
        TradingNodeConfig(
            logging=LoggingConfig(log_level="ERROR"),
            data_clients={BINANCE: client},
            timeout_connection=60.0,
        )
    )
    node.trader.add_actor(_Counting(asked, counter))
    node.add_data_client_factory(BINANCE, BinanceLiveDataClientFactory)
    node.build()
    node.run()


if __name__ == "__main__":
    _main()
