"""What is said at the start: what is recorded, where to, and which symbols nobody knows."""

import logging
from collections.abc import Mapping

import trio

from kline_trio.errors import UnavailableError
from kline_trio.exchange.rest import RestMarket
from kline_trio.recorder.recording import Recording
from kline_trio.recorder.symbols import seconds_to_next_close, unknown_symbols

__all__ = ["announce"]

logger = logging.getLogger(__name__)

_ANNOUNCE_SECONDS = 3.0
"""How long the start line waits for the exchange's clock."""


async def announce(recording: Recording, markets: Mapping[str, RestMarket]) -> None:
    """Say it; the exchange is asked for its time and its symbols."""
    used = [trade_type for trade_type in markets if recording.uses(trade_type)]
    closes = []
    with trio.move_on_after(_ANNOUNCE_SECONDS):
        for trade_type in used:
            try:
                now_ms = await markets[trade_type].confirm_time()
            except UnavailableError as error:
                logger.warning("%s: REST gives no answer: %s", trade_type, error)
            else:
                closes.append(seconds_to_next_close(recording.series_on(trade_type), now_ms))
    logger.info(
        "%s series in %d markets -> %s%s",
        f"{len(recording.series):,}",
        len(used),
        recording.config.store.path,
        f"; first close in {min(closes):.0f} s" if closes else "",
    )
    for trade_type in used:
        await _name_unknown_symbols(recording, markets[trade_type])


async def _name_unknown_symbols(recording: Recording, rest: RestMarket) -> None:
    trade_type = rest.market.trade_type
    try:
        listed = await rest.listings()
    except UnavailableError as error:
        logger.info("%s: symbols are not checked: %s", trade_type, error)
        return
    for symbol, near in unknown_symbols(recording.series_on(trade_type), listed).items():
        hint = f"; did you mean {near}?" if near else ""
        logger.warning("%s: no symbol %s%s", trade_type, symbol, hint)
