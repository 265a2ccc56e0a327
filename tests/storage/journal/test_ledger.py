"""The ledger: what is absent and why, and what was revised."""

import itertools
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

import kline_trio
from kline_trio.candle import Candle, Series, Source
from kline_trio.interval import Span
from kline_trio.reading.candles import read
from kline_trio.storage.journal.ledger import (
    FetchResult,
    Gap,
    Reason,
    Revision,
    SeriesAccount,
)
from kline_trio.storage.journal.manifest import FileEntry
from kline_trio.storage.journal.reader import JournalView, journal_view
from kline_trio.storage.journal.writer import Journal
from kline_trio.storage.parquet import plan_merges
from kline_trio.storage.status import status
from kline_trio.storage.store import Store
from tests.storage.support import (
    BTC,
    MINUTE_MS,
    MONTHLY,
    START_MS,
    absent,
    at,
    make_candle,
    merge_all,
    minutes,
    nth_open_time_ms,
    open_accounted,
    receive,
    span,
)


def candles(first: int, end: int, value: float = 1.0) -> tuple[Candle, ...]:
    return tuple(make_candle(at(minute), value) for minute in range(first, end))


def refill(
    first: int, end: int, *found: Candle, closes: Reason | None = None, by: Source = Source.REST
) -> FetchResult:
    return FetchResult(BTC, span(first, end), found, by, closes)


def rows(journal: Journal | Store) -> list[tuple[int, int, str, str, int, str | None]]:
    if isinstance(journal, Store):
        with journal_view(journal.path) as view:
            ledger = tuple(view.gaps())
    else:
        ledger = tuple(JournalView(journal._connection).gaps())
    return [
        (
            (one.span.from_ms - START_MS) // MINUTE_MS,
            (one.span.to_ms - START_MS) // MINUTE_MS,
            str(one.reason),
            str(one.state),
            one.asked,
            one.filled_by and str(one.filled_by),
        )
        for one in ledger
    ]


def test_a_refill_fills_what_it_has_and_counts_the_question_for_the_rest(tmp_path: Path) -> None:
    store = open_accounted(tmp_path, 100)
    store.journal.settle([absent(0, 10)], {})
    store.journal.refill([refill(0, 10, *candles(2, 4), *candles(7, 8))])
    assert rows(store) == [
        (0, 2, "not received", "pending", 1, None),
        (2, 4, "not received", "filled", 0, "rest"),
        (4, 7, "not received", "pending", 1, None),
        (7, 8, "not received", "filled", 0, "rest"),
        (8, 10, "not received", "pending", 1, None),
    ]
    store.close()


def test_what_is_closed_becomes_one_row_again(tmp_path: Path) -> None:
    store = open_accounted(tmp_path, 100)
    for minute in range(5):
        store.journal.settle([absent(minute, minute + 1)], {})
    closes = Reason.EXCHANGE_HAD_NONE
    for minute in (3, 0, 4, 1, 2):
        store.journal.refill([refill(minute, minute + 1, closes=closes)])
    assert rows(store) == [(0, 5, "the exchange had none", "closed", 1, None)]
    store.close()


def test_a_late_candle_of_the_stream_fills_its_absence(tmp_path: Path) -> None:
    store = open_accounted(tmp_path, 100)
    store.journal.settle([absent(3, 6)], {})
    store.journal.accept(minutes(4, 5))
    assert [row[:2] + row[3:] for row in rows(store)] == [
        (3, 4, "pending", 0, None),
        (4, 5, "filled", 0, "stream"),
        (5, 6, "pending", 0, None),
    ]
    store.close()


def test_what_was_filled_can_be_lost_again(tmp_path: Path) -> None:
    """As when the file that held it is damaged."""
    store = open_accounted(tmp_path, 100)
    store.journal.settle([absent(0, 4)], {})
    store.journal.refill([refill(0, 4, *candles(0, 4))])
    store.journal.settle([attrs.evolve(absent(1, 3), first_seen_ms=at(50))], {})
    assert [row[:2] + row[3:4] for row in rows(store)] == [
        (0, 1, "filled"), (1, 3, "pending"), (3, 4, "filled"),
    ]  # fmt: skip
    store.close()


def test_rest_replaces_nothing_and_a_differing_value_is_kept_in_sight(tmp_path: Path) -> None:
    """Neither in the journal nor in a file; and what the stream revises is in sight too."""
    store = open_accounted(tmp_path, 100)
    store.journal.accept(minutes(0, 2, 1.0))
    store.journal.refill([refill(0, 2, *candles(0, 2, 2.0))])
    merge_all(store)
    store.journal.refill([refill(0, 3, *candles(0, 1, 1.0), *candles(1, 3, 3.0))])
    merge_all(store)
    store.journal.accept(minutes(2, 3, 4.0))
    merge_all(store)
    store.close()
    frame = read(tmp_path, "spot", "BTCUSDT", "1m")
    assert list(frame["open"]) == [1.0, 1.0, 4.0]
    told = kline_trio.revisions(tmp_path)
    told = told[told["column"] == "open"]
    assert [
        (begin.minute, *rest)
        for begin, *rest in told[
            ["candle_begin_time", "origin", "older", "newer", "kept"]
        ].itertuples(index=False, name=None)
    ] == [
        (0, "rest", 1.0, 2.0, "older"),
        (1, "rest", 1.0, 2.0, "older"),
        (1, "rest", 1.0, 3.0, "older"),
        (2, "stream", 3.0, 4.0, "newer"),
    ]


def test_what_was_closed_as_delisted_is_asked_for_anew_and_nothing_else(tmp_path: Path) -> None:
    """Also where it is several rows, and wherever they are."""
    store = open_accounted(tmp_path, 100)
    store.journal.accept(minutes(8, 9))
    rows = [absent(0, 3), absent(4, 6), absent(6, 8, reason=Reason.RECORDER_DOWN), absent(9, 12)]
    store.journal.settle(rows, {BTC: SeriesAccount(at(0), at(12), at(12))})
    closing = [(0, 2, Reason.DELISTED), (4, 5, Reason.EXCHANGE_HAD_NONE), (5, 8, Reason.DELISTED)]
    store.journal.refill([refill(first, end, closes=why) for first, end, why in closing])
    reopened = store.journal.reopen([BTC])
    assert [(one.span, one.reason, one.asked) for one in reopened] == [
        (span(*ends), Reason.NOT_CONFIGURED, 0) for ends in ((0, 2), (5, 8))
    ]
    assert [(one.span, one.reason) for one in store.journal.pending_gaps([BTC])] == [
        (span(0, 2), Reason.NOT_CONFIGURED),
        (span(2, 3), Reason.NOT_RECEIVED),
        (span(5, 8), Reason.NOT_CONFIGURED),
        (span(9, 12), Reason.NOT_RECEIVED),
    ]
    assert store.journal.reopen([BTC]) == ()
    store.close()


def test_a_revision_is_given_back_bit_for_bit(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal")
    older, newer = make_candle(at(0), 0.1 + 0.2), make_candle(at(0), 5e-324)
    revision = Revision(BTC, older, newer, Source.ARCHIVE, is_newer_kept=False)
    merged = FileEntry(PurePosixPath("a.pqt"), BTC, 1, 1, 1, (revision,))
    journal.list_file(merged)
    assert JournalView(journal._connection).revisions() == (revision,)
    journal.close()


_steps = st.lists(
    st.tuples(
        st.sampled_from(["note", "fill", "ask", "close", "lose"]),
        st.integers(0, 30),
        st.integers(1, 8),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(steps=_steps)
def test_the_ledger_is_a_dict_by_minute(steps: list[tuple[str, int, int]]) -> None:
    """Whatever is noted, filled and closed in whatever order, each minute's row is what a dict
    would say, and no two rows overlap or could be one.
    """
    model: dict[int, tuple[str, str, int, str | None]] = {}
    with tempfile.TemporaryDirectory() as name:
        journal = Journal.open(Path(name) / "journal")
        journal.settle([], {BTC: SeriesAccount(at(0), at(100))})
        for what, first, length in steps:
            stretch = range(first, first + length)
            if what in ("note", "lose"):
                one = Gap(BTC, span(first, first + length), 7, Reason.NOT_RECEIVED)
                journal.settle([one], {})
                for minute in stretch:
                    if minute not in model or model[minute][1] == "filled":
                        model[minute] = ("not received", "pending", 0, None)
            elif what == "fill":
                journal.refill([refill(first, first + length, *candles(first, first + length))])
                for minute in stretch:
                    if minute in model and model[minute][1] != "filled":
                        reason, _, asked, _ = model[minute]
                        model[minute] = (reason, "filled", asked, "rest")
            else:
                closes = Reason.DELISTED if what == "close" else None
                journal.refill([refill(first, first + length, closes=closes)])
                for minute in stretch:
                    if minute in model and model[minute][1] == "pending":
                        reason, state, asked, by = model[minute]
                        if closes:
                            reason, state = str(closes), "closed"
                        model[minute] = (reason, state, asked + 1, by)
        found = rows(journal)
        for earlier, later in itertools.pairwise(found):
            assert earlier[1] <= later[0]
            assert earlier[1] < later[0] or earlier[2:] != later[2:]
        by_minute = {minute: tuple(row[2:]) for row in found for minute in range(*row[:2])}

        def told(of: Mapping[int, tuple[object, ...]]) -> dict[int, tuple[object, ...]]:
            # Of what is closed, the row's number of questions is that of its most asked minute.
            return {minute: (row[:2] if row[1] == "closed" else row) for minute, row in of.items()}

        assert told(by_minute) == told(model)
        journal.close()


def test_only_what_is_pending_is_asked_for(tmp_path: Path) -> None:
    """Of the series in question: ledgers of years hold mostly what was filled."""
    store = open_accounted(tmp_path, 100)
    store.journal.settle([absent(0, 5), absent(8, 9)], {})
    store.journal.settle([Gap(MONTHLY, span(0, 9), at(9), Reason.NOT_LISTED)], {})
    store.journal.refill([refill(0, 3, *candles(0, 2), closes=Reason.EXCHANGE_HAD_NONE)])
    assert store.journal.pending_gaps([BTC]) == (absent(3, 5), absent(8, 9))
    assert [one.series for one in store.journal.pending_gaps([MONTHLY, BTC])] == [MONTHLY, BTC, BTC]
    assert store.journal.pending_gaps([Series("spot", "NEWUSDT", "1m")]) == ()
    store.close()


def test_each_change_of_the_ledger_can_be_told(tmp_path: Path) -> None:
    """Also after a start; candles that come as they should change nothing."""
    store = open_accounted(tmp_path, 100)
    assert store.journal.ledger_changes() == 0
    seen = {0}

    def has_changed() -> bool:
        before = len(seen)
        seen.add(store.journal.ledger_changes())
        return len(seen) > before

    store.journal.settle([], {BTC: SeriesAccount(at(0), at(20))})
    store.journal.accept(minutes(20, 22))
    assert not has_changed()
    store.journal.settle([absent(0, 5)], {})
    assert has_changed()
    store.journal.refill([refill(0, 3, *candles(0, 2))])
    assert has_changed()
    store.journal.accept(minutes(3, 4))
    assert has_changed()
    store.journal.settle([absent(4, 5)], {})
    assert rows(store)[-1][3] == "pending"
    store.close()
    store = open_accounted(tmp_path, 100)
    assert store.journal.ledger_changes() > 0
    store.close()


def test_what_a_damaged_file_held_is_absent_and_its_account_stays(tmp_path: Path) -> None:
    store = open_accounted(tmp_path, watermark=51)
    store.journal.accept(minutes(0, 50))
    merge_all(store)
    file = tmp_path / "spot_BTCUSDT_1m.pqt"
    file.write_bytes(file.read_bytes()[:-50])
    store.journal.accept(minutes(50, 51))
    [merge] = plan_merges(store.layout, BTC, store.journal.take(BTC))
    merged = store.write(merge)
    assert merged.held == (span(50, 51),)
    assert store.journal.forget(merged, merge.pending) == 50
    assert store.journal.accounts() == {BTC: SeriesAccount(at(0), at(51))}
    assert rows(store) == [(0, 50, "lost from its file", "pending", 0, None)]
    assert store.look_through({BTC: at(0)}) == {BTC: [span(50, 51)]}
    store.close()


def test_a_look_through_sets_damaged_files_aside(tmp_path: Path) -> None:
    """The entry stays, so that what is lost is named at the next merge or start."""
    store = open_accounted(tmp_path, watermark=52)
    store.journal.accept(minutes(0, 50))
    merge_all(store)
    store.journal.accept(minutes(50, 52))
    file = tmp_path / "spot_BTCUSDT_1m.pqt"
    file.write_bytes(file.read_bytes()[:-50])
    assert store.look_through({BTC: at(10)}) == {BTC: [span(50, 52)]}
    assert not file.exists()
    assert store.journal.adopt(store.changed_files(store.journal.files())) == 50
    assert store.journal.files() == ()
    store.close()


def test_a_look_through_gives_years_as_a_few_spans(tmp_path: Path) -> None:
    """Of files and journal, from an open time on, whatever the interval is."""
    store = open_accounted(tmp_path, 100)
    month = [make_candle(nth_open_time_ms(MONTHLY, n)) for n in (0, 1, 3)]
    store.journal.accept([*minutes(0, 1_500), *minutes(1_502, 1_600), *receive(MONTHLY, *month)])
    merge_all(store)
    store.journal.accept([*minutes(1_500, 1_501), *minutes(1_600, 1_605)])
    spans = store.look_through({BTC: at(100), MONTHLY: 0})
    store.close()
    assert spans[BTC] == [span(100, 1_501), span(1_502, 1_605)]
    times = [nth_open_time_ms(MONTHLY, n) for n in range(5)]
    assert spans[MONTHLY] == [Span(times[0], times[2]), Span(times[3], times[4])]


def test_status_tells_rows_and_what_is_absent_by_reason(tmp_path: Path) -> None:
    store = open_accounted(tmp_path, watermark=20)
    store.journal.accept(minutes(0, 10))
    merge_all(store)
    store.journal.accept(minutes(12, 18))
    store.journal.settle([absent(10, 12), absent(18, 20)], {})
    store.journal.refill([refill(10, 12, closes=Reason.EXCHANGE_HAD_NONE)])
    [one] = status(tmp_path).series
    store.close()
    assert (one.rows, one.due, one.from_ms, one.to_ms) == (16, 20, at(0), at(18))
    assert one.absent == {"the exchange had none": 2, "pending": 2}
    assert one.complete_percent == 80.0
    assert [row.series for row in status(tmp_path).series] == [BTC]
