"""Months that the lake has are removed from a store's files, and nothing else is."""

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import pytest

from kline_trio.candle import Series
from kline_trio.errors import DamagedError
from kline_trio.interval import DAY_MS, Span
from kline_trio.storage.catalog import candle_files, stored_table
from kline_trio.storage.check import check
from kline_trio.storage.journal.ledger import Gap, Reason, SeriesAccount, State
from kline_trio.storage.journal.pruned import Pruned
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.parquet import plan_merges
from kline_trio.storage.paths import scratch
from kline_trio.storage.pruning import CandleChecksum, PrunedFiles, ReadBack, slices
from kline_trio.storage.store import Store
from kline_trio.storage.table import open_times_ms
from tests.storage.support import (
    BTC,
    COIN,
    LAYOUTS,
    MONTHLY,
    at,
    make_candle,
    merge_all,
    minutes,
    open_store,
    receive,
    span,
)

JANUARY = Span(at(0) - 30 * DAY_MS, at(1_440))
FEBRUARY = Span(at(1_440), at(1_440) + 29 * DAY_MS)
ADDRESS = '{"folder": "/lake"}'


@pytest.fixture(params=LAYOUTS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """BTC has ten minutes in January and ten in February, each due and published."""
    found = open_store(tmp_path / "data", request.param)
    found.journal.settle([], {BTC: SeriesAccount(at(1_430), at(1_450))})
    found.journal.accept(minutes(1_430, 1_450))
    merge_all(found)
    everything_is_published(found)
    yield found
    found.close()


def everything_is_published(store: Store) -> None:
    store.journal.begin_lake("rec-a", "lake-1", [])
    with journal_view(store.path) as journal:
        sequence = journal.unpublished().sequence
    store.journal.published({}, sequence, is_all=True)


def read(store: Store, within: Span, series: Series = BTC) -> ReadBack:
    """What the store has of a month."""
    checksum = CandleChecksum()
    table = stored_table(store.path, series, within.from_ms, within.to_ms)
    assert table is not None
    checksum.add(table)
    return ReadBack(within, checksum.rows, checksum.text)


def pruned(within: Span, series: Series = BTC, lake: str = "lake-1") -> Pruned:
    return Pruned(series, within, lake, 3, 10, "c0ffee", at(1_450))


def remove(store: Store, months: Sequence[ReadBack], series: Series = BTC) -> PrunedFiles:
    """What a recorder does with months that were read back."""
    journal = store.journal
    kept = journal.prune([pruned(one.span, series) for one in months], ADDRESS)
    assert len(kept) == len(months)
    done = store.remove_months(series, months, journal.files([series]))
    journal.list_pruned(done.written, done.removed)
    return done


def held(store: Store, series: Series = BTC) -> list[int]:
    table = stored_table(store.path, series)
    return [] if table is None else open_times_ms(table)


def test_a_month_goes_and_the_other_stays(store: Store) -> None:
    done = remove(store, [read(store, JANUARY)])
    assert done.rows == 10
    assert held(store) == [at(n) for n in range(1_440, 1_450)]
    assert not store.changed_files(store.journal.files())
    assert {store.path / one.path for one in store.journal.files()} == {*candle_files(store.path)}


def test_all_months_leave_no_file(store: Store) -> None:
    done = remove(store, [read(store, JANUARY), read(store, FEBRUARY)])
    assert (done.rows, done.written) == (20, ())
    assert done.freed_bytes > 0
    assert candle_files(store.path) == []
    assert store.journal.files() == ()


def test_a_month_that_has_changed_since_stays(store: Store) -> None:
    before = read(store, JANUARY)
    store.journal.prune([pruned(JANUARY)], ADDRESS)
    store.journal.accept(minutes(1_432, 1_433, 9.0))
    merge_all(store)
    done = store.remove_months(BTC, [before], store.journal.files([BTC]))
    assert done == PrunedFiles()
    assert len(held(store)) == 20


def test_a_candle_that_waits_keeps_its_month(store: Store) -> None:
    before = read(store, JANUARY)
    store.journal.accept(minutes(1_432, 1_433, 9.0))
    assert store.journal.prune([pruned(JANUARY)], ADDRESS) == []
    assert store.remove_months(BTC, [before], store.journal.files([BTC])) == PrunedFiles()


def test_a_candle_that_is_not_published_keeps_its_month(store: Store) -> None:
    store.journal.accept(minutes(1_432, 1_433, 9.0))
    merge_all(store)
    assert store.journal.prune([pruned(JANUARY)], ADDRESS) == []
    assert store.journal.prune([pruned(FEBRUARY)], ADDRESS) == [pruned(FEBRUARY)]


def test_a_pending_gap_keeps_its_month(store: Store) -> None:
    gap = Gap(BTC, span(1_428, 1_430), at(1_450), Reason.NOT_RECEIVED)
    store.journal.settle([gap], {})
    assert store.journal.prune([pruned(JANUARY)], ADDRESS) == []
    store.journal.settle([], {})
    store.journal._ledger.change(BTC, gap.span, lambda old: attrs.evolve(old, state=State.CLOSED))
    assert store.journal.prune([pruned(JANUARY)], ADDRESS) == [pruned(JANUARY)]


def test_a_month_of_another_lake_is_not_pruned(store: Store) -> None:
    assert store.journal.prune([pruned(JANUARY, lake="lake-2")], ADDRESS) == []


def test_a_file_that_is_not_listed_yet_keeps_everything(store: Store) -> None:
    [before] = [read(store, JANUARY)]
    store.journal.accept(minutes(1_450, 1_451))
    pending = store.journal.take(BTC)
    merges = plan_merges(store.layout, BTC, pending)
    listed = store.journal.listed(one.path for one in merges)
    merged = [(one, store.write(one, listed.get(one.path))) for one in merges]
    store.journal.prune([pruned(JANUARY)], ADDRESS)
    assert store.remove_months(BTC, [before], store.journal.files([BTC])) == PrunedFiles()
    for one, file in merged:
        store.journal.forget(file, one.pending)
    done = store.remove_months(BTC, [before], store.journal.files([BTC]))
    assert done.rows == 10


def test_a_merge_that_was_planned_before_loses_nothing(store: Store) -> None:
    # The recorder plans a merge, prunes, and then writes it.
    store.journal.accept(minutes(1_450, 1_452))
    merges = plan_merges(store.layout, BTC, store.journal.take(BTC))
    known = store.journal.listed(one.path for one in merges)
    before = read(store, JANUARY)
    store.journal.prune([pruned(JANUARY)], ADDRESS)
    done = store.remove_months(BTC, [before], store.journal.files([BTC]))
    for one in merges:
        merged = store.write(one, known.get(one.path))
        assert store.journal.forget(merged, one.pending) == 0
    store.journal.list_pruned(done.written, done.removed)
    assert held(store) == [at(n) for n in range(1_440, 1_452)]
    assert not store.changed_files(store.journal.files())


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_kill_between_the_files_and_the_list_makes_no_gap(store: Store, *, is_kept: bool) -> None:
    months = [read(store, JANUARY)] if is_kept else [read(store, JANUARY), read(store, FEBRUARY)]
    store.journal.prune([pruned(one.span) for one in months], ADDRESS)
    store.remove_months(BTC, months, store.journal.files([BTC]))
    changed = store.changed_files(store.journal.files())
    assert changed
    assert store.journal.adopt(changed) == 0
    with journal_view(store.path) as journal:
        assert list(journal.gaps()) == []


def test_no_gap_is_ever_added_to_a_pruned_month(store: Store) -> None:
    store.journal.prune([pruned(JANUARY)], ADDRESS)
    lost = Gap(BTC, span(1_435, 1_445), at(1_450), Reason.LOST_FROM_FILE)
    store.journal.settle([lost], {})
    with journal_view(store.path) as journal:
        assert [one.span for one in journal.gaps()] == [span(1_440, 1_445)]


def test_a_late_candle_of_a_pruned_month_is_stored_again(store: Store) -> None:
    remove(store, [read(store, JANUARY)])
    store.journal.accept(minutes(1_432, 1_433, 9.0))
    merge_all(store)
    assert held(store) == [at(1_432), *(at(n) for n in range(1_440, 1_450))]


def test_a_copy_beside_the_files_is_left_alone(store: Store) -> None:
    file = candle_files(store.path)[0]
    copy = file.with_name(f"copy of {file.name}")
    copy.write_bytes(file.read_bytes())
    remove(store, [read(store, JANUARY)])
    assert copy in candle_files(store.path)
    assert copy.read_bytes()


def test_a_damaged_file_is_named_and_left(store: Store) -> None:
    before = read(store, JANUARY)
    file = candle_files(store.path)[0]
    data = bytearray(file.read_bytes())
    data[100] ^= 255
    file.write_bytes(data)
    store.journal.prune([pruned(JANUARY)], ADDRESS)
    with pytest.raises(DamagedError):
        store.remove_months(BTC, [before], store.journal.files([BTC]))
    assert file.exists()


def test_what_was_removed_before_the_disk_was_full_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path / "data", "{trade_type}_{symbol}_{time_interval}_{date}.pqt")
    store.journal.accept(minutes(-1_440, 1_450))
    merge_all(store)
    everything_is_published(store)
    first, *others = candle_files(store.path)
    unlink = Path.unlink

    def refuse(path: Path, *, missing_ok: bool = False) -> None:
        if path in others:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        unlink(path, missing_ok=missing_ok)

    before = read(store, JANUARY)
    store.journal.prune([pruned(JANUARY)], ADDRESS)
    monkeypatch.setattr(Path, "unlink", refuse)
    done = store.remove_months(BTC, [before], store.journal.files([BTC]))
    assert [store.path / one.path for one in done.removed] == [first]
    assert done.rows == 1_440
    assert done.problem == f"{others[0]}: No space left on device"
    store.close()


def test_a_scratch_folder_that_somebody_deleted_is_made_again(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    store.journal.accept(minutes(1_430, 1_450))
    merge_all(store)
    everything_is_published(store)
    scratch(store.path).rmdir()
    assert remove(store, [read(store, JANUARY)]).rows == 10
    store.close()


def test_what_stays_is_whole(store: Store) -> None:
    remove(store, [read(store, JANUARY)])
    assert [one.faults for one in check(store.path) if one.faults] == []


def test_other_intervals_have_their_own_months(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    store.journal.accept(receive(MONTHLY, *(make_candle(at(n, MONTHLY)) for n in range(3))))
    store.journal.accept(receive(COIN, *(make_candle(at(n, COIN)) for n in range(482))))
    merge_all(store)
    everything_is_published(store)
    month = Span(at(1, MONTHLY), at(2, MONTHLY))
    assert remove(store, [read(store, month, MONTHLY)], MONTHLY).rows == 1
    assert held(store, MONTHLY) == [at(0, MONTHLY), at(2, MONTHLY)]
    assert remove(store, [read(store, JANUARY, COIN)], COIN).rows == 480
    assert held(store, COIN) == [at(480, COIN), at(481, COIN)]
    store.close()


def test_the_checksum_does_not_depend_on_the_cuts(tmp_path: Path) -> None:
    store = open_store(tmp_path / "data")
    store.journal.accept(minutes(0, 50))
    table = stored_table(store.path, BTC)
    assert table is not None
    whole, cut, other = CandleChecksum(), CandleChecksum(), CandleChecksum()
    whole.add(table)
    for first in range(0, 50, 7):
        cut.add(table.slice(first, 7))
    other.add(table.slice(1))
    assert (cut.text, cut.rows) == (whole.text, 50)
    assert other.text != whole.text
    store.close()


def test_slices_cover_a_span() -> None:
    found = list(slices(BTC, span(0, 25), 10))
    assert found == [span(0, 10), span(10, 20), span(20, 25)]
    assert list(slices(MONTHLY, JANUARY, 10)) == [JANUARY]
