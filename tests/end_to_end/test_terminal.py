"""The real program in a real terminal, tmux's: a log, a panel below, a clean screen at the end."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.harness import ROOT, wait_until

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

FEW = '[streams.spot]\n1m = ["BTCUSDT", "BNBUSDT"]\n[streams.usdt_futures]\n1m = ["ETHUSDT"]\n'


INTERVALS = ["1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h"]
LISTS = "\n".join(f'{interval} = ["*USDT"]' for interval in INTERVALS)
MANY = f"[streams.spot]\n{LISTS}\n[streams.usdt_futures]\n{LISTS}\n"


class Tmux:
    """One terminal of its own server."""

    def __init__(self, folder: Path, width: int) -> None:
        self.folder, self.socket = folder, folder / "tmux"
        size = ["-x", str(width), "-y", "30"]
        self.run("new-session", "-d", "-s", "test", *size, "sh")

    def run(self, *words: str) -> str:
        command = ["tmux", "-f", "/dev/null", "-S", str(self.socket), *words]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=self.folder)
        return done.stdout

    def type(self, text: str) -> None:
        self.run("send-keys", "-t", "test", text, "Enter")

    def screen(self) -> list[str]:
        shown = self.run("capture-pane", "-p", "-t", "test").rstrip("\n")
        return [line.rstrip() for line in shown.splitlines()]

    def shows(self, text: str) -> bool:
        return any(text in line for line in self.screen())


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[[int], Tmux]]:
    opened: list[Tmux] = []

    def open_one(width: int) -> Tmux:
        opened.append(Tmux(tmp_path, width))
        return opened[-1]

    yield open_one
    for one in opened:
        one.run("kill-server")


@pytest.mark.parametrize(("width", "config"), [(80, FEW), (200, MANY)], ids=["few", "many"])
def test_the_panel_stays_below_the_log_and_leaves_a_clean_screen(
    tmp_path: Path, terminal: Callable[[int], Tmux], width: int, config: str
) -> None:
    (tmp_path / "recorder.toml").write_text(config, encoding="utf-8")
    one = terminal(width)
    program = f"{sys.executable} -m kline_trio recorder.toml --simulate"
    one.type(f"clear; PYTHONPATH={ROOT} {program}; echo status $?")
    wait_until(lambda: one.shows("candles/min"), "the panel")
    wait_until(lambda: one.shows(" INFO "), "lines above it")
    time.sleep(3)
    shown = one.screen()
    [begin] = [number for number, line in enumerate(shown) if "candles/min" in line]
    assert "up" in shown[begin - 1], "one headline, and one panel"
    assert any("spot" in line and "1/1" in line for line in shown[begin:])
    assert not any(" INFO " in line for line in shown[begin:]), "no log line below the panel"
    assert max(map(len, shown)) <= width
    one.run("resize-window", "-t", "test", "-x", "70", "-y", "20")
    time.sleep(3)
    assert sum("market" in line and "conn" in line for line in one.screen()) == 1
    one.run("send-keys", "-t", "test", "C-c")
    wait_until(lambda: one.shows("status 0"), "the end")
    assert not one.shows("candles/min"), "the panel is gone"
    assert one.shows("stopped: ")
