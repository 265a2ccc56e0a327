"""The lake's tables are made once, grow columns, and whatever is not ours is refused untouched."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import obstore
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from kline_trio.errors import ConfigError
from kline_trio.lake.errors import ForeignLakeError, LakeError
from kline_trio.lake.location import Location
from kline_trio.lake.merge import merge_rows
from kline_trio.lake.schema import CANDLES, FORMAT, PARTITIONS, TABLES
from kline_trio.lake.tables import made_table, open_table
from tests.lake.servers import Fault, LossyProxy, Server, location_of
from tests.lake.support import by_key, lake_candles, lake_table, no_pause
from tests.lake.test_merge import row, table
from tests.storage.support import everything_under

OURS = {"kline_trio.format": str(FORMAT)}


def files(location: Location) -> dict[str, bytes]:
    """Return all that is in a lake."""
    store = location.objects()
    names = [one["path"] for one in obstore.list(store).collect()]
    return {name: bytes(obstore.get(store, name).bytes()) for name in names}


def test_a_lake_has_no_tables_before_they_are_made(lake: Location) -> None:
    for name in TABLES:
        assert open_table(lake, name) is None
    assert files(lake) == {}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_made_with_its_columns_partitions_and_properties(
    memory_lake: Location, name: str
) -> None:
    made = made_table(memory_lake, name)
    opened = open_table(memory_lake, name)
    assert opened is not None
    assert made.id == opened.id
    columns, partitions = TABLES[name]
    assert names_of(opened.delta) == columns.names
    assert opened.delta.metadata().partition_columns == partitions
    assert opened.delta.metadata().configuration["kline_trio.format"] == str(FORMAT)
    # So that all readers can: no deletion vectors, no names of columns that differ from the files.
    protocol = opened.delta.protocol()
    assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)


def test_a_table_that_is_there_is_not_made_again(lake: Location) -> None:
    made = made_table(lake, "candles")
    before = files(lake)
    assert made_table(lake, "candles").id == made.id
    assert files(lake) == before


@pytest.mark.parametrize("kind", ["folder_lake", "seaweed_lake"])
def test_of_makers_at_once_all_get_the_same_table(
    kind: str, request: pytest.FixtureRequest
) -> None:
    location, barrier = request.getfixturevalue(kind), Barrier(4)

    def make() -> str:
        barrier.wait()
        return made_table(location, "candles").id

    with ThreadPoolExecutor(4) as pool:
        found = {one.result() for one in [pool.submit(make) for _ in range(4)]}
    assert len(found) == 1
    assert made_table(location, "candles").delta.version() == 0


@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.CUT_REPLY, Fault.DONE_BUT_500])
def test_a_table_whose_making_was_not_answered_is_opened(
    lossy: tuple[LossyProxy, Server], prefix: str, fault: Fault
) -> None:
    proxy, server = lossy
    location = location_of(server, prefix)
    proxy.start_anew(
        lambda request: fault if request.method == "PUT" and not proxy.faults else None
    )
    made = made_table(location, "candles")
    assert proxy.faults == 1
    assert made.delta.version() == 0


def names_of(delta: DeltaTable) -> list[str]:
    return [field.name for field in delta.schema().fields]


def foreign(folder: Path, columns: pa.Schema = CANDLES, **settings: object) -> None:
    partitions = settings.pop("partitions", PARTITIONS)
    DeltaTable.create(
        str(folder / "candles"),
        columns,
        partition_by=partitions,  # type: ignore[arg-type]
        configuration=settings.pop("configuration", OURS),  # type: ignore[arg-type]
        raise_if_key_not_exists=False,
    )


def of_another_type(folder: Path) -> None:
    columns = [
        pa.field(one.name, pa.string() if one.name == "open" else one.type) for one in CANDLES
    ]
    foreign(folder, pa.schema(columns))


def parquet_files(folder: Path) -> None:
    (folder / "candles").mkdir(parents=True)
    (folder / "candles" / "part-0.parquet").write_bytes(b"PAR1")


def a_broken_log(folder: Path) -> None:
    foreign(folder)
    log = folder / "candles" / "_delta_log" / "00000000000000000000.json"
    log.write_text("{", encoding="utf-8")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: foreign(folder, configuration={}), "kline_trio did not make"),
        (
            lambda folder: foreign(folder, configuration={"kline_trio.format": "x"}),
            "kline_trio did not make",
        ),
        (
            lambda folder: foreign(folder, configuration={"kline_trio.format": f"{FORMAT + 1}"}),
            "upgrade kline_trio",
        ),
        (lambda folder: foreign(folder, partitions=["month"]), "another partitions than"),
        (of_another_type, "another column open than"),
        (parquet_files, "holds other files already"),
    ],
    ids=["no format", "odd format", "newer format", "partitions", "type", "files"],
)
def test_what_is_not_ours_is_refused_and_stays_as_it_is(
    folder_lake: Location, make: Callable[[Path], None], words: str
) -> None:
    folder = Path(folder_lake.url)
    make(folder)
    before = everything_under(folder)
    with pytest.raises(ForeignLakeError, match=words) as caught:
        made_table(folder_lake, "candles")
    assert isinstance(caught.value, ConfigError)
    assert folder_lake.table_url("candles") in str(caught.value)
    with pytest.raises(ForeignLakeError):
        merge_rows(folder_lake, table([row(0)]), no_pause)
    assert everything_under(folder) == before


def test_files_of_another_program_in_a_bucket_are_refused(lake: Location) -> None:
    obstore.put(lake.objects(), "candles/data.csv", b"1,2,3")
    with pytest.raises(ForeignLakeError, match="holds other files already"):
        made_table(lake, "candles")
    assert files(lake) == {"candles/data.csv": b"1,2,3"}


def test_files_beside_the_tables_are_nobodys_business(lake: Location) -> None:
    obstore.put(lake.objects(), "readme.txt", b"ours")
    obstore.put(lake.objects(), "candles-of-others/data.csv", b"1,2,3")
    made_table(lake, "candles")
    assert files(lake)["readme.txt"] == b"ours"


def test_a_column_that_an_earlier_version_lacked_is_added_and_old_rows_have_nulls(
    lake: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge_rows(lake, table([row(0)]), no_pause)
    later = CANDLES.append(pa.field("trades_seen", pa.int64()))
    monkeypatch.setitem(TABLES, "candles", (later, PARTITIONS))
    for _ in range(2):
        made_table(lake, "candles")
    assert lake_table(lake).schema.names == later.names
    assert lake_table(lake)["trades_seen"].to_pylist() == [None]
    # A recorder of the earlier version goes on.
    monkeypatch.setitem(TABLES, "candles", (CANDLES, PARTITIONS))
    merge_rows(lake, table([row(0, trade_num=8), row(1)]), no_pause)
    assert lake_candles(lake) == by_key(table([row(0, trade_num=8), row(1)]))


def test_columns_that_two_recorders_add_at_once_are_there_once(
    folder_lake: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_table(folder_lake, "candles")
    later = CANDLES.append(pa.field("trades_seen", pa.int64()))
    monkeypatch.setitem(TABLES, "candles", (later, PARTITIONS))
    barrier = Barrier(4)

    def make() -> list[str]:
        barrier.wait()
        delta = made_table(folder_lake, "candles").delta
        return names_of(delta)

    with ThreadPoolExecutor(4) as pool:
        found = [one.result() for one in [pool.submit(make) for _ in range(4)]]
    assert found == [later.names] * 4


def test_a_column_that_somebody_added_is_left_alone(folder_lake: Location) -> None:
    merge_rows(folder_lake, table([row(0)]), no_pause)
    extra = table([row(1)]).append_column("note", pa.array(["theirs"]))
    write_deltalake(folder_lake.table_url("candles"), extra, mode="append", schema_mode="merge")
    merge_rows(folder_lake, table([row(0, trade_num=8), row(1, trade_num=8)]), no_pause)
    assert sorted(map(str, lake_table(folder_lake)["note"].to_pylist())) == ["None", "theirs"]


def test_a_broken_log_is_an_error_of_the_lake_and_nothing_is_made(folder_lake: Location) -> None:
    folder = Path(folder_lake.url)
    a_broken_log(folder)
    before = everything_under(folder)
    with pytest.raises(LakeError):
        made_table(folder_lake, "candles")
    assert everything_under(folder) == before
