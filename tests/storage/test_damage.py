"""What a changed file has lost becomes gaps, wherever the change is noticed."""

import errno
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import attrs
import pyarrow.parquet as pq
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from kline_trio.candle import Series, Source
from kline_trio.errors import DiskFullError
from kline_trio.interval import Span
from kline_trio.spans import joined
from kline_trio.storage import catalog, damage, parquet
from kline_trio.storage.catalog import stored_table
from kline_trio.storage.check import check
from kline_trio.storage.damage import due_span
from kline_trio.storage.disk import sync_file
from kline_trio.storage.journal.ledger import FetchResult, Gap, Reason, SeriesAccount, State
from kline_trio.storage.journal.manifest import FileEntry
from kline_trio.storage.journal.reader import JournalView, journal_view
from kline_trio.storage.layout import DEFAULT_LAYOUT
from kline_trio.storage.parquet import FileMerge, plan_merges
from kline_trio.storage.store import Store
from kline_trio.storage.table import open_times_ms, table_of
from tests.storage.support import (
    BTC,
    COIN,
    LAYOUTS,
    MINUTE_MS,
    START_MS,
    at,
    make_candle,
    merge_all,
    minutes,
    nth_open_time_ms,
    open_accounted,
    open_store,
    receive,
    span,
)

SINGLE = Path("spot_BTCUSDT_1m.pqt")
MONTHS = LAYOUTS[1]


def recorded(path: Path, count: int, layout: str = DEFAULT_LAYOUT) -> Store:
    """A store whose files hold so many minutes, all of them due."""
    store = open_accounted(path, count, layout)
    store.journal.accept(minutes(0, count))
    merge_all(store)
    return store


def planned(store: Store) -> tuple[FileMerge, FileEntry | None]:
    [merge] = plan_merges(store.layout, BTC, store.journal.take(BTC))
    return merge, store.journal.listed([merge.path]).get(merge.path)


def merge_waiting(store: Store) -> int:
    merge, known = planned(store)
    return store.journal.forget(store.write(merge, known), merge.pending)


def adopt(store: Store) -> int:
    """What the recorder does at its start."""
    return store.journal.adopt(store.changed_files(store.journal.files()))


def pending(store: Store) -> list[tuple[int, int]]:
    with journal_view(store.path) as view:
        rows = [one for one in view.gaps() if one.state is State.PENDING]
    assert all(one.reason is Reason.LOST_FROM_FILE for one in rows)
    return [
        ((one.span.from_ms - START_MS) // MINUTE_MS, (one.span.to_ms - START_MS) // MINUTE_MS)
        for one in rows
    ]


def holes(path: Path) -> list[Span]:
    """Due candles that are neither a row nor in a ledger row that is pending or closed."""
    with journal_view(path) as view:
        accounts = view.accounts()
        known = [one.span for one in view.gaps() if one.state is not State.FILLED]
    account = accounts[BTC]
    if account.first_ms == account.watermark_ms:
        return []
    rows = stored_table(path, BTC)
    times = [] if rows is None else open_times_ms(rows)
    due = Span(account.first_ms, account.watermark_ms)
    return [*due.without(joined([*known, *BTC.interval.runs(times)]))]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-50])


def table(first: int, end: int) -> Any:  # noqa: ANN401 - Arrow's
    return table_of(BTC, [item.candle for item in minutes(first, end)])


def test_nothing_is_due_before_the_first_candle_or_beyond_what_was_reached() -> None:
    account = SeriesAccount(at(5), at(50))
    ever = Span(0, at(10_000))
    assert due_span(BTC, ever, account, 0) == (span(5, 50),)
    assert due_span(BTC, ever, account, at(60)) == (span(5, 60),)
    assert due_span(BTC, ever, attrs.evolve(account, retired_ms=at(50)), at(60)) == (span(5, 50),)
    assert due_span(BTC, Span(at(10), at(20)), account, 0) == (span(10, 20),)
    assert due_span(BTC, Span(at(50), at(90)), account, 0) == ()


def test_a_file_as_it_was_left_has_lost_nothing(tmp_path: Path) -> None:
    """And is not opened to find that out."""
    store = recorded(tmp_path, 50)
    status = (tmp_path / SINGLE).stat()
    [entry] = store.journal.files()
    assert (entry.size_bytes, entry.modified_ns, entry.inode) == (
        status.st_size, status.st_mtime_ns, status.st_ino,
    )  # fmt: skip
    store.journal.accept(minutes(50, 51))
    merge, known = planned(store)
    merged = store.write(merge, known)
    assert merged.held is None
    assert store.journal.forget(merged, merge.pending) == 0
    assert store.changed_files(store.journal.files()) == []
    store.close()


@pytest.mark.parametrize(
    "harm",
    [
        lambda file, _: file.unlink(),
        lambda file, _: cut(file),
        lambda file, older: shutil.copy2(older, file),
        lambda file, older: Path(shutil.copy2(older, f"{older}.2")).replace(file),
    ],
    ids=["deleted", "cut", "overwritten by an older copy", "replaced by an older copy"],
)
@pytest.mark.parametrize("noticed", ["merge", "fill", "start", "late start"])
def test_what_a_harmed_file_has_lost_is_named_at_once(
    harm: Callable[[Path, Path], object],
    noticed: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Before the next merge or archive fill of it, or at the next start, also if a merge was killed
    before it was forgotten.
    """
    store = recorded(tmp_path / "store", 30)
    file = tmp_path / "store" / SINGLE
    older = tmp_path / "older"
    shutil.copy2(file, older)
    store.journal.accept(minutes(30, 44))
    merge_all(store)
    store.journal.settle([], {BTC: SeriesAccount(at(0), at(44))})
    harm(file, older)
    lost_from = 30 if file.exists() and file.stat().st_size == older.stat().st_size else 0
    store.journal.accept(minutes(44, 45))
    if noticed == "merge":
        assert merge_waiting(store) == 44 - lost_from
    elif noticed == "fill":
        store.journal.settle([Gap(BTC, span(45, 60), at(60), Reason.NOT_RECEIVED)], {})
        merged = store.fill_in(table(45, 60), BTC, store.journal.files())
        assert store.journal.keep_filled(BTC, merged, [span(45, 60)], []) == 44 - lost_from
    else:
        if noticed == "late start":
            store.write(*planned(store))
        store.close()
        store = open_store(tmp_path / "store")
        assert adopt(store) == 44 - lost_from
        assert store.changed_files(store.journal.files()) == []
    assert pending(store) == [(lost_from, 44)]
    assert f"{44 - lost_from} candles are no longer in {SINGLE}" in caplog.text
    assert store.journal.accounts() == {BTC: SeriesAccount(at(0), at(44))}
    # As the recorder does that did not know of it yet: it harms nothing.
    store.journal.settle([], {BTC: SeriesAccount(at(0), at(44))})
    merge_all(store)
    store.close()
    assert holes(tmp_path / "store") == []


@pytest.mark.parametrize("harm", ["deleted", "cut", "replaced by an older copy"])
def test_what_a_file_of_a_retired_series_has_lost_is_named_at_a_start(
    harm: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a reason of its own, up to its last watermark; a recorded series is named as ever."""
    store = recorded(tmp_path / "store", 30)
    file = tmp_path / "store" / "coin_futures_BTCUSD_PERP_3m.pqt"
    times = [nth_open_time_ms(COIN, n) for n in range(21)]
    store.journal.settle([], {COIN: SeriesAccount(times[0], times[20], retired_ms=times[20])})
    for first, end in ((0, 8), (8, 20)):
        store.journal.accept(receive(COIN, *map(make_candle, times[first:end])))
        merge_all(store)
        if first == 0:
            shutil.copy2(file, tmp_path / "older")
    store.journal.accept(receive(COIN, make_candle(times[2])))
    store.close()
    lost_from = 0
    if harm == "deleted":
        file.unlink()
    elif harm == "cut":
        cut(file)
    else:
        lost_from = 8
        shutil.copy2(tmp_path / "older", file)
    (tmp_path / "store" / SINGLE).unlink()
    store = open_store(tmp_path / "store")
    # At the start of a recorder that looks only at what it records, nothing is known of it.
    assert store.journal.adopt(store.changed_files(store.journal.files([BTC]))) == 30
    assert list(store.journal.pending_gaps([COIN])) == []
    count = 12 if lost_from else 19
    assert adopt(store) == count
    named = store.journal.pending_gaps([BTC, COIN])
    assert [(one.series, one.reason) for one in named if one.series == BTC] == [
        (BTC, Reason.LOST_FROM_FILE)
    ]
    gaps = [one for one in named if one.series == COIN]
    assert {one.reason for one in gaps} == {Reason.LOST_FROM_FILE}
    # One of them waits in the journal.
    lost = [ms for ms in times[lost_from:20] if ms != times[2]]
    assert [one.span for one in gaps] == [*COIN.interval.runs(lost)]
    assert f"coin_futures BTCUSD_PERP-3m: {count} candles are no longer in" in caplog.text
    assert store.journal.accounts()[COIN].retired_ms == times[20]
    # Once is enough, and the store is in order again.
    assert store.changed_files(store.journal.files()) == []
    merge_all(store)
    assert len(store.journal.pending_gaps([COIN])) == len(gaps)
    store.close()
    assert [one.faults for one in check(tmp_path / "store") if one.faults] == []


def test_a_fill_that_is_done_again_after_want_of_room_names_what_its_first_file_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first file was damaged, the second one had no room."""
    store = recorded(tmp_path, 1_440, MONTHS)
    [file] = tmp_path.glob("*/*.parquet")
    cut(file)
    rows = table(1_439, 1_500)
    full = [False, True]

    def sync(opened: IO[bytes]) -> None:
        if full and full.pop(0):
            raise OSError(errno.ENOSPC, "No space left on device")
        sync_file(opened)

    monkeypatch.setattr(parquet, "sync_file", sync)
    known = store.journal.files()
    with pytest.raises(DiskFullError):
        store.fill_in(rows, BTC, known)
    merged = store.fill_in(rows, BTC, known)
    assert store.journal.keep_filled(BTC, merged, [span(1_439, 1_500)], []) == 1_439
    assert pending(store) == [(0, 1_439)]
    store.close()
    assert holes(tmp_path) == []


def test_a_watermark_that_is_written_after_it_hides_nothing(tmp_path: Path) -> None:
    """The recorder's own mark may be ahead of the stored one, and lost candles behind it too."""
    store = recorded(tmp_path, 30)
    store.journal.accept(minutes(30, 44))
    merge_all(store)
    (tmp_path / SINGLE).unlink()
    store.journal.accept([*minutes(2, 3), *minutes(46, 47)])
    assert merge_waiting(store) == 43
    store.journal.settle(
        [Gap(BTC, span(44, 46), at(50), Reason.LOST_FROM_FILE)],
        {BTC: SeriesAccount(at(0), at(47))},
    )
    assert pending(store) == [(0, 2), (3, 46)]
    store.close()
    assert holes(tmp_path) == []


def test_what_waits_or_is_in_the_ledger_is_not_lost(tmp_path: Path) -> None:
    """Closed and pending rows stay as they are; a filled one says that the file had it."""
    store = open_accounted(tmp_path, 50)
    gaps = [(10, 12), (20, 22), (30, 32)]
    store.journal.settle([Gap(BTC, span(*gap), at(50), Reason.RECORDER_DOWN) for gap in gaps], {})
    found = tuple(item.candle for item in minutes(20, 22))
    store.journal.refill(
        [
            FetchResult(BTC, span(20, 22), found, Source.REST),
            FetchResult(BTC, span(30, 32), (), Source.REST, Reason.EXCHANGE_HAD_NONE),
        ]
    )
    there = [item for item in minutes(0, 50) if not at(10) <= item.candle.open_time_ms < at(12)]
    store.journal.accept(
        [item for item in there if not at(30) <= item.candle.open_time_ms < at(32)]
    )
    merge_all(store)
    (tmp_path / SINGLE).unlink()
    store.journal.accept(minutes(40, 43))
    assert adopt(store) == 50 - 2 - 2 - 3
    with journal_view(tmp_path) as view:
        rows = [
            ((one.span.from_ms - START_MS) // MINUTE_MS, str(one.reason), str(one.state))
            for one in view.gaps()
        ]
    assert rows == [
        (0, "lost from its file", "pending"),
        (10, "recorder was down", "pending"),
        (12, "lost from its file", "pending"),
        (30, "the exchange had none", "closed"),
        (32, "lost from its file", "pending"),
        (43, "lost from its file", "pending"),
    ]
    store.close()
    assert holes(tmp_path) == []


def test_only_the_file_s_own_candles_are_missed(tmp_path: Path) -> None:
    """Of two months the older file is deleted."""
    store = recorded(tmp_path, 1_500, MONTHS)
    older, newer = sorted(tmp_path.glob("*/*.parquet"))
    older.unlink()
    assert adopt(store) == 1_440
    assert pending(store) == [(0, 1_440)]
    assert [str(entry.path) for entry in store.journal.files()] == [
        str(newer.relative_to(tmp_path))
    ]
    store.close()


def test_a_file_that_is_deleted_while_it_is_merged_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = recorded(tmp_path, 30)
    whole = parquet._Rewrite._pieces

    def pieces(rewrite: Any, *arguments: Any) -> Any:  # noqa: ANN401
        rewrite.target.unlink()
        return whole(rewrite, *arguments)

    monkeypatch.setattr(parquet._Rewrite, "_pieces", pieces)
    store.journal.accept(minutes(30, 31))
    assert merge_waiting(store) == 30
    store.close()


def test_a_restored_backup_has_lost_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file differs by its inode; the entries learn it, and their CRCs stay."""
    store = recorded(tmp_path / "a", 1_500, MONTHS)
    before = store.journal.files()
    store.close()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    store = open_store(tmp_path / "b", MONTHS)
    monkeypatch.setattr(damage, "crc32_of", lambda _: pytest.fail("it is as long as it was"))
    assert adopt(store) == 0
    assert store.journal.files() == before
    assert store.changed_files(store.journal.files()) == []
    store.close()


def test_a_kill_between_rename_and_forget_loses_nothing(tmp_path: Path) -> None:
    """The file is newer than its entry, which becomes what the file is."""
    store = recorded(tmp_path, 30)
    store.journal.accept(minutes(30, 40))
    merge, known = planned(store)
    merged = store.write(merge, known)
    store.close()
    store = open_store(tmp_path)
    assert adopt(store) == 0
    assert store.journal.files() == (attrs.evolve(merged, held=None),)
    assert merge_waiting(store) == 0
    assert pending(store) == []
    store.close()


def test_entries_of_earlier_versions_learn_their_status_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By size, footer and number of rows; a file that differs in these is looked at."""
    store = recorded(tmp_path, 1_500, MONTHS)
    before = store.journal.files()
    store.close()
    with sqlite3.connect(tmp_path / ".kline_trio" / "journal.sqlite") as journal:
        journal.execute("UPDATE file SET modified_ns = NULL, inode = NULL")
    store = open_store(tmp_path, MONTHS)
    store.journal.accept(minutes(1_500, 1_501))
    merge, known = planned(store)
    assert known is not None
    assert known.modified_ns is None
    assert store.write(merge, known).held is None
    with monkeypatch.context() as patch:
        patch.setattr(catalog, "begins_ms", lambda *_: pytest.fail("it is as large as it was"))
        older, _ = store.journal.files()
        assert store.journal.adopt(store.changed_files([older])) == 0
        assert store.changed_files([older]) != []
        assert store.changed_files(store.journal.files()[:1]) == []
    assert adopt(store) == 0
    assert store.changed_files(store.journal.files()) == []
    assert [entry.path for entry in store.journal.files()] == [entry.path for entry in before]
    store.close()


def test_a_fill_and_a_merge_that_are_kept_in_the_other_order_lose_nothing(tmp_path: Path) -> None:
    """A merge may be written and forgotten while what `fill_in` made waits for the journal."""
    store = recorded(tmp_path, 30)
    store.journal.settle(
        [Gap(BTC, span(30, 40), at(40), Reason.RECORDER_DOWN)], {BTC: SeriesAccount(at(0), at(45))}
    )
    (tmp_path / SINGLE).unlink()
    store.journal.accept(minutes(0, 30))
    filled = store.fill_in(table(30, 40), BTC, store.journal.files())
    store.journal.accept(minutes(40, 45))
    assert merge_waiting(store) == 0
    [entry] = store.journal.files()
    assert store.journal.keep_filled(BTC, filled, [span(30, 40)], []) == 0
    assert store.journal.files() == (entry,)
    assert store.changed_files([entry]) == []
    store.close()
    assert holes(tmp_path) == []


def test_what_vanished_before_the_next_file_was_made_is_neither_forgotten_nor_filled(
    tmp_path: Path,
) -> None:
    """A merge and a fill are written, and the file is deleted after each, before the journal knows
    any of them.
    """
    store = recorded(tmp_path, 30)
    store.journal.settle(
        [Gap(BTC, span(30, 40), at(40), Reason.RECORDER_DOWN)], {BTC: SeriesAccount(at(0), at(45))}
    )
    store.journal.accept(minutes(40, 43))
    merge, known = planned(store)
    merged = store.write(merge, known)
    (tmp_path / SINGLE).unlink()
    filled = store.fill_in(table(30, 40), BTC, store.journal.files())
    (tmp_path / SINGLE).unlink()
    store.journal.accept(minutes(43, 45))
    assert merge_waiting(store) == 30
    assert store.journal.forget(merged, merge.pending) == 0
    assert store.journal.keep_filled(BTC, filled, [span(30, 40)], []) == 0
    merge_all(store)
    with journal_view(tmp_path) as view:
        states = [(one.span, one.state) for one in view.gaps()]
    assert states == [(span(0, 30), State.PENDING), (span(30, 40), State.PENDING)]
    assert store.changed_files(store.journal.files()) == []
    store.close()
    assert holes(tmp_path) == []


def test_fills_of_two_workers_are_both_kept(tmp_path: Path) -> None:
    """Whichever reaches the journal first; row groups that the other wrote are known."""
    for order in (1, -1):
        store = recorded(tmp_path / str(order), 30)
        gap = Gap(BTC, span(30, 50), at(50), Reason.RECORDER_DOWN)
        store.journal.settle([gap], {BTC: SeriesAccount(at(0), at(50))})
        known = store.journal.files()
        spans = [span(30, 40), span(40, 50)]
        fills = [store.fill_in(table(30, 40), BTC, known), store.fill_in(table(40, 50), BTC, known)]
        assert [one.held for [one] in fills] == [None, None]
        for merged, filled in [*zip(fills, spans, strict=True)][::order]:
            assert store.journal.keep_filled(BTC, merged, [filled], []) == 0
        with journal_view(store.path) as view:
            assert [one.state for one in view.gaps()] == [State.FILLED]
        assert store.changed_files(store.journal.files()) == []
        store.close()


def test_what_a_merge_has_kept_meanwhile_is_not_adopted(tmp_path: Path) -> None:
    """Between the look and the journal a merge may put another file there."""
    store = recorded(tmp_path, 30)
    (tmp_path / SINGLE).unlink()
    changed = store.changed_files(store.journal.files())
    store.journal.accept(minutes(0, 40))
    assert merge_waiting(store) == 0
    entries = store.journal.files()
    assert store.journal.adopt(changed) == 0
    assert store.journal.files() == entries
    store.close()


def test_a_file_of_another_series_is_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = recorded(tmp_path, 30)
    pq.write_table(table_of(COIN, [make_candle(START_MS)]), tmp_path / SINGLE)
    assert adopt(store) == 30
    assert not (tmp_path / SINGLE).exists()
    assert "quarantine" in caplog.text
    store.close()


def test_a_look_through_opens_only_files_that_can_hold_what_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And those that the manifest does not list: a merge was killed before it was forgotten."""
    store = recorded(tmp_path, 2_000, MONTHS)
    june = minutes(200_000, 200_001)
    store.journal.accept(june)
    store.write(*planned(store))
    seen: list[str] = []
    open_files = catalog.open_files

    def note(paths: list[Path]) -> Any:  # noqa: ANN401
        seen.extend(path.stem for path in paths)
        return open_files(paths)

    monkeypatch.setattr(catalog, "open_files", note)
    spans = store.look_through({BTC: at(1_900)})
    assert seen == ["2024-02", "2024-06"]
    assert spans == {BTC: [span(1_900, 2_000), span(200_000, 200_001)]}
    seen.clear()
    store.look_through({BTC: at(0)})
    assert seen == ["2024-01", "2024-02", "2024-06"]
    seen.clear()
    assert store.look_through({}) == {}
    assert seen == ["2024-06"]
    store.close()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_candle_that_is_merged_while_the_journal_is_looked_through_is_stored(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first read, be it of the waiting candles or of the list of files: the candle leaves
    the journal for a file that the list did not have then.
    """
    store = recorded(tmp_path, 10, layout)
    store.journal.accept(minutes(1_500, 1_505))
    reads: list[str] = []

    def read_by(name: str) -> Callable[..., Any]:
        real = getattr(JournalView, name)

        def read(view: JournalView, *wanted: Series) -> Any:  # noqa: ANN401
            found = [*real(view, *wanted)]
            if not reads:
                merge_all(store)
            reads.append(name)
            return iter(found)

        return read

    for name in ("waiting_ms", "files"):
        monkeypatch.setattr(JournalView, name, read_by(name))
    assert store.look_through({BTC: at(5)}) == {BTC: [span(5, 10), span(1_500, 1_505)]}
    assert {*reads} == {"waiting_ms", "files"}
    assert store.journal.rows() == 0
    store.close()


@attrs.define
class _Life:
    """A recorder as far as the store sees one, that keeps in memory what it has received."""

    path: Path
    layout: str
    store: Store = attrs.field(init=False)
    received: set[int] = attrs.field(factory=set)
    next_minute: int = 0
    copies: list[tuple[Path, bytes]] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.store = open_store(self.path, self.layout)
        self.store.journal.settle([], {BTC: SeriesAccount(at(0), at(0))})

    def accept(self, skipped: int, count: int) -> None:
        first = self.next_minute + skipped
        self.next_minute = first + count
        batch = minutes(first, self.next_minute)
        self.store.journal.accept(batch)
        self.received |= {item.candle.open_time_ms for item in batch}

    def refill(self, closes: bool) -> None:
        for one in self.store.journal.pending_gaps([BTC])[:2]:
            times = [*BTC.interval.open_times_ms(one.span)][: 0 if closes else 2]
            found = tuple(make_candle(ms) for ms in times)
            reason = Reason.EXCHANGE_HAD_NONE if closes else None
            self.store.journal.refill([FetchResult(BTC, one.span, found, Source.REST, reason)])

    def fill(self) -> None:
        for one in self.store.journal.pending_gaps([BTC])[:1]:
            rows = table_of(BTC, [make_candle(ms) for ms in BTC.interval.open_times_ms(one.span)])
            merged = self.store.fill_in(rows, BTC, self.store.journal.files())
            self.store.journal.keep_filled(BTC, merged, [one.span], [])

    def settle(self) -> None:
        due = Span(at(0), at(self.next_minute)) if self.next_minute else None
        if due is not None:
            gaps = BTC.interval.gaps(due, sorted(self.received))
            found = [Gap(BTC, gap, due.to_ms, Reason.NOT_RECEIVED) for gap in gaps]
            self.store.journal.settle(found, {BTC: SeriesAccount(at(0), due.to_ms)})

    def harm(self, how: str, which: int) -> None:
        files = sorted(file for file in self.path.rglob("*.p*qu*t") if ".kline" not in str(file))
        files += sorted(self.path.glob("*.pqt")) if self.layout == DEFAULT_LAYOUT else []
        if how == "copy":
            self.copies += [(file, file.read_bytes()) for file in files]
        elif how == "older" and self.copies:
            file, content = self.copies[which % len(self.copies)]
            file.write_bytes(content)
        elif files and how == "delete":
            files[which % len(files)].unlink()
        elif files and how == "truncate":
            cut(files[which % len(files)])

    def write_only(self) -> None:
        for merge in plan_merges(self.store.layout, BTC, self.store.journal.take(BTC))[:1]:
            self.store.write(merge, self.store.journal.listed([merge.path]).get(merge.path))
        self.reopen()

    def reopen(self) -> None:
        self.store.close()
        self.store = open_store(self.path, self.layout)
        if adopt(self.store):
            event("a loss was found at a start")
        mark_ms = self.store.journal.accounts()[BTC].watermark_ms
        # It sets aside what no entry lists and nobody can read: a reader would stumble over it.
        stored = self.store.look_through({BTC: mark_ms})[BTC]
        assert holes(self.path) == []
        # What is due before the mark is stored or in the ledger.
        self.received = {ms for one in stored for ms in BTC.interval.open_times_ms(one)}
        self.received.update(range(at(0), mark_ms, MINUTE_MS))
        self.settle()


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("accept"), st.sampled_from([0, 0, 1, 700]), st.integers(1, 9)),
        st.tuples(st.just("refill"), st.booleans()),
        st.tuples(st.just("harm"), st.sampled_from(["copy", "older", "delete", "truncate"]),
                  st.integers(0, 3)),
        st.tuples(st.sampled_from(["fill", "settle", "merge", "merge", "reopen", "write_only"])),
    ),
    max_size=20,
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(steps=_steps, layout=st.sampled_from(LAYOUTS[:2]))
def test_every_due_candle_is_a_row_or_a_gap(steps: list[tuple[Any, ...]], layout: str) -> None:
    """Whatever is done to the files, and wherever the recorder is killed: after the next start."""
    with tempfile.TemporaryDirectory() as name:
        life = _Life(Path(name) / "store", layout)
        try:
            for what, *arguments in [*steps, ("reopen",)]:
                if what == "merge":
                    merge_all(life.store)
                else:
                    getattr(life, what)(*arguments)
        finally:
            life.store.close()
