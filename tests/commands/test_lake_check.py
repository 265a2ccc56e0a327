"""The commands `check` and `export`, given a lake."""

from pathlib import Path

import attrs
import pytest
from deltalake import DeltaTable, write_deltalake

from kline_trio.candle import Series
from kline_trio.commands import cli
from kline_trio.simulator.exchange import Exchange
from tests.builders import COIN, SPOT, START_MS, truth
from tests.lake.filling import publish_candles
from tests.storage.support import merge_all, minutes, open_store, receive

HOURS_MS = 3 * 3_600_000


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A folder with a store and its lake: three hours as the built-in exchange has them."""
    exchange = Exchange(start_ms=START_MS)
    candles = [
        one
        for series in (SPOT, COIN)
        for one in receive(series, *truth(exchange, series, START_MS - HOURS_MS, START_MS))
    ]
    publish_candles(tmp_path / "data", tmp_path / "lake", candles)
    return tmp_path


def test_a_good_lake_has_status_0(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(recorded / "lake")]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("checked 2 files, 240 rows, ")
    assert said.out.endswith(" bytes: all good\n")


def test_a_fault_has_status_1_and_a_line(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = DeltaTable(str(recorded / "lake" / "candles"))
    write_deltalake(table, table.to_pyarrow_table().slice(0, 1), mode="append")
    assert cli.main(["check", str(recorded / "lake")]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("candles/trade_type=")
    assert lines[0].endswith(" is there twice")
    assert last.endswith(": 1 fault")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--repair"], "a lake cannot be repaired: repair on a recorder, which then publishes"),
        (["--against", "rest", "--repair"], "a lake cannot be repaired"),
        (["--manifest"], "--manifest is for files of this machine"),
        (["--simulate"], "for a lake, --simulate is for comparing: add --against rest"),
        (["--since", "2024-01-01"], "--since is for comparing"),
    ],
)
def test_what_a_lake_cannot_do_is_refused_with_status_2(
    recorded: Path, capsys: pytest.CaptureFixture[str], words: list[str], what: str
) -> None:
    assert cli.main(["check", str(recorded / "lake"), *words]) == 2
    assert what in capsys.readouterr().err


@pytest.mark.parametrize("against", ["rest", "archive"])
def test_a_lake_is_compared_with_the_exchange(
    recorded: Path, capsys: pytest.CaptureFixture[str], against: str
) -> None:
    words = ["check", str(recorded / "lake"), "--against", against, "--simulate"]
    # The archives of a day are published on the next one.
    words += ["--start", "2024-07-03"] if against == "archive" else []
    assert cli.main(words) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{one}: {count} compared, {count} equal, 0 differing, 0 absent here, 0 absent there"
        for one, count in ((SPOT, 180), (COIN, 60))
    ]


def test_a_difference_is_named_and_gone_once_the_recorder_has_published_its_repair(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [right] = truth(Exchange(start_ms=START_MS), SPOT, START_MS - 60_000, START_MS)
    wrong = receive(SPOT, attrs.evolve(right, trade_num=right.trade_num + 5))
    longer = Series("spot", "BTCUSDT", "3m")
    three = truth(Exchange(start_ms=START_MS), longer, START_MS - 180_000, START_MS)
    publish_candles(recorded / "data", recorded / "lake", [*wrong, *receive(longer, *three)])
    words = ["check", str(recorded / "lake"), "--against", "rest", "--simulate"]
    assert cli.main(words) == 1
    said = capsys.readouterr().out
    numbers = f"trade_num {right.trade_num + 5} here, {right.trade_num} there"
    assert f"2024-06-30 14:59:00+00:00: {numbers}\n" in said
    assert "spot BTCUSDT-3m: against 1m, 1 candle, 1 disagreement" in said
    publish_candles(recorded / "data", recorded / "lake", receive(SPOT, right))
    assert cli.main(words) == 0


def test_a_lake_without_candles_is_compared_with_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_candles(tmp_path / "data", tmp_path / "lake", [])
    assert cli.main(["check", str(tmp_path / "lake"), "--against", "rest"]) == 2
    assert "the lake has no candles" in capsys.readouterr().err
    assert cli.main(["check", str(tmp_path / "lake")]) == 0
    assert capsys.readouterr().out == "checked 0 files, 0 rows, 0 bytes: all good\n"


@pytest.mark.parametrize("command", [["check"], ["export", "--csv", "-"]])
def test_an_address_that_is_no_lake_has_status_2(
    capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert cli.main([*command, "gs://bucket/klines"]) == 2
    assert "only s3:// addresses and folders can be a lake" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--symbol", "btcusdt"],
        ["--market", "coin_futures", "--start", "2024-06-30T13:00"],
        ["--interval", "1m", "--end", "2024-06-30T14:00"],
    ],
)
def test_an_export_of_a_lake_is_that_of_the_store(
    recorded: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    publish_candles(recorded / "data", recorded / "lake", minutes(0, 3))
    store = open_store(recorded / "data")
    merge_all(store)
    store.close()
    texts = []
    for name in ("data", "lake"):
        assert cli.main(["export", str(recorded / name), "--csv", "-", *words]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert len(texts[0].splitlines()) > 3


def test_an_export_of_what_a_lake_lacks_names_the_most_similar_symbol(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(recorded / "lake"), "--csv", "-", "--symbol", "BTCUSDC"]
    assert cli.main(words) == 2
    assert "did you mean BTCUSDT?" in capsys.readouterr().err
