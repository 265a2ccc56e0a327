"""The status of a lake comes from its logs and small objects alone."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from kline_trio.lake.lease import take
from kline_trio.lake.location import Location
from kline_trio.lake.merge import merge_rows
from kline_trio.lake.objects import Objects
from kline_trio.lake.presence import Presence, write_presence
from kline_trio.lake.status import StoreStatus, as_values, lake_status
from kline_trio.lake.tables import made_table
from kline_trio.storage.journal.reader import journal_view
from tests.lake.rows import START, minutes, row, table_of
from tests.lake.servers import READER, Server, location_of
from tests.storage.support import BTC, write_minutes


def no_pause(_: int) -> None:
    pass


def test_tables_candles_and_recorders_are_counted(lake: Location) -> None:
    merge_rows(lake, minutes(["A", "B"], START, 10), no_pause)
    merge_rows(lake, table_of([row("A", START, interval="1h")]), no_pause)
    made_table(lake, "coverage")
    presence = Presence(recorder="rec-a", host="h", version="1", unpublished=5, series=2)
    write_presence(Objects.of(lake), presence)
    found = lake_status(lake)
    assert [(one.name, one.version, one.files, one.rows) for one in found.tables] == [
        ("candles", 2, 2, 21),
        ("coverage", 0, 0, 0),
    ]
    groups = [(one.trade_type, one.time_interval, one.rows, one.newest) for one in found.groups]
    newest = (START + timedelta(minutes=9)).timestamp()
    assert groups == [("spot", "1h", 1, START.timestamp()), ("spot", "1m", 20, newest)]
    assert sum(one.bytes for one in found.groups) == found.tables[0].bytes > 0
    [recorder] = found.recorders
    assert recorder.seen.presence == presence
    assert 0 <= recorder.age_seconds < 60
    assert found.is_store_time
    assert (found.compacting, found.store) == (None, None)


def test_no_data_is_read(folder_lake: Location) -> None:
    merge_rows(folder_lake, minutes(["A", "B"], START, 10), no_pause)
    for path in Path(folder_lake.url).rglob("part-*"):
        path.unlink()
    assert lake_status(folder_lake).groups[0].rows == 20


def test_an_empty_place_has_no_tables(lake: Location) -> None:
    assert lake_status(lake).tables == ()


def test_who_compacts_is_shown(memory_lake: Location) -> None:
    made_table(memory_lake, "candles")
    assert take(Objects.of(memory_lake), "tokyo-1 pid 7") is not None
    assert lake_status(memory_lake).compacting == "tokyo-1 pid 7"


def test_read_access_is_enough(seaweed: Server, prefix: str) -> None:
    merge_rows(location_of(seaweed, prefix), minutes(["A"], START, 10), no_pause)
    found = lake_status(location_of(seaweed, prefix, READER))
    assert found.tables[0].rows == 10
    assert not found.is_store_time


def test_the_unpublished_candles_of_a_store_are_counted(
    folder_lake: Location, tmp_path: Path
) -> None:
    path = tmp_path / "data"
    assert lake_status(folder_lake, path).store == StoreStatus(path, None, 0)
    table = made_table(folder_lake, "candles")
    store = write_minutes(path, 30, 5)
    store.journal.begin_lake("rec-a", table.id, [BTC])
    assert lake_status(folder_lake, path).store == StoreStatus(path, "rec-a", 35)
    with journal_view(path) as journal:
        found = journal.unpublished()
    store.journal.published({}, found.sequence, is_all=True)
    assert lake_status(folder_lake, path).store == StoreStatus(path, "rec-a", 0)
    store.close()


def test_the_values_for_programs_are_json(lake: Location) -> None:
    merge_rows(lake, minutes(["A"], START, 2), no_pause)
    presence = Presence(recorder="rec-a", host="h", version="1", published=START.timestamp())
    write_presence(Objects.of(lake), presence)
    values = json.loads(json.dumps(as_values(lake_status(lake))))
    assert values["lake"] == lake.url
    assert values["candles"][0]["newest"] == "2026-10-01 00:01:00+00:00"
    assert values["recorders"][0]["published"] == "2026-10-01 00:00:00+00:00"
    assert values["clock"] == "the object store"


@pytest.mark.parametrize("secret", ["secret-of-the-admin", "aws_secret_access_key"])
def test_no_secret_is_in_a_status(memory_lake: Location, secret: str) -> None:
    made_table(memory_lake, "candles")
    found = lake_status(memory_lake)
    assert secret not in f"{found} {as_values(found)} {memory_lake!r} {Objects.of(memory_lake)!r}"
