"""Follow how gaps get filled, for whoever waits for that."""

import math
from collections.abc import Mapping

import attrs
import trio

from kline_trio.counting import counted
from kline_trio.errors import ConfigError
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.interval import time_text
from kline_trio.recorder.auditor import Auditor
from kline_trio.recorder.gap_filler import GapFiller

_LOOK_SECONDS = 2.0
_MOST_LOOK_SECONDS = 30.0
_MOST_SHARE = 0.05
"""Of the time that counting may take: candles wait for the same door."""


@attrs.frozen(kw_only=True)
class Filling:
    """How far a backfill is."""

    filled: int
    """How many candles were filled in since it began, of all gaps."""
    pending: int | None
    """How many candles are still to be asked for; None: not known yet."""
    silent_seconds: float
    """Since the last answer, if the last request had none; else 0."""
    text: str
    """The same for people, and what it waits for."""
    is_done: bool
    """Whether nothing is left to ask for."""


def filling_of(
    filler: GapFiller, pending: int | None, filled: int, *, is_done: bool = False
) -> Filling:
    """Return how far the filling of gaps is.

    Args:
      filler: fills them.
      pending: how many candles are still to be asked for; None: not known yet.
      filled: how many were filled in.
      is_done: whether nothing is left to ask for.
    """
    now = trio.current_time()
    progress, silent = filler.progress, 0.0
    if pending is None:
        silent = now - progress.answered_at
        text = "waiting for the exchange's time, to find what is absent"
    else:
        text = f"{counted(filled, 'candle')} filled in, {pending:,} still absent"
        again_at = filler.backoff.next_at(now)
        if progress.problem is not None:
            silent = now - progress.answered_at
            minutes = counted(round(silent / 60), "minute")
            text += f"; no answer for {minutes}: {progress.problem}; trying again"
        elif pending and again_at < math.inf:
            wait = f"{again_at - now:.0f} s"
            text += f"; candles that the exchange did not have are asked for again in {wait}"
    return Filling(
        filled=filled, pending=pending, silent_seconds=silent, text=text, is_done=is_done
    )


@attrs.define(eq=False)
class Backfill:
    """The gaps of a running recorder up to now, which its gap filler fills anyway."""

    auditor: Auditor
    filler: GapFiller
    clocks: Mapping[str, ExchangeClock]
    """By trade type."""
    since_ms: int | None
    """Fetch candles from this moment on, too; None: no more than the ledger names."""
    _filled_before: int = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.filler.filled, takes_self=True)
    )
    _before_ms: Mapping[str, int] | None = attrs.field(init=False, default=None)
    """When it began, in exchange time: candles that close later are not waited for."""
    _look_at: float = attrs.field(init=False, default=-math.inf)

    async def look(self) -> Filling:
        """Wait a moment, except the first time, and return how far it is.

        The wait is twenty times as long as counting took, from 2 to 30 seconds.

        Raises:
          ConfigError: `since_ms` is in the future of the exchange.
          DiskError: the store cannot be read or written.
        """
        await trio.sleep_until(self._look_at)
        began = trio.current_time()
        found = await self._look()
        now = trio.current_time()
        wait = max(_LOOK_SECONDS, (now - began) / _MOST_SHARE)
        self._look_at = now + min(wait, _MOST_LOOK_SECONDS)
        return found

    async def _look(self) -> Filling:
        filled = self.filler.filled - self._filled_before
        if not self.auditor.is_stock_taken:
            return filling_of(self.filler, None, filled)
        if self._before_ms is None:
            times = {name: clock.now_ms for name, clock in self.clocks.items()}
            known = {name: now_ms for name, now_ms in times.items() if now_ms is not None}
            if self.since_ms is not None:
                _refuse_the_future(self.since_ms, known)
                await self.auditor.begin_earlier(self.since_ms)
            self._before_ms = known
        pending = await self.filler.pending(self._before_ms)
        is_done = not pending and self.filler.archive.is_done
        return filling_of(self.filler, pending, filled, is_done=is_done)


def _refuse_the_future(since_ms: int, times_ms: Mapping[str, int]) -> None:
    for name, now_ms in times_ms.items():
        if since_ms >= now_ms:
            raise not_yet(since_ms, name)


def not_yet(since_ms: int, trade_type: str) -> ConfigError:
    """Return the error that a `--since` lies in the future of a market's exchange."""
    moment = time_text(since_ms)
    return ConfigError([f"--since {moment} has not come yet on the exchange ({trade_type})"])
