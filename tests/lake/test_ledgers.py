"""The lake has the ledgers as the store has them, and recorders never overwrite each other."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

import kline_trio
from kline_trio.candle import Source
from kline_trio.lake.errors import ConflictError
from kline_trio.lake.ledgers import (
    Ledgers,
    last_revision,
    publish_revisions,
    replace_rows,
)
from kline_trio.lake.location import Location
from kline_trio.lake.schema import TABLES
from kline_trio.lake.tables import MOST_TRIES
from kline_trio.storage.journal.ledger import Revision, SeriesAccount
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.store import Store
from tests.lake.faults import check_lake
from tests.lake.servers import Fault, LossyProxy, Request, Server, location_of
from tests.lake.support import begin_and_publish, lake_table, make_store, no_pause
from tests.storage.support import (
    ADDRESS,
    BTC,
    COIN,
    absent,
    at,
    make_candle,
    month_of,
    open_store,
)

LEDGERS = ("coverage", "accounts", "universe", "revisions")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    one = make_store(tmp_path / "store")
    yield one
    one.close()


def ledgers(store: Store, recorder: str = "rec-a") -> Ledgers:
    with journal_view(store.path) as journal:
        return Ledgers.of(journal, store.path, recorder)


def versions(location: Location) -> dict[str, int]:
    options = location.table_options()
    return {
        name: DeltaTable(location.table_url(name), storage_options=options).version()
        for name in TABLES
    }


def test_the_lake_has_what_the_store_has(store: Store, lake: Location) -> None:
    begin_and_publish(store, lake)
    check_lake(store.path, lake, "after one publication")
    for gap in (absent(1_480, 1_483), absent(1_490, 1_491, series=COIN)):
        store.journal.settle([gap], {COIN: SeriesAccount(at(0, COIN), at(9, COIN), at(12, COIN))})
    begin_and_publish(store, lake)
    check_lake(store.path, lake, "after two publications")


def test_the_coverage_reads_as_that_of_the_store(store: Store, folder_lake: Location) -> None:
    begin_and_publish(store, folder_lake)
    wanted = kline_trio.coverage(store.path)
    found = lake_table(folder_lake, "coverage").to_pandas()[list(wanted.columns)]
    for name in ("from", "to", "first_seen"):
        wanted[name] = wanted[name].astype(found[name].dtype)
    names = ["trade_type", "symbol", "time_interval", "from"]
    one, other = (
        frame.sort_values(names).reset_index(drop=True).astype(object).map(str)
        for frame in (found, wanted)
    )
    assert one.replace("None", "nan").equals(other.replace("None", "nan"))


def test_pruned_months_are_no_rows_of_the_coverage(store: Store, folder_lake: Location) -> None:
    """The lake has their candles. Their gaps stay, since the lake lacks what they lacked."""
    begin_and_publish(store, folder_lake)
    before = lake_table(folder_lake, "coverage").to_pylist()
    store.journal.keep_pruned([month_of(), month_of(COIN)], {"lake-1": ADDRESS})
    assert "in lake" in set(kline_trio.coverage(store.path)["state"])
    begin_and_publish(store, folder_lake)
    assert lake_table(folder_lake, "coverage").to_pylist() == before


def test_what_has_not_changed_is_not_written_again(store: Store, lake: Location) -> None:
    begin_and_publish(store, lake)
    before = versions(lake)
    begin_and_publish(store, lake)
    assert versions(lake) == before


def test_an_account_is_retired_and_comes_back(store: Store, folder_lake: Location) -> None:
    for retired_ms in (at(50), None):
        store.journal.settle([], {BTC: SeriesAccount(at(0), at(40), retired_ms)})
        ledgers(store).publish(folder_lake, no_pause)
        rows = lake_table(folder_lake, "accounts").to_pylist()
        [found] = [row for row in rows if row["symbol"] == BTC.symbol]
        assert (found["retired"] is None) == (retired_ms is None)


def test_recorders_never_overwrite_each_other(tmp_path: Path, folder_lake: Location) -> None:
    stores = {name: make_store(tmp_path / name) for name in ("a'b", "rec b", "c/d=e")}
    for turn in range(2):
        for name, one in stores.items():
            one.journal.settle([absent(2_000 + turn, 2_001 + turn)], {})
            ledgers(one, name).publish(folder_lake, no_pause)
    for name, one in stores.items():
        wanted = ledgers(one, name)
        for table, rows in (("coverage", wanted.coverage), ("accounts", wanted.accounts)):
            found = [
                row
                for row in lake_table(folder_lake, table).select(rows.schema.names).to_pylist()
                if row["recorder"] == name
            ]
            assert sorted(map(str, found)) == sorted(map(str, rows.to_pylist()))
        one.close()


def test_accounts_are_written_last(
    store: Store, lossy: tuple[LossyProxy, Server], prefix: str
) -> None:
    proxy, server = lossy
    begin_and_publish(store, location_of(server, prefix))
    written = [
        request.path.removeprefix(f"/lakes/{prefix}/").partition("/")[0]
        for request in proxy.requests
        if request.method == "PUT" and "/_delta_log/" in request.path
    ]
    assert written[-1] == "accounts"
    last = {name: len(written) - written[::-1].index(name) for name in set(written)}
    assert max(last, key=lambda name: last[name]) == "accounts"
    assert last["candles"] < last["coverage"]


def revision(number: int, *, is_kept: bool = True) -> tuple[int, Revision]:
    older, newer = make_candle(at(number), 1.0), make_candle(at(number), 2.0 + number)
    return number, Revision(BTC, older, newer, Source.STREAM, is_kept)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), unique=True, max_size=6), max_size=4))
def test_a_revision_is_there_once_however_often_it_is_published(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]]
) -> None:
    location = Location(str(tmp_path_factory.mktemp("lake")))
    seen: set[int] = set()
    for batch in batches:
        inserted = publish_revisions(location, "me", map(revision, batch), no_pause)
        assert inserted == len({*batch} - seen)
        seen |= {*batch}
        assert last_revision(location, "me") == max(seen, default=0)
    publish_revisions(location, "other", [revision(1)], no_pause)
    rows = lake_table(location, "revisions").to_pylist()
    assert sorted(row["number"] for row in rows if row["recorder"] == "me") == sorted(seen)
    assert last_revision(location, "nobody") == 0


def test_a_conflict_is_retried_and_given_up_after_a_time(
    store: Store, lossy: tuple[LossyProxy, Server], prefix: str
) -> None:
    proxy, server = lossy
    location = location_of(server, prefix)
    ledgers(store).publish(location, no_pause)
    publish_revisions(location, "rec-a", [revision(2)], no_pause)

    def refuse(request: Request) -> Fault | None:
        is_commit = request.method == "PUT" and "/_delta_log/" in request.path
        return Fault.ANSWER_412 if is_commit else None

    store.journal.settle([absent(2_000, 2_001)], {})
    rows = ledgers(store).coverage
    proxy.start_anew(refuse)
    for attempt in (
        lambda pause: replace_rows(location, "coverage", "rec-a", rows, pause),
        lambda pause: publish_revisions(location, "rec-a", [revision(1)], pause),
    ):
        pauses: list[int] = []
        with pytest.raises(ConflictError):
            attempt(pauses.append)
        assert pauses == list(range(1, MOST_TRIES))
    proxy.start_anew()
    replace_rows(location, "coverage", "rec-a", rows, no_pause)
    found = lake_table(location, "coverage").select(rows.schema.names)
    assert sorted(map(str, found.to_pylist())) == sorted(map(str, rows.to_pylist()))


def test_a_store_without_a_ledger_publishes_empty_tables(
    tmp_path: Path, folder_lake: Location
) -> None:
    store = open_store(tmp_path / "empty")
    begin_and_publish(store, folder_lake)
    for name in LEDGERS:
        if name != "revisions":
            assert lake_table(folder_lake, name).num_rows == 0
    store.close()
