"""Keeps a market's clock going where its frames do not."""

import trio

from kline_trio.errors import UnavailableError
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.exchange.rest import RestMarket

__all__ = ["keep_time"]

_LOOK_SECONDS = 1.0
_WITHOUT_NEWS_SECONDS = 10.0
_LONGEST_WAIT_SECONDS = 60.0


async def keep_time(rest: RestMarket) -> None:
    """Ask for the time when no frame has told it for a while, or one told what is doubtful.

    Until cancelled. As long as no answer can be had, nothing of that market becomes due.
    """
    wait = _LOOK_SECONDS
    while True:
        try:
            await rest.confirm_time()
        except UnavailableError:
            await trio.sleep(wait)
            wait = min(_LONGEST_WAIT_SECONDS, 2 * wait)
        else:
            wait = _LOOK_SECONDS
            await _frames_stop_telling(rest.clock)


async def _frames_stop_telling(clock: ExchangeClock) -> None:
    told_ms = clock.now_ms
    last_news = trio.current_time()
    while not clock.is_doubted and trio.current_time() < last_news + _WITHOUT_NEWS_SECONDS:
        await trio.sleep(_LOOK_SECONDS)
        if clock.now_ms != told_ms:
            told_ms = clock.now_ms
            last_news = trio.current_time()
