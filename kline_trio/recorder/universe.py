"""Follows the markets' lists of symbols, and keeps each change of them."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

import attrs
import trio

from kline_trio.errors import DiskFullError, UnavailableError
from kline_trio.exchange.rest import RestMarket
from kline_trio.listing import Listing, begun_ms
from kline_trio.recorder.disk_space import RETRY_SECONDS, DiskFullLog
from kline_trio.recorder.environment import RecurringEvent, SerialExecutor
from kline_trio.storage.universe import Sighting, UniverseFile, changes

__all__ = ["Universe"]

logger = logging.getLogger(__name__)

_LEAST_SECONDS = 10.0
"""Between two looks at a market's list, whatever is hinted: spot's has 15 MB."""
_AGAIN_SECONDS = 60.0
"""After a look for a hint: the list may lag behind the event that it was for."""
_LONGEST_BACKOFF_SECONDS = 600.0
_ACCOUNTED_SECONDS = 1.0
"""How often it is looked whether new series have an account."""
_A_MARKET = 20
"""Of fewer symbols it can be that most of them end."""


@attrs.define(eq=False)
class _Market:
    """How far one market is followed."""

    seen: trio.Event = attrs.field(factory=trio.Event)
    unsaved: list[Sighting] = attrs.field(factory=list)
    failures: int = 0
    is_doubted: bool = False
    """Whether the last answer lacked so much that it was not believed."""


@attrs.define(eq=False)
class Universe:
    """What the markets list, as it is seen; one task follows each market.

    Before the first look it is what the store's file says: patterns mean what they meant before,
    also where the exchange answers no questions for a while.
    """

    markets: Mapping[str, RestMarket]
    """By trade type."""
    file: UniverseFile
    merge_door: SerialExecutor
    """The file is no business of the journal's."""
    refresh_seconds: float
    hints: Mapping[str, RecurringEvent]
    """By trade type; who rings asks for a look at that market's list."""

    listings: dict[str, Mapping[str, Listing]] = attrs.field(init=False)
    """Each market's list as it was last believed, by symbol; never changed in place."""
    _looked_ms: dict[str, int] = attrs.field(init=False, factory=dict)
    """When a market's list was last seen since the start, by the exchange's time."""
    _trading: Counter[str] = attrs.field(init=False, factory=Counter)
    """How many symbols of a market trade."""
    _most_trading: Counter[str] = attrs.field(init=False, factory=Counter)
    """How many have traded at most."""
    _entered_ms: dict[tuple[str, str], int] = attrs.field(init=False)
    """Since when a symbol is in its market's list."""
    _changed_ms: dict[tuple[str, str], int] = attrs.field(init=False)
    """By market and symbol, when a change of it was last seen, of every one that ever was."""
    _followed: dict[str, _Market] = attrs.field(init=False)
    _words: DiskFullLog = attrs.field(init=False, factory=DiskFullLog)

    def __attrs_post_init__(self) -> None:
        self.listings = {name: dict(self.file.latest.get(name, {})) for name in self.markets}
        self._followed = {name: _Market() for name in self.markets}
        self._changed_ms = self.file.changed_ms()
        self._entered_ms = self.file.entered_ms()
        for name, seen in self.listings.items():
            self._trading[name] = sum(one.is_trading for one in seen.values())
        # A start in a halt finds a list of which most trade no more.
        self._most_trading.update(self.file.most_trading())

    def is_seen(self, trade_type: str) -> bool:
        """Whether a market's list was seen since the start."""
        return trade_type in self._looked_ms

    def is_halted(self, trade_type: str) -> bool:
        """Whether most of a market's symbols have stopped at once: then none of them has ended."""
        most = self._most_trading[trade_type]
        return most >= _A_MARKET and 2 * self._trading[trade_type] < most

    async def until_seen(self, trade_type: str) -> None:
        """Wait until a market's list was seen since the start."""
        await self._followed[trade_type].seen.wait()

    def knew(self, trade_type: str, symbol: str) -> bool:
        """Whether a symbol was ever in a market's list."""
        return (trade_type, symbol) in self._changed_ms

    def changed_ms(self, trade_type: str, symbol: str) -> int:
        """When a change of a symbol that is known was last seen, by the exchange's time."""
        return self._changed_ms[trade_type, symbol]

    async def follow(
        self,
        trade_type: str,
        changed: Callable[[str, Mapping[str, int]], None],
        is_accounted: Callable[[str], bool],
    ) -> None:
        """Look at a market's list again and again, until cancelled.

        If cancelled, what is not in the file yet is not lost: the next start finds the same
        changes, and dates them later. So nothing is written before the journal says since when the
        new series count: a start that finds a symbol in the file takes it for one that is known.

        Args:
          trade_type: the market.
          changed: called after its list was seen for the first time, or has changed, with the
            symbols that have begun to trade since it was last seen, and when; it must not raise.
          is_accounted: returns whether the journal says that of all series of a market.

        Raises:
          DiskError: the file could not be written, and not for want of room.
        """
        market, is_hinted = self._followed[trade_type], False
        while True:
            # Before the question: what is hinted from now on, the answer may not know.
            hint = self.hints[trade_type].event
            wait, begun = await self._look(trade_type, market)
            if begun is not None:
                changed(trade_type, begun)
            may_save = partial(is_accounted, trade_type)
            seconds = min(wait, _AGAIN_SECONDS) if is_hinted else wait
            await self._pause(market, hint, seconds, may_save)
            is_hinted = hint.is_set()

    async def _pause(
        self, market: _Market, hint: trio.Event, seconds: float, may_save: Callable[[], bool]
    ) -> None:
        """Wait for the next look or a hint, and write down meanwhile what is new."""
        least = trio.current_time() + _LEAST_SECONDS
        until = max(least, trio.current_time() + seconds)
        while not (hint.is_set() or trio.current_time() >= until):
            if may_save():
                is_saved = await self._save(market)
                retry_seconds = math.inf if is_saved else RETRY_SECONDS
            else:
                retry_seconds = _ACCOUNTED_SECONDS
            with trio.move_on_at(min(until, trio.current_time() + retry_seconds)):
                await hint.wait()
        if may_save():
            await self._save(market)
        await trio.sleep_until(least)

    async def _look(self, trade_type: str, market: _Market) -> tuple[float, dict[str, int] | None]:
        """Ask for the list; return how many seconds to wait until the next time, and the symbols
        that have begun to trade, and when; None if nothing has changed.
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
            market.failures += 1
            backoff = _LEAST_SECONDS * 2.0 ** min(market.failures - 1, 10)
            return min(backoff, self.refresh_seconds, _LONGEST_BACKOFF_SECONDS), None
        if market.failures:
            market.failures = 0
            logger.info("%s: its list of symbols is to be had again", trade_type)
        if self._is_doubtful(trade_type, market, seen):
            return _LEAST_SECONDS, None
        return self.refresh_seconds, self._believe(trade_type, market, seen, now_ms)

    def _is_doubtful(self, trade_type: str, market: _Market, seen: Mapping[str, Listing]) -> bool:
        """Whether too much is gone to be believed at the first look."""
        known = self.listings[trade_type]
        lost = len(known.keys() - seen.keys())
        lacks_much = bool(known) and (not seen or 2 * lost > len(known))
        was_doubted, market.is_doubted = market.is_doubted, False
        if lacks_much and not was_doubted:
            market.is_doubted = True
            logger.warning(
                "%s: %d of %d symbols are gone from its list; it is looked at again",
                trade_type,
                lost,
                len(known),
            )
        return market.is_doubted

    def _believe(
        self, trade_type: str, market: _Market, seen: Mapping[str, Listing], now_ms: int
    ) -> dict[str, int] | None:
        known = self.listings[trade_type]
        found = changes(trade_type, known, seen, now_ms)
        is_first = trade_type not in self._looked_ms
        before_ms = self._last_ms(trade_type) if is_first else self._looked_ms[trade_type]
        self._looked_ms[trade_type] = now_ms
        trading = sum(one.is_trading for one in seen.values())
        self._trading[trade_type] = trading
        self._most_trading[trade_type] = max(trading, self._most_trading[trade_type])
        market.seen.set()
        if not found:
            return {} if is_first else None
        market.unsaved += found
        self.listings[trade_type] = seen
        logger.info(
            "%s: %s symbols, %s trading; %d new, %d gone, %d changed",
            trade_type,
            f"{len(seen):,}",
            f"{trading:,}",
            len(seen.keys() - known.keys()),
            len(known.keys() - seen.keys()),
            sum(one.listing.symbol in known and one.listing.symbol in seen for one in found),
        )
        self._changed_ms.update(((trade_type, one.listing.symbol), now_ms) for one in found)
        entered_ms = {one: self._entered_ms.get((trade_type, one), now_ms) for one in known}
        for symbol in seen.keys() - known.keys():
            self._entered_ms[trade_type, symbol] = now_ms
        return begun_ms(known, seen, before_ms, entered_ms)

    def _last_ms(self, trade_type: str) -> int | None:
        """Return when an earlier recorder saw the last change of a list; None: it saw none."""
        times = [ms for (name, _), ms in self._changed_ms.items() if name == trade_type]
        return max(times, default=None)

    async def _save(self, market: _Market) -> bool:
        """Write down what is new; False if there is no room for it."""
        if not market.unsaved:
            return True
        try:
            await self.merge_door.run(self.file.append, tuple(market.unsaved))
        except DiskFullError as error:
            self._words.full(error, "changes of symbols wait for it")
            return False
        market.unsaved.clear()
        self._words.written("; changes of symbols are kept")
        return True
