"""Snapshots are whole, also beside a recorder; united stores do not depend on their order."""

import errno
import os
import shlex
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kline_trio
from kline_trio.candle import Candle, Series
from kline_trio.commands.cli import main
from kline_trio.errors import (
    ConfigError,
    DamagedError,
    DiskFullError,
    KlineTrioError,
    StoreInUseError,
)
from kline_trio.reading.candles import read
from kline_trio.storage.check import check
from kline_trio.storage.copy_stores import Snapshot, UnitedSeries, common_layout, snapshot, unite
from kline_trio.storage.held import lock_folder
from kline_trio.storage.journal.ledger import Reason, SeriesAccount
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.paths import universe_path
from kline_trio.storage.status import status
from kline_trio.storage.step import Step
from kline_trio.storage.table import table_of
from tests.storage.journal.test_ledger import candles, refill
from tests.storage.support import (
    BTC,
    COIN,
    LAYOUTS,
    START_MS,
    Rows,
    absent,
    apply,
    at,
    batches,
    everything_under,
    make_candle,
    merge_all,
    minutes,
    open_store,
    ordered,
    receive,
    write_minutes,
)

_stores = st.tuples(st.sampled_from(LAYOUTS), st.lists(batches(), max_size=4), st.booleans())


def contents(store: Path) -> dict[str, bytes]:
    """The candle files of a store."""
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in store.rglob("*.p*q*")
        if path.is_file() and ".kline_trio" not in path.parts
    }


def better(one: Candle, other: Candle) -> Candle:
    """Which of two values is kept, in the words of docs/storage.md."""

    def rank(candle: Candle) -> tuple[float, ...]:
        return (
            candle.trade_num,
            candle.volume,
            candle.quote_volume,
            candle.taker_buy_base_asset_volume,
            candle.taker_buy_quote_asset_volume,
            candle.high,
            candle.low,
            candle.open,
            candle.close,
        )

    return max(one, other, key=rank)


@settings(max_examples=25, deadline=None)
@given(first=_stores, second=_stores, template=st.sampled_from(LAYOUTS))
def test_uniting_is_symmetric_and_is_what_dicts_would_do(
    first: tuple[str, list[list[object]], bool],
    second: tuple[str, list[list[object]], bool],
    template: str,
) -> None:
    models: list[dict[Series, Rows]] = []
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name, "a"), Path(name, "b")]
        for path, (layout, parts, in_files) in zip(paths, (first, second), strict=True):
            model: dict[Series, Rows] = {}
            store = open_store(path, layout)
            for batch in parts:
                store.journal.accept(batch)  # type: ignore[arg-type]
                apply(model, batch)  # type: ignore[arg-type]
                if in_files:
                    merge_all(store)
            store.close()
            models.append(model)
        told: list[list[UnitedSeries]] = []
        for order, into in ((paths, "c"), (paths[::-1], "d")):
            told.append(list(unite(order, Path(name, into), Layout(template))))
        assert contents(Path(name, "c")) == contents(Path(name, "d"))
        assert [one.rows for one in told[0]] == [one.rows for one in told[1]]
        united = {series: dict(rows) for series, rows in models[0].items()}
        different = 0
        for series, rows in models[1].items():
            mine = united.setdefault(series, {})
            for open_time_ms, candle in rows.items():
                known = mine.get(open_time_ms, candle)
                different += known != candle
                mine[open_time_ms] = better(known, candle)
        assert {one.series for one in told[0]} == set(united)
        assert sum(len(one.disagreements) for one in told[0]) == different
        for series, rows in united.items():
            frame = read(Path(name, "c"), series.trade_type, series.symbol, series.time_interval)
            assert frame.equals(table_of(series, ordered(rows)).to_pandas())
        reopened = open_store(Path(name, "c"), template)
        assert reopened.journal.rows() == 0
        placed = {str(file.path) for file in reopened.journal.files()}
        assert placed == set(contents(Path(name, "c")))
        reopened.close()


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_disagreement_names_both_values(order: str, tmp_path: Path) -> None:
    """As many trades are no win: the volume decides, whichever store is named first."""
    for name, value in (("a", 1.0), ("b", 2.0)):
        store = open_store(tmp_path / name)
        store.journal.accept(minutes(0, 3))
        store.journal.accept(minutes(1, 2, value))
        merge_all(store)
        store.close()
    [one] = unite([tmp_path / name for name in order], tmp_path / "c", Layout())
    [found] = one.disagreements
    assert (found.kept["volume"], found.dropped["volume"]) == (2.0, 1.0)
    assert "trade_num" not in found.kept
    assert list(read(tmp_path / "c", "spot", "BTCUSDT", "1m")["volume"]) == [1.0, 2.0, 1.0]


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_more_trades_win_over_more_volume(order: str, tmp_path: Path) -> None:
    for name, value, trades in (("a", 1.0, 9), ("b", 2.0, 8)):
        store = open_store(tmp_path / name)
        store.journal.accept(receive(BTC, make_candle(START_MS, value, trades)))
        store.close()
    [one] = unite([tmp_path / name for name in order], tmp_path / "c", Layout())
    [found] = one.disagreements
    assert (found.kept["trade_num"], found.dropped["trade_num"]) == (9, 8)
    assert list(read(tmp_path / "c", "spot", "BTCUSDT", "1m")["volume"]) == [1.0]


@pytest.mark.parametrize("is_accounted", [False, True])
def test_what_waits_for_a_merge_is_united_as_the_merge_would_leave_it(
    tmp_path: Path, is_accounted: bool
) -> None:
    """Values and revisions: of REST, which gives way, and of the stream, which does not."""
    for name in ("waiting", "merged"):
        store = open_store(tmp_path / name)
        if is_accounted:
            store.journal.settle([], {BTC: SeriesAccount(at(0), at(6))})
        store.journal.accept(minutes(0, 4, value=1.5))
        merge_all(store)
        store.journal.refill([refill(0, 6, *candles(0, 6, 1.7))])
        store.journal.accept(minutes(3, 5, value=1.9))
        if name == "merged":
            merge_all(store)
        store.close()
        list(unite([tmp_path / name], tmp_path / f"{name} united", Layout()))
    waiting, merged = tmp_path / "waiting united", tmp_path / "merged united"
    assert contents(waiting) == contents(merged)
    assert list(read(waiting, "spot", "BTCUSDT")["close"]) == [1.5, 1.5, 1.5, 1.9, 1.9, 1.7]
    noted = kline_trio.revisions(merged)
    assert len(noted)
    assert noted.equals(kline_trio.revisions(waiting))
    assert noted.equals(kline_trio.revisions(tmp_path / "merged"))


@pytest.mark.parametrize("template", LAYOUTS)
def test_a_layout_and_back_gives_the_same_bytes(template: str, tmp_path: Path) -> None:
    store = open_store(tmp_path / "a")
    store.journal.accept(minutes(0, 3_000))
    merge_all(store)
    store.close()
    list(unite([tmp_path / "a"], tmp_path / "b", Layout(template)))
    list(unite([tmp_path / "b"], tmp_path / "c", Layout()))
    assert contents(tmp_path / "a") == contents(tmp_path / "c")
    assert len(contents(tmp_path / "b")) == {0: 1, 1: 2, 2: 3}[LAYOUTS.index(template)]
    assert not list(tmp_path.glob("*.unfinished"))


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    write_minutes(tmp_path / "a", 2, 1).close()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        list(unite([tmp_path / "a"], tmp_path / "b", Layout()))
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["mine"]
    with pytest.raises(ConfigError, match="there is no store"):
        list(unite([tmp_path / "none"], tmp_path / "c", Layout()))
    assert not (tmp_path / "c").exists()


def test_a_damaged_source_is_named_and_the_new_store_is_not_there(tmp_path: Path) -> None:
    """What was begun is swept by the next attempt."""
    write_minutes(tmp_path / "a", 50, 0).close()
    target = tmp_path / "a" / "spot_BTCUSDT_1m.pqt"
    whole = target.read_bytes()
    target.write_bytes(whole[:90] + b"\xff" + whole[91:])
    with pytest.raises(KlineTrioError, match=target.name):
        list(unite([tmp_path / "a"], tmp_path / "b", Layout()))
    assert not (tmp_path / "b").exists()
    target.write_bytes(whole)
    [one] = unite([tmp_path / "a"], tmp_path / "b", Layout())
    assert one.rows == 50
    assert not list(tmp_path.glob("*.unfinished"))


@pytest.mark.parametrize("name", ["foo.parquet", "old spot_BTCUSDT_1m.parquet"])
def test_a_damaged_file_of_others_is_named_and_no_reason_to_stop(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_minutes(tmp_path / "a", 50, 2).close()
    (tmp_path / "a" / name).write_bytes(b"junk")
    a, b, c = (str(tmp_path / name) for name in "abc")
    assert main(["merge", a, a, "--into", b]) == 1
    assert main(["relayout", a, "--layout", LAYOUTS[1], "--into", c]) == 1
    told = capsys.readouterr().err.splitlines()
    assert [f"{tmp_path / 'a' / name} is damaged" in line for line in told] == [True, True]
    assert [len(read(made, "spot", "BTCUSDT", "1m")) for made in (b, c)] == [52, 52]


def test_a_store_of_which_a_listed_file_is_no_parquet_is_not_united(tmp_path: Path) -> None:
    """Its candles would be lost."""
    write_minutes(tmp_path / "a", 50, 2).close()
    (tmp_path / "a" / "spot_BTCUSDT_1m.pqt").write_bytes(b"junk")
    with pytest.raises(DamagedError, match="spot_BTCUSDT_1m"):
        list(unite([tmp_path / "a"], tmp_path / "b", Layout()))
    assert not (tmp_path / "b").exists()


def test_stores_in_different_layouts_need_one_to_be_named(tmp_path: Path) -> None:
    write_minutes(tmp_path / "a", 2, 0, LAYOUTS[0]).close()
    write_minutes(tmp_path / "b", 2, 0, LAYOUTS[1]).close()
    with pytest.raises(ConfigError, match="choose one with --layout"):
        common_layout([tmp_path / "a", tmp_path / "b"])
    assert common_layout([tmp_path / "b", tmp_path / "none"]) == Layout(LAYOUTS[1])


def test_the_merge_command_tells_the_disagreements(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("a", 1.0), ("b", 2.0)):
        store = open_store(tmp_path / name)
        store.journal.accept(minutes(0, 2, value))
        store.close()
    a, b, c = (str(tmp_path / name) for name in "abc")
    assert main(["merge", a, b, "--into", c]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        "spot BTCUSDT-1m 2024-01-31 00:00:00+00:00: open 2.0 kept, 1.0 dropped, high"
    )
    assert lines[-2] == f"{c}: 1 series, 2 candles"
    assert lines[-1].startswith("the stores disagree on 2 candles")


def test_the_command_that_a_refusal_names_does_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_minutes(tmp_path / "da ta", 5, 2).close()
    (tmp_path / "recorder.toml").write_text(
        f'[streams.spot]\n1m = ["BTCUSDT"]\n[store]\npath = "da ta"\nlayout = "{LAYOUTS[1]}"\n',
        encoding="utf-8",
    )
    assert main([str(tmp_path / "recorder.toml")]) == 2
    told = capsys.readouterr().err
    words = shlex.split(told.split("python -m kline_trio ")[1])
    assert main(words) == 0
    assert "now swap" in capsys.readouterr().out
    made = tmp_path / "da ta-relayout"
    open_store(made, LAYOUTS[1]).close()
    assert len(read(made, "spot", "BTCUSDT", "1m")) == 7


def test_a_store_that_records_is_not_laid_out_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = write_minutes(tmp_path / "a", 5, 2)
    words = ["relayout", str(tmp_path / "a"), "--layout", LAYOUTS[1], "--into", "b"]
    assert main(words) == 75
    store.close()
    assert main([*words[:3], "nonsense", *words[4:]]) == 2
    assert "is missing" in capsys.readouterr().err


def test_the_ledger_goes_along(tmp_path: Path) -> None:
    """What both lack is absent for the reason that one of them knows; what one has, is not."""
    first = open_store(tmp_path / "a")
    first.journal.accept(minutes(0, 5))
    first.journal.settle([absent(5, 10)], {BTC: SeriesAccount(at(0), at(10))})
    first.journal.refill([refill(5, 10, closes=Reason.EXCHANGE_HAD_NONE)])
    first.journal.accept(minutes(2, 3, 7.0))
    first.close()
    second = open_store(tmp_path / "b")
    second.journal.settle([absent(3, 12)], {BTC: SeriesAccount(at(3), at(14))})
    second.journal.refill([refill(3, 12, *candles(7, 9))])
    second.journal.accept(minutes(12, 13))
    second.close()
    for order in (["a", "b"], ["b", "a"]):
        into = tmp_path / "-".join(order)
        list(unite([tmp_path / name for name in order], into, Layout(DEFAULT_LAYOUT)))
        frame = kline_trio.coverage(into)
        assert [
            (begin.minute, end.minute, *rest)
            for begin, end, *rest in frame[["from", "to", "reason", "state"]].itertuples(
                index=False, name=None
            )
        ] == [
            (5, 7, "the exchange had none", "closed"),
            (7, 9, "not received", "filled"),
            (9, 10, "the exchange had none", "closed"),
            (10, 12, "not received", "pending"),
            (13, 14, "not received", "pending"),
        ]
        assert len(kline_trio.revisions(into)) > 0
        [one] = status(into).series
        assert (one.rows, one.due) == (8, 14)


def test_a_snapshot_is_the_store_without_its_bytes(tmp_path: Path) -> None:
    """Files are links to the same bytes, the journal is a copy; the store is untouched."""
    write_minutes(tmp_path / "data", 5, 2).close()
    universe_path(tmp_path / "data").write_bytes(b"what the symbols were")
    before = everything_under(tmp_path / "data")
    assert snapshot(tmp_path / "data", tmp_path / "copy") == Snapshot(files=1, waiting=2)
    assert everything_under(tmp_path / "data") == before
    name = "spot_BTCUSDT_1m.pqt"
    assert (tmp_path / "copy" / name).samefile(tmp_path / "data" / name)
    assert universe_path(tmp_path / "copy").samefile(universe_path(tmp_path / "data"))
    read_from = [read(tmp_path / one, "spot", "BTCUSDT", "1m") for one in ("data", "copy")]
    assert read_from[0].equals(read_from[1])
    store = open_store(tmp_path / "copy")
    assert store.journal.rows() == 2
    store.close()


def test_what_comes_later_is_not_in_it(tmp_path: Path) -> None:
    store = write_minutes(tmp_path / "data", 5, 2)
    snapshot(tmp_path / "data", tmp_path / "copy")
    store.journal.accept(minutes(0, 20, value=9.0))
    merge_all(store)
    store.close()
    frame = read(tmp_path / "copy", "spot", "BTCUSDT", "1m")
    assert len(frame) == 7
    assert set(frame["open"]) == {1.0}


@pytest.mark.parametrize("template", LAYOUTS)
def test_beside_a_recorder_nothing_is_missed_and_nothing_is_amiss(
    template: str, tmp_path: Path
) -> None:
    store = write_minutes(tmp_path / "data", 5, 0, template)
    stop = threading.Event()
    accepted = 5

    def work() -> None:
        nonlocal accepted
        while not stop.is_set():
            store.journal.accept(minutes(accepted, accepted + 7))
            accepted += 7
            merge_all(store)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for count in range(25):
            known = accepted
            copy = tmp_path / f"copy{count}"
            snapshot(tmp_path / "data", copy)
            frame = read(copy, "spot", "BTCUSDT", "1m")
            assert len(frame) >= known
            assert len(frame) == (frame.index[-1] - frame.index[0]).total_seconds() / 60 + 1
            assert [file for file in check(copy) if file.faults] == []
    finally:
        stop.set()
        worker.join()
        store.close()
    open_store(copy, template).close()


def test_a_place_that_will_not_do_is_refused(tmp_path: Path) -> None:
    write_minutes(tmp_path / "data", 5, 2).close()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    for store, into, why in (
        ("data", "full", "is there already"),
        ("data", "data/copy", "inside the store"),
        ("full", "copy", "there is no store"),
    ):
        with pytest.raises(ConfigError, match=why):
            snapshot(tmp_path / store, tmp_path / into)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "full"]


def test_one_that_was_cut_off_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_minutes(tmp_path / "data", 5, 2).close()

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kline_trio.storage.copy_stores._list_young_files", fail)
        with pytest.raises(KeyboardInterrupt):
            snapshot(tmp_path / "data", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert snapshot(tmp_path / "data", tmp_path / "copy").files == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "data"]


def test_two_into_one_place_at_once_do_not_touch_each_other(tmp_path: Path) -> None:
    """The second one swept what the first had linked, and the first one told of success."""
    write_minutes(tmp_path / "data", 5, 2).close()
    told = []

    def second(*_: object) -> None:
        with pytest.raises(StoreInUseError, match="another program is making a store in") as no:
            snapshot(tmp_path / "data", tmp_path / "copy")
        told.append(no.value)

    assert snapshot(tmp_path / "data", tmp_path / "copy", second).files == 1
    assert told
    assert len(read(tmp_path / "copy", "spot", "BTCUSDT", "1m")) == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "data"]


@pytest.mark.parametrize("at_end", ["finished", "failed"])
def test_one_that_gets_the_lock_after_another_looks_again(
    at_end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one's folder got its own name, or is gone: the lock is on something else."""
    write_minutes(tmp_path / "data", 5, 2).close()
    work, into = tmp_path / "copy.unfinished", tmp_path / "copy"
    (work / ".kline_trio").mkdir(parents=True)

    def late(folder: int) -> None:
        end = into if at_end == "finished" else tmp_path / "gone"
        if not end.exists():
            work.rename(end)
        lock_folder(folder)

    monkeypatch.setattr("kline_trio.storage.new_store.lock_folder", late)
    if at_end == "finished":
        with pytest.raises(ConfigError, match="is there already"):
            snapshot(tmp_path / "data", into)
        assert sorted(path.name for path in into.iterdir()) == [".kline_trio"]
    else:
        assert snapshot(tmp_path / "data", into).files == 1
    assert not work.exists()


@pytest.mark.parametrize("name", ["foo.parquet", "spot_BTCUSDT_1m.pqt"])
def test_a_damaged_file_goes_along_and_is_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_minutes(tmp_path / "data", 5, 2).close()
    (tmp_path / "data" / name).write_bytes(b"junk")
    assert main(["snapshot", str(tmp_path / "data"), str(tmp_path / "copy")]) == 1
    assert f"{tmp_path / 'data' / name} is damaged" in capsys.readouterr().err
    assert (tmp_path / "copy" / name).read_bytes() == b"junk"


def test_the_command_finds_the_store_by_recorder_toml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_minutes(tmp_path / "data", 5, 2).close()
    (tmp_path / "recorder.toml").write_text('[streams.spot]\n1m = ["BTCUSDT"]\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["snapshot", "copy"]) == 0
    assert main(["snapshot", "recorder.toml", "copy2"]) == 0
    assert main(["snapshot", "data", "copy3"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "copy3: 1 file, 2 candles in the journal"
    assert main(["snapshot", "data", "copy3"]) == 2


def on_link(
    monkeypatch: pytest.MonkeyPatch,
    before: Callable[[Path], object] = lambda _: None,
    after: Callable[[], object] = lambda: None,
) -> None:
    """Let something happen just before or after each link to a file is made."""
    hardlink_to = Path.hardlink_to

    def link(new: Path, target: Path) -> None:
        before(target)
        hardlink_to(new, target)
        after()

    monkeypatch.setattr(Path, "hardlink_to", link)


def test_a_file_that_is_replaced_in_the_very_moment_is_linked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to a file that a rename has just taken the name from fails with ENOENT on Linux."""
    store = write_minutes(tmp_path / "data", 0, 5)
    merge_all(store)
    store.close()
    tries: list[Path] = []

    def replaced(target: Path) -> None:
        tries.append(target)
        if len(tries) < 3:
            raise FileNotFoundError(2, "No such file or directory", str(target))

    on_link(monkeypatch, before=replaced)
    assert snapshot(tmp_path / "data", tmp_path / "copy").files == 1
    assert len(tries) == 3


def test_what_is_merged_while_files_are_linked_is_in_the_copy_of_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal is copied before the first file is looked at."""
    store = write_minutes(tmp_path / "data", 5, 2)
    on_link(monkeypatch, after=lambda: merge_all(store))
    snapshot(tmp_path / "data", tmp_path / "copy")
    store.close()
    assert len(read(tmp_path / "copy", "spot", "BTCUSDT", "1m")) == 7


def test_a_file_that_is_newer_than_the_copy_of_the_journal_is_told_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its candles would be damage to a file that the journal knows otherwise."""
    store = write_minutes(tmp_path / "data", 5, 2)
    on_link(monkeypatch, before=lambda _: merge_all(store))
    snapshot(tmp_path / "data", tmp_path / "copy")
    store.close()
    assert [file for file in check(tmp_path / "copy") if file.faults] == []
    with journal_view(tmp_path / "copy") as journal:
        assert [file.rows for file in journal.files()] == [7]


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than the tests'."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system")
    with tempfile.TemporaryDirectory(dir=memory, prefix="kline_trio-") as name:
        yield Path(name)


def test_each_step_of_a_snapshot_is_told(tmp_path: Path) -> None:
    write_minutes(tmp_path / "data", 5, 2).close()
    steps: list[Step] = []
    snapshot(tmp_path / "data", tmp_path / "copy", steps.append)
    assert steps == [
        Step("copying the journal"),
        Step("reading the list of files"),
        Step("spot_BTCUSDT_1m.pqt", 0, 1, "file"),
        Step("listing the files that were replaced meanwhile"),
        Step("writing the names of the files to the disk"),
    ]


def test_each_step_of_uniting_stores_is_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        store = write_minutes(tmp_path / name, 5, 2)
        store.journal.accept(receive(COIN, make_candle(at(0, COIN))))
        store.close()
    steps: list[Step] = []
    list(unite([tmp_path / "a", tmp_path / "b"], tmp_path / "c", Layout(), on_step=steps.append))
    assert steps == [
        *[
            Step("looking for series: reading the list of files"),
            Step("looking for series: spot_BTCUSDT_1m.pqt", 0, 1, "file"),
        ]
        * 2,
        Step(str(COIN), 0, 2, "series"),
        Step(str(BTC), 1, 2, "series"),
        Step("finishing the new store"),
    ]


def test_to_another_disk_files_are_copied(
    tmp_path: Path, other_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_minutes(tmp_path / "data", 5, 2).close()
    universe_path(tmp_path / "data").write_bytes(b"what the symbols were")
    made = snapshot(tmp_path / "data", other_disk / "copy")
    assert made == Snapshot(files=1, waiting=2, copied=1)
    assert universe_path(other_disk / "copy").read_bytes() == b"what the symbols were"
    assert [file for file in check(other_disk / "copy") if file.faults] == []
    store = open_store(other_disk / "copy")
    merge_all(store)
    store.close()
    assert len(read(other_disk / "copy", "spot", "BTCUSDT", "1m")) == 7
    assert len(read(tmp_path / "data", "spot", "BTCUSDT", "1m")) == 7
    assert main(["snapshot", str(tmp_path / "data"), str(other_disk / "copy2")]) == 0
    assert "copy2: 1 file (1 copied, not linked), 2 candles" in capsys.readouterr().out


def test_beside_a_recorder_a_copy_misses_nothing(tmp_path: Path, other_disk: Path) -> None:
    store = write_minutes(tmp_path / "data", 5, 0)
    stop = threading.Event()

    def work() -> None:
        count = 5
        while not stop.is_set():
            store.journal.accept(minutes(count, count + 7))
            merge_all(store)
            count += 7

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for count in range(5):
            copy = other_disk / f"copy{count}"
            snapshot(tmp_path / "data", copy)
            frame = read(copy, "spot", "BTCUSDT", "1m")
            assert len(frame) == (frame.index[-1] - frame.index[0]).total_seconds() / 60 + 1
            assert [file for file in check(copy) if file.faults] == []
    finally:
        stop.set()
        worker.join()
        store.close()


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_without_hard_links_files_are_copied(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    write_minutes(tmp_path / "data", 5, 2).close()
    monkeypatch.setattr(os, "link", refuse)
    assert snapshot(tmp_path / "data", tmp_path / "copy").copied == 1
    assert len(read(tmp_path / "copy", "spot", "BTCUSDT", "1m")) == 7


def test_one_that_fails_leaves_nothing_behind(
    tmp_path: Path, other_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_minutes(tmp_path / "data", 5, 2).close()

    def full(_: object, new: Path, **__: object) -> None:
        Path(new).write_bytes(b"some")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(new))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(DiskFullError):
            snapshot(tmp_path / "data", other_disk / "copy")
    assert list(other_disk.iterdir()) == []
    monkeypatch.setattr(Path, "is_mount", lambda path: path == other_disk)
    with pytest.raises(ConfigError, match="is a disk's root"):
        snapshot(tmp_path / "data", other_disk)
