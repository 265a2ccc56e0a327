"""What a start compares with the ledger: which series, and which of their files."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from kline_trio.candle import Series
from kline_trio.errors import DamagedError
from kline_trio.storage import ledger_comparison
from kline_trio.storage.journal.ledger import Gap, Reason, SeriesAccount
from kline_trio.storage.ledger_comparison import LedgerComparison, ledger_comparisons
from kline_trio.storage.store import Store
from kline_trio.storage.table import table_of
from tests.storage.support import (
    BTC,
    LAYOUTS,
    SERIES,
    make_candle,
    merge_all,
    minutes,
    nth_open_time_ms,
    open_store,
    receive,
)
from tests.storage.test_holes import absent, at, span


def planned(store: Store) -> list[LedgerComparison]:
    return ledger_comparisons(store.path, store.layout)


def never_compared(store: Store, series: Sequence[Series]) -> None:
    for one in series:
        store.journal.accept(receive(one, make_candle(nth_open_time_ms(one, 0))))
    store.journal._connection.execute("UPDATE series SET is_compared = 0")


def test_a_new_store_has_nothing_to_compare(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.journal.accept(minutes(0, 3))
    assert planned(store) == []
    store.close()


def test_a_job_is_of_few_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with pending candles come first: they take a look at few files."""
    monkeypatch.setattr(ledger_comparison, "_SERIES_AT_ONCE", 2)
    store = open_store(tmp_path)
    never_compared(store, SERIES)
    last = max(SERIES)
    store.journal._connection.execute(
        "UPDATE series SET is_compared = 1 WHERE symbol = ?", [last.symbol]
    )
    gap = Gap(last, span(5, 6, last), at(6, last), Reason.NOT_RECEIVED)
    store.journal.settle([gap], {})
    ordered = [one for one in sorted(SERIES) if one != last]
    assert [(job.is_first, job.series) for job in planned(store)] == [
        (False, (last,)),
        (True, tuple(ordered[:2])),
        (True, tuple(ordered[2:])),
    ]
    store.close()


def test_a_first_look_is_at_every_series_and_finds_what_is_missing(tmp_path: Path) -> None:
    """Candles of a file that is not listed are there."""
    store = open_store(tmp_path)
    store.journal.accept(minutes(0, 5))
    store.journal.settle([], {BTC: SeriesAccount(at(0), at(9))})
    store.fill_in(table_of(BTC, [make_candle(at(7))]), BTC)
    never_compared(store, ())
    [job] = planned(store)
    [look] = job.look()
    assert look.missing() == (span(5, 7), span(8, 9))
    assert job.look_again(BTC) == look
    assert store.journal.compare(look) == 3
    [job] = planned(store)
    assert not job.is_first
    store.close()


def test_a_later_look_is_only_at_files_with_pending_candles(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What the others hold does not count as missing; a series without stored ones is left out."""
    caplog.set_level(logging.WARNING, "kline_trio")
    store = open_store(tmp_path, LAYOUTS[2])
    store.journal.accept([*minutes(0, 10), *minutes(1_445, 1_446)])
    merge_all(store)
    store.journal.settle([absent(1_445, 1_447)], {BTC: SeriesAccount(at(0), at(1_447))})
    older, _ = sorted(tmp_path.rglob("*.parquet"))
    older.write_bytes(b"")
    [job] = planned(store)
    [look] = job.look()
    assert (look.missing(), look.stored_pending()) == ((), (span(1_445, 1_446),))
    assert caplog.messages == []
    assert store.journal.compare(look) == 0
    [job] = planned(store)
    assert job.look() == []
    assert job.look_again(BTC).stored_pending() == ()
    store.close()


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.close()
    (tmp_path / ".kline_trio" / "journal.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(DamagedError, match=r"journal\.sqlite"):
        ledger_comparisons(tmp_path, store.layout)
