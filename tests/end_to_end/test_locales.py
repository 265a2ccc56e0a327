"""The program where the locale is not UTF-8, or its streams are closed: it works all the same."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.locales import LOCALES, environment_of
from tests.storage.support import child_environment, write_minutes

SYMBOL = "币安人生USDT"


def run(locale: str, folder: Path, *words: str | Path) -> str:
    """Run a command to its end; what it prints, in ASCII."""
    done = subprocess.run(
        [sys.executable, "-m", "kline_trio", *words],
        env={**child_environment(), **environment_of(locale)},
        cwd=folder, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    told = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, told
    assert "bug" not in told
    assert "Traceback" not in told
    return done.stdout.decode("ascii", errors="replace")


@pytest.mark.parametrize("locale", LOCALES)
def test_a_chinese_symbol_is_recorded_and_shown(locale: str, tmp_path: Path) -> None:
    folder = tmp_path / "数据"
    folder.mkdir()
    text = f'\ufeff[streams.spot]\n1m = ["{SYMBOL}"]\n[store]\npath = "蜡烛"\n'
    (folder / "recorder.toml").write_text(text, encoding="utf-8")
    run(locale, folder, "recorder.toml", "--simulate", "--speed", "600", "--for", "3s")
    store = folder / "data-simulated"
    assert [path.name for path in store.glob("*.pqt")] == [f"spot_{SYMBOL}_1m.pqt"]
    [told] = json.loads(run(locale, folder, "status", store, "--json"))["series"]
    assert told["symbol"] == SYMBOL
    assert told["rows"] > 0
    assert "-1m" in run(locale, folder, "status", store)
    assert "all good" in run(locale, folder, "check", store)
    run(locale, folder, "snapshot", store, "快照")
    named = run(locale, folder, "check", folder / "快照", "--manifest", "sums")
    assert "all good" in named
    assert SYMBOL in (folder / "sums").read_text(encoding="utf-8")
    shown = run(
        locale, folder, "tail", "recorder.toml", "--simulate", "--speed", "600", "--for", "2s"
    )
    assert " close " in shown
    assert "good, 1 series" in run(locale, folder, "recorder.toml", "--check")


CLOSED = """
import os, sys
from kline_trio.commands import cli, record
def look(*_):
    assert [os.readlink(f"/proc/self/fd/{n}") for n in range(3)] == [os.devnull] * 3
record.record = look
sys.exit(cli.main(sys.argv[1:]))
"""


def test_closed_streams_are_no_fault_and_no_file_of_the_store(tmp_path: Path) -> None:
    """Else the log would be written into what got the number 2."""
    (tmp_path / "recorder.toml").write_text('[streams.spot]\n1m = ["BTCUSDT"]\n', "utf-8")
    write_minutes(tmp_path / "data", 3, 1).close()
    program = [sys.executable, "-m", "kline_trio"]
    for words in (
        [sys.executable, "-c", CLOSED, "record", "recorder.toml"],
        [*program, "status", "data", "--json"],
        [*program, "check", "data"],
        [*program, "snapshot", "data", "copy"],
    ):
        done = subprocess.run(
            ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words],
            env=child_environment(), cwd=tmp_path, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, words
