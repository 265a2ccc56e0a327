"""Ctrl-C while modules are imported: no traceback, and the status of an interrupt."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kline_trio.commands.interrupts import end_at_once, raise_from_now_on

ROOT = Path(__file__).parents[1]
INTERRUPTED = """
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
time.sleep(0.1)
raise ImportError("it went on")
"""


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Children can be interrupted, also where this process was started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("argparse", ["recorder.toml"]),
        ("difflib", ["--help"]),
        ("attrs", ["recorder.toml"]),
        ("tomli", ["recorder.toml", "--check"]),
        ("trio", ["recorder.toml", "--simulate"]),
        ("httpx2", ["tail", "recorder.toml"]),
        ("pyarrow", ["backfill", "recorder.toml"]),
        ("pyarrow", ["status"]),
        ("trio", ["check", "recorder.toml", "--against", "rest"]),
    ],
)
def test_an_interrupt_during_an_import_ends_in_silence(
    tmp_path: Path, module: str, words: list[str]
) -> None:
    (tmp_path / "recorder.toml").write_text('[streams.spot]\n1m = ["BTCUSDT"]\n')
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / f"{module}.py").write_text(INTERRUPTED)
    path = os.pathsep.join([str(modules), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "kline_trio", *words], capture_output=True, text=True, check=False,
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_an_interrupt_that_is_ignored_or_handled_stays_so() -> None:
    def handle(*_: object) -> None:
        pass

    before = signal.signal(signal.SIGINT, handle)
    try:
        raise_from_now_on()
        assert signal.getsignal(signal.SIGINT) is handle
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_first_process_of_a_container_ends_at_sigterm_from_the_start() -> None:
    """The kernel does not end it by a signal without a handler."""
    code = (
        "import os, signal, time\n"
        "os.getpid = lambda: 1\n"
        "from kline_trio.commands.interrupts import end_at_once\n"
        "end_at_once()\n"
        "signal.raise_signal(signal.SIGTERM)\n"
        "time.sleep(0.1)\n"
        "raise SystemExit('it went on')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (143, "")


def test_another_process_leaves_sigterm_to_the_kernel() -> None:
    before = signal.getsignal(signal.SIGTERM)
    end_at_once()
    raise_from_now_on()
    assert signal.getsignal(signal.SIGTERM) is before
