"""Vacuum removes what no version needs, after the retention, and nothing else."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from kline_trio.errors import ConfigError
from kline_trio.lake import vacuum as module
from kline_trio.lake.errors import ForeignLakeError, LakeError
from kline_trio.lake.location import Location
from kline_trio.lake.merge import merge_rows
from kline_trio.lake.objects import SCRATCH, Objects
from kline_trio.lake.schema import UNIVERSE
from kline_trio.lake.tables import made_table
from kline_trio.lake.upkeep import compact
from kline_trio.lake.vacuum import Vacuumed, clock_error_seconds, vacuum
from tests.lake.rows import START, minutes

AFTER = START.timestamp() + 40 * 86_400
DAY = 86_400


def no_pause(_: int) -> None:
    pass


def compacted(location: Location) -> None:
    for hour in range(3):
        merge_rows(location, minutes(["A", "B"], START + timedelta(hours=hour), 60), no_pause)
    compact(location, "test", no_pause, now=AFTER)


def delta_of(location: Location, version: int | None = None) -> DeltaTable:
    url = location.table_url("candles")
    return DeltaTable(url, version=version, storage_options=location.table_options())


def age(location: Location, seconds: float) -> None:
    """Let all files of a folder, and what the log says of them, be older."""
    for path in Path(location.url).rglob("*"):
        if path.is_file():
            then = path.stat().st_mtime - seconds
            os.utime(path, (then, then))
    for path in Path(location.url).rglob("_delta_log/*.json"):
        import json

        lines = []
        for line in path.read_text().splitlines():
            action = json.loads(line)
            if "remove" in action:
                action["remove"]["deletionTimestamp"] -= round(seconds * 1_000)
            lines.append(json.dumps(action))
        path.write_text("\n".join(lines) + "\n")


def files_of(location: Location) -> set[str]:
    root = Path(location.url)
    return {str(one.relative_to(root)) for one in root.rglob("*.parquet")}


def test_files_are_kept_for_the_retention(folder_lake: Location) -> None:
    compacted(folder_lake)
    before, version = files_of(folder_lake), delta_of(folder_lake).version()
    age(folder_lake, 6.9 * DAY)
    assert vacuum(folder_lake) == Vacuumed()
    assert files_of(folder_lake) == before
    assert delta_of(folder_lake).version() == version


def test_files_that_a_compaction_replaced_are_removed_after_the_retention(
    folder_lake: Location,
) -> None:
    compacted(folder_lake)
    rows = delta_of(folder_lake).to_pyarrow_table().num_rows
    age(folder_lake, 7.1 * DAY)
    planned = vacuum(folder_lake, dry_run=True)
    assert len(planned.files) == len(files_of(folder_lake)) - 1 == 3
    done = vacuum(folder_lake)
    assert done.files == planned.files
    assert len(files_of(folder_lake)) == 1
    assert delta_of(folder_lake).to_pyarrow_table().num_rows == rows
    assert vacuum(folder_lake) == Vacuumed()


def test_a_reader_of_an_older_version_reads_on_within_the_retention(lake: Location) -> None:
    compacted(lake)
    reader = delta_of(lake, version=3)
    assert len(reader.file_uris()) == 3
    vacuum(lake, DAY)
    assert reader.to_pyarrow_table().num_rows == 360


def test_files_of_a_program_that_was_killed_are_removed_and_foreign_ones_are_left(
    folder_lake: Location,
) -> None:
    compacted(folder_lake)
    folder = next(Path(folder_lake.url).rglob("sorted-*")).parent
    for name in ("sorted-1.parquet", "part-0000-a-c000.zstd.parquet", "notes.txt"):
        (folder / name).write_bytes(b"x")
    age(folder_lake, 2 * DAY)
    (folder / "sorted-2.parquet").write_bytes(b"x")
    done = vacuum(folder_lake, DAY)
    left = {one.rsplit("/")[-1] for one in done.files}
    assert {"sorted-1.parquet", "part-0000-a-c000.zstd.parquet"} <= left
    assert [one.rsplit("/")[-1] for one in done.foreign] == ["notes.txt"]
    assert (folder / "notes.txt").exists()
    assert (folder / "sorted-2.parquet").exists()
    assert not (folder / "sorted-1.parquet").exists()
    assert delta_of(folder_lake).to_pyarrow_table().num_rows == 360


def test_all_tables_are_cleaned_up(folder_lake: Location) -> None:
    compacted(folder_lake)
    universe = made_table(folder_lake, "universe").delta
    for symbol in ("A", "B"):
        values = dict.fromkeys(UNIVERSE.names) | {"recorder": "rec-a", "symbol": symbol}
        rows = pa.Table.from_pylist([values], schema=UNIVERSE)
        write_deltalake(universe, rows, mode="overwrite")
    age(folder_lake, 8 * DAY)
    done = vacuum(folder_lake)
    assert {one.split("/")[0] for one in done.files} == {"candles", "universe"}


@pytest.mark.parametrize("seconds", [0.0, 3_600.0, DAY - 1])
def test_a_retention_that_readers_could_not_live_with_is_refused(
    folder_lake: Location, seconds: float
) -> None:
    compacted(folder_lake)
    with pytest.raises(ConfigError, match="24 h are the least"):
        vacuum(folder_lake, seconds)


def test_there_must_be_a_lake(folder_lake: Location) -> None:
    with pytest.raises(ForeignLakeError, match="there is no lake"):
        vacuum(folder_lake)


@pytest.mark.parametrize(("ahead", "words"), [(400, "6 min ahead of"), (-400, "6 min behind")])
def test_a_wrong_clock_is_refused(lake: Location, ahead: float, words: str) -> None:
    """Files that are in use would look old."""
    compacted(lake)
    with pytest.raises(LakeError, match=words):
        vacuum(lake, clock=lambda: time.time() + ahead)
    assert vacuum(lake, clock=lambda: time.time() + ahead / 4) == Vacuumed()


def test_old_scratch_objects_are_swept(
    folder_lake: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    compacted(folder_lake)
    Objects.of(folder_lake).put(f"{SCRATCH}/left.proof", b"x")
    assert vacuum(folder_lake).scratch == 0
    age(folder_lake, 1.5 * DAY)
    assert vacuum(folder_lake, dry_run=True).scratch == 0
    assert vacuum(folder_lake).scratch == 1
    monkeypatch.setattr(module, "LEAST_RETENTION_SECONDS", 0)
    assert Objects.of(folder_lake).list(SCRATCH) == []


class At(Objects):
    """Objects of a store whose clock stands still."""

    def now(self) -> float:
        return 1_000.0


@pytest.mark.parametrize(
    ("before", "after", "error"),
    [
        (1_000.2, 1_000.4, 0.0),
        (1_000.9, 1_001.3, 0.0),
        (998.0, 1_001.0, 0.0),
        (1_005.0, 1_006.0, 4.0),
        (990.0, 995.0, -5.0),
    ],
)
def test_the_error_of_a_clock_is_no_larger_than_it_must_be(
    folder_lake: Location, before: float, after: float, error: float
) -> None:
    plain = Objects.of(folder_lake)
    times = iter([before, after])
    assert clock_error_seconds(At(plain.url, plain._store), lambda: next(times)) == error
