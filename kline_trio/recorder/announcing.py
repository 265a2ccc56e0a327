"""What is said at the start: what is recorded, where to, and when something will come."""

import logging
from collections.abc import Mapping

import trio

from kline_trio.errors import UnavailableError
from kline_trio.exchange.rest import RestMarket
from kline_trio.recorder.recording import Recording
from kline_trio.symbols import seconds_to_next_close

__all__ = ["announce"]

logger = logging.getLogger(__name__)

_ANNOUNCE_SECONDS = 3.0
"""How long the start line waits for the exchange's clock."""


async def announce(recording: Recording, markets: Mapping[str, RestMarket]) -> None:
    """Say it when the exchange has told its time, and its symbols where patterns ask for them."""
    used = [trade_type for trade_type in markets if recording.uses(trade_type)]
    closes = []
    with trio.move_on_after(_ANNOUNCE_SECONDS):
        for trade_type in used:
            try:
                if markets[trade_type].clock.now_ms is None:
                    await markets[trade_type].confirm_time()
            except UnavailableError:
                # `sync_clock` says so.
                continue
            if any(one.trade_type == trade_type for one in recording.config.patterns):
                await recording.universe.until_seen(trade_type)
            if series := recording.series_on(trade_type):
                now_ms = markets[trade_type].estimated_ms or 0
                closes.append(seconds_to_next_close(series, now_ms))
    logger.info(
        "%s series in %d markets -> %s%s",
        f"{len(recording.series):,}",
        len(used),
        recording.config.store.path,
        f"; first close in {min(closes):.0f} s" if closes else "",
    )
