"""The command `check --against`: compare the store with the exchange and with itself; repair it."""

import argparse
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from random import Random
from typing import TypeVar

import attrs
import trio

from kline_trio.candle import Candle, ReceivedCandle, Series, Source
from kline_trio.commands.output import log_lines
from kline_trio.commands.verify_report import Checked, NotCompared, Report, Verified
from kline_trio.config import Config
from kline_trio.errors import (
    ConfigError,
    DamagedArchiveError,
    DiskError,
    RefusedError,
    UnavailableError,
)
from kline_trio.exchange.archive import Archive, ArchiveFile, archive_files, unpacked
from kline_trio.exchange.klines import Page, newest_page
from kline_trio.exchange.rest import RestMarket
from kline_trio.interval import Span
from kline_trio.recorder.environment import Environment
from kline_trio.recorder.lifetimes import Http, open_http, open_store
from kline_trio.recorder.rest_source import APART_SECONDS
from kline_trio.spans import joined
from kline_trio.storage.archive_rows import read_csv
from kline_trio.storage.catalog import last_end_ms
from kline_trio.storage.comparison import compare
from kline_trio.storage.quiet import sifted
from kline_trio.storage.stored import stored_table
from kline_trio.storage.table import candles_of
from kline_trio.symbols import resolve

__all__ = ["check_against", "repair", "verify"]

_ATTEMPTS = 5
_ATTEMPTS_UNANSWERED = 2
"""For a question that follows one without an answer."""
_ATTEMPT_SECONDS = 2.0
"""After the nth failed attempt, wait n times as long."""
_MOST_UNANSWERED = 10
"""After so many questions in a row without an answer, leave out the rest of the series."""

_Answer = TypeVar("_Answer")

_open_time_ms = attrgetter("open_time_ms")


@attrs.frozen
class _Theirs:
    """The exchange's candles of a stretch."""

    candles: Sequence[Candle]
    problems: tuple[str, ...] = ()
    """Why some rows of the answer were not taken."""
    quiet: tuple[Span, ...] = ()
    """Where the candles have no trades among busy ones, so that a store which differs is kept."""
    source: str = ""
    """The file's path."""


@attrs.frozen
class _Stretch:
    """A part of a series that the exchange gives in one answer."""

    span: Span
    fetch: Callable[[], Awaitable[_Theirs]]


@attrs.define
class _Patience:
    """How long to insist on an answer of one host: less while the host gives none."""

    unanswered: int = 0
    """How many questions in a row had no answer."""

    @property
    def is_over(self) -> bool:
        """Whether the host has given no answer for too long."""
        return self.unanswered >= _MOST_UNANSWERED

    async def ask(self, question: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Ask until there is an answer. A refusal or a damaged file is one.

        Raises:
          RefusedError: the exchange will not answer.
          DamagedArchiveError: the file is not what it should be.
          UnavailableError: no attempt had an answer.
        """
        attempts = _ATTEMPTS_UNANSWERED if self.unanswered else _ATTEMPTS
        for attempt in range(1, attempts + 1):
            try:
                answer = await question()
            except DamagedArchiveError:
                self.unanswered = 0
                raise
            except RefusedError as error:
                # Without a code the refusal is about us, not about the question.
                self.unanswered = _MOST_UNANSWERED if error.code is None else 0
                raise
            except UnavailableError:
                if attempt == attempts:
                    self.unanswered += 1
                    raise
                await trio.sleep(_ATTEMPT_SECONDS * attempt)
            else:
                self.unanswered = 0
                return answer
        raise AssertionError("the last attempt returns or raises")


def check_against(config: Config, options: argparse.Namespace) -> int:
    """Compare, print the differences, and repair them if `--repair` is given.

    Returns:
      the exit status: 1 if anything differs or could not be compared, else 0.

    Raises:
      ConfigError: there is no store to compare.
    """
    if not config.store.path.is_dir():
        raise ConfigError([f"there is no store {config.store.path}"])
    report = Report(config.store.path, dict.fromkeys(config.streams, True))
    extent = Extent(options.since, options.sample)
    with log_lines(debug=False):
        found = trio.run(verify, config, options.against, report.add, extent)
    is_repaired = options.repair and report.differing
    report.add_sums()
    if is_repaired:
        written = trio.run(repair, config, found)
        print(f"repaired: {written:,} candles have the exchange's values now")
    return 1 if report.differing or report.not_compared else 0


@attrs.frozen
class Extent:
    """How much of each series to compare."""

    since_ms: int | None = None
    """From this open time on; None: from the first stored candle on."""
    sample: int | None = None
    """About so many candles, in stretches chosen at random; None: all."""


async def verify(
    config: Config,
    against: str,
    tell: Callable[[Checked | NotCompared], None],
    extent: Extent = Extent(),
    environment: Environment | None = None,
) -> list[Verified]:
    """Compare the stored candles of the configured series with the exchange's.

    Patterns also mean stored series whose symbols trade no more. A recorder may hold the store
    meanwhile. What fails ends nothing but itself: the other files, pages, series and markets are
    compared all the same.

    Args:
      config: names the series and the store.
      against: `rest` or `archive`.
      tell: called with the result of each series, failures included, as soon as it is there; and
        with each market whose list of symbols is not to be had.
      extent: how much of each series to compare.
      environment: to the world.

    Returns:
      the stretches that were compared, by series; without a sample, newest first.
    """
    environment = environment or Environment()
    found: list[Verified] = []
    async with open_http(config, environment) as http:
        archive = Archive(http.client, config.archive) if against == "archive" else None
        comparing = _Comparing(config.store.path, environment, http, archive, extent)
        stored: Iterable[Series] = ()
        if config.patterns:
            try:
                stored = sorted(await environment.on_disk(last_end_ms, config.store.path))
            except DiskError as error:
                problem = f"stored series whose symbols trade no more are left out: {error}"
                tell(NotCompared(str(config.store.path), None, problem))
        meant, unlisted = await resolve(config.streams, config.patterns, http.markets, stored)
        for trade_type, why in unlisted.items():
            tell(NotCompared(trade_type, None, why))
        for series in meant:
            checked = await comparing.check(series)
            tell(checked)
            found += checked.compared
    return found


@attrs.frozen(eq=False)
class _Comparing:
    """One comparison of a store with the exchange, series by series."""

    store_path: Path
    environment: Environment
    http: Http
    archive: Archive | None
    """Compare with the archive; None: with REST."""
    extent: Extent
    _patience: defaultdict[str, _Patience] = attrs.field(
        init=False, factory=lambda: defaultdict(_Patience)
    )
    """By market, with REST; and with the archive."""

    async def check(self, series: Series) -> Checked:
        """Compare a series; what fails is a part of the result."""
        rest, patience = self.http.markets[series.trade_type], self._patience[series.trade_type]
        try:
            now_ms = await patience.ask(rest.confirm_time)
        except UnavailableError as error:
            return Checked(series, (), (NotCompared(str(series), None, str(error)),))
        since_ms = self.extent.since_ms or 0
        try:
            table = await self.environment.on_disk(stored_table, self.store_path, series, since_ms)
        except DiskError as error:
            failure = NotCompared(str(series), None, str(error))
            return Checked(series, (), (failure,), is_unread=True)
        if table is None or not table.num_rows:
            return Checked(series, (), ())
        ours = candles_of(table)
        whole = Span(ours[0].open_time_ms, series.interval.end_time_ms(ours[-1].open_time_ms))
        if self.archive is None:
            stretches = _rest_stretches(rest, series, whole)
        else:
            patience = self._patience["archive"]
            stretches = _archive_stretches(self.archive, series, whole, now_ms)
        chosen = _chosen(stretches, series, self.extent.sample, self.environment.random)
        return await _compared(series, ours, chosen, patience)


async def _compared(
    series: Series, ours: Sequence[Candle], stretches: Sequence[_Stretch], patience: _Patience
) -> Checked:
    """Compare stretch by stretch. A stretch without an answer is a failure, with the reason."""
    found, failures = [], []
    for n, stretch in enumerate(stretches):
        span = stretch.span
        try:
            theirs = await patience.ask(stretch.fetch)
        except UnavailableError as error:
            failures.append(NotCompared(str(series), span, str(error)))
            if patience.is_over or isinstance(error, RefusedError):
                rest = joined(one.span for one in stretches[n + 1 :])
                problem = "left out, since the exchange gives no answers for the series"
                failures += [NotCompared(str(series), one, problem) for one in rest]
                break
            continue
        failures += [NotCompared(str(series), span, problem) for problem in theirs.problems]
        first, end = (bisect_left(ours, ms, key=_open_time_ms) for ms in (span.from_ms, span.to_ms))
        mine = ours[first:end]
        unsure = set(_unsure(series, mine, theirs))
        problem = f"{theirs.source}: the archive is quiet where trades are to be expected"
        failures += [
            NotCompared(str(series), one, f"{problem}; the store's candles are kept")
            for one in series.interval.runs(sorted(unsure))
        ]
        comparison = compare(_without(mine, unsure), _without(theirs.candles, unsure))
        found.append(Verified(series, span, comparison))
    return Checked(series, tuple(found), tuple(failures))


def _unsure(series: Series, mine: Sequence[Candle], theirs: _Theirs) -> Iterator[int]:
    """Give the open times at which quiet rows differ from the stored ones, or fill a gap."""
    if theirs.quiet:
        stored = {one.open_time_ms: one for one in mine}
        answered = {one.open_time_ms: one for one in theirs.candles}
        for span in theirs.quiet:
            for ms in series.interval.open_times_ms(span):
                if stored.get(ms) != answered.get(ms):
                    yield ms


def _without(candles: Sequence[Candle], open_times_ms: set[int]) -> list[Candle]:
    return [one for one in candles if one.open_time_ms not in open_times_ms]


async def repair(
    config: Config, found: Sequence[Verified], environment: Environment | None = None
) -> int:
    """Take the exchange's value where ours differs or is absent; each change is a revision.

    Returns:
      how many candles were written.

    Raises:
      StoreInUseError: a recorder holds the store.
      DiskError: nothing was written.
    """
    environment = environment or Environment()
    now = environment.now()
    wanted = []
    for one in found:
        theirs = [theirs for _, theirs in one.comparison.differing]
        candles = (*theirs, *one.comparison.absent_here)
        wanted += [ReceivedCandle(one.series, candle, now) for candle in candles]
    if wanted:
        async with open_store(config, environment) as storage:
            await storage.commit_door.run(storage.store.accept, wanted, Source.REPAIR)
    return len(wanted)


def _rest_stretches(rest: RestMarket, series: Series, whole: Span) -> list[_Stretch]:
    left, found = whole, []
    while left.from_ms < left.to_ms:
        page = newest_page(rest.market, series.interval, [left])
        found.append(_Stretch(page.span, partial(_ask_rest, rest, series, page)))
        left = Span(left.from_ms, page.span.from_ms)
    return found


async def _ask_rest(rest: RestMarket, series: Series, page: Page) -> _Theirs:
    answer = await rest.klines(series, page, 0.0)
    if not answer.is_whole:
        # Its rows may be those of another time: a second answer must have the same.
        await trio.sleep(APART_SECONDS)
        first, answer = answer, await rest.klines(series, page, 0.0)
        if not answer.is_whole and answer.candles != first.candles:
            raise UnavailableError("two answers differ, and neither has what was asked for")
    return _Theirs(answer.candles, tuple(_passed_over(answer.bad_rows)))


def _passed_over(bad_rows: Mapping[str, int], where: str = "") -> Iterator[str]:
    for reason, count in bad_rows.items():
        yield f"{where}{count:,} rows were passed over: {reason}"


def _archive_stretches(
    archive: Archive, series: Series, whole: Span, now_ms: int
) -> list[_Stretch]:
    return [
        _Stretch(span, partial(_fetch_file, archive, file, series, span))
        for file in reversed(list(archive_files(series, whole, now_ms)))
        for span in file.span.common_with(whole)
    ]


async def _fetch_file(archive: Archive, file: ArchiveFile, series: Series, span: Span) -> _Theirs:
    try:
        content = await archive.fetch(file)
        if content is None:
            raise DamagedArchiveError("the archive does not have it")
        # Whole: what is around a stretch tells whether it should have trades.
        rows = read_csv(unpacked(content, file.most_csv_bytes), series, file.span)
    except DamagedArchiveError as error:
        raise DamagedArchiveError(f"{file.path}: {error}") from None
    candles = [
        one for one in candles_of(rows.table) if span.from_ms <= one.open_time_ms < span.to_ms
    ]
    quiet = [
        piece for one, _ in sifted(rows.table, series).quiet for piece in one.common_with(span)
    ]
    problems = tuple(_passed_over(rows.bad_rows, f"{file.path}: "))
    return _Theirs(candles, problems, tuple(quiet), file.path)


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
