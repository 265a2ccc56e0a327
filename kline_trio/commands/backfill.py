"""The command `backfill`: fetch what is absent, without recording, and say how far that is."""

import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

import attrs
import trio

from kline_trio.config import Config
from kline_trio.errors import ConfigError, UnavailableError
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.exchange.clock_sync import sync_clock
from kline_trio.recorder.auditor import Auditor
from kline_trio.recorder.core import Core
from kline_trio.recorder.gap_filler import GapFiller
from kline_trio.recorder.heartbeat import Heartbeat
from kline_trio.recorder.lifetimes import lone_error_plain, open_http, open_store
from kline_trio.recorder.seams import Seams
from kline_trio.symbols import resolved

__all__ = ["GIVE_UP_SECONDS", "Backfilled", "fill"]

logger = logging.getLogger(__name__)

GIVE_UP_SECONDS = 600.0
"""After so long without any answer a backfill ends, unless it is to wait."""
_SAY_SECONDS = 60.0
_LOOK_SECONDS = 5.0
_FETCHES_ITSELF = (
    "; it fetches the past itself: set `since` under [history] in its recorder.toml and start it"
    " again"
)


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
    seams: Seams | None = None,
    stop_asked: Callable[[], Awaitable[None]] = trio.sleep_forever,
    give_up_seconds: float = GIVE_UP_SECONDS,
) -> Backfilled:
    """Fetch what is absent of the configured series, without recording; ends when that is done.

    If it is stopped or cancelled, what was fetched stays, and the rest is fetched next time. A
    market whose list of symbols is not to be had keeps no other series waiting; the error comes at
    the end.

    Args:
      config: as for the recorder; `history.since` is from when on.
      until_ms: up to when; None: now.
      seams: to the world.
      stop_asked: returns when it is to end early.
      give_up_seconds: how long to go on if nothing can be asked for.

    Raises:
      ConfigError: the exchange's time has not come to `history.since`.
      UnavailableError: nothing could be asked for so long, or the list that patterns need is not
        to be had.
      StoreInUseError: a recorder holds the store; it fetches the past itself, if it is told to.
      DiskError: the store cannot be made, read or written.
    """
    seams = seams or Seams()
    async with open_store(config, seams, _FETCHES_ITSELF, stop_asked) as storage:
        core = Core.of(config, storage)
        with lone_error_plain():
            async with open_http(config, seams) as http, trio.open_nursery() as outer:
                filler = core.filler(config, seams, http)
                if until_ms is not None:
                    filler.until_ms = until_ms
                auditor = Auditor(
                    storage, core.series, http.clocks, config.history.since_ms, is_recorder=False
                )
                series, unlisted = await resolved(config.streams, config.patterns, http.markets)
                no_list = "; ".join(map(": ".join, unlisted.items()))
                if no_list and not series:
                    raise UnavailableError(no_list)
                core.series.set_series(series, {})
                outer.start_soon(core.merger.run)
                async with trio.open_nursery() as network:
                    for trade_type in sorted({one.trade_type for one in series}):
                        network.start_soon(sync_clock, http.markets[trade_type])
                    for job in filler.jobs():
                        network.start_soon(job)
                    network.start_soon(_stop, stop_asked, network.cancel_scope)
                    if config.history.since_ms is not None:
                        markets = {one.trade_type for one in series}
                        clocks = {name: http.clocks[name] for name in markets}
                        network.start_soon(_refuse_to_come, config.history.since_ms, clocks)
                    network.start_soon(_report_progress, auditor, filler, give_up_seconds)
                    await auditor.take_stock()
                    await filler.until_done()
                    network.cancel_scope.cancel()
                absent = await filler.pending() if auditor.is_stock_taken else None
                # What has closed meanwhile is named too: the next recorder asks for it.
                await auditor.keep()
                core.merger.finish(math.inf)
            await Heartbeat(storage, http.clocks, seams.wall_clock).end()
        if no_list and absent == 0:
            raise UnavailableError(f"{no_list}; {filler.filled:,} candles filled in")
        return Backfilled(filler.filled, absent)


async def _refuse_to_come(since_ms: int, clocks: Mapping[str, ExchangeClock]) -> None:
    for name, clock in clocks.items():
        if since_ms >= (await clock.believed(since_ms)).to_ms:
            since = datetime.fromtimestamp(since_ms / 1_000, UTC).isoformat(" ", "seconds")
            raise ConfigError([f"--since {since} has not come yet on the exchange ({name})"])


async def _stop(stop_asked: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
    await stop_asked()
    scope.cancel()


async def _report_progress(auditor: Auditor, filler: GapFiller, give_up_seconds: float) -> None:
    """Log once a minute how far a backfill is, until cancelled.

    Args:
      auditor: knows whether it is known yet what is absent.
      filler: fills it.
      give_up_seconds: how long to go on without any answer.

    Raises:
      UnavailableError: there was none for so long.
    """
    say_at = trio.current_time() + _SAY_SECONDS
    filled, filled_at = filler.filled, trio.current_time()
    while True:
        await trio.sleep(_LOOK_SECONDS)
        now = trio.current_time()
        if filler.filled != filled:
            filled, filled_at = filler.filled, now
        silent_seconds = now - max(filler.answered_at, filled_at)
        is_waiting_in_vain = filler.problem is not None or not auditor.is_stock_taken
        if is_waiting_in_vain and silent_seconds >= give_up_seconds:
            problem = filler.problem or "the exchange's time is not to be had"
            raise UnavailableError(
                f"nothing could be asked for {silent_seconds / 60:.0f} minutes: {problem};"
                " what was fetched stays, and --wait goes on"
            )
        if now >= say_at:
            say_at = now + _SAY_SECONDS
            logger.info("backfill: %s", await _progress(auditor, filler, now))


async def _progress(auditor: Auditor, filler: GapFiller, now: float) -> str:
    if not auditor.is_stock_taken:
        return "waiting for the exchange's time, to find what is absent"
    text = f"{filler.filled:,} candles filled in, {await filler.pending():,} still absent"
    again_at = filler.backoff.next_at(now)
    if filler.problem is not None:
        minutes = (now - filler.answered_at) / 60
        text += f"; no answer for {minutes:.0f} minutes: {filler.problem}; trying again"
    elif again_at < math.inf:
        text += (
            "; candles that the exchange did not have are asked for again in"
            f" {again_at - now:.0f} s"
        )
    return text
