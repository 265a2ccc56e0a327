"""Holds what is stored against what the exchange says now, and takes its value if that is asked."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from random import Random
from typing import TypeVar

import attrs
import trio

from kline_trio.candle import Candle, ReceivedCandle, Series
from kline_trio.config import Config
from kline_trio.errors import RefusedError, UnavailableError
from kline_trio.exchange.archive import Archive, archive_files, unpacked
from kline_trio.exchange.klines import newest_page
from kline_trio.exchange.rest import RestMarket
from kline_trio.interval import Span
from kline_trio.recorder.lifetimes import Http, open_http, open_store
from kline_trio.recorder.seams import Seams
from kline_trio.recorder.universe import resolved
from kline_trio.storage.archive_rows import read_csv
from kline_trio.storage.comparison import Comparison, compare
from kline_trio.storage.ledger import Origin
from kline_trio.storage.stored import stored_table
from kline_trio.storage.table import candles_of

__all__ = ["Verified", "compared", "repair", "repairs", "verify"]

_ATTEMPTS = 5
_ATTEMPT_SECONDS = 2.0

_Answer = TypeVar("_Answer")


@attrs.frozen
class Verified:
    """A stretch of a series that was compared."""

    series: Series
    span: Span
    comparison: Comparison


async def verify(
    config: Config,
    http: Http,
    seams: Seams,
    *,
    against: str,
    since_ms: int | None,
    sample: int | None,
) -> AsyncGenerator[Verified, None]:
    """Compares the stored candles of the configured series, stretch by stretch, newest first.

    Args:
      config: whose series, and where they are stored; also beside a running recorder.
      http: to the exchange.
      seams: to the disk.
      against: `rest` or `archive`.
      since_ms: from when on; None: from the first stored candle on.
      sample: at most about so many candles of each series, in stretches chosen at random; None:
        all.

    Raises:
      UnavailableError: the exchange does not answer, or refuses to.
      KlineTrioError: the store cannot be read.
    """
    for series in await resolved(config, http.markets):
        rest = http.markets[series.trade_type]
        now_ms = await _patiently(rest.confirm_time)
        table = await seams.on_disk(stored_table, config.store.path, series, since_ms or 0)
        if table is None or not table.num_rows:
            continue
        ours = candles_of(table)
        interval = series.interval
        whole = Span(ours[0].open_time_ms, interval.end_time_ms(ours[-1].open_time_ms))
        if against == "rest":
            stretches = _pages(rest, series, whole)
        else:
            stretches = _files(series, whole, now_ms)
        for span in _chosen(stretches, series, sample, seams.random):
            theirs: list[Candle] | None
            if against == "rest":
                theirs = await _over_rest(rest, series, span)
            else:
                archive = Archive(http.client, config.archive)
                theirs = await _of_archive(archive, series, span, now_ms)
            if theirs is not None:
                mine = [one for one in ours if span.from_ms <= one.open_time_ms < span.to_ms]
                yield Verified(series, span, compare(mine, theirs))


def repairs(found: Sequence[Verified], now: datetime) -> list[ReceivedCandle]:
    """The exchange's candles where ours differ or are absent, to be accepted as repairs."""
    return [
        ReceivedCandle(one.series, candle, now)
        for one in found
        for candle in (
            *(theirs for _, theirs in one.comparison.differing),
            *one.comparison.absent_here,
        )
    ]


def _pages(rest: RestMarket, series: Series, whole: Span) -> list[Span]:
    left, found = whole, []
    while left.from_ms < left.to_ms:
        span = newest_page(rest.market, series.interval, [left]).span
        found.append(span)
        left = Span(left.from_ms, span.from_ms)
    return found


def _files(series: Series, whole: Span, now_ms: int) -> list[Span]:
    return [
        span
        for file in reversed(list(archive_files(series, whole, now_ms)))
        for span in file.span.common_with(whole)
    ]


def _chosen(
    stretches: list[Span], series: Series, sample: int | None, random: Random
) -> list[Span]:
    if sample is None:
        return stretches
    chosen, candles = [], 0
    for span in random.sample(stretches, len(stretches)):
        if candles >= sample:
            break
        chosen.append(span)
        candles += series.interval.count(span)
    return chosen


async def _over_rest(rest: RestMarket, series: Series, span: Span) -> list[Candle]:
    page = newest_page(rest.market, series.interval, [span])
    answer = await _patiently(lambda: rest.klines(series, page, 0.0))
    return list(answer.candles)


async def _patiently(ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
    for attempt in range(1, _ATTEMPTS):
        try:
            return await ask()
        except RefusedError:
            raise
        except UnavailableError:
            await trio.sleep(_ATTEMPT_SECONDS * attempt)
    return await ask()


async def _of_archive(
    archive: Archive, series: Series, span: Span, now_ms: int
) -> list[Candle] | None:
    """The candles of a published file; None if it is not there after all."""
    [file] = [file for file in archive_files(series, span, now_ms) if file.span.common_with(span)][
        :1
    ]
    content = await archive.fetch(file)
    if content is None:
        return None
    return candles_of(read_csv(unpacked(content), series, span).table)


@asynccontextmanager
async def compared(
    config: Config,
    *,
    against: str,
    since_ms: int | None = None,
    sample: int | None = None,
    seams: Seams | None = None,
) -> AsyncIterator[AsyncIterator[Verified]]:
    """Gives what is stored as it compares with what the exchange says now; see `verify`."""
    seams = seams or Seams()
    async with open_http(config, seams) as http:
        found = verify(config, http, seams, against=against, since_ms=since_ms, sample=sample)
        async with aclosing(found):
            yield found


async def repair(config: Config, found: Sequence[Verified], seams: Seams | None = None) -> int:
    """Take the exchange's value where ours differs or is absent; each change is a revision.

    Returns:
      how many candles were written.

    Raises:
      StoreInUseError: a recorder holds the store.
      DiskError: nothing was written.
    """
    seams = seams or Seams()
    wanted = repairs(found, seams.now())
    if wanted:
        async with open_store(config, seams) as storage:
            await storage.commit_door.run(storage.store.accept, wanted, Origin.REPAIR)
    return len(wanted)
