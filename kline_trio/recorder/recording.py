"""What is recorded now, and all who must know when that changes."""

import logging
from collections.abc import Iterable, Mapping

import attrs

from kline_trio.candle import Series
from kline_trio.config import Config
from kline_trio.errors import ConfigError
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.exchange.connection import Dial
from kline_trio.exchange.markets import MARKETS
from kline_trio.listing import Listing
from kline_trio.recorder.grouped_log import first_names
from kline_trio.recorder.listener import Listener
from kline_trio.recorder.series_set import SeriesSet
from kline_trio.recorder.series_state import State
from kline_trio.recorder.universe import Universe
from kline_trio.storage.ledger import SeriesAccount
from kline_trio.symbols import idle_patterns, matches_pattern, select_series, unknown_symbols

__all__ = ["Recording"]

logger = logging.getLogger(__name__)

_FIXED = ("store", "completeness", "rest", "history", "universe")
"""The tables that a running recorder cannot change."""
_NOTHING: Mapping[str, int] = {}


@attrs.define(eq=False)
class Recording:
    """The series that are recorded: by the configuration, the exchange's lists, and what was said
    since.

    Every change is a sync call: it is whole before anything else happens, and what it asks of the
    network and the disk follows by itself.
    """

    config: Config
    listeners: Mapping[str, Listener]
    """By trade type, of all markets."""
    tracked: SeriesSet
    universe: Universe
    clocks: Mapping[str, ExchangeClock]

    _added: dict[Series, None] = attrs.field(init=False, factory=dict)
    _removed: set[Series] = attrs.field(init=False, factory=set)
    _series: tuple[Series, ...] = attrs.field(init=False, default=())
    _named: set[str] = attrs.field(init=False, factory=set)
    """The markets whose unknown symbols were named."""
    _idle: set[str] = attrs.field(init=False, factory=set)
    """What was said of patterns that match nothing: once is enough."""

    @property
    def series(self) -> tuple[Series, ...]:
        """What is recorded now."""
        return self._series

    def series_on(self, trade_type: str) -> tuple[Series, ...]:
        """What is recorded of a market now."""
        return tuple(one for one in self._series if one.trade_type == trade_type)

    def uses(self, trade_type: str) -> bool:
        """Whether anything is recorded of a market, or may be soon."""
        named = {one.trade_type for one in (*self._series, *self.config.streams, *self._added)}
        return trade_type in named or any(
            one.trade_type == trade_type for one in self.config.patterns
        )

    def go_on_with(self, accounts: Mapping[Series, SeriesAccount]) -> None:
        """Begin, with what is known of the series that were recorded before."""
        # A pattern does not mean what ended before the start and was not sealed then.
        self._series = tuple(
            sorted(
                one
                for one, known in accounts.items()
                if known.retired_ms is None and self._was_meant(one)
            )
        )
        self.settle()

    def settle(self, trade_type: str = "", listed_ms: Mapping[str, int] = _NOTHING) -> None:
        """Let everybody know what is recorded by now.

        Args:
          trade_type: of which market symbols have begun to trade.
          listed_ms: which ones, and from when on.
        """
        named = (*self.config.streams, *self._added)
        chosen = select_series(named, self.config.patterns, self.universe.listings)
        ended = {one for one in (*chosen, *self._series) if self._has_ended(one)}
        # What has ended goes on until it is sealed, though no pattern means it any more. In a halt
        # of the whole market, and before its list was seen, patterns mean nothing.
        kept = [
            one
            for one in self._series
            if one in ended
            or self.universe.is_halted(one.trade_type)
            or (not self.universe.is_seen(one.trade_type) and self._was_meant(one))
        ]
        had = frozenset(self._series)
        self._series = tuple(
            one
            for one in dict.fromkeys((*chosen, *kept))
            if one not in self._removed and not self._is_sealed(one) and not self._is_to_come(one)
        )
        new_ms = {
            one: listed_ms[one.symbol]
            for one in self._series
            if one not in had and one.trade_type == trade_type and one.symbol in listed_ms
        }
        for name, listener in self.listeners.items():
            follows = any(one.trade_type == name for one in self.config.patterns)
            listener.hear_of_contracts(wanted=follows)
            listener.listen_to(self.series_on(name))
        now_ms = {name: clock.latest_ms for name, clock in self.clocks.items()}
        self.tracked.set_series(self._series, now_ms, new_ms)
        self.tracked.on_listings(
            {
                one: self.universe.changed_ms(one.trade_type, one.symbol)
                for one in self._series
                if one in ended
            },
            frozenset(one for one in self._series if self._is_traded(one)),
        )

    def list_changed(self, trade_type: str, listed_ms: Mapping[str, int]) -> None:
        """The exchange's list of symbols has changed.

        Args:
          trade_type: the market's.
          listed_ms: which symbols have begun to trade since the look before, and from when on.
        """
        had = frozenset(self._series)
        self.settle(trade_type, listed_ms)
        self._tell_changes(had)
        if trade_type not in self._named:
            self._named.add(trade_type)
            self._name_unknown_symbols(trade_type)
        self._name_idle_patterns(trade_type)

    def sealed(self, series: Iterable[Series]) -> None:
        """These have come to their end, and stand in the ledger with it."""
        over = [one for one in series if self._is_sealed(one)]
        if over:
            names = first_names([str(one) for one in over])
            logger.info("%s: no longer traded; the last candle is in the ledger", names)
            self.settle()

    def add(self, series: Iterable[Series]) -> None:
        """Record these too.

        Raises:
          ConfigError: the exchange's list of symbols is known, and lacks one of them; nothing was
            changed.
        """
        new = dict.fromkeys(series)
        problems = [
            f"{trade_type}: no symbol {symbol}{_hint(near)}"
            for trade_type in sorted({one.trade_type for one in new})
            # A list without any symbol says nothing of this one.
            if self.universe.is_seen(trade_type) and self.universe.listings[trade_type]
            for symbol, near in self._unknown_symbols(trade_type, new).items()
            # One that was listed once may be asked for: it has a past.
            if not self.universe.knew(trade_type, symbol)
        ]
        if problems:
            raise ConfigError(problems)
        self._added |= new
        self._removed.difference_update(new)
        self.settle()

    def remove(self, series: Iterable[Series]) -> None:
        """Record these no more; what is stored of them stays."""
        gone = frozenset(series)
        had = frozenset(self._series)
        for one in gone:
            self._added.pop(one, None)
        self._removed |= gone
        self.settle()
        if gone - had:
            names = first_names(sorted(map(str, gone - had)))
            logger.warning("%s: to be removed, but not recorded", names)
        if had and not self._series:
            logger.warning("nothing is recorded any more: all series were removed")

    def reconnect(self, trade_type: str | None) -> None:
        """Let new connections take the place of all, or of those of one market.

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
        """Go on by another configuration."""
        before, self.config = self.config, config
        self._removed -= {*config.streams} - {*before.streams}
        if fixed := _unchangeable(before, config):
            logger.warning("what is new in %s counts from the next start on", ", ".join(fixed))
        had = frozenset(self._series)
        self.settle()
        for name, listener in self.listeners.items():
            urls = config.endpoints[name].websocket
            if (before.endpoints[name].websocket, before.connection) != (urls, config.connection):
                listener.reconfigure(urls, config.connection, dial)
        for name in self._named:
            self._name_idle_patterns(name)
        have = frozenset(self._series)
        logger.info(
            "configuration read anew: %s series added, %s removed",
            f"{len(have - had):,}",
            f"{len(had - have):,}",
        )

    def _tell_changes(self, had: frozenset[Series]) -> None:
        have = frozenset(self._series)
        for what, those in (("joined", have - had), ("left", had - have)):
            if those:
                logger.info("%s: %s", what, first_names(sorted(map(str, those))))

    def _listing(self, series: Series) -> Listing | None:
        return self.universe.listings.get(series.trade_type, {}).get(series.symbol)

    def _has_ended(self, series: Series) -> bool:
        """Whether its symbol was traded, and is no more."""
        trade_type = series.trade_type
        if not self.universe.is_seen(trade_type) or self.universe.is_halted(trade_type):
            return False
        listing = self._listing(series)
        if listing is None:
            return self.universe.knew(trade_type, series.symbol)
        return listing.has_ended

    def _was_meant(self, series: Series) -> bool:
        """Whether a pattern meant it as long as its symbol was traded."""
        return matches_pattern(series, self.config.patterns, self._listing(series))

    def _is_sealed(self, series: Series) -> bool:
        """Whether its end is in the ledger, and its symbol does not trade again."""
        is_over = self._has_ended(series) or self.universe.is_halted(series.trade_type)
        return is_over and self.tracked.state_of(series) is State.SEALED

    def _is_traded(self, series: Series) -> bool:
        """Whether its symbol was seen to trade since the start."""
        listing = self._listing(series)
        return self.universe.is_seen(series.trade_type) and bool(listing and listing.is_trading)

    def _is_to_come(self, series: Series) -> bool:
        """Whether its symbol is announced, and not traded yet."""
        listing = self._listing(series)
        return self.universe.is_seen(series.trade_type) and bool(listing and listing.is_to_come)

    def _name_unknown_symbols(self, trade_type: str) -> None:
        unknown = self._unknown_symbols(trade_type, self._series)
        if unknown:
            names = first_names([symbol + _hint(near) for symbol, near in unknown.items()])
            logger.warning("%s: no symbol %s", trade_type, names)

    def _unknown_symbols(
        self, trade_type: str, series: Iterable[Series]
    ) -> Mapping[str, str | None]:
        of_market = [one for one in series if one.trade_type == trade_type]
        return unknown_symbols(of_market, self.universe.listings[trade_type])

    def _name_idle_patterns(self, trade_type: str) -> None:
        if self.universe.is_halted(trade_type):
            return
        listed = self.universe.listings[trade_type]
        for line in idle_patterns(self.config.patterns, trade_type, listed):
            if line not in self._idle:
                self._idle.add(line)
                logger.warning("%s", line)


def _hint(near: str | None) -> str:
    return f" (did you mean {near}?)" if near else ""


def _unchangeable(before: Config, after: Config) -> list[str]:
    """What differs that was read once, when the recorder began."""
    found = [f"[{name}]" for name in _FIXED if getattr(before, name) != getattr(after, name)]
    hosts = [
        (one.archive, [ways.rest for ways in one.endpoints.values()]) for one in (before, after)
    ]
    if hosts[0] != hosts[1]:
        found.append("[endpoints] for REST and archive")
    ways = [(one.connection.ca_file, one.connection.proxy) for one in (before, after)]
    if ways[0] != ways[1]:
        found.append("[connection] for REST and archive")
    return found
