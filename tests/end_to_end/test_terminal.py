"""The real program in a real terminal, tmux's: a log, a panel below, a clean screen at the end."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.harness import ROOT, wait_until
from tests.storage.support import NAME, write_minutes

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

FEW = """
[streams.spot]
1m = ["BTCUSDT", "BNBUSDT"]
[streams.usdt_futures]
1m = ["BTCUSDT", "ETHUSDT"]
[streams.coin_futures]
1m = ["BTCUSD_PERP", "ETHUSD_PERP"]
"""
"""Six series."""


def listed(count: int, quote: str) -> str:
    """Return so many made-up symbols as TOML. Hours close seldom, so that the test is cheap."""
    return "1h = " + json.dumps([f"A{number:03}{quote}" for number in range(count)]) + "\n"


MANY = (
    f"[streams.spot]\n{listed(1_000, 'USDT')}[streams.usdt_futures]\n{listed(1_000, 'USDT')}"
    f"[streams.coin_futures]\n{listed(500, 'USD_PERP')}"
)
"""2,500 series."""


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


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("config", [FEW, MANY], ids=["few", "many"])
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


@pytest.fixture
def many_files(tmp_path: Path) -> Path:
    """A folder of 3,000 candle files: seconds of work."""
    write_minutes(tmp_path / "one", 3, 0).close()
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(3_000):
        shutil.copyfile(tmp_path / "one" / NAME, folder / f"{n:04}_{NAME}")
    return folder


BAR = re.compile(r"━* +(\d+) % ([\d,.]+) of ([\d,.]+) \w+(, .+ left, .+ a second)?")


def percent(terminal: Tmux) -> int:
    """How far the bar is that is shown; -1 without one."""
    shown = [match for line in terminal.screen() if (match := BAR.search(line))]
    assert len(shown) <= 1, terminal.screen()
    return int(shown[0][1]) if shown else -1


LAYOUT = "{symbol}_{trade_type}_{time_interval}.pqt"
RELAYOUT = f"relayout many --layout '{LAYOUT}' --into copy"


@pytest.mark.parametrize(
    ("words", "name", "printed"),
    [
        ("check many", f"_{NAME}", "checked 3,000 files, 9,000 rows"),
        (RELAYOUT, "looking for series: ", "copy: 1 series, 3 candles"),
    ],
    ids=["check", "relayout"],
)
@pytest.mark.usefixtures("many_files")
def test_a_bar_moves_while_a_command_works_and_is_gone_at_its_end(
    terminal: Callable[[int], Tmux], words: str, name: str, printed: str
) -> None:
    one = terminal(80)
    one.type(f"clear; PYTHONPATH={ROOT} {sys.executable} -m kline_trio {words}; echo status $?")
    wait_until(lambda: percent(one) >= 0, "the bar")
    first = percent(one)
    assert one.shows(name), "what is worked on"
    wait_until(lambda: not 0 <= percent(one) <= first, "the bar to move")
    one.run("resize-window", "-t", "test", "-x", "50", "-y", "20")
    wait_until(lambda: one.shows("status 0"), "the end")
    assert one.shows(printed)
    assert percent(one) == -1
    assert not any("━" in line or name in line for line in one.screen())


@pytest.mark.usefixtures("many_files")
def test_ctrl_c_leaves_no_bar(terminal: Callable[[int], Tmux]) -> None:
    one = terminal(80)
    program = f"{sys.executable} -m kline_trio check many"
    one.type(f"clear; PYTHONPATH={ROOT} {program}; echo status $?")
    wait_until(lambda: percent(one) >= 0, "the bar")
    one.run("resize-window", "-t", "test", "-x", "40", "-y", "20")
    one.run("send-keys", "-t", "test", "C-c")
    wait_until(lambda: one.shows("status 130"), "the end")
    lines = [line for line in one.screen() if "kline_trio" not in line and "status" not in line]
    assert not any("━" in line or NAME in line for line in lines)
