"""Compaction keeps each row, once, whatever happens meanwhile, and makes one-series reads cheap."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from kline_trio.lake import sorted_files, upkeep
from kline_trio.lake.errors import ForeignLakeError, LakeError
from kline_trio.lake.lease import FolderLease, LeaseLostError, take
from kline_trio.lake.location import Location
from kline_trio.lake.merge import merge_rows
from kline_trio.lake.objects import Objects
from kline_trio.lake.schema import CANDLES
from kline_trio.lake.tables import made_table
from kline_trio.lake.upkeep import Compacted, compact
from kline_trio.storage.step import Step, ignore_step
from kline_trio.storage.table import BEGIN
from tests.lake.rows import START, minutes, row, table_of
from tests.lake.servers import Fault, LossyProxy, Server, location_of, nth

AFTER = START.timestamp() + 40 * 86_400
SYMBOLS = ["BTCUSDT", "ETHUSDT", "XRPUSDT"]


def no_pause(_: int) -> None:
    pass


def candles(location: Location) -> pa.Table:
    delta = DeltaTable(location.table_url("candles"), storage_options=location.table_options())
    table: pa.Table = delta.to_pyarrow_table()
    return (
        table.select(CANDLES.names)
        .cast(CANDLES)
        .sort_by([("symbol", "ascending"), (BEGIN, "ascending")])
    )


def delta_of(location: Location) -> DeltaTable:
    return DeltaTable(location.table_url("candles"), storage_options=location.table_options())


def hourly(location: Location, hours: int = 4) -> pa.Table:
    """Publish some hours, each of which overlaps the one before; return the rows of the lake."""
    for hour in range(hours):
        rows = minutes(SYMBOLS, START + timedelta(hours=hour), 70)
        merge_rows(location, rows.take(list(reversed(range(rows.num_rows)))), no_pause)
    return candles(location)


def run(location: Location, **options: object) -> Compacted:
    return compact(location, "test", no_pause, now=AFTER, **options)  # type: ignore[arg-type]


def test_files_become_one_that_all_readers_read_equally(lake: Location) -> None:
    before = hourly(lake)
    done = run(lake)
    assert (done.jobs, done.files_before, done.files_after) == (1, 4, 1)
    assert (done.rows, done.doubled, done.given_up) == (before.num_rows, 0, 0)
    assert candles(lake).equals(before)
    by_polars = pl.scan_delta(lake.table_url("candles"), storage_options=dict(lake._settings))
    by_polars = by_polars.sort("symbol", BEGIN)
    assert by_polars.collect().to_arrow().select(CANDLES.names).cast(CANDLES).equals(before)
    dataset = delta_of(lake).to_pyarrow_dataset()
    with duckdb.connect() as connection:
        connection.register("lake", dataset)
        [count] = connection.execute("SELECT count(*) FROM lake").fetchone() or [0]
        found = connection.execute(
            "SELECT sum(close), count(*) FROM lake WHERE symbol = 'ETHUSDT'"
        ).fetchone()
    assert count == before.num_rows
    mine = before.filter(pc.equal(before["symbol"], pa.scalar("ETHUSDT")))
    assert found == (pc.sum(mine["close"]).as_py(), mine.num_rows)


def test_moto_is_compacted_too(moto_lake: Location) -> None:
    before = hourly(moto_lake)
    assert run(moto_lake).files_after == 1
    assert candles(moto_lake).equals(before)


def test_what_is_compact_gets_no_commit(lake: Location) -> None:
    hourly(lake)
    run(lake)
    version = delta_of(lake).version()
    assert run(lake) == Compacted()
    assert delta_of(lake).version() == version


def test_the_files_of_today_are_left_alone(folder_lake: Location) -> None:
    hourly(folder_lake)
    now = (START + timedelta(hours=20)).timestamp()
    assert compact(folder_lake, "test", no_pause, now=now) == Compacted()


def test_many_rows_are_sorted_in_little_memory_into_files_by_symbol(
    folder_lake: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorted_files, "LEAST_GROUP_ROWS", 100)
    before = hourly(folder_lake)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    done = run(folder_lake, most_rows=100, target_bytes=1_000, scratch=scratch)
    assert done.files_after == 2  # a file ends after the row group that reaches its size
    assert list(scratch.iterdir()) == []
    assert candles(folder_lake).equals(before)
    dataset = delta_of(folder_lake).to_pyarrow_dataset()
    fragments = list(dataset.get_fragments(ds.field("symbol") == "ETHUSDT"))
    assert len(fragments) == 1
    assert len(list(dataset.get_fragments())) == 2


def test_each_partition_is_a_job_of_its_own_and_shown(folder_lake: Location) -> None:
    rows = [row("A", START, interval=interval) for interval in ("1m", "1h")]
    rows += [row("A", START + timedelta(days=31), interval="1m")]
    for one in rows:
        merge_rows(folder_lake, table_of([one]), no_pause)
    steps = list[Step]()
    done = compact(folder_lake, "test", no_pause, steps.append, now=AFTER + 40 * 86_400)
    assert done.jobs == 3
    assert list(dict.fromkeys(one.what for one in steps[1:])) == [
        "spot 1h 2026-10",
        "spot 1m 2026-10",
        "spot 1m 2026-11",
    ]
    assert {one.total for one in steps[1:]} == {done.bytes_before}


def test_a_long_job_is_shown_at_each_file_since_a_silent_process_is_ended(
    folder_lake: Location,
) -> None:
    hourly(folder_lake, hours=4)
    steps = list[Step]()
    assert run(folder_lake, on_step=steps.append).jobs == 1
    # Four files are read, at least once, and one is written.
    assert len([one for one in steps if one.total]) >= 1 + 4 + 1


def test_the_object_stores_time_decides_what_is_past(
    folder_lake: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    hourly(folder_lake)
    monkeypatch.setattr(Objects, "now", lambda _: (START + timedelta(hours=20)).timestamp())
    assert compact(folder_lake, "test", no_pause) == Compacted()
    monkeypatch.setattr(Objects, "now", lambda _: AFTER)
    assert compact(folder_lake, "test", no_pause).jobs == 1


def test_a_month_is_compacted_again_after_late_rows_and_repairs(folder_lake: Location) -> None:
    hourly(folder_lake)
    run(folder_lake)
    late = [row("BTCUSDT", START + timedelta(days=1)), row("AAA", START)]
    late += [row("ETHUSDT", START, close=77, source="repair")]
    merge_rows(folder_lake, table_of(late), no_pause)
    before = candles(folder_lake)
    assert run(folder_lake).jobs == 1
    assert candles(folder_lake).equals(before)
    assert 77.0 in before["close"].to_pylist()


def test_a_key_that_a_foreign_program_has_doubled_is_there_once_again(
    folder_lake: Location,
) -> None:
    before = hourly(folder_lake)
    stale = delta_of(folder_lake)
    delta_of(folder_lake).optimize.compact()
    stale.optimize.compact()
    assert candles(folder_lake).num_rows == 2 * before.num_rows
    done = run(folder_lake)
    assert done.doubled == before.num_rows
    assert candles(folder_lake).equals(before)


# What others do meanwhile


@contextmanager
def before_commit(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> Iterator[None]:
    """Let something happen once, after the new files were uploaded."""
    upload, done = Objects.upload, list[bool]()

    def upload_and_act(self: Objects, path: str, file: Path) -> int:
        size = upload(self, path, file)
        if not done:
            done.append(True)
            act()
        return size

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "upload", upload_and_act)
        yield
    assert done


def test_new_rows_of_a_publisher_do_not_disturb_a_compaction(
    lake: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hourly(lake)
    new = table_of([row("BTCUSDT", START + timedelta(days=2)), row("NEW", START)])
    with before_commit(monkeypatch, lambda: merge_rows(lake, new, no_pause)):
        done = run(lake)
    assert (done.jobs, done.given_up) == (1, 0)
    assert candles(lake).num_rows == before.num_rows + 2
    assert len(delta_of(lake).file_uris()) == 2


def test_a_row_that_changed_meanwhile_is_never_undone(
    lake: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hourly(lake)
    repair = table_of([row("BTCUSDT", START, close=77, source="repair")])
    with before_commit(monkeypatch, lambda: merge_rows(lake, repair, no_pause)):
        done = run(lake)
    assert (done.jobs, done.given_up) == (0, 1)
    after = candles(lake)
    assert after.num_rows == before.num_rows
    assert after["close"][0].as_py() == 77.0
    assert run(lake).jobs == 1
    assert candles(lake).equals(after)


def test_a_foreign_compaction_meanwhile_doubles_nothing(
    lake: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library sees no conflict with it, since it says that it changes no data."""
    before = hourly(lake)
    with before_commit(monkeypatch, lambda: delta_of(lake).optimize.compact()):
        assert run(lake).given_up == 1
    assert candles(lake).equals(before)


def test_a_foreign_compaction_in_the_moment_of_the_commit_doubles_nothing(
    folder_lake: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the newest version and the commit: that one must be the next version."""
    before = hourly(folder_lake)
    uploads = list[int]()
    acted = list[int]()

    class Acting:
        def keep(self) -> None:
            # The last call is the one before the commit.
            uploads.append(len(list(Path(folder_lake.url).rglob("sorted-*"))))
            if uploads.count(1) == 2 and not acted:
                acted.append(1)
                delta_of(folder_lake).optimize.compact()

        def give_back(self) -> None:
            pass

    monkeypatch.setattr("kline_trio.lake.lease.take", lambda *_: Acting())
    assert run(folder_lake).given_up == 1
    assert acted
    assert candles(folder_lake).equals(before)


def test_a_foreign_compaction_that_began_before_ours_fails(lake: Location) -> None:
    before = hourly(lake)
    stale = delta_of(lake)
    assert run(lake).jobs == 1
    with pytest.raises(CommitFailedError, match="deleted"):
        stale.optimize.compact()
    assert candles(lake).equals(before)


def test_a_commit_whose_answer_was_lost_counts_as_done(
    folder_lake: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hourly(folder_lake)
    commit = DeltaTable.create_write_transaction

    def lose(self: DeltaTable, *arguments: object, **more: object) -> None:
        commit(self, *arguments, **more)  # type: ignore[arg-type]
        raise CommitFailedError("version already exists")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", lose)
    done = run(folder_lake)
    assert (done.jobs, done.given_up) == (1, 0)
    assert candles(folder_lake).equals(before)


def test_a_publisher_that_began_before_a_compaction_inserts_nothing_twice(lake: Location) -> None:
    hourly(lake)
    stale = delta_of(lake)
    run(lake)
    before = candles(lake)
    rows = minutes(SYMBOLS, START, 70)
    condition = "old.symbol = new.symbol AND old.candle_begin_time = new.candle_begin_time"
    merger = stale.merge(rows, condition, source_alias="new", target_alias="old")
    merger = merger.when_not_matched_insert_all().when_matched_update_all()
    with pytest.raises(Exception, match="concurrent"):
        merger.execute()
    assert candles(lake).equals(before)


def granted(*_: object) -> FolderLease:
    """Return a lease as if nobody else had one."""
    return FolderLease("test", os.open(os.devnull, os.O_RDONLY))


def test_many_compactors_and_publishers_at_once_lose_and_double_nothing(
    lake: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the lease fails to keep them apart."""
    monkeypatch.setattr("kline_trio.lake.lease.take", granted)
    hourly(lake, 6)
    errors = list[BaseException]()

    def pause(tried: int) -> None:
        time.sleep(0.01 * tried * random.random())

    def guarded(job: Callable[[], object]) -> Callable[[], None]:
        def run_it() -> None:
            try:
                job()
            except BaseException as error:  # noqa: BLE001 - shown by the test
                errors.append(error)

        return run_it

    def publish(first: int) -> None:
        for hour in range(first, first + 3):
            merge_rows(lake, minutes(SYMBOLS, START + timedelta(hours=hour), 60), pause)

    jobs = [lambda: compact(lake, "test", pause, now=AFTER)] * 3
    threads = [threading.Thread(target=guarded(job)) for job in jobs]
    threads += [threading.Thread(target=guarded(partial(publish, n))) for n in (4, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    wanted = candles(lake)
    assert wanted.num_rows == len(SYMBOLS) * (9 * 60)
    keys = wanted.group_by(["symbol", BEGIN]).aggregate([])
    assert keys.num_rows == wanted.num_rows


def test_while_another_program_compacts_nothing_is_done(lake: Location) -> None:
    hourly(lake)
    held = take(Objects.of(lake), "the other one")
    assert held is not None
    done = run(lake)
    assert done.held_by in ("the other one", "another program")
    assert done.jobs == 0
    held.give_back()
    assert run(lake).jobs == 1


def test_a_compactor_that_lost_its_lease_stops_before_its_commit(
    folder_lake: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hourly(folder_lake)

    class Lost:
        def keep(self) -> None:
            if len(list(Path(folder_lake.url).rglob("sorted-*"))):
                raise LeaseLostError("expired")

        def give_back(self) -> None:
            pass

    monkeypatch.setattr("kline_trio.lake.lease.take", lambda *_: Lost())
    with pytest.raises(LeaseLostError):
        run(folder_lake)
    assert candles(folder_lake).equals(before)


def test_a_compactor_that_slept_for_a_day_commits_nothing(
    folder_lake: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files may have been removed as old ones without a version."""
    before = hourly(folder_lake)
    times = iter([0.0, 100_000.0, 100_000.0])
    monkeypatch.setattr(upkeep, "boot_clock", lambda: next(times))
    assert run(folder_lake).given_up == 1
    assert candles(folder_lake).equals(before)


# What is not ours, or damaged


def test_there_must_be_a_lake(folder_lake: Location) -> None:
    with pytest.raises(ForeignLakeError, match="there is no lake yet"):
        run(folder_lake)


def test_a_table_with_columns_of_a_newer_version_is_left_as_it_is(folder_lake: Location) -> None:
    hourly(folder_lake)
    from deltalake import Field
    from deltalake.schema import PrimitiveType

    delta_of(folder_lake).alter.add_columns([Field("color", PrimitiveType("string"))])
    with pytest.raises(ForeignLakeError, match="does not know: color"):
        run(folder_lake)


def test_a_file_without_statistics_is_left_as_it_is(folder_lake: Location) -> None:
    made_table(folder_lake, "candles")
    delta_of(folder_lake).alter.set_table_properties({"delta.dataSkippingStatsColumns": "open"})
    write_deltalake(delta_of(folder_lake), minutes(SYMBOLS, START, 5), mode="append")
    with pytest.raises(ForeignLakeError, match="another program has written this file"):
        run(folder_lake)


def test_a_file_that_lost_rows_is_named_and_nothing_is_committed(folder_lake: Location) -> None:
    import pyarrow.parquet as pq

    hourly(folder_lake)
    version = delta_of(folder_lake).version()
    victim = next(Path(folder_lake.url).rglob("part-*.parquet"))
    table = pq.read_table(victim, partitioning=None)
    pq.write_table(table.slice(1), victim)
    with pytest.raises(LakeError, match=r"files have .* rows, and the log says .* left as it is"):
        run(folder_lake)
    assert delta_of(folder_lake).version() == version
    assert list(Path(folder_lake.url).rglob("sorted-*")) == []


@pytest.mark.parametrize("damage", ["gone", "cut", "flipped"])
def test_a_damaged_file_is_named_and_nothing_is_committed(
    folder_lake: Location, damage: str
) -> None:
    hourly(folder_lake)
    version = delta_of(folder_lake).version()
    victim = next(Path(folder_lake.url).rglob("part-*.parquet"))
    content = victim.read_bytes()
    if damage == "gone":
        victim.unlink()
    elif damage == "cut":
        victim.write_bytes(content[: len(content) // 2])
    else:
        victim.write_bytes(b"x" * len(content))
    with pytest.raises(LakeError, match=victim.name):
        run(folder_lake)
    assert delta_of(folder_lake).version() == version


def test_rows_of_before_a_column_was_added_have_nulls(folder_lake: Location) -> None:
    import pyarrow.parquet as pq

    before = hourly(folder_lake)
    for victim in Path(folder_lake.url).rglob("part-*.parquet"):
        table = pq.read_table(victim, partitioning=None)
        pq.write_table(table.drop_columns(["revision"]), victim)
    assert run(folder_lake).jobs == 1
    after = candles(folder_lake)
    assert after["revision"].null_count == after.num_rows == before.num_rows


# Failures


FAULTS = (Fault.LOST_REPLY, Fault.DONE_BUT_500, Fault.CUT_UPLOAD, Fault.ANSWER_412)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_answer_at_any_request_loses_and_doubles_nothing(
    memory: Server, prefix: str, fault: Fault
) -> None:
    direct = location_of(memory, prefix)
    before = hourly(direct, 3)
    proxy = LossyProxy(memory.endpoint)
    # Each fault at every fourth request, and all faults together at each.
    number, is_there = FAULTS.index(fault), True
    with proxy.running() as endpoint:
        behind = location_of(memory.behind(endpoint), prefix)
        while is_there:
            # Each round has something to do.
            late = row("BTCUSDT", START + timedelta(days=3, minutes=number))
            merge_rows(direct, table_of([late]), no_pause)
            before = candles(direct)
            proxy.plan = nth(number, fault)
            seen = len(proxy.requests)
            with suppress(LakeError):
                run(behind)
            is_there = any(one.fault for one in proxy.requests[seen:])
            assert candles(direct).equals(before)
            _free(direct)
            run(direct)
            assert candles(direct).equals(before)
            number += len(FAULTS)
    assert number > 15


def _free(location: Location) -> None:
    """Remove a lease that could not be given back."""
    Objects.of(location).delete(["_kline_trio/lease.json"])


PROGRAM = """
import sys
from kline_trio.lake.location import Location
from kline_trio.lake.upkeep import compact
import kline_trio.lake.upkeep as upkeep
url, now = sys.argv[1], float(sys.argv[2])
print("begin", flush=True)
compact(Location(url), "child", lambda _: None, now=now, target_bytes=1_000)
print("end", flush=True)
"""


def test_a_kill_at_any_moment_loses_and_doubles_nothing(folder_lake: Location) -> None:
    before = hourly(folder_lake)
    drawn = random.Random(7)
    for number in range(8):
        late = row("BTCUSDT", START + timedelta(days=3, minutes=number))
        merge_rows(folder_lake, table_of([late]), no_pause)
        before = candles(folder_lake)
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, folder_lake.url, str(AFTER)],
            stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stdout.readline() == "begin\n"
            threading.Event().wait(drawn.random() * 0.25)
            process.send_signal(signal.SIGKILL)
        assert candles(folder_lake).equals(before)
    run(folder_lake)
    assert candles(folder_lake).equals(before)


def test_steps_may_be_ignored(folder_lake: Location) -> None:
    hourly(folder_lake)
    assert compact(folder_lake, "test", no_pause, ignore_step, now=AFTER).jobs == 1
