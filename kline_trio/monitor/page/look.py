"""What a page needs of a store at one moment, read in a worker thread (one function, no state)."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs
import numpy as np

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.monitor.page.ledger_events import GapRows, LedgerRows
from kline_trio.monitor.page.summary import Totals
from kline_trio.storage.calendar import Calendar, Counts, Due
from kline_trio.storage.census import Census, census
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.status import running_pid
from kline_trio.storage.universe import Sighting, read_sightings

_ALL_TIME = np.array([0, MAX_TIME_MS])


@attrs.frozen
class Heartbeat:
    """What the journal says of the recorder that wrote it."""

    pid: int | None
    """Of the recorder that runs now; None: none does."""
    heard_ms: int | None
    """When it was last heard, by the local clock."""
    times_ms: Mapping[str, int]
    """The exchange's time then, by market."""


@attrs.frozen(kw_only=True)
class Look:
    """A store at one moment."""

    calendar: Calendar
    due: Mapping[str, Due]
    version: str
    """Of calendar and due: the same text, the same cells."""
    counts: tuple[Counts, ...]
    """Of each series of the calendar, over all time."""
    totals: Totals
    heartbeat: Heartbeat
    ledger: LedgerRows
    """The newest rows of ledger and universe."""
    census: Census | None
    """What the disk holds; None: it was not asked for."""
    took_seconds: float

    @property
    def places(self) -> Mapping[Series, int]:
        """The place of each series in the calendar."""
        return {one: place for place, one in enumerate(self.calendar.series)}
