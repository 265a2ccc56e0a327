"""What a backfill says while it runs: what is filled, what is still absent, what it waits for."""

import logging
import math

import attrs
import trio

from kline_trio.errors import UnavailableError
from kline_trio.recorder.auditor import Auditor
from kline_trio.recorder.gap_filler import GapFiller

__all__ = ["GIVE_UP_SECONDS", "Backfilled", "report_progress"]

logger = logging.getLogger(__name__)

GIVE_UP_SECONDS = 600.0
"""After so long without any answer a backfill ends, unless it is to wait."""
_SAY_SECONDS = 60.0
_LOOK_SECONDS = 5.0


@attrs.frozen
class Backfilled:
    """What a backfill has done."""

    filled: int
    """How many candles were filled in."""
    absent: int | None
    """How many candles are still asked for, if it was stopped early; None: it was stopped before
    that was known."""


async def report_progress(auditor: Auditor, filler: GapFiller, give_up_seconds: float) -> None:
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
