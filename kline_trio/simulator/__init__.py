"""A built-in exchange that speaks the protocol of Binance's three markets, for tests and trials.

It shares no code with the part of the recorder that reads the protocol.
"""

from kline_trio.simulator.exchange import DEFAULT_START_MS, Exchange
from kline_trio.simulator.replay import Replay
from kline_trio.simulator.rest import Request, Response
from kline_trio.simulator.server import Endpoints, open_exchange, serve, serve_stream
from kline_trio.simulator.symbols import listed_symbols

__all__ = ["DEFAULT_START_MS", "Endpoints", "Exchange", "Replay", "Request", "Response"]
__all__ += ["listed_symbols", "open_exchange", "serve", "serve_stream"]
