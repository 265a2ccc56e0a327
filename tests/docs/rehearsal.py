"""A folder in which the blocks of a page run, one after the other, as a reader runs them."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

from tests.docs.blocks import ROOT, Block

_SECONDS = 120
_MONITOR = "127.0.0.1:8787"
"""The address in the documentation."""
_NOWHERE = '"ws://127.0.0.1:1/stream"\nrest = "http://127.0.0.1:1"\n'
_TOML = '[streams.spot]\n1m = ["BTCUSDT", "BNBUSDT"]\n\n' + "".join(
    f"[endpoints.{market}]\nwebsocket = {_NOWHERE}\n"
    for market in ("spot", "usdt_futures", "coin_futures")
)
"""No block reaches the real exchange."""
_NEEDS_A_NOTE = re.compile(r"\b(sudo|docker|podman|systemctl|launchctl|pip|git clone|pytest)\b")
"""What no test runs, even if a block has no note."""
_ENDING = re.compile(r"\s#\s*(?:exit status (?P<status>\d+)|(?P<endless>until Ctrl-C))")


@attrs.frozen
class Rehearsal:
    """A folder with `recorder.toml`, and the stores `data` and `data-simulated`."""

    folder: Path

    @classmethod
    def of(cls, folder: Path, recorded: Path) -> "Rehearsal":
        """Return a new folder, with copies of a simulated store."""
        made = cls(folder)
        (folder / "recorder.toml").write_text(_TOML, encoding="utf-8")
        for name in ("data", "data-simulated"):
            shutil.copytree(recorded / "data-simulated", folder / name)
        (folder / "data" / ".kline_trio" / "simulated").unlink()
        bin_folder = folder / ".bin"
        bin_folder.mkdir()
        for name, words in {"python": "", "python3": "", "kline-trio": " -m kline_trio"}.items():
            script = bin_folder / name
            script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{words} "$@"\n')
            script.chmod(0o755)
        return made

    def run(self, block: Block) -> None:
        """Run a block of sh or Python.

        Raises:
          AssertionError: it failed; the text has its output.
        """
        for line in block.before:
            self._shell(line)
        if block.is_beside_a_recorder:
            with self._recorder() as address:
                self._run(block, block.text.replace(_MONITOR, address))
        else:
            self._run(block, block.text)

    def _run(self, block: Block, text: str) -> None:
        if block.language == "sh":
            assert not (found := _NEEDS_A_NOTE.search(text)), f"{found[0]!r}: say why it cannot run"
            self._shell("\n".join(map(_as_run, text.replace("\\\n", " ").splitlines())))
            return
        file = self.folder / "block.py"
        file.write_text(text, encoding="utf-8")
        if "trio.run(" in text:
            self._interrupted(file)
        else:
            kind = "session" if ">>>" in text else "body"
            kind = "within" if block.is_within_a_recorder else kind
            self._call([sys.executable, "-m", "tests.docs.snippet", kind, file.name])

    def _shell(self, script: str) -> None:
        self._call(["bash", "-euo", "pipefail", "-c", script])

    def _call(self, words: list[str]) -> None:
        with self._started(words) as process:
            try:
                out, err = process.communicate(timeout=_SECONDS)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"no end within {_SECONDS} s") from None
            assert process.returncode == 0, f"status {process.returncode}:\n{out}{err}"

    def _environment(self) -> dict[str, str]:
        path = f"{self.folder / '.bin'}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(self.folder)}

    def _interrupted(self, file: Path) -> None:
        """Run a whole program that records until Ctrl-C."""
        journal = self.folder / "data" / ".kline_trio" / "journal.sqlite"
        shutil.rmtree(self.folder / "data")
        with self._started([sys.executable, file.name]) as process:
            _wait(process, journal.exists)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=_SECONDS)
            assert (process.returncode, err) == (0, "")

    @contextmanager
    def _recorder(self) -> Iterator[str]:
        """Record from the built-in exchange, and give the address of the monitor."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        words = ["-m", "kline_trio", "recorder.toml", "--simulate", "--monitor", address]
        with self._started([sys.executable, *words]) as process:
            _wait(process, lambda: _answers(address))
            yield address
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=_SECONDS)
            assert process.returncode == 0, out + err

    @contextmanager
    def _started(self, words: list[str]) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            words, cwd=self.folder, env=self._environment(), stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            # What a script has started ends with it.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def _wait(process: subprocess.Popen[str], is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not is_ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)  # between two looks; no proof of anything


def _answers(address: str) -> bool:
    """Return whether the monitor says that data come."""
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=5):
            return True
    except OSError:
        return False


def _as_run(line: str) -> str:
    """Return a line of sh as it runs here: with the status that its comment names, or for a while.

    Twenty seconds show no more than eight.
    """
    ending = _ENDING.search(line)
    line = line.replace("--for 20s", "--for 8s")
    if ending is None:
        return line
    command = line[: ending.start()]
    if ending["endless"]:
        return f"timeout --signal=INT --preserve-status 8 {command}"
    return f"( {command} ) && exit 99 || [ $? -eq {ending['status']} ]"
