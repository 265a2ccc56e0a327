"""The command `restore`: its words, its places and its exit status."""

import subprocess
import sys
from pathlib import Path

import pytest

from kline_trio.commands.cli import main
from kline_trio.lake.location import Location
from kline_trio.reading.candles import read
from kline_trio.storage.journal.reader import journal_view
from tests.lake.support import FIRST, begin_and_publish, make_store
from tests.storage.support import BTC, at, child_environment, write_minutes


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake of every kind of candle, in a folder."""
    store = make_store(tmp_path / "data")
    begin_and_publish(store, Location(str(tmp_path / "lake")), most_rows=1_000)
    store.close()
    return tmp_path / "lake"


def test_it_says_what_it_made(
    lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["restore", str(lake), "--into", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path / 'new'}: 4 series, 30 candles",
        "the lake lacks 55 candles; a recorder will ask the exchange",
    ]


def test_a_recorder_toml_names_lake_store_and_layout(lake: Path, tmp_path: Path) -> None:
    file = tmp_path / "recorder.toml"
    layout = "{trade_type}/{symbol}_{time_interval}/{month}.parquet"
    file.write_text(
        '[streams.spot]\n1m = ["BTCUSDT"]\n'
        f'[store]\npath = "made"\nlayout = "{layout}"\n[lake]\nurl = "{lake.name}"\n',
        encoding="utf-8",
    )
    assert main(["restore", str(file)]) == 0
    assert (tmp_path / "made" / "spot" / "BTCUSDT_1m" / "2024-02.parquet").is_file()
    with journal_view(tmp_path / "made") as journal:
        assert journal.layout() == layout
    assert main([str(file), "--check"]) == 0


def test_filters_and_a_layout(
    lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    since = "2024-01-31T23:55"
    words = ["--symbol", "btcusdt", "--interval", "1m", "--market", "spot", "--since", since]
    words += ["--layout", "{trade_type}_{symbol}_{time_interval}.parquet"]
    assert main(["restore", str(lake), "--into", str(tmp_path / "new"), *words]) == 0
    assert "1 series, 13 candles" in capsys.readouterr().out
    found = read(tmp_path / "new", "spot", "BTCUSDT", "1m")
    assert len(found) == 13
    assert (tmp_path / "new" / "spot_BTCUSDT_1m.parquet").is_file()
    first_ms = int(found["candle_begin_time"].iloc[0].timestamp() * 1_000)
    assert first_ms == at(FIRST + 5)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["{lake}"], 2, "name the folder of the new store: --into data"),
        (["{lake}", "--into", "{data}"], 2, "is there already"),
        (["{data}", "--into", "{new}"], 2, "there is no lake of kline_trio"),
        (["{new}", "--into", "{new}"], 2, "there is no lake"),
        (["s3://b", "--into", "{new}"], 2, "names no bucket"),
        (["https://x/y", "--into", "{new}"], 2, "only s3:// addresses and folders"),
        (["{lake}", "--into", "{new}", "--layout", "{{x}}"], 2, "layout"),
        (["{lake}", "--into", "{new}", "--symbol", "b!"], 2, "--symbol b!"),
        (["{lake}", "--into", "{new}", "--symbol", "BTCUSD"], 2, "did you mean BTCUSDT?"),
        (["{lake}", "--into", "{new}", "--since", "2030-01-01"], 2, "has no such candles"),
    ],
)
def test_bad_words_are_answered_in_one_line(
    words: list[str],
    status: int,
    said: str,
    lake: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"lake": lake, "data": tmp_path / "data", "new": tmp_path / "new"}
    names = {path.name for path in tmp_path.iterdir()}
    assert main(["restore", *(word.format(**places) for word in words)]) == status
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_lake_that_fails_has_the_status_of_a_lake_and_no_traceback(
    lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next((lake / "candles").rglob("*.parquet")).unlink()
    assert main(["restore", str(lake), "--into", str(tmp_path / "new")]) == 69
    [line] = capsys.readouterr().err.splitlines()
    assert ".parquet" in line
    assert not (tmp_path / "new").exists()


def test_the_missing_extra_is_named(lake: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['deltalake'] = None\n"
        "from kline_trio.commands.cli import main\n"
        "sys.exit(main(['restore', sys.argv[1], '--into', sys.argv[2]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(lake), str(tmp_path / "new")],
        env=child_environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "pip install 'kline-trio[lake]'" in done.stderr


def test_a_store_is_not_taken_for_a_lake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_minutes(tmp_path / "data", 3, 0).close()
    assert main(["restore", str(tmp_path / "data"), "--into", str(tmp_path / "new")]) == 2
    assert "there is no lake" in capsys.readouterr().err
    assert read(tmp_path / "data", BTC.trade_type, BTC.symbol, "1m").shape[0] == 3
