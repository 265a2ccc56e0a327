"""The command `check --against`: compare the store with the exchange and with itself; repair it."""

import argparse
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import TypeVar

import attrs
import trio

from kline_trio.candle import Candle, ReceivedCandle, Series, Source
from kline_trio.config import Config
from kline_trio.console import log_lines
from kline_trio.errors import RefusedError, UnavailableError
from kline_trio.exchange.archive import Archive, ArchiveFile, archive_files, unpacked
from kline_trio.exchange.klines import Page, newest_page
from kline_trio.exchange.rest import RestMarket
from kline_trio.interval import INTERVALS, Span
from kline_trio.recorder.lifetimes import open_http, open_store
from kline_trio.recorder.seams import Seams
from kline_trio.recorder.universe import resolved
from kline_trio.storage.archive_rows import read_csv
from kline_trio.storage.comparison import Comparison, compare, summed_mismatches
from kline_trio.storage.stored import stored_table
from kline_trio.storage.table import candles_of

__all__ = ["Verified", "check_against", "repair", "verify"]

_MOST_LINES = 20
"""For each series."""
_ATTEMPTS = 5
_ATTEMPT_SECONDS = 2.0
"""After the nth failed attempt, wait n times as long."""

_Answer = TypeVar("_Answer")


@attrs.frozen
class Verified:
    """A stretch of a series that was compared."""

    series: Series
    span: Span
    comparison: Comparison


@attrs.frozen
class _Stretch:
    """A part of a series that the exchange gives in one answer."""

    span: Span
    fetch: Callable[[], Awaitable[Sequence[Candle] | None]]
    """Returns the exchange's candles; None if the archive does not have the file."""


def check_against(config: Config, options: argparse.Namespace) -> int:
    """Compare, print the differences, and repair them if `--repair` is given.

    Returns:
      the exit status: 1 if anything differs, else 0.
    """
    with log_lines(debug=False):
        found = trio.run(
            partial(
                verify,
                config,
                against=options.against,
                since_ms=options.since,
                sample=options.sample,
            )
        )
    every = tuple(dict.fromkeys((*config.streams, *(one.series for one in found))))
    differing = _print_differences(found, every)
    across = _print_across_intervals(config, every)
    if options.repair and differing:
        written = trio.run(repair, config, found)
        print(f"repaired: {written:,} candles have the exchange's values now")
    return 1 if differing or across else 0


async def verify(
    config: Config,
    *,
    against: str,
    since_ms: int | None = None,
    sample: int | None = None,
    seams: Seams | None = None,
) -> list[Verified]:
    """Compare the stored candles of the configured series with the exchange's.

    A recorder may hold the store meanwhile.

    Args:
      config: names the series and the store.
      against: `rest` or `archive`.
      since_ms: compare from this open time on; None: from the first stored candle on.
      sample: compare about so many candles of each series, in stretches chosen at random; None:
        compare all.
      seams: to the world.

    Returns:
      the stretches that were compared, by series; without a sample, newest first.

    Raises:
      UnavailableError: the exchange does not answer, or refuses to.
      KlineTrioError: the store cannot be read.
    """
    seams = seams or Seams()
    found = []
    async with open_http(config, seams) as http:
        archive = Archive(http.client, config.archive)
        for series in await resolved(config, http.markets):
            rest = http.markets[series.trade_type]
            now_ms = await _patiently(rest.confirm_time)
            table = await seams.on_disk(stored_table, config.store.path, series, since_ms or 0)
            if table is None or not table.num_rows:
                continue
            ours = candles_of(table)
            whole = Span(ours[0].open_time_ms, series.interval.end_time_ms(ours[-1].open_time_ms))
            if against == "rest":
                stretches = _rest_stretches(rest, series, whole)
            else:
                stretches = _archive_stretches(archive, series, whole, now_ms)
            for stretch in _chosen(stretches, series, sample, seams.random):
                theirs = await stretch.fetch()
                if theirs is not None:
                    span = stretch.span
                    mine = [one for one in ours if span.from_ms <= one.open_time_ms < span.to_ms]
                    found.append(Verified(series, span, compare(mine, theirs)))
    return found


async def repair(config: Config, found: Sequence[Verified], seams: Seams | None = None) -> int:
    """Take the exchange's value where ours differs or is absent; each change is a revision.

    Returns:
      how many candles were written.

    Raises:
      StoreInUseError: a recorder holds the store.
      DiskError: nothing was written.
    """
    seams = seams or Seams()
    now = seams.now()
    wanted = [
        ReceivedCandle(one.series, candle, now)
        for one in found
        for candle in (
            *(theirs for _, theirs in one.comparison.differing),
            *one.comparison.absent_here,
        )
    ]
    if wanted:
        async with open_store(config, seams) as storage:
            await storage.commit_door.run(storage.store.accept, wanted, Source.REPAIR)
    return len(wanted)


def _rest_stretches(rest: RestMarket, series: Series, whole: Span) -> list[_Stretch]:
    left, found = whole, []
    while left.from_ms < left.to_ms:
        page = newest_page(rest.market, series.interval, [left])
        found.append(_Stretch(page.span, partial(_ask_rest, rest, series, page)))
        left = Span(left.from_ms, page.span.from_ms)
    return found


async def _ask_rest(rest: RestMarket, series: Series, page: Page) -> Sequence[Candle]:
    answer = await _patiently(lambda: rest.klines(series, page, 0.0))
    return answer.candles


async def _patiently(ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
    for attempt in range(1, _ATTEMPTS):
        try:
            return await ask()
        except RefusedError:
            raise
        except UnavailableError:
            await trio.sleep(_ATTEMPT_SECONDS * attempt)
    return await ask()


def _archive_stretches(
    archive: Archive, series: Series, whole: Span, now_ms: int
) -> list[_Stretch]:
    return [
        _Stretch(span, partial(_fetch_file, archive, file, series, span))
        for file in reversed(list(archive_files(series, whole, now_ms)))
        for span in file.span.common_with(whole)
    ]


async def _fetch_file(
    archive: Archive, file: ArchiveFile, series: Series, span: Span
) -> Sequence[Candle] | None:
    content = await archive.fetch(file)
    if content is None:
        return None
    return candles_of(read_csv(unpacked(content, file.most_csv_bytes), series, span).table)


def _chosen(
    stretches: list[_Stretch], series: Series, sample: int | None, random: Random
) -> list[_Stretch]:
    if sample is None:
        return stretches
    chosen, candles = [], 0
    for stretch in random.sample(stretches, len(stretches)):
        if candles >= sample:
            break
        chosen.append(stretch)
        candles += series.interval.count(stretch.span)
    return chosen


def _print_differences(found: Sequence[Verified], every: Iterable[Series]) -> int:
    """Print the first differences and the totals of each series; return how many there are."""
    lines: Counter[Series] = Counter()
    for one in found:
        for text in _differences(one.comparison):
            lines[one.series] += 1
            if lines[one.series] <= _MOST_LINES:
                print(f"{one.series} {text}")
    for series in every:
        mine = [one.comparison for one in found if one.series == series]
        if lines[series] > _MOST_LINES:
            print(f"{series}: and {lines[series] - _MOST_LINES:,} more")
        print(
            f"{series}: {sum(one.compared for one in mine):,} compared,"
            f" {sum(one.equal for one in mine):,} equal,"
            f" {sum(len(one.differing) for one in mine):,} differing,"
            f" {sum(len(one.absent_here) for one in mine):,} absent here,"
            f" {sum(len(one.absent_there) for one in mine):,} absent there"
        )
    return lines.total()


def _differences(comparison: Comparison) -> list[str]:
    lines = []
    for ours, theirs in comparison.differing:
        values = ", ".join(
            f"{name} {getattr(ours, name)!r} here, {getattr(theirs, name)!r} there"
            for name in attrs.fields_dict(Candle)
            if getattr(ours, name) != getattr(theirs, name)
        )
        lines.append(f"{_time(ours.open_time_ms)}: {values}")
    lines += [f"{_time(one.open_time_ms)}: absent here" for one in comparison.absent_here]
    lines += [f"{_time(one.open_time_ms)}: absent there" for one in comparison.absent_there]
    return lines


def _print_across_intervals(config: Config, every: Iterable[Series]) -> int:
    """Print where longer candles disagree with the stored shorter ones; return how many do."""
    found = 0
    order = list(INTERVALS)
    by_symbol: dict[tuple[str, str], list[Series]] = {}
    for series in every:
        by_symbol.setdefault((series.trade_type, series.symbol), []).append(series)
    for several in by_symbol.values():
        shortest, *longer = sorted(several, key=lambda one: order.index(one.time_interval))
        short = stored_table(config.store.path, shortest) if longer else None
        for series in longer:
            table = stored_table(config.store.path, series)
            if short is None or table is None:
                continue
            wrong = list(summed_mismatches(short, shortest.interval, table, series))
            for one in wrong[:_MOST_LINES]:
                print(
                    f"{series} {_time(one.open_time_ms)}: {one.column} {one.stored!r}, but"
                    f" {one.shorter.name} candles make {one.summed!r}"
                )
            print(
                f"{series}: against {shortest.time_interval}, {table.num_rows:,} candles,"
                f" {len(wrong):,} disagreements"
            )
            found += len(wrong)
    return found


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(" ", "seconds")
