"""A built-in exchange that speaks the protocol of Binance's three markets, for tests and trials.

It shares no code with the part of the recorder that reads the protocol.
"""

from kline_trio.simulator.door import Connection, MarketStatistics
from kline_trio.simulator.exchange import DEFAULT_START_MS, Exchange
from kline_trio.simulator.faults import (
    ArchiveHole,
    BadChecksum,
    Drop,
    Fault,
    Garbage,
    Lag,
    LateClose,
    OmitClose,
    Outage,
    QuietStretch,
    Refuse,
    RepeatClose,
    RestFault,
    ReviseClose,
    Shutdown,
    Silence,
    Stall,
)
from kline_trio.simulator.frames import Kline
from kline_trio.simulator.lies import Lie, WrongFirst, WrongFrame, WrongRows, WrongTime
from kline_trio.simulator.listing_events import (
    Delisting,
    ListingEvent,
    NewListing,
    StatusChange,
    TickChange,
)
from kline_trio.simulator.record import Happened
from kline_trio.simulator.replay import Replay
from kline_trio.simulator.rest import Request, Response
from kline_trio.simulator.server import Endpoints, serve, serve_stream, wait_finished
from kline_trio.simulator.symbols import listed_symbols, plausible_symbols

__all__ = [
    "DEFAULT_START_MS",
    "ArchiveHole",
    "BadChecksum",
    "Connection",
    "Delisting",
    "Drop",
    "Endpoints",
    "Exchange",
    "Fault",
    "Garbage",
    "Happened",
    "Kline",
    "Lag",
    "LateClose",
    "Lie",
    "ListingEvent",
    "MarketStatistics",
    "NewListing",
    "OmitClose",
    "Outage",
    "QuietStretch",
    "Refuse",
    "RepeatClose",
    "Replay",
    "Request",
    "Response",
    "RestFault",
    "ReviseClose",
    "Shutdown",
    "Silence",
    "Stall",
    "StatusChange",
    "TickChange",
    "WrongFirst",
    "WrongFrame",
    "WrongRows",
    "WrongTime",
    "listed_symbols",
    "plausible_symbols",
    "serve",
    "serve_stream",
    "wait_finished",
]
