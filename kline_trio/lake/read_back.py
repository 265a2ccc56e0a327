"""Read months of a store back from the lake, before they are removed here.

A month of a series may go if it is over for long enough, and if the lake has all that is known of
it: each candle with equal values, each revision, and the recorder's gaps and account. What the
store itself cannot explain stays, since a pruned month is never due again.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import numpy as np
import pyarrow as pa

from kline_trio.candle import Series
from kline_trio.counting import counted
from kline_trio.interval import Span
from kline_trio.lake.errors import ForeignLakeError
from kline_trio.lake.ledger_tables import accounts, gaps_of_recorder, published_revisions
from kline_trio.lake.location import Location
from kline_trio.lake.plan import MOST_ROWS, month_of, month_span, months_of
from kline_trio.lake.publish import unpublished_spans
from kline_trio.lake.reader import candles
from kline_trio.lake.tables import LakeTable, open_table
from kline_trio.spans import joined
from kline_trio.storage.catalog import candle_files, log_damage, open_files, stored
from kline_trio.storage.files import span_of
from kline_trio.storage.journal.ledger import Gap, Revision, SeriesAccount, State
from kline_trio.storage.journal.outbox import LakeState
from kline_trio.storage.journal.pruned import Pruned
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.pruning import CandleChecksum, ReadBack, slices
from kline_trio.storage.step import OnStep, Step, ignore_step
from kline_trio.storage.table import BEGIN, runs_of, values_of

_FILES_A_STEP = 1_000
_ABSENT = "there is no lake yet: publish first"


@attrs.frozen
class Month:
    """A month of a series that is old enough to be pruned."""

    series: Series
    span: Span
    """Its due candles. What is not due may be asked for one day, and would be missing then."""
    exchange_ms: int
    """The time of its market."""


@attrs.frozen
class Found:
    """A month that was read back."""

    pruned: Pruned
    """For the journal."""
    here: ReadBack
    """What the store has of it, which may be removed."""


@attrs.frozen
class Kept:
    """A month that stays here."""

    month: Month
    why: str


OnGroup = Callable[[Sequence[Found], Sequence[Kept]], None]


def read_back(
    location: Location,
    store_path: Path,
    keep_seconds: float,
    on_group: OnGroup,
    most_rows: int = MOST_ROWS,
    on_step: OnStep = ignore_step,
) -> None:
    """Read back all months that ended so long ago. Nothing is changed.

    Args:
      location: the lake.
      store_path: the store's folder. A recorder may write to it meanwhile: so the journal looks
        again at what has changed before a month is removed.
      keep_seconds: how long a month stays after its end, in the exchange's time.
      on_group: called with the months of some series, oldest months first.
      most_rows: how many candles are in memory at once, from the store and from the lake.
      on_step: called at the begin of each step.

    Raises:
      ForeignLakeError: there is no lake, or not that to which the store is published.
      LakeError: the lake cannot be read.
      KlineTrioError: the store cannot be read.
    """
    store = _StoreLedger.read(store_path, keep_seconds)
    table = open_table(location, "candles")
    if table is None or store.lake is None:
        raise ForeignLakeError(f"{location.url}: {_ABSENT}")
    if table.id != store.lake.lake:
        raise ForeignLakeError(
            f"{location.url}: is not the lake to which {store_path} is published"
        )
    files = _files(store_path, on_step)
    months = list(store.months(files))
    if not months:
        return
    on_step(Step("reading gaps, revisions and accounts in the lake"))
    there = _LakeLedger.read(location, store.lake.recorder, months)
    done = 0
    for group in _groups(months, most_rows):
        on_step(Step(f"reading back {month_of(group[0].span.from_ms)}", done, len(months), "month"))
        done += len(group)
        settled, kept = list[Month](), list[Kept]()
        for month in group:
            why = store.unsettled(month) or store.differs(month, there)
            if why is None:
                settled.append(month)
            else:
                kept.append(Kept(month, why))
        found = list[Found]()
        reading = _Reading(location, store_path, files, table, settled, most_rows)
        for result in reading.results(store):
            if isinstance(result, Kept):
                kept.append(result)
            else:
                found.append(result)
        on_group(found, kept)


_File = tuple[Path, Span]


def _files(store_path: Path, on_step: OnStep) -> dict[Series, list[_File]]:
    """Return the files of each series, each with the time of its candles."""
    found: dict[Series, list[_File]] = defaultdict(list)
    paths = candle_files(store_path)
    for done, (path, owner, file) in enumerate(open_files(paths, log_damage)):
        if not done % _FILES_A_STEP:
            on_step(Step("looking for old months", done, len(paths), "file"))
        if (span := span_of(file)) is not None:
            found[owner].append((path, span))
    return found


@attrs.frozen
class _StoreLedger:
    """What a store's journal says at one moment."""

    lake: LakeState | None
    accounts: Mapping[Series, SeriesAccount]
    limits_ms: Mapping[str, tuple[int, int]]
    """By market, the end of what may be pruned, and the exchange's time."""
    gaps: Mapping[Series, Sequence[Gap]]
    """Of every state, by time."""
    revisions: Mapping[Series, Sequence[Revision]]
    unpublished: Mapping[Series, Sequence[Span]]
    pruned: Mapping[Series, Sequence[Pruned]]
    """What was removed here before, to this lake or to another one."""

    @classmethod
    def read(cls, store_path: Path, keep_seconds: float) -> "_StoreLedger":
        keep_ms = round(keep_seconds * 1_000)
        with journal_view(store_path) as journal:
            found = journal.unpublished()
            gaps: dict[Series, list[Gap]] = defaultdict(list)
            for gap in journal.gaps():
                gaps[gap.series].append(gap)
            revisions: dict[Series, list[Revision]] = defaultdict(list)
            for revision in journal.revisions():
                revisions[revision.series].append(revision)
            pruned: dict[Series, list[Pruned]] = defaultdict(list)
            for one in journal.pruned():
                pruned[one.series].append(one)
            times = journal.exchange_times()
            limits = {name: (now_ms - keep_ms, now_ms) for name, (now_ms, _) in times.items()}
            state, due = journal.lake(), journal.accounts()
        waiting = unpublished_spans(store_path, found)
        return cls(state, due, limits, gaps, revisions, waiting, pruned)

    def months(self, files: Mapping[Series, Sequence[_File]]) -> Iterator[Month]:
        """Give the months that are old enough and of which candles may be here, in order."""
        for series, account in sorted(self.accounts.items()):
            if series.trade_type not in self.limits_ms or series not in files:
                continue
            limit_ms, now_ms = self.limits_ms[series.trade_type]
            if account.retired_ms is None or account.retired_ms > account.watermark_ms:
                limit_ms = min(limit_ms, account.watermark_ms)
            from_ms = min(span.from_ms for _, span in files[series])
            to_ms = min(limit_ms, max(span.to_ms for _, span in files[series]))
            for part in months_of(Span(from_ms, max(from_ms + 1, to_ms))):
                span = _candles_of_month(series, part)
                if span is not None and span.to_ms <= limit_ms:
                    for due in span.common_with(_due(account)):
                        yield Month(series, due, now_ms)

    def unsettled(self, month: Month) -> str | None:
        """Return why the journal does not let a month go; None: it does."""
        waiting = self.unpublished.get(month.series, ())
        if any(span.common_with(month.span) for span in waiting):
            return "is not published yet"
        gaps = self.gaps_in(month)
        if any(gap.state is State.PENDING for gap in gaps):
            return "has candles that are still asked for"
        return None

    def gaps_in(self, month: Month) -> list[Gap]:
        return [one for one in self.gaps.get(month.series, ()) if one.span.common_with(month.span)]

    def differs(self, month: Month, there: "_LakeLedger") -> str | None:
        """Return what of the ledger the lake lacks; None: nothing."""
        gaps = there.gaps.get(month.series, ())
        if self.gaps_in(month) != [one for one in gaps if one.span.common_with(month.span)]:
            return "has other gaps in the lake"
        here = self.revisions.get(month.series, ())
        mine = [one for one in here if one.newer.open_time_ms in month.span]
        if any(one not in there.revisions for one in mine):
            return "has revisions that the lake lacks"
        known, account = there.accounts.get(month.series), self.accounts[month.series]
        until_ms = min(month.span.to_ms, account.watermark_ms)
        if known is None or known.first_ms != account.first_ms or known.watermark_ms < until_ms:
            return "is not accounted for in the lake"
        return None

    def unexplained(self, month: Month, held: Sequence[Span]) -> int:
        """Return how many due candles of a month are neither stored, nor a gap, nor pruned."""
        account, interval = self.accounts[month.series], month.series.interval
        pruned = (one.span for one in self.pruned_in(month))
        known = joined([*held, *(gap.span for gap in self.gaps_in(month)), *pruned])
        due = month.span.common_with(_due(account))
        holes = (hole for span in due for hole in span.without(known))
        return sum(map(interval.count, holes))

    def pruned_in(self, month: Month) -> list[Pruned]:
        """Return what was removed of a month before: some candles came, or were left, since."""
        every = self.pruned.get(month.series, ())
        return [one for one in every if one.span.common_with(month.span)]

    def gone(self, month: Month, there: Sequence[Span]) -> int:
        """Return how many candles of a month were removed before that the lake lacks now.

        To keep it as pruned again, with fewer rows, would forget the others.
        """
        count, lost = month.series.interval.count, 0
        for one in self.pruned_in(month):
            found = sum(count(part) for span in there for part in span.common_with(one.span))
            lost += max(0, one.rows - found)
        return lost


@attrs.frozen
class _LakeLedger:
    """What a recorder has published besides candles."""

    gaps: Mapping[Series, Sequence[Gap]]
    revisions: frozenset[Revision]
    """Of all recorders: a store that was restored has those of others."""
    accounts: Mapping[Series, SeriesAccount]

    @classmethod
    def read(cls, location: Location, recorder: str, months: Sequence[Month]) -> "_LakeLedger":
        wanted = {month.series for month in months}
        revisions = frozenset(
            one for _, _, one in published_revisions(location) if one.series in wanted
        )
        every = accounts(location, wanted)
        mine = {series: one for (name, series), one in every.items() if name == recorder}
        return cls(gaps_of_recorder(location, recorder), revisions, mine)


def _due(account: SeriesAccount) -> Span:
    return Span(account.first_ms, max(account.first_ms + 1, account.watermark_ms))


def _candles_of_month(series: Series, part: Span) -> Span | None:
    """Return the candles that open in the month of a span; None: none does."""
    month, interval = month_span(month_of(part.from_ms)), series.interval
    from_ms = interval.next_open_time_ms(month.from_ms)
    to_ms = interval.next_open_time_ms(month.to_ms)
    return Span(from_ms, to_ms) if from_ms < to_ms else None


def _groups(months: Sequence[Month], most_rows: int) -> Iterator[list[Month]]:
    """Give months that are read together: of a market, an interval and a time; oldest first.

    A month of a series that is too large for memory is a group of its own, read in slices.
    """

    def place(month: Month) -> tuple[int, int, str, str]:
        series, span = month.series, month.span
        return (span.from_ms, span.to_ms, series.trade_type, series.time_interval)

    for _, some in itertools.groupby(
        sorted(months, key=lambda one: (*place(one), one.series)), place
    ):
        group, rows = list[Month](), 0
        for month in some:
            count = month.series.interval.count(month.span)
            if group and rows + count > most_rows:
                yield group
                group, rows = [], 0
            group.append(month)
            rows += count
        yield group


@attrs.define(eq=False)
class _Compared:
    """The comparison of a month's candles, slice by slice."""

    here: CandleChecksum = attrs.field(factory=CandleChecksum)
    there: CandleChecksum = attrs.field(factory=CandleChecksum)
    lacking: int = 0
    differing: int = 0
    held: list[Span] = attrs.field(factory=list)
    held_there: list[Span] = attrs.field(factory=list)

    def add(self, series: Series, mine: pa.Table | None, theirs: pa.Table | None) -> None:
        if theirs is not None:
            self.there.add(theirs)
            self.held_there += runs_of(series, values_of(theirs[BEGIN]))
        if mine is None or not mine.num_rows:
            return
        self.here.add(mine)
        self.held += runs_of(series, values_of(mine[BEGIN]))
        if theirs is None or not theirs.num_rows:
            self.lacking += mine.num_rows
            return
        begins = values_of(theirs[BEGIN])
        wanted = values_of(mine[BEGIN])
        at = np.minimum(np.searchsorted(begins, wanted), len(begins) - 1)
        is_there = begins[at] == wanted
        self.lacking += int(np.count_nonzero(~is_there))
        differs = np.zeros(len(wanted), np.bool_)
        for name in mine.column_names:
            differs |= values_of(mine[name]) != values_of(theirs[name])[at]
        self.differing += int(np.count_nonzero(differs & is_there))

    def why_not(self) -> str | None:
        """Return what is wrong with the lake's candles; None: nothing."""
        if self.lacking:
            return f"has {counted(self.lacking, 'candle')} that the lake lacks"
        if self.differing:
            what = counted(self.differing, "candle has", "candles have")
            return f"differs: {what} other values in the lake, by another recorder"
        return None


@attrs.frozen
class _Reading:
    """A group of months that are read here and there."""

    location: Location
    store_path: Path
    files: Mapping[Series, Sequence[_File]]
    table: LakeTable
    months: Sequence[Month]
    most_rows: int

    def results(self, store: _StoreLedger) -> Iterator[Found | Kept]:
        """Give what became of each month of which there are candles here."""
        compared = self._compared()
        assert store.lake is not None
        for month in self.months:
            one = compared[month]
            if not one.here.rows:
                continue
            why = one.why_not()
            if why is None and (count := store.gone(month, one.held_there)):
                why = f"was removed here before, and the lake lacks {counted(count, 'candle')}"
            if why is None and (count := store.unexplained(month, one.held)):
                why = f"has {counted(count, 'candle')} that nothing explains: check the store"
            if why is not None:
                yield Kept(month, why)
                continue
            rows, checksum = one.there.rows, one.there.text
            version = self.table.delta.version()
            names = (store.lake.lake, version, rows, checksum, month.exchange_ms)
            here = ReadBack(month.span, one.here.rows, one.here.text)
            yield Found(Pruned(month.series, month.span, *names), here)

    def _compared(self) -> dict[Month, _Compared]:
        compared = {month: _Compared() for month in self.months}
        if not self.months:
            return compared
        several = [month.series for month in self.months]
        rows = max(1, self.most_rows // len(several))
        for part in slices(several[0], self.months[0].span, rows):
            paths = [
                path for one in several for path, span in self.files[one] if span.common_with(part)
            ]
            here = stored(self.store_path, several, part.from_ms, part.to_ms, paths=paths)
            there = candles(self.table, self.location, several, part.from_ms, part.to_ms)
            for month, one in compared.items():
                look = here[month.series]
                mine = None if look is None else look.table()
                one.add(month.series, mine, there[month.series])
        return compared
