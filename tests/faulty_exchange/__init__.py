"""The built-in exchange as only tests need it: every fault, listings and halts, and counters.

`kline_trio.simulator` has what users can reach; `FaultyExchange` plugs the rest into it.
"""

from kline_trio.simulator.faults import (
    Drop,
    Fault,
    LateClose,
    OmitClose,
    Outage,
    QuietStretch,
    RestFault,
    Silence,
    Stall,
    WrongFrame,
    WrongRows,
    WrongTime,
)

from .counters import Connection, MarketStatistics
from .exchange import FaultyExchange, wait_finished
from .faults import (
    FAULTS,
    ArchiveHole,
    BadChecksum,
    Delisting,
    Garbage,
    Lag,
    NewListing,
    Refuse,
    RepeatClose,
    ReviseClose,
    Shutdown,
    StatusChange,
    TickChange,
    WrongFirst,
)
from .symbols import plausible_symbols

__all__ = [
    "FAULTS",
    "ArchiveHole",
    "BadChecksum",
    "Connection",
    "Delisting",
    "Drop",
    "Fault",
    "FaultyExchange",
    "Garbage",
    "Lag",
    "LateClose",
    "MarketStatistics",
    "NewListing",
    "OmitClose",
    "Outage",
    "QuietStretch",
    "Refuse",
    "RepeatClose",
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
    "plausible_symbols",
    "wait_finished",
]
