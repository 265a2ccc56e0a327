"""Candles as CSV, by the command."""

import csv
import io
import os
from pathlib import Path

import pytest

import kline_trio
from kline_trio.commands import cli
from kline_trio.commands.progress import Progress
from tests.storage.support import (
    BTC,
    CHINESE,
    COIN,
    START_MS,
    make_candle,
    open_store,
    receive,
    write_minutes,
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three series; BTC in file and journal."""
    write_minutes(tmp_path / "data", 3, 2).close()
    opened = open_store(tmp_path / "data")
    for one in (COIN, CHINESE):
        begin_ms = one.interval.open_time_ms(START_MS)
        opened.journal.accept(receive(one, make_candle(begin_ms, 0.1 + 0.2)))
    opened.close()
    return tmp_path / "data"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_every_candle_of_file_and_journal_is_a_line(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", str(store), "--csv", "-"]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert [row["symbol"] for row in rows] == [COIN.symbol, *[BTC.symbol] * 5, CHINESE.symbol]
    frame = kline_trio.read(store, "spot", "BTCUSDT", "1m")
    assert [row["candle_end_time"] for row in rows[1:6]] == [
        f"{end:%Y-%m-%dT%H:%M:%SZ}" for end in frame.index
    ]
    assert rows[0]["close"] == "0.30000000000000004"


def test_a_file_is_written_whole_and_nothing_else_is_left(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out" / "candles.csv"
    path.parent.mkdir()
    assert cli.main(["export", str(store), "--csv", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: 3 series, 7 candles\n"
    assert len(rows_of(path.read_text(encoding="utf-8"))) == 7
    assert names_in(path.parent) == ["candles.csv"]


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--market", "spot"], 5),
        (["--market", "spot", "coin_futures"], 6),
        (["--symbol", "btcusdt"], 5),
        (["--interval", "3m", "--interval", "1w"], 2),
        (["--symbol", "BTCUSDT", "--start", "2024-01-31T00:01", "--end", "2024-01-31T00:03"], 2),
        (["--symbol", "BTCUSDT", "--start", "2025-01-01"], 0),
    ],
)
def test_options_choose_series_and_times(
    words: list[str], count: int, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", str(store), "--csv", "-", *words]) == 0
    assert len(rows_of(capsys.readouterr().out)) == count


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--market", "spots"], "--market spots: trade_type is one of spot"),
        (["--interval", "7m"], "--interval 7m: unknown interval; one of 1s 1m"),
        (["--symbol", "BTCUSD"], "no such candles of BTCUSD in "),
        (["--symbol", "BTCUSD"], "; did you mean BTCUSDT?"),
        (["--market", "spot", "--interval", "1h"], "no such candles in "),
        (["--start", "2024-02-01", "--end", "2024-02-01"], "--end is not after --start"),
    ],
)
def test_what_chooses_nothing_is_refused(
    words: list[str], problem: str, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "candles.csv"
    assert cli.main(["export", str(store), "--csv", str(path), *words]) == 2
    assert problem in capsys.readouterr().err
    assert not path.exists()


def test_a_file_is_replaced_only_by_force(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "candles.csv"
    path.write_text("mine", encoding="utf-8")
    words = ["export", str(store), "--csv", str(path)]
    assert cli.main(words) == 2
    assert "is there already: add --force to replace it" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == "mine"
    assert cli.main([*words, "--force"]) == 0
    assert len(rows_of(path.read_text(encoding="utf-8"))) == 7


def test_a_failure_leaves_the_old_file_and_no_other(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A damaged file of the store ends the export."""
    path = tmp_path / "out" / "candles.csv"
    path.parent.mkdir()
    path.write_text("mine", encoding="utf-8")
    candles = store / "spot_BTCUSDT_1m.pqt"
    content = bytearray(candles.read_bytes())
    content[len(content) // 4] ^= 4
    candles.write_bytes(content)
    assert cli.main(["export", str(store), "--csv", str(path), "--force"]) == 74
    assert "spot_BTCUSDT_1m.pqt is damaged" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == "mine"
    assert names_in(path.parent) == ["candles.csv"]


def test_what_is_no_file_is_never_replaced(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe", Path("/dev/null")):
        assert cli.main(["export", str(store), "--csv", str(place), "--force"]) == 2
        assert "is no file: write to - and redirect" in capsys.readouterr().err
    assert cli.main(["export", str(store), "--csv", str(tmp_path / "no" / "x.csv")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_a_file_that_another_program_made_meanwhile_stays(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "candles.csv"

    def show(*_: object) -> None:
        path.write_text("theirs", encoding="utf-8")

    monkeypatch.setattr(Progress, "show", show)
    monkeypatch.setattr("kline_trio.commands.export._check_target", lambda *_, **__: None)
    assert cli.main(["export", str(store), "--csv", str(path)]) == 2
    assert "was made meanwhile" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == "theirs"
    assert names_in(tmp_path) == ["candles.csv", "data"]


def test_a_configuration_names_its_store_or_the_made_up_one_beside_it(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "recorder.toml"
    config.write_text('[streams.spot]\n1m = ["BTCUSDT"]\n', encoding="utf-8")
    assert cli.main(["export", str(config), "--csv", "-"]) == 0
    assert len(rows_of(capsys.readouterr().out)) == 7
    store.rename(tmp_path / "data-simulated")
    assert cli.main(["export", str(config), "--csv", "-"]) == 2
    hint = f"there is no store {store}; made-up candles are in {tmp_path / 'data-simulated'}\n"
    assert capsys.readouterr().err == hint
