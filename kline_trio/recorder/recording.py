"""The series that are recorded now, and the parts that must know when they change."""

import logging
from collections.abc import Collection, Iterable, Mapping

import attrs
import trio

from kline_trio.candle import Series
from kline_trio.config import Config
from kline_trio.counting import counted
from kline_trio.errors import ConfigError, UnavailableError
from kline_trio.exchange.connection import Dial
from kline_trio.exchange.markets import MARKETS
from kline_trio.listing import Listing
from kline_trio.recorder.grouped_log import first_names
from kline_trio.recorder.listener import Listener, Route
from kline_trio.recorder.series_set import SeriesSet
from kline_trio.recorder.series_state import State
from kline_trio.recorder.sharing import Share
from kline_trio.recorder.universe import Universe
from kline_trio.storage.journal.ledger import SeriesAccount
from kline_trio.symbols import (
    idle_patterns,
    matches_pattern,
    seconds_to_next_close,
    select_series,
    unknown_symbols,
)

logger = logging.getLogger(__name__)
_start_logger = logging.getLogger("kline_trio.recorder.announcing")

_ANNOUNCE_SECONDS = 3.0
"""How long the start line waits for the exchange's clocks and lists."""
_FIXED = ("store", "completeness", "rest", "history", "universe")
"""The tables that a running recorder cannot change."""
_NOTHING: Mapping[str, int] = {}


@attrs.define(eq=False)
class Recording:
    """Decides which series are recorded: by the configuration, the exchange's lists, and the
    series that the program added and removed.

    Every change is a sync call. It is complete before any other task runs; network and disk follow.
    """

    config: Config
    listeners: Mapping[str, Listener]
    """By trade type, of all markets."""
    tracked: SeriesSet
    universe: Universe
    share: Share = attrs.field(factory=lambda: Share(None))
    """Which of the series that the configuration means are this recorder's."""

    series: tuple[Series, ...] = attrs.field(init=False, default=())
    """The series that are recorded now."""
    _first: Config = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.config, takes_self=True)
    )
    """The configuration of the start."""
    _added: dict[Series, None] = attrs.field(init=False, factory=dict)
    _removed: set[Series] = attrs.field(init=False, factory=set)
    _checked: set[str] = attrs.field(init=False, factory=set)
    """The markets whose unknown symbols were logged."""
    _idle: set[str] = attrs.field(init=False, factory=set)
    """The lines about patterns without a match that were logged."""

    def series_on(self, trade_type: str) -> tuple[Series, ...]:
        """Return the series of a market that are recorded now."""
        return tuple(one for one in self.series if one.trade_type == trade_type)

    def uses(self, trade_type: str) -> bool:
        """Return whether a series of a market is recorded, or may be soon."""
        named = {one.trade_type for one in (*self.series, *self.config.streams, *self._added)}
        return trade_type in named | {one.trade_type for one in self.config.patterns}

    def resume(self, accounts: Mapping[Series, SeriesAccount]) -> None:
        """Begin with the accounts of the series that were recorded before."""
        self.share.resume(accounts)
        # A pattern does not mean a series that ended before the start and was not sealed then.
        self.series = tuple(
            sorted(
                one
                for one, known in accounts.items()
                if known.retired_ms is None and self._matches_pattern(one)
            )
        )
        self.refresh()

    def refresh(self, trade_type: str = "", listed_ms: Mapping[str, int] = _NOTHING) -> None:
        """Recompute the recorded series and push them to the listeners and the series' states.

        Args:
          trade_type: the market in which symbols have begun to trade.
          listed_ms: those symbols, each with the exchange time since when it trades.
        """
        named = (*self.config.streams, *self._added)
        chosen = select_series(named, self.config.patterns, self.universe.listings)
        ended = {one for one in (*chosen, *self.series) if self._has_ended(one)}
        # An ended series goes on until it is sealed, though no pattern means it any more. In a halt
        # of the whole market, and before its list was seen, patterns mean nothing.
        kept = [
            one
            for one in self.series
            if one in ended
            or self.universe.is_halted(one.trade_type)
            or (not self.universe.is_seen(one.trade_type) and self._matches_pattern(one))
        ]
        before = frozenset(self.series)
        self.series = tuple(
            one
            for one in dict.fromkeys((*chosen, *kept))
            if one not in self._removed
            and (one in self._added or self.share.holds(one))
            and not self._is_sealed(one)
            and not ((listing := self._seen_listing(one)) and listing.is_to_come)
        )
        new_ms = {
            one: listed_ms[one.symbol]
            for one in self.series
            if one not in before and one.trade_type == trade_type and one.symbol in listed_ms
        }
        for name, listener in self.listeners.items():
            follows = any(one.trade_type == name for one in self.config.patterns)
            listener.listen_to(self.series_on(name), contracts=follows)
        now_ms = {name: rest.clock.latest_ms for name, rest in self.universe.markets.items()}
        self.tracked.set_series(self.series, now_ms, new_ms)
        ended_ms = {
            one: self.universe.changed_ms(one.trade_type, one.symbol)
            for one in self.series
            if one in ended
        }
        listings = ((one, self._seen_listing(one)) for one in self.series)
        trading = frozenset(one for one, listing in listings if listing and listing.is_trading)
        self.tracked.on_listings(ended_ms, trading)

    def list_changed(self, trade_type: str, listed_ms: Mapping[str, int]) -> None:
        """Take in that a market's list of symbols has changed.

        Args:
          trade_type: the market.
          listed_ms: the symbols that have begun to trade since the last list, each with the
            exchange time since when it trades.
        """
        before = frozenset(self.series)
        self.refresh(trade_type, listed_ms)
        after = frozenset(self.series)
        for verb, changed in (("joined", after - before), ("left", before - after)):
            if changed:
                logger.info("%s: %s", verb, first_names(sorted(map(str, changed))))
        if trade_type not in self._checked:
            self._checked.add(trade_type)
            listed = self.universe.listings[trade_type]
            if unknown := unknown_symbols(self.series, trade_type, listed):
                names = first_names([symbol + _hint(near) for symbol, near in unknown.items()])
                logger.warning("%s: no symbol %s", trade_type, names)
        self._log_idle_patterns(trade_type)

    def sealed(self, series: Iterable[Series]) -> None:
        """Stop recording series whose end is in the ledger."""
        over = [one for one in series if self._is_sealed(one)]
        if over:
            names = first_names([str(one) for one in over])
            logger.info("%s: no longer traded; the last candle is in the ledger", names)
            self.refresh()

    def hand_over(self, symbols: Mapping[str, Collection[str]]) -> None:
        """Stop recording symbols, by market, that another shard's recorder holds by now."""
        if moved := self.share.hand_over(symbols):
            names = first_names(list(map(str, moved)))
            logger.info("handed over to the recorder of their shard: %s", names)
            self.refresh()

    def add(self, series: Iterable[Series]) -> None:
        """Record these series too.

        Raises:
          ConfigError: the exchange's list of symbols is known, and lacks one of them; nothing was
            changed.
        """
        new = dict.fromkeys(series)
        problems = [
            f"{trade_type}: no symbol {symbol}{_hint(near)}"
            for trade_type in sorted({one.trade_type for one in new})
            # A list without any symbol proves nothing.
            if self.universe.is_seen(trade_type) and (listed := self.universe.listings[trade_type])
            for symbol, near in unknown_symbols(new, trade_type, listed).items()
            # A symbol that was listed once may be added: it has a past.
            if not self.universe.knew(trade_type, symbol)
        ]
        if problems:
            raise ConfigError(problems)
        self._added |= new
        self._removed.difference_update(new)
        self.refresh()

    def remove(self, series: Iterable[Series]) -> None:
        """Stop recording these series. Their stored candles stay."""
        gone, before = frozenset(series), frozenset(self.series)
        for one in gone:
            self._added.pop(one, None)
        self._removed |= gone
        self.refresh()
        if gone - before:
            names = first_names(sorted(map(str, gone - before)))
            logger.warning("%s: to be removed, but not recorded", names)
        if before and not self.series:
            logger.warning("nothing is recorded any more: all series were removed")

    def reconnect(self, trade_type: str | None) -> None:
        """Replace the connections of all markets, or of one.

        Raises:
          ConfigError: there is no such market.
        """
        # A list of names has no hash.
        if trade_type is not None and trade_type not in tuple(self.listeners):
            raise ConfigError([f"there is no market {trade_type!r}, only {' '.join(MARKETS)}"])
        for name, listener in self.listeners.items():
            if trade_type in (None, name):
                listener.reconnect()

    def reconfigure(self, config: Config, dial: Dial) -> None:
        """Go on by another configuration; log the tables that need a new start."""
        old, self.config = self.config, config
        self._removed -= {*config.streams} - {*old.streams}
        # Not compared with the last one: to undo a change leaves nothing for the next start.
        if fixed := unchangeable(self._first, config):
            logger.warning("what is new in %s counts from the next start on", ", ".join(fixed))
        before = frozenset(self.series)
        self.refresh()
        for name, listener in self.listeners.items():
            route = Route(config.endpoints[name].websocket, config.connection, dial)
            if route != listener.route:
                listener.reconfigure(route)
        for name in self._checked:
            self._log_idle_patterns(name)
        after = frozenset(self.series)
        logger.info(
            "configuration read anew: %s series added, %s removed",
            f"{len(after - before):,}",
            f"{len(before - after):,}",
        )

    async def announce(self) -> None:
        """Log how many series are recorded, the store's path, and when the first candle closes.

        Wait up to three seconds for the time of each market that is used, and for the lists of
        symbols that patterns need.
        """
        used = {name: rest for name, rest in self.universe.markets.items() if self.uses(name)}
        closes = []
        with trio.move_on_after(_ANNOUNCE_SECONDS):
            for name, rest in used.items():
                try:
                    if rest.clock.now_ms is None:
                        await rest.confirm_time()
                except UnavailableError:
                    continue  # `sync_clock` logs it
                if any(one.trade_type == name for one in self.config.patterns):
                    await self.universe.until_seen(name)
                if series := self.series_on(name):
                    closes.append(seconds_to_next_close(series, rest.estimated_ms or 0))
        _start_logger.info(
            "%s series in %s -> %s%s",
            f"{len(self.series):,}",
            counted(len(used), "market"),
            self.config.store.path,
            f"; first close in {min(closes):.0f} s" if closes else "",
        )

    def _listing(self, series: Series) -> Listing | None:
        return self.universe.listings.get(series.trade_type, {}).get(series.symbol)

    def _seen_listing(self, series: Series) -> Listing | None:
        """Return the listing of a series' symbol, if the market's list was seen since the start."""
        return self._listing(series) if self.universe.is_seen(series.trade_type) else None

    def _has_ended(self, series: Series) -> bool:
        """Return whether a series' symbol was traded, and is no more."""
        trade_type = series.trade_type
        if not self.universe.is_seen(trade_type) or self.universe.is_halted(trade_type):
            return False
        listing = self._listing(series)
        if listing is None:
            return self.universe.knew(trade_type, series.symbol)
        return listing.has_ended

    def _matches_pattern(self, series: Series) -> bool:
        """Return whether a pattern means a series as long as its symbol trades."""
        return matches_pattern(series, self.config.patterns, self._listing(series))

    def _is_sealed(self, series: Series) -> bool:
        """Return whether a series' end is in the ledger, and its symbol does not trade again."""
        is_over = self._has_ended(series) or self.universe.is_halted(series.trade_type)
        return is_over and self.tracked.state_of(series) is State.SEALED

    def _log_idle_patterns(self, trade_type: str) -> None:
        if self.universe.is_halted(trade_type):
            return
        listed = self.universe.listings[trade_type]
        for line in idle_patterns(self.config.patterns, trade_type, listed):
            if line not in self._idle:
                self._idle.add(line)
                logger.warning("%s", line)


def _hint(near: str | None) -> str:
    return f" (did you mean {near}?)" if near else ""


def unchangeable(old: Config, new: Config) -> list[str]:
    """Return the changed parts of a configuration that are read only once, at the start."""
    found = [f"[{name}]" for name in _FIXED if getattr(old, name) != getattr(new, name)]
    hosts = [(one.archive, [each.rest for each in one.endpoints.values()]) for one in (old, new)]
    if hosts[0] != hosts[1]:
        found.append("[endpoints] for REST and archive")
    routes = [(one.connection.ca_file, one.connection.proxy) for one in (old, new)]
    if routes[0] != routes[1]:
        found.append("[connection] for REST and archive")
    return found
