"""What a page shows of one moment: the overview, as values of JSON (pure)."""

from collections.abc import Iterator
from operator import attrgetter

import attrs

from kline_trio.candle import Series
from kline_trio.exchange.markets import MARKETS
from kline_trio.monitor.health import Health
from kline_trio.monitor.page.calendar_rows import market_order
from kline_trio.monitor.page.chronicle import exchange_now_ms
from kline_trio.monitor.page.history import median, together
from kline_trio.monitor.page.look import Look
from kline_trio.monitor.page.summary import (
    LastClose,
    LiveFacts,
    StoppedFacts,
    live_sentence,
    reason_values,
    stopped_sentence,
)
from kline_trio.recorder.statistics import Lags, MarketStatistics, RestStatistics, Statistics
from kline_trio.storage.status import Heartbeat

API_VERSION = 1
STOPPED = "stopped"
"""The verdict on a store without a recorder in this process."""


@attrs.frozen(kw_only=True)
class LiveMoment:
    """A running recorder."""

    found: Statistics
    health: Health
    is_simulated: bool
    recorded: tuple[Series, ...]
    """The series that it records now."""

    @property
    def now_ms(self) -> int | None:
        """The exchange's time; None: it is not known."""
        return exchange_now_ms(self.found)

    def values(self, look: Look | None, problem: str | None) -> dict[str, object]:
        """Return the overview.

        Args:
          look: the store as it was read last; None: it was not read yet.
          problem: why it cannot be read; None: it can, as far as is known.
        """
        found, close = self.found, _last_close(self.found)
        return {
            "api": API_VERSION,
            "version": found.version,
            "is_live": True,
            "is_simulated": self.is_simulated,
            "store": found.store.path,
            "verdict": str(self.health.verdict),
            "sentence": live_sentence(self._facts(look, problem, close)),
            "reasons": reason_values(self.health.reasons),
            "now_ms": self.now_ms,
            "last_close_ms": None if close is None else close.end_ms,
            "last_lag_seconds": None if close is None else close.lag_seconds,
            "heard_ms": None,
            "totals": None if look is None else look.totals.values(),
            "markets": [_market_values(one, found.rest) for one in found.markets],
            "connections": list(_connection_values(found)),
            "disk": _disk_values(found),
            "process": {
                "pid": found.process.pid,
                "uptime_seconds": round(found.process.uptime_seconds),
                "memory_bytes": found.process.memory_bytes,
            },
        }

    def _facts(self, look: Look | None, problem: str | None, close: LastClose | None) -> LiveFacts:
        uncounted = 0 if look is None else sum(one not in look.places for one in self.recorded)
        # Before the exchange's time is known, the time since the last run is in no ledger.
        has_times = look is not None and all(
            one.trade_type in look.due for one in self.found.markets
        )
        return LiveFacts(
            verdict=self.health.verdict,
            reasons=self.health.reasons,
            recorded=len(self.recorded),
            totals=None if look is None else look.totals,
            uncounted=uncounted,
            problem=problem,
            is_counted=has_times and self.found.store.counted_seconds is not None,
            pending=sum(one.pending for one in self.found.markets),
            until_ms=None if look is None else look.until_ms,
            last_close=close,
            now_ms=self.now_ms,
        )


def _last_close(found: Statistics) -> LastClose | None:
    closes = [
        LastClose(end_ms=one.last_close_ms, lag_seconds=one.last_lag_seconds)
        for one in found.markets
        if one.last_close_ms is not None
    ]
    if not closes:
        return None
    newest_ms = max(one.end_ms for one in closes)
    # Of all markets with this close, the one that was slowest.
    lags = [
        one.lag_seconds for one in closes if one.end_ms == newest_ms and one.lag_seconds is not None
    ]
    return LastClose(end_ms=newest_ms, lag_seconds=max(lags, default=None))


def _market_values(one: MarketStatistics, rest: tuple[RestStatistics, ...]) -> dict[str, object]:
    lags = together(list(one.lags.values()))
    budget = _rest_of(one.trade_type, rest)
    return {
        "trade_type": one.trade_type,
        "series": one.series,
        "exchange_ms": one.exchange_ms,
        "received": one.received,
        "refilled": sum(one.refilled.values()),
        "pending": one.pending,
        "absent": sum(one.absent.values()),
        "lag_p50_seconds": _rounded(median(lags)),
        "lag_p99_seconds": _rounded(lags.quantile(0.99)),
        "lag_max_seconds": _rounded(_most(lags)),
        "rest_problem": one.rest_problem,
        "rest_used": None if budget is None else budget.usage.weight_used,
        "rest_limit": None if budget is None else budget.usage.weight_allowed,
        "is_halted": one.is_halted,
    }


def _rest_of(trade_type: str, rest: tuple[RestStatistics, ...]) -> RestStatistics | None:
    """Return the budget of a market; some markets share one."""
    return next((one for one in rest if one.pool == MARKETS[trade_type].pool), None)


def _most(lags: Lags) -> float | None:
    return lags.max_seconds if lags.count else None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _connection_values(found: Statistics) -> Iterator[dict[str, object]]:
    for market in found.markets:
        for one in sorted(market.listener.connections, key=attrgetter("name")):
            yield {
                "name": one.name,
                "trade_type": market.trade_type,
                "address": one.address,
                "age_seconds": round(one.age_seconds),
                "is_delivering": one.is_delivering,
                "streams": one.streams,
                "silent_seconds": _rounded(one.silent_seconds),
                "frames": one.traffic.frames,
                "received_bytes": one.traffic.received_bytes,
                "reconnects": one.reconnects,
                "last_end": one.last_end,
            }


def _disk_values(found: Statistics) -> dict[str, object] | None:
    store = found.store
    if store.counted_seconds is None:
        return None
    return {
        "files": store.files,
        "file_bytes": store.file_bytes,
        "free_bytes": store.free_bytes,
        "days_left": None if store.days_left is None else round(store.days_left, 1),
        "journal_rows": store.journal_rows,
    }


@attrs.frozen(kw_only=True)
class StoredMoment:
    """A store without a recorder in this process."""

    version: str
    store: str
    is_simulated: bool
    wall_ms: int
    """By the local clock."""
    heartbeat: Heartbeat | None
    """Of the recorder that wrote the store last; None: the store was not read yet."""

    @property
    def now_ms(self) -> int | None:
        """The exchange's time at the last heartbeat, or of the last due candle."""
        times = () if self.heartbeat is None else self.heartbeat.times.values()
        return max((exchange_ms for exchange_ms, _ in times), default=None)

    def values(self, look: Look | None, problem: str | None) -> dict[str, object]:
        """Return the overview, as `LiveMoment.values`."""
        heard, pid = None, None
        if self.heartbeat is not None:
            heard, pid = self.heartbeat.heard_ms, self.heartbeat.pid
        facts = StoppedFacts(
            totals=None if look is None else look.totals,
            until_ms=None if look is None else look.until_ms,
            problem=problem,
            pid=pid,
            heard_seconds=None if heard is None else max(0, self.wall_ms - heard) / 1_000,
        )
        return {
            "api": API_VERSION,
            "version": self.version,
            "is_live": False,
            "is_simulated": self.is_simulated,
            "store": self.store,
            "verdict": STOPPED,
            "sentence": stopped_sentence(facts),
            "reasons": [],
            "now_ms": self.now_ms,
            "last_close_ms": None,
            "last_lag_seconds": None,
            "heard_ms": heard,
            "totals": None if look is None else look.totals.values(),
            "markets": [] if look is None else _stored_markets(look),
            "connections": [],
            "disk": None if look is None else _stored_disk(look),
            "process": None,
        }


def _stored_markets(look: Look) -> list[dict[str, object]]:
    """Return the markets of a store, with the keys of `_market_values`."""
    return [
        {
            "trade_type": name,
            "series": totals.series,
            "exchange_ms": look.heartbeat.times.get(name, (None, 0))[0],
            "received": None,
            "refilled": totals.refilled,
            "pending": totals.pending,
            "absent": totals.absent,
            **dict.fromkeys(("lag_p50_seconds", "lag_p99_seconds", "lag_max_seconds")),
            **dict.fromkeys(("rest_problem", "rest_used", "rest_limit")),
            "is_halted": False,
        }
        for name, totals in sorted(look.markets.items(), key=lambda pair: market_order(pair[0]))
    ]


def _stored_disk(look: Look) -> dict[str, object] | None:
    if look.census is None:
        return None
    return {
        "files": look.census.files.files,
        "file_bytes": look.census.files.size_bytes,
        "free_bytes": look.census.free_bytes,
        "days_left": None,
        "journal_rows": look.census.journal_rows,
    }
