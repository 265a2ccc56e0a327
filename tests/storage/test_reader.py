"""Reading: files and journal as one, whoever asks, while the recorder runs and after it."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kline_trio
from kline_trio.candle import Candle, ReceivedCandle, Series, Source
from kline_trio.errors import KlineTrioError
from kline_trio.interval import Span
from kline_trio.storage.catalog import first_stored_ms, last_end_ms, stored_table
from kline_trio.storage.journal import schema
from kline_trio.storage.journal.ledger import FetchResult
from kline_trio.storage.table import open_times_ms, table_of
from tests.storage.support import (
    BTC,
    LAYOUTS,
    MONTHLY,
    START_MS,
    Rows,
    apply,
    batches,
    child_environment,
    everything_under,
    make_candle,
    merge_all,
    minutes,
    nth_open_time_ms,
    open_store,
    ordered,
    receive,
    write_minutes,
)

COLUMNS = [
    "candle_begin_time", "open", "high", "low", "close", "volume", "quote_volume", "trade_num",
    "taker_buy_base_asset_volume", "taker_buy_quote_asset_volume",
]  # fmt: skip


def read_btc(path: Path, **options: object) -> pd.DataFrame:
    frame: pd.DataFrame
    frame = kline_trio.read(path, "spot", "btcusdt", "1m", **options)  # type: ignore[call-overload]
    return frame


def begins(frame: pd.DataFrame) -> list[int]:
    """The minutes since the tests' time begins."""
    passed = frame["candle_begin_time"] - pd.Timestamp(START_MS, unit="ms", tz="UTC")
    return [int(one / pd.Timedelta("1min")) for one in passed]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_first_stored_candle_of_a_span_is_found_in_files_and_journal(
    tmp_path: Path, layout: str
) -> None:
    """Minutes 0 to 2 and 10 to 12 are in files, 20 waits in the journal."""
    store = open_store(tmp_path, layout)
    for first, end in ((0, 3), (10, 13)):
        store.journal.accept(minutes(first, end))
        merge_all(store)
    store.journal.accept(minutes(20, 21))
    for from_minute, to_minute, wanted in (
        (0, 99, 0), (1, 99, 1), (3, 99, 10), (12, 99, 12), (13, 99, 20),
        (21, 99, None), (3, 10, None), (13, 20, None), (0, 0, None),
    ):  # fmt: skip
        within = Span(START_MS + from_minute * 60_000, START_MS + to_minute * 60_000)
        found_ms = first_stored_ms(tmp_path, BTC, within)
        assert found_ms == (None if wanted is None else START_MS + wanted * 60_000), within
    store.close()


def test_the_frame_is_the_designs(tmp_path: Path) -> None:
    write_minutes(tmp_path, 3, 2).close()
    frame = read_btc(tmp_path)
    assert list(frame.columns) == COLUMNS
    assert frame.index.name == "candle_end_time"
    assert str(frame.index.dtype) == "datetime64[ms, UTC]"
    assert str(frame["trade_num"].dtype) == "int64"
    assert (frame.index == frame["candle_begin_time"] + pd.Timedelta("1min")).all()
    assert begins(frame) == [0, 1, 2, 3, 4]


def test_what_pandas_reads_of_a_file_is_the_same_frame(tmp_path: Path) -> None:
    write_minutes(tmp_path, 5, 0).close()
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "spot_BTCUSDT_1m.pqt"), read_btc(tmp_path)
    )


def test_the_index_can_be_the_begin(tmp_path: Path) -> None:
    write_minutes(tmp_path, 2, 1).close()
    frame = read_btc(tmp_path, index="begin")
    assert frame.index.name == "candle_begin_time"
    assert list(frame.columns) == ["candle_end_time", *COLUMNS[1:]]
    assert list(frame.index) == list(read_btc(tmp_path)["candle_begin_time"])


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, [0, 1, 2, 3, 4, 5]),
        ("2024-01-31 00:01", "2024-01-31 00:03", [1, 2]),
        ("2024-01-31T00:02Z", None, [2, 3, 4, 5]),
        (None, datetime(2024, 1, 31, 0, 1), [0]),  # noqa: DTZ001 - naive on purpose
        (datetime(2024, 1, 31, 0, 4, tzinfo=UTC), None, [4, 5]),
        (datetime(2024, 1, 31, 2, 4, tzinfo=timezone(timedelta(hours=2))), None, [4, 5]),
        (date(2024, 1, 31), date(2024, 2, 1), [0, 1, 2, 3, 4, 5]),
        (pd.Timestamp("2024-01-31 00:00:00.0000001"), "2024-01-31 00:01:00.0000001", [1]),
        ("2024-01-31 00:03", "2024-01-31 00:03", []),
        ("2024-01-31 00:05", "2024-01-31 00:01", []),
        ("2030", None, []),
    ],
)
def test_start_is_inclusive_and_end_is_not_and_naive_times_are_utc(
    tmp_path: Path, start: object, end: object, expected: list[int]
) -> None:
    write_minutes(tmp_path, 3, 3).close()
    for index in ("end", "begin"):
        frame = read_btc(tmp_path, start=start, end=end, index=index)
        assert begins(frame.reset_index()) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ("margin", "BTCUSDT", "1m"),
        ("spot", "BTCUSDT", "7m"),
        ("spot", "../x", "1m"),
        ("spot", "BTCUSDT", "1m", "yesterday-ish"),
        ("spot", "BTCUSDT", "1m", 1_700_000_000),
        ("spot", "BTCUSDT", "1m", pd.NaT),
        ("spot", "BTCUSDT", "1m", None, None, "middle"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(
    tmp_path: Path, arguments: tuple[object, ...]
) -> None:
    with pytest.raises(ValueError, match=r".+"):
        kline_trio.read(tmp_path, *arguments)  # type: ignore[call-overload]


def test_a_candle_is_readable_the_moment_it_is_accepted(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for count in range(1, 4):
        store.journal.accept(minutes(count - 1, count))
        assert begins(read_btc(tmp_path)) == [*range(count)]
    store.close()


def test_the_journal_wins_over_the_file(tmp_path: Path) -> None:
    store = write_minutes(tmp_path, 3, 0)
    store.journal.accept(minutes(1, 2, value=9.0))
    assert list(read_btc(tmp_path)["close"]) == [1.0, 9.0, 1.0]
    merge_all(store)
    store.close()
    assert list(read_btc(tmp_path)["close"]) == [1.0, 9.0, 1.0]


def test_what_rest_says_of_a_stored_candle_is_never_shown(tmp_path: Path) -> None:
    """The merge keeps the stream's value, so a reader must not see another one until then."""
    store = open_store(tmp_path)
    store.journal.accept(minutes(0, 3, value=1.5))
    merge_all(store)
    there = tuple(make_candle(START_MS + n * 60_000, 1.7) for n in range(1, 4))
    span = Span(START_MS, START_MS + 4 * 60_000)
    store.journal.refill([FetchResult(BTC, span, there, Source.REST)])
    assert list(read_btc(tmp_path)["close"]) == [1.5, 1.5, 1.5, 1.7]
    merge_all(store)
    store.close()
    assert list(read_btc(tmp_path)["close"]) == [1.5, 1.5, 1.5, 1.7]


def test_a_waiting_repair_is_shown(tmp_path: Path) -> None:
    store = write_minutes(tmp_path, 3, 0)
    store.journal.accept(minutes(1, 2, value=9.0), Source.REPAIR)
    assert list(read_btc(tmp_path)["close"]) == [1.0, 9.0, 1.0]
    merge_all(store)
    store.close()
    assert list(read_btc(tmp_path)["close"]) == [1.0, 9.0, 1.0]


@pytest.mark.parametrize("is_recorded", [False, True])
def test_journals_without_sources_are_read(is_recorded: bool, tmp_path: Path) -> None:
    """Before version 3 only the stream brought candles. A recorder may hold such a journal."""
    write_minutes(tmp_path, 3, 0).close()
    path = tmp_path / ".kline_trio" / "journal.sqlite"
    path.unlink()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {'WAL' if is_recorded else 'DELETE'}")
        for step in schema._STEPS[:2]:
            connection.executescript(step)
        connection.execute("PRAGMA user_version = 2")
        connection.execute("INSERT INTO series VALUES (1, 'spot', 'BTCUSDT', '1m')")
        value = (START_MS + 60_000, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 7, 9.0, 9.0)
        connection.execute(f"INSERT INTO candle VALUES (1, 1{', ?' * 10})", value)
        if not is_recorded:
            connection.close()
        assert list(read_btc(tmp_path)["close"]) == [1.0, 9.0, 1.0]


_deeds = st.lists(
    st.tuples(
        st.sampled_from([*Source, "merge", "reopen"]),
        st.integers(0, 4),
        st.integers(1, 4),
        st.sampled_from([1.0, 1.5, 1.7]),
    ),
    max_size=7,
)
"""What is done to a store: a source brings this value of so many minutes from the n-th on."""


def shown(filed: dict[int, float], waiting: dict[int, tuple[float, bool]]) -> dict[int, float]:
    """What a reader sees of files and of what waits: values, and whether they replace."""
    filling = {ms: value for ms, (value, replaces) in waiting.items() if not replaces}
    replacing = {ms: value for ms, (value, replaces) in waiting.items() if replaces}
    return {**filling, **filed, **replacing}


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(layout=st.sampled_from(LAYOUTS), deeds=_deeds)
def test_what_is_read_before_a_merge_is_what_is_read_after_it(
    tmp_path_factory: pytest.TempPathFactory,
    layout: str,
    deeds: list[tuple[Source | str, int, int, float]],
) -> None:
    path = tmp_path_factory.mktemp("store")
    store = open_store(path, layout)
    filed: dict[int, float] = {}
    waiting: dict[int, tuple[float, bool]] = {}
    for deed, first, count, value in deeds:
        times = [nth_open_time_ms(BTC, 1_438 + n) for n in range(first, first + count)]
        brought = [make_candle(ms, value) for ms in times]
        span = Span(times[0], times[-1] + 60_000)
        expected = shown(filed, waiting)
        if deed == "merge":
            merge_all(store)
            filed, waiting = expected, {}
        elif deed == "reopen":
            store.close()
            store = open_store(path, layout)
        elif deed in (Source.STREAM, Source.REPAIR):
            store.journal.accept(receive(BTC, *brought), Source(deed))
            waiting |= dict.fromkeys(times, (value, True))
        elif deed == Source.ARCHIVE:
            merged = store.fill_in(table_of(BTC, brought), BTC)
            store.journal.keep_filled(BTC, merged, [span], [])
            filed = dict.fromkeys(times, value) | filed
        else:
            store.journal.refill([FetchResult(BTC, span, tuple(brought), Source.REST)])
            waiting = dict.fromkeys(times, (value, False)) | waiting
        table = stored_table(path, BTC)
        found = [] if table is None else [open_times_ms(table), table["close"].to_pylist()]
        assert dict(zip(*found, strict=True)) == shown(filed, waiting)
    before = stored_table(path, BTC)
    merge_all(store)
    store.close()
    after = stored_table(path, BTC)
    assert (before is None and after is None) or (
        before is not None and after is not None and before.equals(after)
    )


def test_the_last_candle_of_a_file_is_found_by_its_own_time(tmp_path: Path) -> None:
    write_minutes(tmp_path, 3, 0).close()
    start, end = (
        pd.Timestamp(START_MS + minute * 60_000, unit="ms", tz="UTC") for minute in (2, 3)
    )
    assert begins(read_btc(tmp_path, start=start)) == [2]
    assert begins(read_btc(tmp_path, start=start, end=end)) == [2]
    assert begins(read_btc(tmp_path, start=end)) == []


def test_what_is_merged_while_it_is_read_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal is looked at before the files: what leaves it meanwhile was seen in it."""
    store = write_minutes(tmp_path, 3, 2)
    read_row_groups = pq.ParquetFile.read_row_groups

    def read_and_merge(file: pq.ParquetFile, *arguments: Any, **options: Any) -> pa.Table:  # noqa: ANN401
        table = read_row_groups(file, *arguments, **options)
        monkeypatch.undo()
        merge_all(store)
        return table

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", read_and_merge)
    assert begins(read_btc(tmp_path)) == [0, 1, 2, 3, 4]
    assert store.journal.rows() == 0, "it was merged meanwhile"
    store.close()


def test_reading_changes_nothing(tmp_path: Path) -> None:
    write_minutes(tmp_path, 3, 2).close()
    before = everything_under(tmp_path)
    assert len(read_btc(tmp_path)) == 5
    assert kline_trio.series(tmp_path) == [BTC]
    assert everything_under(tmp_path) == before


def test_a_store_without_its_journal_is_still_a_store(tmp_path: Path) -> None:
    write_minutes(tmp_path, 3, 2).close()
    shutil.rmtree(tmp_path / ".kline_trio")
    assert begins(read_btc(tmp_path)) == [0, 1, 2]
    assert kline_trio.series(tmp_path) == [BTC]


@pytest.mark.skipif(os.geteuid() != 0, reason="ONLY ROOT CAN BECOME ANOTHER USER")
def test_another_user_reads_along_and_reads_a_copy_it_may_not_write() -> None:
    """Not in pytest's folder: each pytest that starts closes it to other users again."""
    code = (
        "import os, sys\n"
        "import kline_trio\n"
        "import kline_trio.reading.candles\n"
        "os.setuid(65534)\n"
        "for path in sys.argv[1:]:\n"
        "    print(len(kline_trio.read(path, 'spot', 'BTCUSDT', '1m')))\n"
    )

    def read_by_nobody(path: Path) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, path],
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        store = write_minutes(folder / "data", 3, 2)
        assert read_by_nobody(folder / "data") == "5"
        shutil.copytree(folder / "data", folder / "copy")
        store.close()
        assert read_by_nobody(folder / "data") == "5"
        for path in (folder / "copy").rglob("*"):
            path.chmod(0o555 if path.is_dir() else 0o444)
        (folder / "copy").chmod(0o555)
        assert read_by_nobody(folder / "copy") == "5"


def test_a_series_that_is_not_there_is_told_with_what_is(tmp_path: Path) -> None:
    write_minutes(tmp_path, 1, 0).close()
    with pytest.raises(KlineTrioError, match=r"no candles of spot BTCUSD-1m in .*BTCUSDT-1m"):
        kline_trio.read(tmp_path, "spot", "BTCUSD", "1m")
    with pytest.raises(KlineTrioError, match="there is no folder"):
        kline_trio.read(tmp_path / "none", "spot", "BTCUSD", "1m")
    with pytest.raises(KlineTrioError, match="there is no folder"):
        kline_trio.series(tmp_path / "none")


def test_months_and_minutes_never_share_a_file(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.journal.accept([*minutes(0, 1), *receive(MONTHLY, make_candle(1_704_067_200_000))])
    merge_all(store)
    store.close()
    assert sorted(path.name for path in tmp_path.glob("*.pqt")) == [
        "spot_BTCUSDT_1m.pqt",
        "spot_BTCUSDT_1mo.pqt",
    ]
    frame = kline_trio.read(tmp_path, "spot", "BTCUSDT", "1mo")
    assert list(frame.index) == [pd.Timestamp("2024-02-01", tz="UTC")]


def test_foreign_files_are_passed_by(tmp_path: Path) -> None:
    write_minutes(tmp_path, 2, 0).close()
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "spot_BTCUSDT_1m_notes.parquet")
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert begins(read_btc(tmp_path)) == [0, 1]
    assert kline_trio.series(tmp_path) == [BTC]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    write_minutes(tmp_path, 200, 0).close()
    file = tmp_path / "spot_BTCUSDT_1m.pqt"
    content = bytearray(file.read_bytes())
    content[300] ^= 4  # in a page: footers carry no checksum
    file.write_bytes(content)
    with pytest.raises(KlineTrioError, match=r"spot_BTCUSDT_1m\.pqt"):
        read_btc(tmp_path)
    file.write_bytes(b"PAR1 and no more")
    with pytest.raises(KlineTrioError, match=r"spot_BTCUSDT_1m\.pqt"):
        kline_trio.series(tmp_path)


def test_a_damaged_file_of_others_hides_no_series(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_minutes(tmp_path, 20, 0).close()
    (tmp_path / "foo.parquet").write_bytes(b"junk")
    assert kline_trio.series(tmp_path) == [BTC]
    assert "foo.parquet is damaged or no Parquet file" in caplog.text


def test_a_start_looks_beyond_a_damaged_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder with it and without a journal let no recorder start; `--simulate` none at all."""
    write_minutes(tmp_path, 20, 2).close()
    (tmp_path / "spot_BTCUSDT_1m.pqt").write_bytes(b"junk")
    assert list(last_end_ms(tmp_path)) == [BTC]
    shutil.rmtree(tmp_path / ".kline_trio")
    open_store(tmp_path).close()
    assert caplog.text.count("spot_BTCUSDT_1m.pqt is damaged or no Parquet file") == 2


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    layout=st.sampled_from(LAYOUTS),
    steps=st.lists(batches() | st.sampled_from(["merge", "reopen"]), max_size=6),
)
def test_what_is_read_is_what_was_accepted_the_last_value_of_each(
    tmp_path_factory: pytest.TempPathFactory,
    layout: str,
    steps: list[list[ReceivedCandle] | str],
) -> None:
    path = tmp_path_factory.mktemp("store")
    model: dict[Series, Rows] = {}
    store = open_store(path, layout)
    for step in steps:
        if isinstance(step, list):
            store.journal.accept(step)
            apply(model, step)
        elif step == "merge":
            merge_all(store)
        else:
            store.close()
            store = open_store(path, layout)
    for series, rows in model.items():
        frame = kline_trio.read(path, series.trade_type, series.symbol, series.time_interval)
        stored = [
            Candle(begin_ms, *values)
            for begin_ms, values in zip(
                frame["candle_begin_time"].astype("int64"),
                frame[COLUMNS[1:]].itertuples(index=False),
                strict=True,
            )
        ]
        assert stored == ordered(rows)
        assert frame.index.is_monotonic_increasing
        assert frame.index.is_unique
    assert kline_trio.series(path) == sorted(model)
    store.close()


def test_nothing_acknowledged_is_lost_by_kill_9_at_any_moment(tmp_path: Path) -> None:
    code = (
        "import sys, itertools\n"
        "from pathlib import Path\n"
        "from tests.storage.support import *\n"
        "store = open_store(Path(sys.argv[1]))\n"
        "for n in itertools.count(int(sys.argv[2])):\n"
        "    store.journal.accept(minutes(n, n + 1))\n"
        "    print(n, flush=True)\n"
        "    if n % 3 == 0: merge_all(store)\n"
    )
    told = -1
    for attempt in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", code, tmp_path, str(told + 1)],
            env=child_environment(),
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdout is not None
            for line in child.stdout:
                told = int(line)
                if told % 40 == 10 + attempt:
                    child.send_signal(signal.SIGKILL)
                    break
            told = max([told, *map(int, child.stdout)])
        found = begins(read_btc(tmp_path))
        assert found[: told + 1] == [*range(told + 1)]
        assert len(found) <= told + 2
        told = len(found) - 1
    store = open_store(tmp_path)
    assert not list((tmp_path / ".kline_trio" / "tmp").iterdir())
    merge_all(store)
    store.close()
    assert len(pd.read_parquet(tmp_path / "spot_BTCUSDT_1m.pqt")) == told + 1


def test_what_a_dead_recorder_left_of_the_index_is_not_waited_for(tmp_path: Path) -> None:
    """SQLite would wait ten seconds for somebody to mend it."""
    store = write_minutes(tmp_path / "live", 3, 4)
    shutil.copytree(tmp_path / "live", tmp_path / "dead")
    store.close()
    house = tmp_path / "dead" / ".kline_trio"
    with subprocess.Popen(["true"]) as child:
        child.wait(30)
    (house / "lock").write_text(f"{child.pid}\n")
    index = house / "journal.sqlite-shm"
    index.write_bytes(bytes(index.stat().st_size))
    begun = time.monotonic()
    assert len(kline_trio.read(tmp_path / "dead", "spot", "BTCUSDT", "1m")) == 7
    assert time.monotonic() - begun < 5
