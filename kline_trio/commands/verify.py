"""The command `check --against`: compare the store with the exchange, and repair it."""

import argparse
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from random import Random
from typing import TypeVar

import attrs
import trio

from kline_trio.candle import Candle, ReceivedCandle, Series, Source, within
from kline_trio.commands.log import log_lines
from kline_trio.commands.progress import Progress, open_progress
from kline_trio.commands.simulated import exchange_of
from kline_trio.commands.verify_report import Checked, NotCompared, Report
from kline_trio.config import Config
from kline_trio.counting import counted
from kline_trio.errors import (
    ConfigError,
    DamagedArchiveError,
    DiskError,
    KlineTrioError,
    RefusedError,
    UnavailableError,
)
from kline_trio.exchange.archive import Archive, ArchiveFile, archive_files, unpacked
from kline_trio.exchange.klines import Page, newest_page
from kline_trio.exchange.rest import RestMarket
from kline_trio.interval import Span
from kline_trio.reading.readable import Readable, readable_store
from kline_trio.recorder.environment import Environment
from kline_trio.recorder.resources import Http, open_http, open_store
from kline_trio.recorder.rest_source import APART_SECONDS
from kline_trio.spans import SpanSet, common, joined
from kline_trio.storage.archive_rows import read_csv, sifted
from kline_trio.storage.catalog import LATEST_MS, last_end_ms
from kline_trio.storage.comparison import compare as compare_candles
from kline_trio.storage.simulated import simulated_hint, simulated_store
from kline_trio.storage.step import OnStep, Step, ignore_step
from kline_trio.storage.table import candles_of
from kline_trio.symbols import resolve

_ATTEMPTS = 5
_ATTEMPTS_UNANSWERED = 2
"""Attempts of a request that follows one without an answer."""
_ATTEMPT_SECONDS = 2.0
"""After the nth failed attempt, wait n times as long."""
_MOST_UNANSWERED = 10
"""After so many requests in a row without an answer, leave out the rest of the series."""

_Answer = TypeVar("_Answer")


@attrs.frozen
class _Fetched:
    """The exchange's candles of a stretch."""

    candles: Sequence[Candle]
    problems: tuple[str, ...] = ()
    """Why some rows of the answer were skipped."""
    quiet: tuple[Span, ...] = ()
    """Spans without trades among busy ones: here differing stored candles are kept."""
    source: str = ""
    """The path of the archive file."""


_Stretch = tuple[Span, Callable[[], Awaitable[_Fetched]]]
"""A part of a series that the exchange gives in one answer, and what fetches it."""


@attrs.define
class _Retries:
    """Repeats requests to one host; less often while the host gives no answers."""

    unanswered: int = 0
    """How many requests in a row had no answer."""

    async def ask(self, request: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Repeat a request until there is an answer. A refusal or a damaged file is an answer.

        Raises:
          RefusedError: the exchange refuses the request.
          DamagedArchiveError: the file is damaged.
          UnavailableError: no attempt had an answer.
        """
        attempts = _ATTEMPTS_UNANSWERED if self.unanswered else _ATTEMPTS
        for attempt in range(1, attempts + 1):
            try:
                answer = await request()
            except DamagedArchiveError:
                self.unanswered = 0
                raise
            except RefusedError as error:
                # Without a code the exchange refuses this address, not the request.
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
    if options.simulate:
        path = simulated_store(options.config)
        config = attrs.evolve(config, store=attrs.evolve(config.store, path=path))
    if not config.store.path.is_dir():
        hint = "" if options.simulate else simulated_hint(config.store.path)
        raise ConfigError([f"there is no store {config.store.path}{hint}"])
    return compare(config, options, readable_store(config.store.path))


def compare(config: Config, options: argparse.Namespace, place: Readable) -> int:
    """Compare the configured series of a store or a lake, as `check_against`.

    Args:
      config: names the series and the exchange's hosts.
      options: those of `check --against`. A lake cannot be repaired.
      place: has the candles.
    """
    with log_lines(debug=options.debug) as screen:
        progress = Progress(screen)
        report = Report(place, progress)
        found = trio.run(_verify, config, options, place, report, progress.show)
    # A nursery swallowed a `Cancelled` that was not its own: see `signals.run`.
    if found is None:
        raise RuntimeError("it ended without having been asked to")
    is_repaired = options.repair and report.differing
    with open_progress() as report.progress:
        report.add_sums()
    if is_repaired:
        with open_progress() as progress:
            progress.show(Step("writing the exchange's values"))
            written = trio.run(repair, config, found)
        print(
            f"repaired: {counted(written, 'candle has', 'candles have')} the exchange's values now"
        )
    return 1 if report.differing or report.not_compared else 0


async def _verify(
    config: Config, options: argparse.Namespace, place: Readable, report: Report, on_step: OnStep
) -> list[Checked] | None:
    extent = Extent(options.since, options.sample)
    # It begins at the latest end: each stored candle has closed by then.
    async with exchange_of(config, options, max) as redirect:
        config = redirect(config)
        return await verify(
            config, options.against, report.add, extent, on_step=on_step, place=place
        )


@attrs.frozen
class Extent:
    """How much of each series to compare."""

    since_ms: int | None = None
    """The first open time to compare; None: that of the first stored candle."""
    sample: int | None = None
    """Compare about so many candles, in random stretches; None: all."""


async def verify(
    config: Config,
    against: str,
    report: Callable[[Checked | NotCompared], None],
    extent: Extent = Extent(),
    environment: Environment | None = None,
    on_step: OnStep = ignore_step,
    place: Readable | None = None,
) -> list[Checked]:
    """Compare the stored candles of the configured series with the exchange's.

    Patterns also match stored series whose symbols no longer trade. A recorder may run during the
    comparison. An error in one file, page, series or market does not stop that of the others.

    Args:
      config: names the series and the store.
      against: `rest` or `archive`.
      report: called with the result of each series at once, failures included, and with each
        market whose list of symbols cannot be fetched.
      extent: how much of each series to compare.
      environment: network, disk and clocks.
      on_step: called with each series, and with what is waited for.
      place: has the candles; None: the store of the configuration.

    Returns:
      the result of each series.
    """
    environment = environment or Environment()
    # A lake has the series of all shards.
    shard = config.lake.shard if place is None else None
    place = place or readable_store(config.store.path)
    found: list[Checked] = []
    async with open_http(config, environment) as http:
        archive = Archive(http.client, config.archive) if against == "archive" else None
        comparison = _Comparer(place, environment, http, archive, extent, on_step)
        stored: Iterable[Series] = ()
        if config.patterns or shard is not None:
            on_step(Step("looking for the series of the store"))
            try:
                stored = sorted(await environment.on_disk(last_end_ms, config.store.path))
            except DiskError as error:
                problem = f"stored series whose symbols trade no more are left out: {error}"
                report(NotCompared(place.name, None, problem))
            on_step(Step("waiting for the exchange's lists of symbols"))
        meant, unlisted = await resolve(config.streams, config.patterns, http.markets, stored)
        if shard is not None:
            held = set(stored)
            meant = tuple(
                one for one in meant if one in held or shard.owns(one.trade_type, one.symbol)
            )
        for trade_type, why in unlisted.items():
            report(NotCompared(trade_type, None, why))
        for done, series in enumerate(meant):
            what = f"comparing {series} with {'REST' if archive is None else 'the archive'}"
            step = Step(what, done, len(meant), "series")
            on_step(step)
            checked = await comparison.check(series, step)
            report(checked)
            found.append(checked)
    return found


@attrs.frozen(eq=False)
class _Comparer:
    """Compares the series of a store or a lake with the exchange, one by one."""

    place: Readable
    environment: Environment
    http: Http
    archive: Archive | None
    """Compare with the archive; None: with REST."""
    extent: Extent
    on_step: OnStep
    """Called with each request to the exchange."""
    _retries: defaultdict[str, _Retries] = attrs.field(
        init=False, factory=lambda: defaultdict(_Retries)
    )
    """By trade type, of REST; and of the archive."""

    async def check(self, series: Series, step: Step) -> Checked:
        """Compare a series. Errors of the exchange and the disk become failures of the result.

        Args:
          series: what to compare.
          step: of the whole comparison.
        """
        rest, retries = self.http.markets[series.trade_type], self._retries[series.trade_type]
        since_ms = self.extent.since_ms or 0
        try:
            now_ms = await retries.ask(rest.confirm_time)
            found = await self.environment.on_disk(self.place.tables, [series], since_ms, LATEST_MS)
            in_lake = await self.environment.on_disk(self.place.in_lake, [series])
        except KlineTrioError as error:
            failure = NotCompared(str(series), None, str(error))
            is_unread = not isinstance(error, UnavailableError)
            return Checked(series, (), (failure,), is_unread=is_unread)
        table, pruned = found[series], SpanSet(in_lake.of_series(series))
        elsewhere = sum(map(series.interval.count, common([Span(since_ms, LATEST_MS)], [*pruned])))
        ours = [] if table is None else candles_of(table)
        # What came late is stored; the lake has the whole month.
        ours = [one for one in ours if not pruned.holds(one.open_time_ms)]
        if not ours:
            return Checked(series, (), (), in_lake=elsewhere)
        whole = Span(ours[0].open_time_ms, series.interval.end_time_ms(ours[-1].open_time_ms))
        if self.archive is None:
            stretches = list(_rest_stretches(rest, series, whole))
        else:
            retries = self._retries["archive"]
            stretches = _archive_stretches(self.archive, series, whole, now_ms)
        stretches = [one for one in stretches if any(one[0].without(pruned))]
        chosen = _sampled(stretches, series, self.extent.sample, self.environment.random)

        def on_stretch(number: int) -> None:
            what = f"{step.what}: request {number:,} of {len(chosen):,}"
            self.on_step(attrs.evolve(step, what=what))

        checked = await _compare_stretches(series, ours, pruned, chosen, retries, on_stretch)
        return attrs.evolve(checked, in_lake=elsewhere)


async def _compare_stretches(
    series: Series,
    ours: Sequence[Candle],
    pruned: SpanSet,
    stretches: Sequence[_Stretch],
    retries: _Retries,
    on_stretch: Callable[[int], None],
) -> Checked:
    """Compare stretch by stretch. A stretch without an answer is a failure, with the reason."""
    found, failures = [], []
    for n, (span, fetch) in enumerate(stretches):
        on_stretch(n + 1)
        try:
            theirs = await retries.ask(fetch)
        except UnavailableError as error:
            failures.append(NotCompared(str(series), span, str(error)))
            if retries.unanswered >= _MOST_UNANSWERED or isinstance(error, RefusedError):
                left = joined(one for one, _ in stretches[n + 1 :])
                problem = "left out, since the exchange gives no answers for the series"
                failures += [NotCompared(str(series), one, problem) for one in left]
                break
            continue
        failures += [NotCompared(str(series), span, problem) for problem in theirs.problems]
        here = within(ours, span)
        unsure = _unsure(series, here, theirs)
        problem = f"{theirs.source}: the archive is quiet where trades are to be expected"
        failures += [
            NotCompared(str(series), one, f"{problem}; the store's candles are kept")
            for one in series.interval.runs(sorted(unsure))
        ]
        sure = [
            [
                one
                for one in candles
                if one.open_time_ms not in unsure and not pruned.holds(one.open_time_ms)
            ]
            for candles in (here, theirs.candles)
        ]
        found.append(compare_candles(*sure))
    return Checked(series, tuple(found), tuple(failures))


def _unsure(series: Series, ours: Sequence[Candle], theirs: _Fetched) -> set[int]:
    """Return the open times at which quiet rows differ from stored candles, or fill a gap."""
    stored = {one.open_time_ms: one for one in ours}
    fetched = {one.open_time_ms: one for one in theirs.candles}
    quiet = (ms for span in theirs.quiet for ms in series.interval.open_times_ms(span))
    return {ms for ms in quiet if stored.get(ms) != fetched.get(ms)}


async def repair(
    config: Config, found: Sequence[Checked], environment: Environment | None = None
) -> int:
    """Store the exchange's candle where ours differs or is missing. Each change is a revision.

    Returns:
      how many candles were written.

    Raises:
      StoreInUseError: a recorder holds the store.
      DiskError: nothing was written.
    """
    environment = environment or Environment()
    now = environment.now()
    wanted = []
    for checked in found:
        for one in checked.compared:
            candles = (*(theirs for _, theirs in one.differing), *one.absent_here)
            wanted += [ReceivedCandle(checked.series, candle, now) for candle in candles]
    if wanted:
        async with open_store(config, environment) as storage:
            await storage.commit_door.run(storage.store.journal.accept, wanted, Source.REPAIR)
    return len(wanted)


def _rest_stretches(rest: RestMarket, series: Series, whole: Span) -> Iterator[_Stretch]:
    left = whole
    while left.from_ms < left.to_ms:
        page = newest_page(rest.market, series.interval, [left])
        yield page.span, partial(_fetch_page, rest, series, page)
        left = Span(left.from_ms, page.span.from_ms)


async def _fetch_page(rest: RestMarket, series: Series, page: Page) -> _Fetched:
    answer = await rest.klines(series, page, 0.0)
    if not answer.is_whole:
        # The rows may be of another time: a second answer must have the same rows.
        await trio.sleep(APART_SECONDS)
        first, answer = answer, await rest.klines(series, page, 0.0)
        if not answer.is_whole and answer.candles != first.candles:
            raise UnavailableError("two answers differ, and neither has what was asked for")
    return _Fetched(answer.candles, tuple(_skipped(answer.bad_rows)))


def _skipped(bad_rows: Mapping[str, int], where: str = "") -> Iterator[str]:
    for reason, count in bad_rows.items():
        yield f"{where}{counted(count, 'row was', 'rows were')} passed over: {reason}"


def _archive_stretches(
    archive: Archive, series: Series, whole: Span, now_ms: int
) -> list[_Stretch]:
    return [
        (span, partial(_fetch_file, archive, file, series, span))
        for file in reversed(list(archive_files(series, whole, now_ms)))
        for span in file.span.common_with(whole)
    ]


async def _fetch_file(archive: Archive, file: ArchiveFile, series: Series, span: Span) -> _Fetched:
    try:
        content = await archive.fetch(file)
        if content is None:
            raise DamagedArchiveError("the archive does not have it")
        # The whole file: the rows around a stretch show whether it should have trades.
        rows = read_csv(unpacked(content, file.most_csv_bytes), series, file.span)
    except DamagedArchiveError as error:
        raise DamagedArchiveError(f"{file.path}: {error}") from None
    candles = within(candles_of(rows.table), span)
    quiet = [part for one, _ in sifted(rows.table, series).quiet for part in one.common_with(span)]
    problems = tuple(_skipped(rows.bad_rows, f"{file.path}: "))
    return _Fetched(candles, problems, tuple(quiet), file.path)


def _sampled(
    stretches: list[_Stretch], series: Series, sample: int | None, random: Random
) -> list[_Stretch]:
    if sample is None:
        return stretches
    chosen, candles = [], 0
    for stretch in random.sample(stretches, len(stretches)):
        if candles >= sample:
            break
        chosen.append(stretch)
        candles += series.interval.count(stretch[0])
    return chosen
