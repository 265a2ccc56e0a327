"""The outbox: nothing that the lake lacks is ever missed, and nothing is published without end."""

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kline_trio.candle import Candle, Series, Source
from kline_trio.interval import Span
from kline_trio.spans import joined
from kline_trio.storage.damage import ChangedFile
from kline_trio.storage.journal import schema
from kline_trio.storage.journal.ledger import FetchResult, Revision
from kline_trio.storage.journal.manifest import FileEntry
from kline_trio.storage.journal.outbox import EVER, Unpublished
from kline_trio.storage.journal.reader import JournalView, journal_view
from kline_trio.storage.journal.writer import Journal
from tests.storage.journal.test_reader import write_version
from tests.storage.support import BTC, COIN, at, make_candle, minutes, receive, span

if TYPE_CHECKING:
    from kline_trio.storage.journal.pending import PendingCandle

ETH = Series("spot", "ETHUSDT", "1m")
SERIES = (BTC, ETH)
MOST = 12
Key = tuple[Series, int]

_times = st.integers(0, MOST - 1)
_spans = st.tuples(_times, st.integers(1, 4))


def view(journal: Journal) -> Unpublished:
    return JournalView(journal._connection).unpublished()


def entry(series: Series, revisions: tuple[Revision, ...] = ()) -> FileEntry:
    path = PurePosixPath(f"{series.symbol}.pqt")
    return attrs.evolve(FileEntry(path, series, 1, 9_000, 0xC0FFEE), revisions=revisions)


@attrs.frozen
class Look:
    """What a publication saw, and the parts that it has still to publish."""

    sequence: int
    parts: tuple[tuple[Series, Span], ...]
    lake: dict[Key, int]
    """The lake that it publishes to, which need not be that of the journal any more."""


class OutboxMachine(RuleBasedStateMachine):
    """A journal, a model of the store's candles by version, and one of the lake's."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "journal.sqlite"
        self.journal = Journal.open(self.path)
        self.version = 0
        self.stored: dict[Key, int] = {}
        self.filed: dict[Key, int] = {}
        self.lake: dict[Key, int] = {}
        self.lake_id: str | None = None
        self.taken: dict[Series, tuple[PendingCandle, ...]] = {}
        self.look: Look | None = None

    def teardown(self) -> None:
        self.journal.close()
        shutil.rmtree(self.folder)

    def changed(self, series: Series, minute: int) -> Candle:
        """Return the minute's candle with a new value, and note that the store has it."""
        self.version += 1
        self.stored[series, at(minute)] = self.version
        return make_candle(at(minute), float(self.version))

    @rule(series=st.sampled_from(SERIES), some=st.lists(_times, min_size=1, max_size=4))
    def accept(self, series: Series, some: list[int]) -> None:
        self.journal.accept(receive(series, *(self.changed(series, one) for one in some)))

    @rule(series=st.sampled_from(SERIES), place=_spans)
    def refill(self, series: Series, place: tuple[int, int]) -> None:
        first, count = place
        absent = [n for n in range(first, first + count) if (series, at(n)) not in self.stored]
        found = tuple(self.changed(series, n) for n in absent)
        asked = span(first, first + count)
        self.journal.refill([FetchResult(series, asked, found, Source.REST)])

    @rule(series=st.sampled_from(SERIES))
    def take(self, series: Series) -> None:
        self.taken[series] = self.journal.take(series)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        """A merge ends: what it took is in a file, and each other value there is a revision."""
        series = data.draw(st.sampled_from(sorted(self.taken)))
        revisions = []
        taken = self.taken.pop(series)
        for one in taken:
            key, value = (series, one.candle.open_time_ms), int(one.candle.open)
            if key in self.filed and self.filed[key] != value:
                older = make_candle(key[1], float(self.filed[key]))
                revisions.append(Revision(series, older, one.candle, one.origin, True))
            self.filed[key] = value
        merged = entry(series, tuple(revisions))
        self.journal.written.add(merged, None)
        self.journal.forget(merged, taken)

    @rule(series=st.sampled_from(SERIES), place=_spans)
    def fill_from_archive(self, series: Series, place: tuple[int, int]) -> None:
        first, count = place
        absent = [n for n in range(first, first + count) if (series, at(n)) not in self.stored]
        for minute in absent:
            self.changed(series, minute)
            self.filed[series, at(minute)] = self.version
        merged = entry(series)
        self.journal.written.add(merged, None)
        filled = list(series.interval.runs(at(n) for n in absent))
        self.journal.keep_filled(series, [merged], filled, [])

    @rule(series=st.sampled_from(SERIES), minute=_times, is_kept=st.booleans())
    def revise(self, series: Series, minute: int, is_kept: bool) -> None:
        """One that is kept counts in the row of the lake; another one does not."""
        older = make_candle(at(minute), 0.5)
        newer = self.changed(series, minute) if is_kept else make_candle(at(minute), 0.25)
        self.journal.settle([], {}, [Revision(series, older, newer, Source.REPAIR, is_kept)])

    @rule(series=st.sampled_from(SERIES), place=_spans)
    def adopt(self, series: Series, place: tuple[int, int]) -> None:
        """A listed file was changed by somebody; all that it holds counts as new."""
        listed = self.journal.listed([entry(series).path])
        if not listed:
            return
        [before] = listed.values()
        first, count = place
        for minute in range(first, first + count):
            self.changed(series, minute)
            self.filed[series, at(minute)] = self.version
        now = attrs.evolve(entry(series), held=(span(first, first + count),))
        self.journal.adopt([ChangedFile(before, now)])

    @rule(lake=st.sampled_from(["one", "two"]))
    def begin(self, lake: str) -> None:
        if self.lake_id != lake:
            # A publication that is under way goes on, and is reported to the journal.
            self.lake = {}
        self.lake_id = lake
        self.journal.begin_lake(f"recorder of {lake}", lake, SERIES)

    @precondition(lambda self: self.lake_id is not None)
    @rule()
    def look_at_the_journal(self) -> None:
        """A publication begins, also while an older one was killed."""
        found = view(self.journal)
        parts = []
        for series, spans in found.spans.items():
            for one in spans:
                middle = at(MOST // 2)
                if one.from_ms < middle < one.to_ms:
                    pieces = [Span(one.from_ms, middle), Span(middle, one.to_ms)]
                else:
                    pieces = [one]
                parts += [(series, piece) for piece in pieces]
        self.look = Look(found.sequence, tuple(parts), self.lake)

    @precondition(lambda self: self.look is not None and self.look.parts)
    @rule(is_kept=st.booleans())
    def publish_part(self, is_kept: bool) -> None:
        """The part is in the lake; the journal may not come to know of that."""
        assert self.look is not None
        (series, piece), *rest = self.look.parts
        for (one, begin_ms), version in self.stored.items():
            if one == series and begin_ms in piece:
                self.look.lake[one, begin_ms] = version
        if is_kept:
            self.journal.published({series: [piece]}, self.look.sequence)
        self.look = attrs.evolve(self.look, parts=tuple(rest))

    @precondition(lambda self: self.look is not None and not self.look.parts)
    @rule()
    def end_publication(self) -> None:
        assert self.look is not None
        self.journal.published({}, self.look.sequence, is_all=True)
        self.look = None

    @rule()
    def kill(self) -> None:
        """The publisher dies."""
        self.look = None

    @rule()
    def reopen(self) -> None:
        self.journal.close()
        self.journal = Journal.open(self.path)
        self.taken.clear()

    @precondition(lambda self: self.lake_id is not None)
    @rule()
    def publish_everything(self) -> None:
        """A publication that nothing comes between leaves nothing to publish."""
        self.look_at_the_journal()
        while self.look is not None and self.look.parts:
            self.publish_part(is_kept=bool(self.version % 2))
        self.end_publication()
        assert view(self.journal).spans == {}
        assert self.lake == self.stored

    @invariant()
    def nothing_is_missed(self) -> None:
        found = view(self.journal).spans
        for spans in found.values():
            assert list(spans) == joined(spans)
        if self.lake_id is None:
            return
        for (series, begin_ms), version in self.stored.items():
            if self.lake.get((series, begin_ms)) != version:
                assert any(begin_ms in one for one in found.get(series, ())), (series, begin_ms)

    @invariant()
    def a_journal_without_a_lake_keeps_no_spans(self) -> None:
        if self.lake_id is None:
            rows = self.journal._connection.execute("SELECT count(*) FROM unpublished")
            assert rows.fetchone() == (0,)


TestOutbox = OutboxMachine.TestCase
TestOutbox.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with contextlib.closing(Journal.open(tmp_path / "journal.sqlite")) as one:
        yield one


def merge(journal: Journal, series: Series = BTC) -> None:
    merged = entry(series)
    journal.written.add(merged, None)
    journal.forget(merged, journal.take(series))


def test_at_first_everything_is_unpublished_also_series_without_a_row(journal: Journal) -> None:
    journal.accept(minutes(0, 3))
    assert JournalView(journal._connection).lake() is None
    journal.begin_lake("me", "lake", [COIN])
    assert view(journal).spans == {BTC: (EVER,), COIN: (EVER,)}
    assert journal.lake is not None
    assert (journal.lake.recorder, journal.lake.lake) == ("me", "lake")


def test_a_journal_with_unpublished_spans_opens_again(tmp_path: Path) -> None:
    """SQLite 3.40 finds a NULL where none is if a column stands before one of the key."""
    for _ in range(2):
        with contextlib.closing(Journal.open(tmp_path / "journal.sqlite")) as one:
            one.begin_lake("me", "lake", [BTC])
            assert view(one).spans == {BTC: (EVER,)}


def test_the_same_lake_again_changes_nothing(journal: Journal) -> None:
    journal.begin_lake("me", "lake", [BTC])
    journal.published({}, view(journal).sequence, is_all=True)
    journal.accept(minutes(0, 3))
    before = view(journal)
    journal.begin_lake("another name", "lake", [BTC, COIN])
    assert view(journal) == before
    assert journal.lake is not None
    assert journal.lake.recorder == "me"


def test_another_lake_lacks_everything_and_the_recorder_keeps_its_name(journal: Journal) -> None:
    journal.begin_lake("me", "lake", [BTC])
    journal.published({}, view(journal).sequence, is_all=True)
    journal.begin_lake("another name", "another lake", [BTC])
    assert view(journal).spans == {BTC: (EVER,)}
    assert journal.lake is not None
    assert journal.lake.recorder == "me"


def test_what_waits_and_what_was_merged_is_one_span(journal: Journal) -> None:
    journal.begin_lake("me", "lake", [])
    journal.accept(minutes(0, 3))
    merge(journal)
    journal.accept(minutes(3, 5))
    assert view(journal).spans == {BTC: (span(0, 5),)}


def test_a_merge_of_published_candles_makes_nothing_due(journal: Journal) -> None:
    journal.begin_lake("me", "lake", [])
    journal.accept(minutes(0, 3))
    journal.published({}, view(journal).sequence, is_all=True)
    merge(journal)
    assert view(journal).spans == {}


def test_a_candle_that_comes_during_a_publication_stays_due(journal: Journal) -> None:
    """It alone: the years that the publication had under way are done."""
    journal.accept(minutes(0, 3))
    journal.begin_lake("me", "lake", [])
    look = view(journal)
    journal.accept(minutes(1, 2, value=2.0))
    merge(journal)
    journal.published(look.spans, look.sequence)
    journal.published({}, look.sequence, is_all=True)
    assert view(journal).spans == {BTC: (span(1, 2),)}


def test_a_value_that_rest_disputes_is_not_published_again(journal: Journal) -> None:
    """It is not kept, so the lake's row is as it was."""
    journal.begin_lake("me", "lake", [])
    journal.accept(minutes(0, 3))
    journal.published({}, view(journal).sequence, is_all=True)
    journal.refill([FetchResult(BTC, span(0, 1), (make_candle(at(0), 9.0),), Source.REST)])
    assert view(journal).spans == {}


def test_a_year_of_merges_keeps_few_rows(journal: Journal) -> None:
    """Spans that touch become one, so the table does not grow while the lake cannot be reached."""
    journal.begin_lake("me", "lake", [])
    journal.published({}, view(journal).sequence, is_all=True)
    for hour in range(50):
        journal.accept(minutes(60 * hour, 60 * hour + 60))
        merge(journal)
    [count] = journal._connection.execute("SELECT count(*) FROM unpublished").fetchone()
    assert count == 1
    assert view(journal).spans == {BTC: (span(0, 3_000),)}


@pytest.mark.parametrize("version", range(1, schema.JOURNAL_VERSION))
def test_a_journal_of_an_earlier_version_gets_an_outbox_and_keeps_its_candles(
    version: int, tmp_path: Path
) -> None:
    path = write_version(tmp_path, version)
    with journal_view(tmp_path) as seen:
        assert seen.lake() is None
        assert seen.unpublished().sequence >= 0
    with contextlib.closing(Journal.open(path)) as journal:
        assert journal.lake is None
        assert [one.candle for one in journal.take(BTC)] == [make_candle(at(0), 2.0)]
        journal.begin_lake("me", "lake", [])
        assert view(journal).spans == {BTC: (EVER,)}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.JOURNAL_VERSION,)


def test_a_part_that_was_published_leaves_the_rest_of_its_span(journal: Journal) -> None:
    journal.begin_lake("me", "lake", [BTC])
    look = view(journal)
    journal.published({BTC: [span(2, 4)]}, look.sequence)
    assert view(journal).spans == {
        BTC: (Span(EVER.from_ms, at(2)), Span(at(4), EVER.to_ms)),
    }
