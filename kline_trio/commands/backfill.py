"""The command `backfill`: fetch what is absent, without recording, and log how far that is."""

import argparse
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import attrs
import trio

from kline_trio.commands.output import time_text
from kline_trio.commands.running import Requests, exchange_of, run
from kline_trio.config import Config, HistoryConfig
from kline_trio.errors import ConfigError, UnavailableError
from kline_trio.exchange.clock_sync import sync_clock
from kline_trio.exchange.rest import RestMarket
from kline_trio.recorder.auditor import Auditor
from kline_trio.recorder.core import Core
from kline_trio.recorder.environment import Environment
from kline_trio.recorder.gap_filler import GapFiller
from kline_trio.recorder.heartbeat import Heartbeat
from kline_trio.recorder.lifetimes import lone_error_plain, open_http, open_store
from kline_trio.symbols import resolve

__all__ = ["Backfilled", "backfill", "fill"]

logger = logging.getLogger(__name__)

_GIVE_UP_SECONDS = 600.0
"""After so long without any answer a backfill ends, unless it is to wait."""
_SAY_SECONDS = 60.0
_LOOK_SECONDS = 5.0
_FETCHES_ITSELF = (
    "; it fetches the past itself: set `since` under [history] in its recorder.toml and start it"
    " again"
)


def backfill(config: Config, options: argparse.Namespace) -> None:
    """Fetch what is absent, until that is done or SIGINT or SIGTERM come."""
    if options.since is not None:
        since = datetime.fromtimestamp(options.since / 1_000, UTC)
        config = attrs.evolve(config, history=HistoryConfig(since=since))

    async def main(requests: Requests) -> None:
        async with exchange_of(config, options) as lead:
            done = await fill(
                lead(config),
                options.until,
                stop_asked=requests.wait_for_stop,
                give_up_seconds=math.inf if options.wait else _GIVE_UP_SECONDS,
            )
            filled = f"{done.filled:,} candles filled in"
            if done.absent is None:
                logger.info("stopped early: %s; what is absent is not known yet", filled)
            elif done.absent:
                logger.info("stopped early: %s, %s still absent", filled, f"{done.absent:,}")
            else:
                logger.info("done: %s", filled)

    run(main, options)


@attrs.frozen
class Backfilled:
    """What a backfill has done."""

    filled: int
    """How many candles were filled in."""
    absent: int | None
    """How many candles are still asked for, if it was stopped early; None: it was stopped before
    that was known."""


async def fill(
    config: Config,
    until_ms: int | None = None,
    environment: Environment | None = None,
    stop_asked: Callable[[], Awaitable[None]] = trio.sleep_forever,
    give_up_seconds: float = _GIVE_UP_SECONDS,
) -> Backfilled:
    """Fetch what is absent of the configured series, without recording, and end when that is done.

    If it is stopped or cancelled, what was fetched stays, and the rest is fetched next time. A
    market whose list of symbols is not to be had keeps no other series waiting; the error comes at
    the end.

    Args:
      config: as for the recorder; `history.since` is from when on.
      until_ms: fetch up to this moment; None: up to now.
      environment: to the world.
      stop_asked: returns when the backfill is to end early.
      give_up_seconds: how long to go on if nothing can be asked for.

    Raises:
      ConfigError: the exchange's time has not come to `history.since`.
      UnavailableError: nothing could be asked for so long, or the list that patterns need is not
        to be had.
      StoreInUseError: a recorder holds the store; it fetches the past itself, if it is told to.
      DiskError: the store cannot be made, read or written.
    """
    environment = environment or Environment()
    async with open_store(config, environment, _FETCHES_ITSELF, stop_asked) as storage:
        core = Core.of(config, storage)
        with lone_error_plain():
            async with open_http(config, environment) as http, trio.open_nursery() as outer:
                filler = core.filler(config, environment, http)
                if until_ms is not None:
                    filler.until_ms = until_ms
                auditor = Auditor(
                    storage, core.series, http.clocks, config.history.since_ms, is_recorder=False
                )
                series, unlisted = await resolve(config.streams, config.patterns, http.markets)
                no_list = "; ".join(map(": ".join, unlisted.items()))
                if no_list and not series:
                    raise UnavailableError(no_list)
                core.series.set_series(series, {})
                outer.start_soon(core.merger.run)
                markets = {one.trade_type: http.markets[one.trade_type] for one in series}
                work = _Work(auditor, filler, markets, config.history.since_ms, give_up_seconds)
                await work.run(stop_asked)
                absent = await filler.pending() if auditor.is_stock_taken else None
                # What has closed meanwhile is named too: the next recorder asks for it.
                await auditor.keep()
                core.merger.finish(math.inf)
            await Heartbeat(storage, http.clocks, environment.wall_clock).end()
        if no_list and absent == 0:
            raise UnavailableError(f"{no_list}; {filler.filled:,} candles filled in")
        return Backfilled(filler.filled, absent)


@attrs.frozen(eq=False)
class _Work:
    """What runs until all is fetched: clocks, the naming of gaps, their filling, and reports."""

    auditor: Auditor
    filler: GapFiller
    markets: Mapping[str, RestMarket]
    """By trade type, those of the series."""
    since_ms: int | None
    give_up_seconds: float

    async def run(self, stop_asked: Callable[[], Awaitable[None]]) -> None:
        """Name what is absent and fetch it, until that is done or a stop is asked."""
        async with trio.open_nursery() as network:

            async def stop() -> None:
                await stop_asked()
                network.cancel_scope.cancel()

            for _, market in sorted(self.markets.items()):
                network.start_soon(sync_clock, market)
            for job in (*self.filler.jobs(), stop, self._refuse_the_future, self._report_progress):
                network.start_soon(job)
            await self.auditor.take_stock()
            await self.filler.until_done()
            network.cancel_scope.cancel()

    async def _refuse_the_future(self) -> None:
        if self.since_ms is None:
            return
        for name, market in self.markets.items():
            if self.since_ms >= (await market.clock.believed(self.since_ms)).to_ms:
                moment = time_text(self.since_ms)
                raise ConfigError([f"--since {moment} has not come yet on the exchange ({name})"])

    async def _report_progress(self) -> None:
        """Log once a minute how far the backfill is, until cancelled.

        Raises:
          UnavailableError: nothing could be asked for `give_up_seconds`.
        """
        filler = self.filler
        say_at = trio.current_time() + _SAY_SECONDS
        filled, filled_at = filler.filled, trio.current_time()
        while True:
            await trio.sleep(_LOOK_SECONDS)
            now = trio.current_time()
            if filler.filled != filled:
                filled, filled_at = filler.filled, now
            silent_seconds = now - max(filler.progress.answered_at, filled_at)
            is_unanswered = filler.progress.problem is not None or not self.auditor.is_stock_taken
            if is_unanswered and silent_seconds >= self.give_up_seconds:
                problem = filler.progress.problem or "the exchange's time is not to be had"
                raise UnavailableError(
                    f"nothing could be asked for {silent_seconds / 60:.0f} minutes: {problem};"
                    " what was fetched stays, and --wait goes on"
                )
            if now >= say_at:
                say_at = now + _SAY_SECONDS
                logger.info("backfill: %s", await self._progress(now))

    async def _progress(self, now: float) -> str:
        filler = self.filler
        if not self.auditor.is_stock_taken:
            return "waiting for the exchange's time, to find what is absent"
        text = f"{filler.filled:,} candles filled in, {await filler.pending():,} still absent"
        again_at = filler.backoff.next_at(now)
        if filler.progress.problem is not None:
            minutes = (now - filler.progress.answered_at) / 60
            text += (
                f"; no answer for {minutes:.0f} minutes: {filler.progress.problem}; trying again"
            )
        elif again_at < math.inf:
            wait = f"{again_at - now:.0f} s"
            text += f"; candles that the exchange did not have are asked for again in {wait}"
        return text
