"""After a publication the lake is the store, whatever was lost, killed or done at the same time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from kline_trio.lake.errors import LakeError
from kline_trio.lake.location import Location
from kline_trio.lake.publish import Published
from kline_trio.lake.schema import rank
from kline_trio.storage.catalog import stored_span
from kline_trio.storage.journal.ledger import SeriesAccount
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.store import Store
from tests.lake import kills
from tests.lake.faults import Campaign, change_store, check_lake
from tests.lake.servers import LossyProxy, Server, location_of, seeded
from tests.lake.support import (
    FIRST,
    Row,
    begin_and_publish,
    lake_candles,
    lake_table,
    make_store,
    stored_rows,
)
from tests.storage.support import BTC, at, everything_under, merge_all, minutes, span


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    one = make_store(tmp_path / "store")
    yield one
    one.close()


def test_the_first_publication_and_each_later_one(store: Store, lake: Location) -> None:
    begin_and_publish(store, lake)
    check_lake(store.path, lake, "the first one")
    for number in range(4):
        change_store(store, number)
        begin_and_publish(store, lake)
        check_lake(store.path, lake, f"change {number}")


def test_a_publication_sends_only_what_has_changed(store: Store, folder_lake: Location) -> None:
    rows = len(stored_rows(store.path))
    parts = begin_and_publish(store, folder_lake)
    assert sum(part.rows for part in parts) == rows
    assert sum(part.inserted for part in parts) == rows
    assert parts[-1].left == 0
    assert begin_and_publish(store, folder_lake) == []
    store.journal.accept(minutes(FIRST + 30, FIRST + 33))
    [part] = begin_and_publish(store, folder_lake)
    assert (part.rows, part.inserted, part.updated) == (3, 3, 0)
    assert part.spans == {BTC: (span(FIRST + 30, FIRST + 33),)}


def test_the_store_is_not_touched(store: Store, folder_lake: Location) -> None:
    begin_and_publish(store, folder_lake)
    files = {
        path: status
        for path, status in everything_under(store.path).items()
        if path.suffix in (".pqt", ".parquet")
    }
    store.journal.accept(minutes(FIRST + 30, FIRST + 33))
    begin_and_publish(store, folder_lake)
    now = everything_under(store.path)
    assert files
    assert all(now[path] == status for path, status in files.items())


def test_what_is_accepted_and_merged_during_a_publication_is_not_lost(
    store: Store, folder_lake: Location
) -> None:
    turn = 0

    def go_on(_: Published) -> None:
        nonlocal turn
        change_store(store, turn)
        merge_all(store)
        turn += 1

    begin_and_publish(store, folder_lake, on_part=go_on)
    assert turn > 3
    begin_and_publish(store, folder_lake)
    check_lake(store.path, folder_lake, "after the next one")


def test_an_account_speaks_only_of_what_is_in_the_lake(store: Store, folder_lake: Location) -> None:
    """The account is of the moment at which the publication looked at the journal."""

    def go_on(_: Published) -> None:
        store.journal.accept(minutes(FIRST + 40, FIRST + 45))
        store.journal.settle([], {BTC: SeriesAccount(at(FIRST), at(FIRST + 45))})

    begin_and_publish(store, folder_lake, on_part=go_on)
    rows = lake_table(folder_lake, "accounts").to_pylist()
    [found] = [row for row in rows if row["symbol"] == BTC.symbol]
    assert found["watermark"].timestamp() * 1_000 == at(FIRST + 40)


def test_another_lake_gets_everything(store: Store, tmp_path: Path) -> None:
    for name in ("one", "two", "one"):
        location = Location(str(tmp_path / name))
        begin_and_publish(store, location)
        check_lake(store.path, location, name)


def test_a_part_that_the_journal_does_not_know_of_is_published_again(
    store: Store, folder_lake: Location
) -> None:
    def die(part: Published) -> None:
        raise KeyboardInterrupt

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            begin_and_publish(store, folder_lake, on_part=die)
    assert stored_span(store.path, BTC)
    begin_and_publish(store, folder_lake)
    check_lake(store.path, folder_lake, "at last")


def union(stores: list[Store]) -> list[Row]:
    """Return what a lake has to hold of stores that disagree: the greatest row of each key."""
    found: dict[tuple[str, ...], Row] = {}
    for one in stores:
        for row in stored_rows(one.path):
            names = ("trade_type", "time_interval", "month", "symbol", "candle_begin_time")
            key = tuple(str(row[name]) for name in names)
            if key not in found or rank(row) > rank(found[key]):
                found[key] = row
    return [found[key] for key in sorted(found)]


@pytest.mark.parametrize("kind", ["folder", "seaweed"])
def test_four_publishers_at_once_whose_stores_disagree(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    location = request.getfixturevalue(f"{kind}_lake")
    stores = [make_store(tmp_path / f"store {n}", 1.0 + n % 3) for n in range(4)]
    for number, one in enumerate(stores):
        change_store(one, number)

    def publish(number: int) -> None:
        for turn in range(2):
            begin_and_publish(stores[number], location, f"recorder {number}")
            change_store(stores[number], 4 * turn + number)
        begin_and_publish(stores[number], location, f"recorder {number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(publish, range(4)))
    assert lake_candles(location) == union(stores)
    recorders = {row["recorder"] for row in lake_table(location, "accounts").to_pylist()}
    assert recorders == {f"recorder {number}" for number in range(4)}
    for one in stores:
        one.close()


def test_four_publishers_at_once_behind_a_bad_network(
    tmp_path: Path, lossy: tuple[LossyProxy, Server], prefix: str
) -> None:
    proxy, server = lossy
    location = location_of(server, prefix)
    stores = [make_store(tmp_path / f"store {n}", 1.0 + n % 3) for n in range(4)]
    proxy.late_seconds = 0.02
    proxy.start_anew(seeded(3, 0.03))

    def publish(number: int) -> None:
        for _ in range(40):
            try:
                begin_and_publish(stores[number], location, f"recorder {number}", most_rows=40)
            except LakeError:
                continue
            return
        raise AssertionError("40 publications failed")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(publish, range(4)))
    assert proxy.faults > 5
    proxy.start_anew()
    assert lake_candles(location) == union(stores)
    for one in stores:
        with journal_view(one.path) as journal:
            assert not journal.unpublished().spans
        one.close()


@pytest.mark.parametrize("days", [-2, 2])
def test_a_server_whose_clock_is_wrong(
    store: Store, seaweed: Server, prefix: str, days: int
) -> None:
    proxy = LossyProxy(seaweed.endpoint, clock_shift_seconds=86_400 * days)
    with proxy.running() as endpoint:
        location = location_of(seaweed.behind(endpoint), prefix)
        begin_and_publish(store, location)
        change_store(store, 1)
        begin_and_publish(store, location)
        check_lake(store.path, location, f"{days} days")


@pytest.mark.parametrize(("kind", "count", "seed"), [("memory", 12, 5), ("seaweed", 4, 7)])
def test_a_sample_of_faults_at_each_request(
    tmp_path: Path, kind: str, count: int, seed: int, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue(kind)
    proxy = LossyProxy(server.endpoint)
    with proxy.running() as endpoint:
        campaign = Campaign(tmp_path / "stores", proxy, server.behind(endpoint), seed)
        with closing(campaign):
            campaign.play(count)
    assert campaign.outcomes["LakeUnreachableError"] > 0


def test_the_campaign_finds_a_lake_that_differs(store: Store, folder_lake: Location) -> None:
    begin_and_publish(store, folder_lake)
    store.journal.accept(minutes(FIRST + 1, FIRST + 2, 77.0))
    with pytest.raises(AssertionError, match=r"in the store: .* open=77\.0"):
        check_lake(store.path, folder_lake, "not published yet")


@pytest.mark.parametrize("kind", ["folder", "seaweed"])
def test_a_sample_of_kills(
    store: Store, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    place = request.getfixturevalue("seaweed") if kind == "seaweed" else tmp_path / "lakes"
    kills.Kills(store, place, seed=11).play(2)
