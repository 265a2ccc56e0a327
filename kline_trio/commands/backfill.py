"""The command `backfill`: fill gaps without recording."""

import argparse
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import attrs
import trio

from kline_trio.commands.fetch import fetch_beside_recorder, filling_step
from kline_trio.commands.progress import Progress
from kline_trio.commands.signals import Requests, run
from kline_trio.commands.simulated import exchange_of
from kline_trio.config import Config, HistoryConfig
from kline_trio.counting import counted
from kline_trio.errors import UnavailableError
from kline_trio.exchange.rest import RestMarket, sync_clock
from kline_trio.recorder.auditor import Auditor
from kline_trio.recorder.backfill import filling_of, not_yet
from kline_trio.recorder.environment import Environment
from kline_trio.recorder.gap_filler import GapFiller
from kline_trio.recorder.housekeeping import Heartbeat
from kline_trio.recorder.resources import (
    Pipeline,
    open_http,
    open_store,
    unwrap_lone_error,
)
from kline_trio.recorder.sharing import Share
from kline_trio.storage.simulated import simulated_store
from kline_trio.storage.step import OnStep, Step
from kline_trio.symbols import resolve

logger = logging.getLogger(__name__)

_GIVE_UP_SECONDS = 600.0
"""A backfill ends after this time without any answer, unless `--wait` is given."""
_LOG_SECONDS = 60.0
_CHECK_SECONDS = 5.0
_SHOW_SECONDS = 1.0
_MOST_COUNTING = 0.05
"""The share of the time that counting for the terminal may take."""
_COUNT_SECONDS = 10.0
"""The longest time between two counts for the terminal, however long a count takes."""
_FETCHES_ITSELF = (
    "; it fetches the past itself: set `since` under [history] in its recorder.toml and start it"
    " again"
)


def backfill(config: Config, options: argparse.Namespace) -> None:
    """Fill gaps until none can be filled, or until SIGINT or SIGTERM.

    If a recorder runs, let that one fetch.
    """
    store = simulated_store(options.config) if options.simulate else config.store.path
    give_up_seconds = math.inf if options.wait else _GIVE_UP_SECONDS
    if fetch_beside_recorder(store, options, give_up_seconds):
        return
    if options.since is not None:
        since = datetime.fromtimestamp(options.since / 1_000, UTC)
        config = attrs.evolve(config, history=HistoryConfig(since=since))

    async def main(requests: Requests) -> None:
        screen = requests.screen
        async with exchange_of(config, options) as redirect:
            done = await fill(
                redirect(config),
                options.until,
                stop_asked=requests.wait_for_stop,
                give_up_seconds=give_up_seconds,
                on_step=Progress(screen).show if screen.is_terminal else None,
            )
            filled = f"{counted(done.filled, 'candle')} filled in"
            if done.absent is None:
                logger.info("stopped early: %s; gaps are not known yet", filled)
            elif done.absent:
                absent = f"{done.absent:,} still absent"
                logger.info("stopped early: %s, %s", filled, absent)
            else:
                logger.info("done: %s", filled)
                requests.finish()

    run(main, options)


@attrs.frozen
class Backfilled:
    """The result of a backfill."""

    filled: int
    """How many candles were filled in."""
    absent: int | None
    """How many candles remain to be asked for, if it was stopped early; None: stopped before that
    was known."""


async def fill(
    config: Config,
    until_ms: int | None = None,
    environment: Environment | None = None,
    stop_asked: Callable[[], Awaitable[None]] = trio.sleep_forever,
    give_up_seconds: float = _GIVE_UP_SECONDS,
    on_step: OnStep | None = None,
) -> Backfilled:
    """Fill the gaps of the configured series, without recording.

    If it is stopped or cancelled, fetched candles stay, and the next backfill fetches the rest. A
    market whose list of symbols cannot be fetched does not delay other series: its error is raised
    at the end.

    Args:
      config: as for the recorder; `history.since` is the first moment.
      until_ms: fetch up to this moment, exclusive; None: up to now.
      environment: network, disk and clocks.
      stop_asked: returns when the backfill is to end early.
      give_up_seconds: how long to go on without any answer.
      on_step: called every second with how far it is; None: do not count for it.

    Raises:
      ConfigError: `history.since` is in the future of the exchange.
      UnavailableError: there was no answer for `give_up_seconds`, or a list of symbols that
        patterns need cannot be fetched.
      StoreInUseError: a recorder holds the store. It can fetch the past itself.
      DiskError: the store cannot be made, read or written.
    """
    environment, since_ms = environment or Environment(), config.history.since_ms
    async with open_store(config, environment, _FETCHES_ITSELF, stop_asked) as storage:
        pipeline = Pipeline(config, storage)
        with unwrap_lone_error():
            async with open_http(config, environment) as http, trio.open_nursery() as outer:
                filler = pipeline.gap_filler(environment, http)
                if until_ms is not None:
                    filler.until_ms = until_ms
                auditor = Auditor(
                    storage, pipeline.series, http.clocks, since_ms, is_recorder=False
                )
                if on_step is not None and config.patterns:
                    on_step(Step("waiting for the exchange's lists of symbols"))
                series, unlisted = await resolve(config.streams, config.patterns, http.markets)
                no_list = "; ".join(map(": ".join, unlisted.items()))
                if no_list and not series:
                    raise UnavailableError(no_list)
                share = Share(config.lake.shard)
                share.resume(await storage.commit_door.run(storage.store.journal.accounts))
                series = tuple(filter(share.holds, series))
                pipeline.series.set_series(series, {})
                outer.start_soon(pipeline.merger.run)
                markets = {one.trade_type: http.markets[one.trade_type] for one in series}
                work = _Backfill(auditor, filler, markets, since_ms, give_up_seconds, on_step)
                await work.run(stop_asked)
                absent = await filler.pending() if auditor.is_stock_taken else None
                # Candles that closed meanwhile become gaps too: the next recorder asks for them.
                await auditor.keep()
                pipeline.merger.finish(math.inf)
                if on_step is not None:
                    on_step(Step("merging the candles of the journal"))
            await Heartbeat(storage, http.clocks, environment.wall_clock).end()
        if no_list and absent == 0:
            raise UnavailableError(f"{no_list}; {counted(filler.filled, 'candle')} filled in")
        return Backfilled(filler.filled, absent)


@attrs.frozen(eq=False)
class _Backfill:
    """Finds gaps and fills them, with the clocks and the log that this needs."""

    auditor: Auditor
    filler: GapFiller
    markets: Mapping[str, RestMarket]
    """By trade type; the markets of the series."""
    since_ms: int | None
    give_up_seconds: float
    on_step: OnStep | None
    """None: nothing is shown."""

    async def run(self, stop_asked: Callable[[], Awaitable[None]]) -> None:
        """Find the gaps and fill them, until that is done or a stop is asked for."""
        async with trio.open_nursery() as network:

            async def stop() -> None:
                await stop_asked()
                network.cancel_scope.cancel()

            for _, market in sorted(self.markets.items()):
                network.start_soon(sync_clock, market)
            progress = (self._log_progress, self._show_progress)
            for job in (*self.filler.jobs(), stop, self._refuse_the_future, *progress):
                network.start_soon(job)
            await self.auditor.take_stock()
            await self.filler.until_done()
            network.cancel_scope.cancel()

    async def _refuse_the_future(self) -> None:
        if self.since_ms is None:
            return
        for name, market in self.markets.items():
            if self.since_ms >= (await market.clock.accepted_span(self.since_ms)).to_ms:
                raise not_yet(self.since_ms, name)

    async def _log_progress(self) -> None:
        """Log the progress once a minute, until cancelled.

        Raises:
          UnavailableError: there was no answer for `give_up_seconds`.
        """
        filler = self.filler
        log_at = trio.current_time() + _LOG_SECONDS
        filled, filled_at = filler.filled, trio.current_time()
        while True:
            await trio.sleep(_CHECK_SECONDS)
            now = trio.current_time()
            if filler.filled != filled:
                filled, filled_at = filler.filled, now
            silent_seconds = now - max(filler.progress.answered_at, filled_at)
            is_unanswered = filler.progress.problem is not None or not self.auditor.is_stock_taken
            if is_unanswered and silent_seconds >= self.give_up_seconds:
                problem = filler.progress.problem or "the exchange's time is not to be had"
                minutes = counted(round(silent_seconds / 60), "minute")
                raise UnavailableError(
                    f"nothing could be asked for {minutes}: {problem};"
                    " what was fetched stays, and --wait goes on"
                )
            if now >= log_at:
                log_at = now + _LOG_SECONDS
                found = filling_of(filler, await self._pending(), filler.filled)
                logger.info("backfill: %s", found.text)

    async def _show_progress(self) -> None:
        """Show the progress every second, until cancelled."""
        pending, filled_before, count_at = None, 0, -math.inf
        while self.on_step is not None:
            now, filled = trio.current_time(), self.filler.filled
            if now >= count_at:
                pending, filled_before = await self._pending(), filled
                seconds = (trio.current_time() - now) / _MOST_COUNTING
                count_at = now + min(seconds, _COUNT_SECONDS)
            # Between two counts, each candle that comes is one less.
            left = None if pending is None else max(0, pending - (filled - filled_before))
            found = filling_of(self.filler, left, filled)
            self.on_step(filling_step(found.text, found.filled, found.pending))
            await trio.sleep(_SHOW_SECONDS)

    async def _pending(self) -> int | None:
        return await self.filler.pending() if self.auditor.is_stock_taken else None
