"""The command line as a whole: rehearsals against the built-in exchange, and how it is called."""

import os
import subprocess
import sys
from pathlib import Path

from tests.end_to_end.expected import SPOT, stored_frame
from tests.end_to_end.harness import ROOT
from tests.end_to_end.test_life import STREAMS, ended
from tests.storage.support import BTC, make_candle, merge_all, open_store, receive

OTHER = '[streams.spot]\n1m = ["BNBUSDT"]\n'


def test_a_comparison_can_be_rehearsed_against_the_built_in_exchange(tmp_path: Path) -> None:
    """It finds what is wrong, repairs it, and looks only at the made-up candles."""
    (tmp_path / "recorder.toml").write_text(STREAMS, encoding="utf-8")
    status, _, err = ended(tmp_path, "recorder.toml", "--simulate", "--seed", "7", "--for", "8s")
    assert status == 0, err
    words = ["check", "recorder.toml", "--against", "rest", "--simulate", "--seed", "7"]
    status, out, err = ended(tmp_path, *words)
    assert status == 0, err
    assert ", 0 differing, 0 absent here, 0 absent there" in out
    frame = stored_frame(tmp_path / "data-simulated", SPOT)
    begin_ms = int(frame["candle_begin_time"].iloc[0].timestamp() * 1_000)
    store = open_store(tmp_path / "data-simulated")
    store.journal.accept(receive(BTC, make_candle(begin_ms)))
    merge_all(store)
    store.close()
    status, out, _ = ended(tmp_path, *words, "--repair")
    assert status == 1
    assert ", 1 differing, " in out
    assert "repaired: 1 candle has the exchange's values now" in out
    status, out, err = ended(tmp_path, *words)
    assert status == 0, out + err
    status, out, _ = ended(tmp_path, "check", "recorder.toml", "--simulate")
    assert status == 0
    assert out.startswith("checked 1 file, ")
    assert not (tmp_path / "data").exists()


def test_two_configurations_in_one_folder_do_not_share_made_up_candles(tmp_path: Path) -> None:
    (tmp_path / "recorder.toml").write_text(STREAMS, encoding="utf-8")
    (tmp_path / "other.toml").write_text(OTHER, encoding="utf-8")
    for config in ("recorder.toml", "other.toml"):
        status, _, err = ended(tmp_path, config, "--simulate", "--for", "4s")
        assert status == 0, err
    for folder, symbol in (("data-simulated", "BTCUSDT"), ("data-simulated-other", "BNBUSDT")):
        files = [path.name for path in (tmp_path / folder).iterdir() if path.suffix == ".pqt"]
        assert files == [f"spot_{symbol}_1m.pqt"]


def test_the_script_names_itself(tmp_path: Path) -> None:
    """As pip installs it."""
    script = tmp_path / "kline-trio"
    script.write_text("import sys\nfrom kline_trio.commands.cli import main\nsys.exit(main())\n")
    for words, status, text in (
        (["init"], 0, "now: kline-trio recorder.toml"),
        (["check", ".", "--against", "rest"], 2, "kline-trio check recorder.toml --against rest"),
        (["status", "--jso"], 2, "usage: kline-trio status"),
    ):
        done = subprocess.run(
            [sys.executable, script, *words], capture_output=True, text=True, check=False,
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60,
        )  # fmt: skip
        assert done.returncode == status
        assert text in done.stdout + done.stderr
