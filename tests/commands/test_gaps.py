"""The command `gaps`: what the ledger has, for people and for programs."""

import csv
import io
import json
from pathlib import Path

import pytest

from kline_trio.candle import Source
from kline_trio.commands.cli import main
from kline_trio.interval import Span
from kline_trio.storage.journal.ledger import FetchResult, Gap, Reason, SeriesAccount
from tests.storage.support import BTC, START_MS, make_candle, open_store


def at(minute: int) -> int:
    return START_MS + minute * 60_000


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Gaps of each state, of which a recorder has the journal open."""
    store = open_store(tmp_path / "data")
    spans = [Span(at(0), at(1)), Span(at(2), at(4)), Span(at(5), at(8))]
    gaps = [Gap(BTC, one, at(9), Reason.NOT_RECEIVED) for one in spans]
    store.journal.settle(gaps, {BTC: SeriesAccount(at(0), at(9))})
    store.journal.refill(
        [
            FetchResult(BTC, spans[0], (make_candle(at(0)),), Source.ARCHIVE),
            FetchResult(BTC, spans[1], (), Source.REST, Reason.EXCHANGE_HAD_NONE),
            FetchResult(BTC, spans[2], (), Source.REST),
        ]
    )
    store.close()
    (tmp_path / "recorder.toml").write_text('[streams.spot]\n1m = ["BTCUSDT"]\n')
    return store.path


def test_each_gap_has_dates_reason_state_and_what_filled_it(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gaps", str(store.parent / "recorder.toml")]) == 0
    day = "2024-01-31"
    assert capsys.readouterr().out.splitlines() == [
        f"{store}: 3 gaps of 1 series; candles: 3 still asked for, 2 given up, 1 filled in",
        (
            f"spot BTCUSDT-1m  {day} 00:00:00 to {day} 00:01:00  1 candle"
            "  not received: filled in by archive"
        ),
        (
            f"spot BTCUSDT-1m  {day} 00:02:00 to {day} 00:04:00  2 candles"
            "  the exchange had none: given up, asked 1 time"
        ),
        (
            f"spot BTCUSDT-1m  {day} 00:05:00 to {day} 00:08:00  3 candles"
            "  not received: still asked for, asked 1 time"
        ),
    ]


def test_for_programs(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gaps", str(store), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["store"], told["simulated"]) == (str(store), False)
    assert main(["gaps", str(store), "--csv"]) == 0
    table = [*csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert len(table) == len(told["gaps"]) == 3
    for row, gap in zip(table, told["gaps"], strict=True):
        assert row == {key: "" if one is None else str(one) for key, one in gap.items()}
    assert table[0] == {
        "trade_type": "spot",
        "symbol": "BTCUSDT",
        "time_interval": "1m",
        "from": "2024-01-31 00:00:00+00:00",
        "to": "2024-01-31 00:01:00+00:00",
        "candles": "1",
        "reason": "not received",
        "state": "filled",
        "filled_by": "archive",
        "asked": "0",
        "first_seen": "2024-01-31 00:09:00+00:00",
    }


def test_stores_without_gaps_and_folders_without_a_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_store(tmp_path / "data-simulated").close()
    assert main(["gaps", str(tmp_path / "data-simulated")]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("SIMULATED")
    assert told[1].endswith(": 0 gaps of 0 series")
    for name in ("none", "none.toml"):
        assert main(["gaps", str(tmp_path / name)]) == 2
    with pytest.raises(SystemExit, match="2"):
        main(["gaps", "--csv", "--json"])
