"""What is recorded now, and all who must know when that changes."""

import logging
from collections.abc import Iterable, Mapping

import attrs

from kline_trio.candle import Series
from kline_trio.config import Config
from kline_trio.exchange.connection import Dial
from kline_trio.recorder.auditor import Auditor
from kline_trio.recorder.listener import Listener

__all__ = ["Recording"]

logger = logging.getLogger(__name__)

_FIXED = ("store", "completeness", "rest", "history", "universe", "archive")
"""What a running recorder cannot change."""


@attrs.define(eq=False)
class Recording:
    """The series that are recorded, by the configuration and by what was said since.

    Every change is a sync call: it is whole before anything else happens, and what it asks of the
    network and the disk follows by itself.
    """

    config: Config
    listeners: Mapping[str, Listener]
    """By trade type, of all markets."""
    auditor: Auditor | None
    """None where nothing is stored."""

    _added: dict[Series, None] = attrs.field(init=False, factory=dict)
    _removed: set[Series] = attrs.field(init=False, factory=set)
    _series: tuple[Series, ...] = attrs.field(init=False, default=())

    @property
    def series(self) -> tuple[Series, ...]:
        """What is recorded now."""
        return self._series

    def series_on(self, trade_type: str) -> tuple[Series, ...]:
        """What is recorded of a market now."""
        return tuple(one for one in self._series if one.trade_type == trade_type)

    def uses(self, trade_type: str) -> bool:
        """Whether anything is recorded of a market."""
        return any(one.trade_type == trade_type for one in self._series)

    def settle(self) -> None:
        """Let everybody know what is recorded by now."""
        chosen = dict.fromkeys((*self.config.streams, *self._added))
        self._series = tuple(one for one in chosen if one not in self._removed)
        for trade_type, listener in self.listeners.items():
            listener.listen_to(self.series_on(trade_type))
        if self.auditor is not None:
            self.auditor.want(self._series)

    def add(self, series: Iterable[Series]) -> None:
        """Record these too."""
        new = dict.fromkeys(series)
        self._added |= new
        self._removed.difference_update(new)
        self.settle()

    def remove(self, series: Iterable[Series]) -> None:
        """Record these no more; what is stored of them stays."""
        for one in series:
            self._added.pop(one, None)
            self._removed.add(one)
        self.settle()

    def reconnect(self, trade_type: str | None) -> None:
        """Let new connections take the place of all, or of those of one market."""
        for name, listener in self.listeners.items():
            if trade_type in (None, name):
                listener.reconnect()

    def reconfigure(self, config: Config, dial: Dial) -> None:
        """Go on by another configuration."""
        before, self.config = self.config, config
        fixed = [name for name in _FIXED if getattr(before, name) != getattr(config, name)]
        if fixed:
            logger.warning(
                "the changes of %s take effect at the next start",
                " and ".join(f"[{name}]" for name in fixed),
            )
        had = set(self._series)
        self.settle()
        for name, listener in self.listeners.items():
            urls = config.endpoints[name].websocket
            if (before.endpoints[name].websocket, before.connection) != (urls, config.connection):
                listener.reconfigure(urls, config.connection, dial)
        have = set(self._series)
        logger.info(
            "configuration read anew: %d series added, %d removed", len(have - had), len(had - have)
        )
