"""A store that is made of a lake is the store that was published, and goes on from there."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa
import pytest
import trio
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.candle import Candle, ReceivedCandle, Series
from kline_trio.errors import ConfigError, DiskFullError, LakeError
from kline_trio.interval import Span
from kline_trio.lake import spool
from kline_trio.lake.errors import ForeignLakeError
from kline_trio.lake.location import Location
from kline_trio.lake.restore import RestoredSeries, restore
from kline_trio.lake.scan import Filter
from kline_trio.lake.tables import open_table
from kline_trio.listing import Listing
from kline_trio.recorder.supervisor import open_recorder
from kline_trio.simulator.exchange import Exchange
from kline_trio.spans import joined as joined_spans
from kline_trio.storage.catalog import series, stored_table
from kline_trio.storage.journal.ledger import Gap, Reason, Revision, SeriesAccount, State
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.paths import universe_path
from kline_trio.storage.status import status
from kline_trio.storage.step import OnStep, Step, ignore_step
from kline_trio.storage.store import Store
from kline_trio.storage.table import candles_of
from kline_trio.storage.universe import Sighting, UniverseFile, read_universe
from tests.builders import COIN as COIN_3M
from tests.builders import SPOT, START_MS, USDT, minute, truth
from tests.lake.lossy_proxy import Fault, LossyProxy, nth, seeded
from tests.lake.servers import Server, location_of
from tests.lake.support import (
    ETH,
    FIRST,
    begin_and_publish,
    lake_candles,
    lake_table,
    make_store,
)
from tests.recorder.test_supervisor import config_in
from tests.storage.support import (
    BTC,
    LAYOUTS,
    at,
    batches,
    child_environment,
    everything_under,
    faults,
    merge_all,
    minutes,
    open_store,
    span,
)
from tests.virtual import joined

ALL = Filter()


def restored(
    location: Location,
    into: Path,
    layout: str = DEFAULT_LAYOUT,
    wanted: Filter = ALL,
    on_step: OnStep = ignore_step,
) -> list[RestoredSeries]:
    return list(restore(location, into, Layout(layout), wanted, "rec-new", on_step))


@attrs.frozen
class Content:
    """What a store knows, wherever it keeps it."""

    candles: dict[Series, list[Candle]]
    accounts: dict[Series, SeriesAccount]
    gaps: list[Gap]
    revisions: list[Revision]
    universe: pa.Table

    @classmethod
    def of(cls, path: Path) -> "Content":
        with journal_view(path) as journal:
            known = journal.accounts(), list(journal.gaps()), list(journal.revisions())
        return cls(candles_in(path), *known, read_universe(universe_path(path)))


def candles_in(path: Path) -> dict[Series, list[Candle]]:
    tables = {one: stored_table(path, one) for one in series(path)}
    return {one: candles_of(table) for one, table in tables.items() if table is not None}


def gaps_of(path: Path, one: Series = BTC) -> list[Gap]:
    with journal_view(path) as journal:
        return list(journal.gaps([one]))


def see(store: Store, *names: str) -> None:
    seen = [
        Sighting(at(n), "spot", Listing(symbol=name, status="TRADING"))
        for n, name in enumerate(names)
    ]
    UniverseFile.open(store.path).append(seen)


@pytest.fixture
def published(tmp_path: Path, folder_lake: Location) -> Path:
    """A store with all that a store can have, which is in the lake."""
    with whole_store(tmp_path / "data") as store:
        begin_and_publish(store, folder_lake)
    return tmp_path / "data"


@contextmanager
def whole_store(path: Path) -> Iterator[Store]:
    """A store whose candles have come in every way, and whose ledger names all that is absent."""
    store = make_store(path)
    see(store, "BTCUSDT", "ETHUSDT")
    merge_all(store)
    ends = {BTC: 22, ETH: 6}
    gaps = [
        Gap(one, span(FIRST + end, FIRST + 40), at(FIRST + 40), Reason.RECORDER_DOWN)
        for one, end in ends.items()
    ]
    store.journal.settle(gaps, {})
    store.journal.accept(minutes(FIRST + 30, FIRST + 33))
    yield store
    store.close()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_store_of_one_recorder_comes_back_as_it_was(
    layout: str, published: Path, folder_lake: Location, tmp_path: Path
) -> None:
    done = restored(folder_lake, tmp_path / "new", layout)
    ours, theirs = Content.of(tmp_path / "new"), Content.of(published)
    assert ours == theirs
    assert len(theirs.gaps) > 4
    assert len(theirs.revisions) > 4
    assert faults(tmp_path / "new") == []
    assert {one.series: one.rows for one in done} == {
        one: len(rows) for one, rows in theirs.candles.items()
    }
    pending = [one for one in theirs.gaps if one.state is State.PENDING]
    absent = sum(one.series.interval.count(one.span) for one in pending)
    assert sum(one.pending for one in done) == absent > 0
    assert [path.name for path in (tmp_path / "new" / ".kline_trio" / "tmp").iterdir()] == []


def test_status_says_the_same_of_both(
    published: Path, folder_lake: Location, tmp_path: Path
) -> None:
    restored(folder_lake, tmp_path / "new")
    ours, theirs = status(tmp_path / "new"), status(published)
    assert ours.series == theirs.series
    assert all(one.holes == 0 for one in ours.series)


def test_a_restored_store_is_published_and_has_a_name_of_its_own(
    published: Path, folder_lake: Location, tmp_path: Path
) -> None:
    restored(folder_lake, tmp_path / "new")
    before = {name: lake_table(folder_lake, name) for name in ("candles", "revisions")}
    store = open_store(tmp_path / "new")
    state = store.journal.lake
    assert state is not None
    assert state.recorder == "rec-new"
    with journal_view(store.path) as journal:
        assert journal.unpublished().spans == {}
    assert begin_and_publish(store, folder_lake, "another name") == []
    for name, table in before.items():
        assert lake_table(folder_lake, name).equals(table), name
    names = lake_table(folder_lake, "accounts")["recorder"].to_pylist()
    assert {*names} == {"rec-a", "rec-new"}
    # What is new is published, and no revision of the store before.
    store.journal.accept(minutes(FIRST + 50, FIRST + 51))
    store.journal.accept(minutes(FIRST + 50, FIRST + 51, 9.0))
    [part] = begin_and_publish(store, folder_lake)
    assert (part.rows, part.inserted) == (1, 1)
    store.close()
    mine = lake_table(folder_lake, "revisions").filter(pa.compute.field("recorder") == "rec-new")
    assert mine["number"].to_pylist() == [1]


def test_a_store_is_restored_from_a_restored_one(
    published: Path, folder_lake: Location, tmp_path: Path
) -> None:
    """Its recorder is a second one in the lake: revisions and gaps do not double."""
    restored(folder_lake, tmp_path / "new")
    store = open_store(tmp_path / "new")
    begin_and_publish(store, folder_lake)
    store.close()
    restored(folder_lake, tmp_path / "third")
    assert Content.of(tmp_path / "third") == Content.of(published)


def test_what_two_recorders_saw_alike_is_restored_once(
    published: Path, folder_lake: Location, tmp_path: Path
) -> None:
    with whole_store(tmp_path / "copy") as store:
        begin_and_publish(store, folder_lake, "rec-b", most_rows=1_000)
    assert {*lake_table(folder_lake, "revisions")["recorder"].to_pylist()} == {"rec-a", "rec-b"}
    restored(folder_lake, tmp_path / "new")
    assert Content.of(tmp_path / "new") == Content.of(published)


def test_a_lake_is_restored_from_object_storage(lake: Location, tmp_path: Path) -> None:
    with whole_store(tmp_path / "data") as store:
        begin_and_publish(store, lake)
    restored(lake, tmp_path / "new")
    assert Content.of(tmp_path / "new") == Content.of(tmp_path / "data")


_recorded = st.lists(batches(), max_size=4)


def record(path: Path, parts: Sequence[list[ReceivedCandle]], watermark: int) -> Store:
    """A store that accounts for each series from its first candle on."""
    store = open_store(path)
    for batch in parts:
        store.journal.accept(batch)
    accounts, gaps = {}, []
    for one, rows in candles_in(path).items():
        times = [row.open_time_ms for row in rows]
        end_ms = one.interval.end_time_ms(times[0])
        for _ in range(watermark):
            end_ms = one.interval.end_time_ms(end_ms)
        accounts[one] = SeriesAccount(times[0], end_ms)
        for hole in one.interval.gaps(Span(times[0], end_ms), times):
            state = State.CLOSED if one == BTC else State.PENDING
            gaps.append(Gap(one, hole, end_ms, Reason.EXCHANGE_HAD_NONE, state))
    store.journal.settle(gaps, accounts)
    return store


@settings(max_examples=4, deadline=None)
@given(
    first=_recorded, second=_recorded, layout=st.sampled_from(LAYOUTS), at_once=st.integers(1, 8)
)
def test_of_two_recorders_that_disagree_the_rows_of_the_lake_are_restored(
    first: list[list[ReceivedCandle]],
    second: list[list[ReceivedCandle]],
    layout: str,
    at_once: int,
) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "ROWS_AT_ONCE", at_once)
        location, names = Location(str(Path(name, "lake"))), ("a", "b")
        for one, parts in zip(names, (first, second), strict=True):
            store = record(Path(name, one), parts, 6)
            begin_and_publish(store, location, one, most_rows=1_000)
            store.close()
        rows = lake_candles(location)
        if not rows:
            with pytest.raises(ConfigError, match="no such candles"):
                restored(location, Path(name, "new"), layout)
            return
        restored(location, Path(name, "new"), layout)
        found = candles_in(Path(name, "new"))
        assert faults(Path(name, "new")) == []
        wanted: dict[Series, list[Candle]] = {}
        for row in rows:
            one_series = Series(row["trade_type"], row["symbol"], row["time_interval"])
            begin_ms = round(row["candle_begin_time"].timestamp() * 1_000)
            values = [row[field.name] for field in attrs.fields(Candle)[1:]]
            candle = Candle(begin_ms, *values)
            if candle.is_possible(one_series.interval):
                wanted.setdefault(one_series, []).append(candle)
        assert found == {
            one: sorted(some, key=lambda row: row.open_time_ms) for one, some in wanted.items()
        }
        with journal_view(Path(name, "new")) as journal:
            assert journal.unpublished().spans == {}
            for one_series, account in journal.accounts().items():
                gaps = journal.gaps([one_series])
                absent = [gap.span for gap in gaps if gap.state is not State.FILLED]
                times = [row.open_time_ms for row in found.get(one_series, [])]
                runs = list(one_series.interval.runs(times))
                whole = joined_spans([*absent, *runs])
                due = Span(account.first_ms, account.watermark_ms)
                assert list(due.without(whole)) == []


def test_only_what_is_wanted_is_restored(
    published: Path, folder_lake: Location, tmp_path: Path
) -> None:
    since_ms = at(FIRST + 8)
    wanted = Filter(symbols=frozenset({"BTCUSDT"}), intervals=frozenset({"1m"}), since_ms=since_ms)
    [one] = restored(folder_lake, tmp_path / "new", wanted=wanted)
    assert one.series == BTC
    theirs = [row for row in candles_in(published)[BTC] if row.open_time_ms >= since_ms]
    assert candles_in(tmp_path / "new") == {BTC: theirs}
    with journal_view(tmp_path / "new") as journal:
        assert journal.accounts() == {BTC: SeriesAccount(since_ms, at(FIRST + 40))}
        assert all(one.newer.open_time_ms >= since_ms for one in journal.revisions())
    assert [gap.span for gap in gaps_of(tmp_path / "new")] == [
        span(FIRST + 8, FIRST + 9),
        span(FIRST + 20, FIRST + 22),
        span(FIRST + 22, FIRST + 30),
        span(FIRST + 30, FIRST + 33),
        span(FIRST + 33, FIRST + 40),
    ]
    assert faults(tmp_path / "new") == []


def test_a_symbol_that_no_recorder_has_is_named_before_anything_is_read(
    published: Path, folder_lake: Location, tmp_path: Path
) -> None:
    steps: list[Step] = []
    wanted = Filter(symbols=frozenset({"BTCUSD"}))
    with pytest.raises(ConfigError, match=r"no such candles of BTCUSD; did you mean BTCUSDT\?"):
        restored(folder_lake, tmp_path / "new", wanted=wanted, on_step=steps.append)
    assert len(steps) == 1
    assert not (tmp_path / "new").exists()


def test_rows_that_another_program_has_doubled_are_restored_once(
    published: Path, folder_lake: Location, tmp_path: Path
) -> None:
    write_deltalake(folder_lake.table_url("candles"), lake_table(folder_lake), mode="append")
    rows = lake_table(folder_lake).filter(pa.compute.field("symbol") == "ETHUSDT")
    lesser = rows.set_column(
        rows.column_names.index("trade_num"), "trade_num", pa.compute.subtract(rows["trade_num"], 1)
    )
    write_deltalake(folder_lake.table_url("candles"), lesser, mode="append")
    done = restored(folder_lake, tmp_path / "new")
    assert Content.of(tmp_path / "new") == Content.of(published)
    assert sum(one.doubled for one in done) == lake_table(folder_lake).num_rows - sum(
        one.rows for one in done
    )


def test_a_candle_that_the_lake_has_lost_is_asked_for_again(
    published: Path, folder_lake: Location, tmp_path: Path
) -> None:
    table = open_table(folder_lake, "candles")
    assert table is not None
    table.delta.delete("symbol = 'ETHUSDT'")
    done = restored(folder_lake, tmp_path / "new")
    assert ETH in {one.series for one in done}
    [eth] = [one for one in done if one.series == ETH]
    assert (eth.rows, eth.pending) == (0, 40)
    found = gaps_of(tmp_path / "new", ETH)
    assert {one.state for one in found} == {State.PENDING}
    assert Reason.FOUND_MISSING in {one.reason for one in found}
    assert faults(tmp_path / "new") == []


# Bad places and bad lakes


@pytest.mark.parametrize("is_file", [False, True])
def test_a_place_that_is_taken_stays_as_it_is(
    is_file: bool, published: Path, folder_lake: Location, tmp_path: Path
) -> None:
    into = tmp_path / "new" if not is_file else tmp_path / "file"
    if is_file:
        into.write_text("mine", encoding="utf-8")
    else:
        into.mkdir()
        (into / "mine").touch()
    before = everything_under(tmp_path)
    with pytest.raises(ConfigError, match="is there already"):
        restored(folder_lake, into)
    assert everything_under(tmp_path) == before


def test_an_empty_folder_is_as_good_as_none(
    published: Path, folder_lake: Location, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    restored(folder_lake, tmp_path / "new")
    assert Content.of(tmp_path / "new") == Content.of(published)


def test_a_place_without_a_lake_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="there is no lake of kline_trio"):
        restored(Location(str(tmp_path / "empty")), tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    assert list((tmp_path / "empty").iterdir()) == []


def data_files(location: Location, name: str = "candles") -> list[Path]:
    return sorted(Path(location.url, name).rglob("*.parquet"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def cut_to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


def overwrite(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(200)
    path.write_bytes(content)


def newer_format(path: Path) -> None:
    log = path.parents[3] if "month" in str(path) else path.parent
    while not (log / "_delta_log").is_dir():
        log = log.parent
    for one in (log / "_delta_log").glob("*.json"):
        one.write_text(
            one.read_text(encoding="utf-8").replace(
                '"kline_trio.format":"1"', '"kline_trio.format":"2"'
            )
        )


def foreign(path: Path) -> None:
    log = path
    while not (log / "_delta_log").is_dir():
        log = log.parent
    for one in (log / "_delta_log").glob("*.json"):
        one.write_text(one.read_text(encoding="utf-8").replace("kline_trio.format", "other.format"))


@pytest.mark.parametrize(
    ("damage", "kind", "words"),
    [
        (remove, LakeError, ".parquet"),
        (cut, LakeError, "missing or damaged"),
        (cut_to_nothing, LakeError, "missing or damaged"),
        (overwrite, LakeError, "damaged"),
        (newer_format, ForeignLakeError, "newer kline_trio"),
        (foreign, ForeignLakeError, "did not make"),
    ],
)
@pytest.mark.parametrize("table", ["candles", "accounts", "coverage"])
def test_a_damaged_lake_is_named_and_nothing_is_left(
    damage: Callable[[Path], None],
    kind: type[Exception],
    words: str,
    table: str,
    published: Path,
    folder_lake: Location,
    tmp_path: Path,
) -> None:
    damage(data_files(folder_lake, table)[-1])
    names = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(kind, match=words) as found:
        restored(folder_lake, tmp_path / "new")
    assert folder_lake.url in str(found.value)
    assert "\n" not in str(found.value)
    assert {path.name for path in tmp_path.iterdir()} == names


def changed(rows: pa.Table, name: str, values: "pa.Array[Any]") -> pa.Table:
    place = rows.column_names.index(name)
    return rows.set_column(place, rows.field(place), values.cast(rows.field(place).type))


def test_rows_that_can_be_no_candles_are_left_out_and_asked_for(
    published: Path, folder_lake: Location, tmp_path: Path
) -> None:
    rows = lake_table(folder_lake).filter(pa.compute.field("symbol") == "ETHUSDT").slice(0, 1)
    begins = rows["candle_begin_time"].combine_chunks()
    off_the_grid = pa.compute.add(begins, pa.scalar(7_000_000, pa.duration("us")))
    between = pa.compute.add(begins, pa.scalar(1, pa.duration("us")))
    wrong = [changed(rows, "candle_begin_time", one) for one in (off_the_grid, between)]
    write_deltalake(folder_lake.table_url("candles"), pa.concat_tables(wrong), mode="append")
    table = open_table(folder_lake, "candles")
    assert table is not None
    table.delta.update({"low": "9e9"}, predicate="symbol = 'ETHUSDT' AND close = 3.0")
    done = restored(folder_lake, tmp_path / "new")
    assert {one.series: one.impossible for one in done if one.impossible} == {ETH: 4}
    assert faults(tmp_path / "new") == []
    theirs = candles_in(published)[ETH]
    assert candles_in(tmp_path / "new")[ETH] == [row for row in theirs if row.close != 3.0]
    lost = span(FIRST + 3, FIRST + 5)
    [gap] = [one for one in gaps_of(tmp_path / "new", ETH) if one.span.common_with(lost)]
    assert (gap.span.from_ms, gap.state) == (lost.from_ms, State.PENDING)


def test_a_symbol_that_can_be_no_file_is_refused(
    published: Path, folder_lake: Location, tmp_path: Path
) -> None:
    rows = lake_table(folder_lake).slice(0, 1)
    at_column = rows.column_names.index("symbol")
    wrong = rows.set_column(at_column, rows.field(at_column), pa.array(["../../x"]))
    write_deltalake(folder_lake.table_url("candles"), wrong, mode="append")
    with pytest.raises(LakeError, match="a symbol holds only letters"):
        restored(folder_lake, tmp_path / "new")
    assert not (tmp_path / "x").exists()


def test_a_full_disk_is_known_before_a_candle_is_read(
    published: Path, folder_lake: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    steps: list[Step] = []
    with pytest.raises(DiskFullError, match=r"33 candles may take .* bytes"):
        restored(folder_lake, tmp_path / "new", on_step=steps.append)
    assert len(steps) == 2
    assert not (tmp_path / "new").exists()


def test_a_disk_that_is_full_in_the_middle_leaves_nothing(
    published: Path, folder_lake: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {path.name for path in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise DiskFullError("No space left on device")

    for module, name in ((Store, "write_new"), (spool.Spool, "_append")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, full)
            with pytest.raises(DiskFullError, match="No space left"):
                restored(folder_lake, tmp_path / "new")
        assert {path.name for path in tmp_path.iterdir()} == names


def test_a_lost_answer_of_the_object_store_is_asked_for_again(
    lossy: tuple[LossyProxy, Server], prefix: str, tmp_path: Path
) -> None:
    proxy, server = lossy
    location = location_of(server, prefix)
    with whole_store(tmp_path / "data") as store:
        begin_and_publish(store, location, most_rows=1_000)
    proxy.start_anew(seeded(3, 0.1, [Fault.CUT_REPLY, Fault.LOST_REPLY, Fault.ANSWER_503]))
    restored(location, tmp_path / "new")
    assert proxy.faults
    assert Content.of(tmp_path / "new") == Content.of(tmp_path / "data")


def test_an_object_store_that_fails_at_a_request_is_named_and_nothing_is_left(
    lossy: tuple[LossyProxy, Server], prefix: str, tmp_path: Path
) -> None:
    proxy, server = lossy
    location = location_of(server, prefix)
    with whole_store(tmp_path / "data") as store:
        begin_and_publish(store, location, most_rows=1_000)
    proxy.start_anew()
    restored(location, tmp_path / "whole")
    count = len(proxy.requests)
    for number in (0, count // 2, count - 1):
        # More often than the libraries try again.
        proxy.start_anew(nth(number, Fault.ANSWER_500, times=9))
        with pytest.raises(LakeError) as found:
            restored(location, tmp_path / "new")
        assert "\n" not in str(found.value)
        assert location.url in str(found.value)
        assert {path.name for path in tmp_path.iterdir()} == {"data", "whole"}


# Interrupts

_RESTORE = """
import signal, sys
from pathlib import Path
# Whoever runs the tests in the background lets them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
from kline_trio.commands.cli import main
from kline_trio.lake import restore as restoring
ready, place, into = sys.argv[1:]
inner = restoring._restored
count = 0
def slow(*arguments):
    global count
    count += 1
    if count == 2:
        Path(ready).touch()
        import time
        time.sleep(60)
    return inner(*arguments)
restoring._restored = slow
sys.exit(main(["restore", place, "--into", into]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupt_leaves_no_store_and_it_can_be_begun_again(
    number: signal.Signals, published: Path, folder_lake: Location, tmp_path: Path
) -> None:
    ready, into = tmp_path / "ready", tmp_path / "new"
    process = subprocess.Popen(
        [sys.executable, "-c", _RESTORE, ready, folder_lake.url, into],
        env=child_environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not ready.exists() and process.poll() is None:
        os.sched_yield()
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    assert not into.exists()
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert not into.with_name("new.unfinished").exists()
    restored(folder_lake, into)
    assert Content.of(into) == Content.of(published)
    assert not into.with_name("new.unfinished").exists()


# A recorder goes on


async def test_a_machine_is_lost_and_another_one_goes_on_until_it_equals_the_truth(
    autojump_clock: trio.testing.MockClock, folder_lake: Location, tmp_path: Path
) -> None:
    every = (SPOT, USDT, COIN_3M)
    exchange = Exchange(start_ms=START_MS, speed=60)
    first, second = tmp_path / "first", tmp_path / "second"
    async with joined(exchange) as environment:
        async with open_recorder(config_in(first, *every), environment):
            await trio.sleep(40)
        store = Store.open(first / "data", None)
        begin_and_publish(store, folder_lake, most_rows=50)
        store.close()
        async with open_recorder(config_in(first, *every), environment):
            await trio.sleep(20)
        # What the machine recorded since it published is lost with it.
        shutil.rmtree(first)
        await trio.sleep(30)
        restored(folder_lake, second / "data")
        assert faults(second / "data") == []
        async with open_recorder(config_in(second, *every), environment):
            await trio.sleep(40)
        now_ms = exchange.now_ms(trio.current_time())
    assert faults(second / "data") == []
    for one in every:
        found = candles_in(second / "data")[one]
        assert found == truth(exchange, one, found[0].open_time_ms, found[-1].open_time_ms + 1)
        assert found[0].open_time_ms < minute(10)
        assert found[-1].open_time_ms > now_ms - 10 * 60_000
        assert [gap.reason for gap in gaps_of(second / "data", one)] == [Reason.RECORDER_DOWN]
    store = Store.open(second / "data", None)
    begin_and_publish(store, folder_lake, most_rows=50)
    store.close()
    restored(folder_lake, tmp_path / "third")
    assert candles_in(tmp_path / "third") == candles_in(second / "data")
