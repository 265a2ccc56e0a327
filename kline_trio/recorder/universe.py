"""Follow the markets' lists of symbols, and keep each change of them in the store."""

import logging
import math
from collections.abc import Callable, Mapping
from functools import partial

import attrs
import trio

from kline_trio.counting import counted, noun
from kline_trio.errors import DiskFullError, UnavailableError
from kline_trio.exchange.rest import RestMarket
from kline_trio.listing import Listing, begun_ms
from kline_trio.recorder.backoff import doubled
from kline_trio.recorder.disk_space import RETRY_SECONDS, DiskFullLog
from kline_trio.recorder.environment import RecurringEvent, SerialExecutor
from kline_trio.storage.universe import Sighting, UniverseFile, changes

logger = logging.getLogger(__name__)

_LEAST_SECONDS = 10.0
"""Between two requests for a market's list, whatever hints come: spot's has 15 MB."""
_AGAIN_SECONDS = 60.0
"""Repeat a request that a hint caused after this time: the list may lag behind the event."""
_LONGEST_BACKOFF_SECONDS = 600.0
_ACCOUNTED_SECONDS = 1.0
"""How often to look whether new series have an account."""
_LEAST_TRADING = 20
"""In a smaller market, most symbols may end at once without a halt."""


@attrs.define(eq=False)
class _Market:
    """The state of one market's list, and of the requests for it."""

    trading: int
    """How many symbols trade."""
    most_trading: int
    """How many symbols have traded at most."""
    seen_ms: int | None = None
    """When the list was last seen since the start, by the exchange's time."""
    seen: trio.Event = attrs.field(factory=trio.Event)
    unsaved: list[Sighting] = attrs.field(factory=list)
    """The changes that the file does not have yet."""
    failures: int = 0
    """How many requests in a row have failed."""
    is_doubted: bool = False
    """Whether the last list lacked so many symbols that it was not accepted."""


@attrs.define(eq=False)
class Universe:
    """The markets' lists of symbols; one task follows each market.

    Until a market's first list arrives, the store's file stands in for it. So patterns match the
    same symbols as before a restart, even if the exchange does not answer for a while.
    """

    markets: Mapping[str, RestMarket]
    """By trade type."""
    file: UniverseFile
    merge_door: SerialExecutor
    """Serializes writes of the file, which is independent of the journal."""
    refresh_seconds: float
    hints: Mapping[str, RecurringEvent]
    """By trade type; each ring requests that market's list."""

    listings: dict[str, Mapping[str, Listing]] = attrs.field(init=False)
    """Each market's list as it was last accepted, by symbol; never changed in place."""
    _entered_ms: dict[tuple[str, str], int] = attrs.field(init=False)
    """Since when a symbol is in its market's list, by trade type and symbol."""
    _changed_ms: dict[tuple[str, str], int] = attrs.field(init=False)
    """When the last change of each symbol that was ever listed was seen."""
    _followed: dict[str, _Market] = attrs.field(init=False)
    _disk_full: DiskFullLog = attrs.field(init=False, factory=DiskFullLog)

    def __attrs_post_init__(self) -> None:
        self.listings = {name: dict(self.file.latest.get(name, {})) for name in self.markets}
        self._changed_ms = self.file.changed_ms()
        self._entered_ms = self.file.entered_ms()
        # A start during a halt gets a list of which most symbols do not trade.
        most = self.file.most_trading()
        self._followed = {
            name: _Market(_count_trading(listed), most.get(name, 0))
            for name, listed in self.listings.items()
        }

    def is_seen(self, trade_type: str) -> bool:
        """Return whether a market's list was seen since the start."""
        return self._followed[trade_type].seen.is_set()

    def is_halted(self, trade_type: str) -> bool:
        """Return whether most of a market's symbols have stopped at once: none has ended then."""
        market = self._followed[trade_type]
        return market.most_trading >= _LEAST_TRADING and 2 * market.trading < market.most_trading

    async def until_seen(self, trade_type: str) -> None:
        """Wait until a market's list was seen since the start."""
        await self._followed[trade_type].seen.wait()

    def knew(self, trade_type: str, symbol: str) -> bool:
        """Return whether a symbol was ever in a market's list."""
        return (trade_type, symbol) in self._changed_ms

    def changed_ms(self, trade_type: str, symbol: str) -> int:
        """Return when the last change of a known symbol was seen, by the exchange's time."""
        return self._changed_ms[trade_type, symbol]

    async def follow(
        self,
        trade_type: str,
        changed: Callable[[str, Mapping[str, int]], None],
        is_accounted: Callable[[str], bool],
    ) -> None:
        """Request a market's list again and again, until cancelled.

        Changes are written to the file only after the journal says since when the new series
        count, because a start takes a symbol in the file for a known one. If cancelled, changes
        that the file lacks are not lost: the next start finds them again, and dates them later.

        Args:
          trade_type: the market.
          changed: called after the first list, and after each list with changes, with the
            symbols that have begun to trade since the list before, and when; it must not raise.
          is_accounted: returns whether the journal has an account of each series of a market.

        Raises:
          DiskError: the file could not be written, and not because the disk is full.
        """
        market, is_hinted = self._followed[trade_type], False
        while True:
            # Taken before the request: its answer may not show what is hinted from now on.
            hint = self.hints[trade_type].event
            wait, begun = await self._look(trade_type, market)
            if begun is not None:
                changed(trade_type, begun)
            seconds = min(wait, _AGAIN_SECONDS) if is_hinted else wait
            await self._pause(market, hint, seconds, partial(is_accounted, trade_type))
            is_hinted = hint.is_set()

    async def _pause(
        self, market: _Market, hint: trio.Event, seconds: float, may_save: Callable[[], bool]
    ) -> None:
        """Wait for the next request or a hint, and write changes to the file meanwhile."""
        least = trio.current_time() + _LEAST_SECONDS
        until = max(least, trio.current_time() + seconds)
        while not (hint.is_set() or trio.current_time() >= until):
            retry_seconds = await self._save(market, may_save)
            with trio.move_on_at(min(until, trio.current_time() + retry_seconds)):
                await hint.wait()
        await self._save(market, may_save)
        await trio.sleep_until(least)

    async def _save(self, market: _Market, may_save: Callable[[], bool]) -> float:
        """Write changes to the file; return after how many seconds to try again."""
        if not may_save():
            return _ACCOUNTED_SECONDS
        if market.unsaved:
            try:
                await self.merge_door.run(self.file.append, tuple(market.unsaved))
            except DiskFullError as error:
                self._disk_full.full(error, "changes of symbols wait for it")
                return RETRY_SECONDS
            market.unsaved.clear()
            self._disk_full.written("; changes of symbols are kept")
        return math.inf

    async def _look(self, trade_type: str, market: _Market) -> tuple[float, dict[str, int] | None]:
        """Request the list; return the seconds until the next request, and since when each symbol
        trades that has begun to trade; None if nothing has changed.
        """
        rest = self.markets[trade_type]
        try:
            seen = await rest.listings()
            now_ms = rest.clock.now_ms
            if now_ms is None:
                now_ms = await rest.confirm_time()
        except UnavailableError as error:
            if not market.failures:
                logger.warning("%s: its list of symbols is not to be had: %s", trade_type, error)
            longest = min(self.refresh_seconds, _LONGEST_BACKOFF_SECONDS)
            market.failures += 1
            return doubled(_LEAST_SECONDS, market.failures - 1, longest), None
        if market.failures:
            market.failures = 0
            logger.info("%s: its list of symbols is to be had again", trade_type)
        # A list that lacks most symbols must come twice.
        known = self.listings[trade_type]
        lost = len(known.keys() - seen.keys())
        lacks_most = bool(known) and (not seen or 2 * lost > len(known))
        market.is_doubted = lacks_most and not market.is_doubted
        if market.is_doubted:
            gone = f"{lost:,} of {counted(len(known), 'symbol')} {noun(lost, 'is', 'are')} gone"
            logger.warning("%s: %s from its list; it is looked at again", trade_type, gone)
            return _LEAST_SECONDS, None
        return self.refresh_seconds, self._accept(trade_type, market, seen, now_ms)

    def _accept(
        self, trade_type: str, market: _Market, seen: Mapping[str, Listing], now_ms: int
    ) -> dict[str, int] | None:
        """Adopt a list; return the symbols that have begun to trade, or None as `_look` does."""
        known, before_ms = self.listings[trade_type], market.seen_ms
        is_first = before_ms is None
        if is_first:
            # An earlier recorder saw the last change.
            times = (ms for (name, _), ms in self._changed_ms.items() if name == trade_type)
            before_ms = max(times, default=None)
        market.seen_ms, market.trading = now_ms, _count_trading(seen)
        market.most_trading = max(market.trading, market.most_trading)
        market.seen.set()
        found = changes(trade_type, known, seen, now_ms)
        if not found:
            return {} if is_first else None
        market.unsaved += found
        self.listings[trade_type] = seen
        new = seen.keys() - known.keys()
        logger.info(
            "%s: %s, %s trading; %d new, %d gone, %d changed",
            trade_type,
            counted(len(seen), "symbol"),
            f"{market.trading:,}",
            len(new),
            len(known.keys() - seen.keys()),
            sum(one.listing.symbol in known and one.listing.symbol in seen for one in found),
        )
        self._changed_ms.update(((trade_type, one.listing.symbol), now_ms) for one in found)
        entered_ms = {one: self._entered_ms.get((trade_type, one), now_ms) for one in known}
        self._entered_ms.update(((trade_type, symbol), now_ms) for symbol in new)
        return begun_ms(known, seen, before_ms, entered_ms)


def _count_trading(listed: Mapping[str, Listing]) -> int:
    return sum(one.is_trading for one in listed.values())
