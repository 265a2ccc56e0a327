"""Stores into one: the same bytes in either order, and every disagreement told."""

import shlex
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kline_trio
from kline_trio.candle import Candle, Series
from kline_trio.commands.cli import main
from kline_trio.errors import ConfigError, DamagedError, KlineTrioError
from kline_trio.storage.journal.ledger import Reason, SeriesAccount
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.reader import read
from kline_trio.storage.status import status
from kline_trio.storage.table import table_of
from kline_trio.storage.unite import UnitedSeries, common_layout, unite
from tests.storage.journal.test_ledger import absent, at, candles, refill
from tests.storage.support import (
    BTC,
    LAYOUTS,
    START_MS,
    Rows,
    apply,
    batches,
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
