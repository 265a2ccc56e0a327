"""Keeps a market's clock going where its frames do not."""

import logging

import trio

from kline_trio.errors import UnavailableError
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.exchange.rest import RestMarket

__all__ = ["sync_clock"]

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_LEAST_SECONDS = 0.5
"""Between two questions: a host whose frames are hours ahead raises a doubt with each of them."""
_WITHOUT_NEWS_SECONDS = 10.0
_LONGEST_WAIT_SECONDS = 60.0


async def sync_clock(rest: RestMarket) -> None:
    """Ask for the time when no frame has told it for a while, or one told what is doubtful.

    Until cancelled. As long as no answer can be had, nothing of that market becomes due. That is
    said when it begins, and when it ends.
    """
    wait, is_silent = _LOOK_SECONDS, False
    while True:
        try:
            await rest.confirm_time()
        except UnavailableError as error:
            if not is_silent:
                is_silent = True
                logger.warning("%s: REST gives no answer: %s", rest.market.trade_type, error)
            await trio.sleep(wait)
            wait = min(_LONGEST_WAIT_SECONDS, 2 * wait)
        else:
            if is_silent:
                logger.info("%s: REST gives answers again", rest.market.trade_type)
            wait, is_silent = _LOOK_SECONDS, False
            await trio.sleep(_LEAST_SECONDS)
            await _frames_stop_telling(rest.clock)


async def _frames_stop_telling(clock: ExchangeClock) -> None:
    told_ms = clock.now_ms
    last_news = trio.current_time()
    while not clock.is_doubted and trio.current_time() < last_news + _WITHOUT_NEWS_SECONDS:
        with trio.move_on_after(_LOOK_SECONDS):
            await clock.doubt.wait()
        if clock.now_ms != told_ms:
            told_ms = clock.now_ms
            last_news = trio.current_time()
