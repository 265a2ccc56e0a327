"""Reading a lake gives what reading the store gives that was published to it."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

import kline_trio
from kline_trio.candle import ReceivedCandle, Series, Source
from kline_trio.commands import cli
from kline_trio.errors import ConfigError, KlineTrioError
from kline_trio.lake.errors import ForeignLakeError, LakeError
from kline_trio.listing import Listing
from kline_trio.storage.journal.ledger import Reason, SeriesAccount
from kline_trio.storage.store import Store
from kline_trio.storage.table import open_times_ms
from kline_trio.storage.universe import Sighting, UniverseFile
from tests.lake.filling import lake_in, publish_candles, publish_store
from tests.lake.servers import Server, environment_of, location_of
from tests.storage.journal.test_ledger import candles, refill
from tests.storage.support import (
    BTC,
    COIN,
    MONTHLY,
    absent,
    at,
    child_environment,
    make_candle,
    merge_all,
    minutes,
    nth_open_time_ms,
    open_store,
    receive,
)

ETH = Series("spot", "ETHUSDT", "1m")
LISTED = Listing(symbol="BTCUSDT", status="TRADING", base="BTC", quote="USDT", tick_size="0.01")
HALTED = attrs.evolve(LISTED, status="BREAK")


def settle_gaps(store: Store) -> None:
    """5 and 6 are nowhere, 10 came over REST, 15 is still asked for."""
    store.journal.settle([], {one: SeriesAccount(at(0), at(20)) for one in (BTC, ETH)})
    store.journal.settle(
        [absent(5, 7), absent(10, 11, reason=Reason.RECORDER_DOWN), absent(15, 16)], {}
    )
    store.journal.refill(
        [refill(5, 7, closes=Reason.EXCHANGE_HAD_NONE), refill(10, 11, *candles(10, 11))]
    )


def gappy_minutes() -> list[ReceivedCandle]:
    return [*minutes(0, 5), *minutes(7, 10), *minutes(11, 15), *minutes(16, 20)]


@pytest.fixture(scope="module")
def gappy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store with gaps, two more symbols, a month of another market, a revision; and its lake."""
    folder = tmp_path_factory.mktemp("gappy")
    store = open_store(folder / "data")
    store.journal.accept(gappy_minutes())
    settle_gaps(store)
    merge_all(store)
    store.journal.accept(receive(ETH, *(make_candle(at(n), 5.0) for n in (1, 2, 3))))
    coins = [make_candle(nth_open_time_ms(COIN, n), 7.0) for n in range(600)]
    store.journal.accept(receive(COIN, *coins))
    store.journal.accept(receive(MONTHLY, make_candle(nth_open_time_ms(MONTHLY, 0), 2.0)))
    store.journal.accept(minutes(3, 4, value=9.0))
    merge_all(store)
    UniverseFile.open(store.path).append(
        [Sighting(at(0), "spot", LISTED), Sighting(at(5), "spot", HALTED)]
    )
    publish_store(store, lake_in(folder / "lake"))
    store.close()
    return store.path, folder / "lake"


READS: list[tuple[str, dict[str, Any]]] = [
    ("spot BTCUSDT 1m", {}),
    ("spot btcusdt 1m", {"index": "begin"}),
    ("spot BTCUSDT 1m", {"start": "2024-01-31 00:01", "end": "2024-01-31 00:03"}),
    ("spot BTCUSDT 1m", {"start": "2024-01-31 00:18:30", "end": "2025-06-01", "missing": "keep"}),
    ("spot BTCUSDT 1m", {"start": "2024-01-31 00:02:00.0005"}),
    ("spot BTCUSDT 1m", {"end": "1999-01-01"}),
    ("spot BTCUSDT 1m", {"start": "2024-02-01", "end": "2024-01-01"}),
    ("spot BTCUSDT 1m", {"missing": "null"}),
    ("spot BTCUSDT 1m", {"missing": "null", "end": "2024-01-31 00:30"}),
    ("spot BTCUSDT 1m", {"columns": "close"}),
    ("spot BTCUSDT 1m", {"columns": ["volume", "close"], "index": "begin"}),
    ("spot BTCUSDT 1mo", {}),
    ("spot BTCUSDT 1M", {"start": "2024-02-01"}),
    ("coin_futures BTCUSD_PERP 3m", {}),
    ("coin_futures BTCUSD_PERP 3m", {"start": "2024-01-31 23:57", "end": "2024-02-01 00:06"}),
]


@pytest.mark.parametrize(("what", "options"), READS, ids=str)
def test_read_gives_the_same_frame(
    gappy: tuple[Path, Path], what: str, options: dict[str, Any]
) -> None:
    store, lake = (kline_trio.read(path, *what.split(), **options) for path in gappy)
    pd.testing.assert_frame_equal(lake, store)


@pytest.mark.parametrize("result", ["arrow", "polars"])
@pytest.mark.parametrize(
    "symbols", [["ETHUSDT", "BTCUSDT"], ["BTCUSDT", "ETHUSDT"], ["btcusdt"], "ETHUSDT"]
)
def test_read_of_several_symbols_gives_the_same_table(
    gappy: tuple[Path, Path], result: str, symbols: list[str] | str
) -> None:
    options: dict[str, Any] = {"symbols": symbols, "result": result, "time_interval": "1m"}
    store, lake = (kline_trio.read(path, "spot", **options) for path in gappy)
    assert type(lake) in (pa.Table, pl.DataFrame)
    assert lake.equals(store)
    assert (lake.schema, len(lake)) == (store.schema, len(store))


def test_symbols_that_have_no_candle_in_a_time_have_no_rows_there(
    gappy: tuple[Path, Path],
) -> None:
    options: dict[str, Any] = {"symbols": ["ETHUSDT", "BTCUSDT"], "start": "2024-01-31 00:10"}
    store, lake = (kline_trio.read(path, "spot", **options) for path in gappy)
    pd.testing.assert_frame_equal(lake, store)
    assert set(lake["symbol"]) == {"BTCUSDT"}


def test_series_coverage_revisions_and_universe_are_the_same(gappy: tuple[Path, Path]) -> None:
    store, lake = gappy
    assert kline_trio.series(lake) == kline_trio.series(store)
    assert len(kline_trio.series(lake)) == 4
    for function in (kline_trio.coverage, kline_trio.revisions):
        frame = function(lake)
        assert list(frame)[-1] == "recorder"
        assert set(frame["recorder"]) == {"rec-a"}
        pd.testing.assert_frame_equal(frame.drop(columns="recorder"), function(store))
    assert len(kline_trio.coverage(lake)) == 3
    assert len(kline_trio.revisions(lake)) == 8
    pd.testing.assert_frame_equal(kline_trio.universe(lake), kline_trio.universe(store))
    at = {"at": "2024-01-31 00:03", "trade_type": "spot"}
    pd.testing.assert_frame_equal(kline_trio.universe(lake, **at), kline_trio.universe(store, **at))
    assert list(kline_trio.universe(lake)["status"]) == ["TRADING", "BREAK"]


def test_the_coverage_of_one_series_only(gappy: tuple[Path, Path]) -> None:
    _, lake = gappy
    assert len(kline_trio.coverage(lake, "spot", "btcusdt", "1m")) == 3
    assert len(kline_trio.coverage(lake, "coin_futures")) == 0
    assert len(kline_trio.coverage(lake, "spot", "ETHUSDT")) == 0
    for unknown in (("spot", "NOPE"), ("spot", "BTCUSDT", "1h"), (None, "BTCUSD")):
        with pytest.raises(KlineTrioError, match=f"no candles of .*{unknown[1]}.* in "):
            kline_trio.coverage(lake, *unknown)


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("spot BTCUSD 1m", {}),
        ("spot BTCUSDT 1h", {}),
        ("usdt_futures BTCUSDT 1m", {"start": "2024-01-31"}),
        ("spot BTCUSDT 1m", {"missing": "raise"}),
        ("spot BTCUSDT 1m", {"missing": "raise", "start": "2024-01-31 00:15"}),
        ("spot BTCUSDT 1m", {"columns": ["closing"]}),
        ("spot BTC-USDT 1m", {}),
        ("spots BTCUSDT 1m", {}),
        ("spot BTCUSDT 2m", {}),
        ("spot BTCUSDT 1m", {"index": "middle"}),
    ],
    ids=str,
)
def test_errors_are_the_same(gappy: tuple[Path, Path], what: str, options: dict[str, Any]) -> None:
    texts, kinds = [], set()
    for path in gappy:
        with pytest.raises((KlineTrioError, ValueError)) as caught:
            kline_trio.read(path, *what.split(), **options)
        texts.append(str(caught.value).replace(str(path), "PLACE"))
        kinds.add(type(caught.value))
    assert texts[0] == texts[1]
    assert len(kinds) == 1


def test_candles_that_no_recorder_has_accounted_for_yet_are_not_published_yet(
    gappy: tuple[Path, Path],
) -> None:
    _, lake = gappy
    late = ("2024-01-31 00:19", "2024-01-31 00:22")
    with pytest.raises(KlineTrioError, match=r"2 candles .*\(not published yet\)"):
        kline_trio.read(lake, "spot", "BTCUSDT", "1m", *late, missing="raise")


def test_a_candle_that_is_neither_there_nor_in_the_coverage_is_named_so(tmp_path: Path) -> None:
    """Somebody deleted it. That it was absent once, and was filled, is no reason."""
    lake = tmp_path / "lake"

    def settle(store: Store) -> None:
        store.journal.settle([], {BTC: SeriesAccount(at(0), at(9))})
        store.journal.settle([absent(4, 5, reason=Reason.RECORDER_DOWN)], {})
        store.journal.refill([refill(4, 5, *candles(4, 5))])

    others = [*minutes(0, 4), *minutes(5, 9)]
    publish_candles(tmp_path / "data", lake, others, settle=settle)
    assert list(kline_trio.coverage(lake)["state"]) == ["filled"]
    DeltaTable(str(lake / "candles")).delete(
        "candle_begin_time = arrow_cast('2024-01-31T00:04:00', "
        "'Timestamp(Microsecond, Some(\"UTC\"))')"
    )
    assert len(kline_trio.read(lake, "spot", "BTCUSDT", "1m")) == 8
    with pytest.raises(KlineTrioError, match=r"1 candle .* \(not in the ledger\)"):
        kline_trio.read(lake, "spot", "BTCUSDT", "1m", missing="raise")


def test_two_recorders_make_one_table_and_each_has_its_coverage(tmp_path: Path) -> None:
    """Each was down while the other recorded: no candle is absent, but for the last gap."""
    lake = tmp_path / "lake"

    def down(*gaps: tuple[int, int]) -> Callable[[Store], None]:
        def settle(store: Store) -> None:
            store.journal.settle([], {BTC: SeriesAccount(at(0), at(20))})
            several = [absent(*gap, reason=Reason.RECORDER_DOWN) for gap in gaps]
            store.journal.settle(several, {})

        return settle

    mine = [*minutes(0, 4), *minutes(6, 15)]
    others = [*minutes(0, 10), *minutes(12, 15)]
    publish_candles(tmp_path / "a", lake, mine, "rec-a", down((4, 6), (15, 20)))
    publish_candles(tmp_path / "b", lake, others, "rec-b", down((10, 12), (15, 20)))
    frame = kline_trio.read(lake, "spot", "BTCUSDT", "1m", missing="raise")
    assert len(frame) == 15
    coverage = kline_trio.coverage(lake)
    starts = [one.minute for one in coverage["from"]]
    assert list(zip(starts, coverage["recorder"], strict=True)) == [
        (4, "rec-a"), (10, "rec-b"), (15, "rec-a"), (15, "rec-b"),
    ]  # fmt: skip
    until = "2024-01-31 00:20"
    with pytest.raises(KlineTrioError, match=r"5 candles .* \(recorder was down\)$"):
        kline_trio.read(lake, "spot", "BTCUSDT", "1m", end=until, missing="raise")


def test_what_several_recorders_saw_of_a_market_is_one_history(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    seen = {"rec-a": [(0, LISTED), (9, HALTED)], "rec-b": [(2, LISTED), (5, HALTED)]}
    for recorder, rows in seen.items():

        def settle(store: Store, rows: list[tuple[int, Listing]] = rows) -> None:
            sightings = [Sighting(at(n), "spot", listing) for n, listing in rows]
            UniverseFile.open(store.path).append(sightings)

        publish_candles(tmp_path / recorder, lake, minutes(0, 1), recorder, settle)
    frame = kline_trio.universe(lake)
    assert [one.minute for one in frame["time"]] == [0, 5]
    assert list(frame["status"]) == ["TRADING", "BREAK"]


def test_a_repaired_value_is_read(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    publish_candles(tmp_path / "data", lake, minutes(0, 3))
    store = open_store(tmp_path / "data")
    store.journal.accept(minutes(1, 2, value=4.0), Source.REPAIR)
    publish_store(store, lake_in(lake))
    store.close()
    assert list(kline_trio.read(lake, "spot", "BTCUSDT", "1m")["close"]) == [1.0, 4.0, 1.0]


def test_a_candle_that_is_there_twice_is_an_error(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    publish_candles(tmp_path / "data", lake, minutes(0, 3))
    table = DeltaTable(str(lake / "candles"))
    write_deltalake(table, table.to_pyarrow_table().slice(0, 1), mode="append")
    with pytest.raises(LakeError, match="has 1 candle of spot BTCUSDT-1m twice"):
        kline_trio.read(lake, "spot", "BTCUSDT", "1m")


def test_an_address_that_is_no_lake_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only s3:// addresses and folders"):
        kline_trio.read("gs://bucket/klines", "spot", "BTCUSDT")
    with pytest.raises(ConfigError, match="names no bucket"):
        kline_trio.series("s3://")
    with pytest.raises(KlineTrioError, match="there is no folder"):
        kline_trio.read(tmp_path / "nothing", "spot", "BTCUSDT")
    write_deltalake(str(tmp_path / "other" / "candles"), pa.table({"a": [1]}))
    with pytest.raises(ForeignLakeError, match="kline_trio did not make"):
        kline_trio.read(tmp_path / "other", "spot", "BTCUSDT")


def test_a_lake_without_candles_has_no_series(tmp_path: Path) -> None:
    publish_candles(tmp_path / "data", tmp_path / "lake", [])
    assert kline_trio.series(tmp_path / "lake") == []
    with pytest.raises(KlineTrioError, match="lists all 0 series"):
        kline_trio.read(tmp_path / "lake", "spot", "BTCUSDT")
    assert len(kline_trio.universe(tmp_path / "lake")) == 0


def test_a_store_is_read_without_the_packages_of_lakes(tmp_path: Path) -> None:
    publish_candles(tmp_path / "data", tmp_path / "lake", minutes(0, 3))
    code = (
        "import sys\n"
        "packages = ('deltalake', 'obstore', 'botocore')\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name in packages:\n"
        "            raise ModuleNotFoundError(f'No module named {name}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import kline_trio\n"
        "print(len(kline_trio.read(sys.argv[1], 'spot', 'BTCUSDT')))\n"
        "kline_trio.coverage(sys.argv[1]), kline_trio.revisions(sys.argv[1])\n"
        "print([name for name in sys.modules if name.startswith('kline_trio.lake')])\n"
        "for lake in (sys.argv[2], 's3://bucket/klines'):\n"
        "    try:\n"
        "        kline_trio.read(lake, 'spot', 'BTCUSDT')\n"
        "    except kline_trio.KlineTrioError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "data"), str(tmp_path / "lake")],
        env=child_environment(), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    rows, modules, *errors = done.stdout.splitlines()
    assert (rows, modules) == ("3", "[]")
    assert len(errors) == 2
    for error in errors:
        assert error.endswith("pip install 'kline-trio[lake]'")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=40, unique=True),
    st.integers(-5, 60),
    st.integers(-5, 60),
)
def test_any_part_of_any_candles_is_read_as_from_the_store(
    tmp_path_factory: pytest.TempPathFactory, days: list[int], first: int, end: int
) -> None:
    """Days over three months: files of other months are not looked into, and none is missed."""
    folder = tmp_path_factory.mktemp("days")
    daily = Series("spot", "BTCUSDT", "1d")
    candles_of_days = [make_candle(nth_open_time_ms(daily, day)) for day in days]
    publish_candles(folder / "data", folder / "lake", receive(daily, *candles_of_days))
    begin_ms, day_ms = nth_open_time_ms(daily, 0), 86_400_000
    bounds = [pd.Timestamp(begin_ms + n * day_ms, unit="ms", tz="UTC") for n in (first, end)]
    table = kline_trio.read(folder / "lake", "spot", "BTCUSDT", "1d", *bounds, result="arrow")
    wanted = sorted(begin_ms + day * day_ms for day in days if first <= day < end)
    assert open_times_ms(table) == wanted


def test_a_lake_on_an_object_store_is_read_by_its_address(
    seaweed: Server,
    prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Endpoint and credentials are those of the environment."""
    url = f"s3://{seaweed.bucket}/{prefix}"
    with pytest.raises(KlineTrioError, match="no credentials"):
        kline_trio.series(url)
    for name, value in environment_of(seaweed).items():
        monkeypatch.setenv(name, value)
    for function in (kline_trio.series, kline_trio.coverage, kline_trio.revisions):
        with pytest.raises(ConfigError, match="no recorder has published there"):
            function(url)
    with pytest.raises(ConfigError, match="no recorder has published there"):
        kline_trio.universe(url)
    with pytest.raises(ConfigError, match="no recorder has published there"):
        kline_trio.read(url, "spot", "BTCUSDT", missing="raise")
    assert cli.main(["check", url]) == 2
    assert "no recorder has published there" in capsys.readouterr().err
    store = open_store(tmp_path / "data")
    store.journal.accept(gappy_minutes())
    settle_gaps(store)
    publish_store(store, location_of(seaweed, prefix))
    store.close()
    assert kline_trio.series(url) == [BTC]
    pd.testing.assert_frame_equal(
        kline_trio.read(url, "spot", "BTCUSDT", missing="null"),
        kline_trio.read(store.path, "spot", "BTCUSDT", missing="null"),
    )
    assert len(kline_trio.coverage(url)) == 3
    assert len(kline_trio.revisions(url)) == len(kline_trio.universe(url)) == 0
    # ETH is accounted for, and has no candles.
    assert cli.main(["check", url]) == 1
    said = capsys.readouterr().out
    assert said.startswith("spot ETHUSDT-1m: ")
    assert said.endswith(": 1 fault\n")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(KlineTrioError) as caught:
        kline_trio.read(url, "spot", "BTCUSDT")
    assert str(caught.value).startswith(f"{url}/candles: cannot be opened: ")
    assert "another" not in str(caught.value)


def test_other_threads_run_while_a_reader_waits_for_the_object_store(
    memory: Server, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object store is such a thread, so a reader that holds Python's lock has no answer."""
    for name, value in environment_of(memory).items():
        monkeypatch.setenv(name, value)
    store = open_store(tmp_path / "data")
    store.journal.accept(minutes(0, 5))
    publish_store(store, location_of(memory, prefix))
    store.close()
    begun = time.monotonic()
    assert len(kline_trio.read(f"s3://{memory.bucket}/{prefix}", "spot", "BTCUSDT")) == 5
    assert time.monotonic() - begun < 30
