"""Stop a command on stores at its n-th call of a file or of SQL, then repeat it.

`python -m tests.storage.faults.commands MODE MOST`, where MODE is kill or interrupt, prints a line
of JSON: how many points there were, how many were reached, and what was wrong with the first few.
"""

import contextlib
import gc
import hashlib
import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import attrs
import pyarrow as pa

from kline_trio.candle import Series
from kline_trio.commands.cli import main
from kline_trio.interval import Span
from kline_trio.storage.catalog import stored_table
from kline_trio.storage.copy_stores import unite
from kline_trio.storage.journal.ledger import Gap, Reason, SeriesAccount
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.paths import INTERNAL, scratch
from tests.storage.support import (
    BTC,
    CHINESE,
    LAYOUTS,
    make_candle,
    merge_all,
    minutes,
    nth_open_time_ms,
    open_store,
    receive,
)

MODES = ("kill", "interrupt")
_INTERRUPTED = 130
"""The exit status of a command that a KeyboardInterrupt has ended."""
_FAILED = 1
_CALLS = {
    *("open", "read", "write", "close", "flush", "fsync", "replace", "rename", "unlink", "remove"),
    *("mkdir", "rmdir", "scandir", "stat", "utime", "copy_file_range", "sendfile", "link"),
    *("execute", "executemany", "executescript", "commit", "rollback", "backup", "connect"),
    "fetchone",
    "fetchall",
}
"""The names of functions, written in C, of files and of SQL."""


@attrs.define
class Stopper:
    """Act at the n-th call; made for `sys.setprofile`, which lets an exception pass."""

    at: int
    act: Callable[[], None]
    count: int = 0

    def __call__(self, _: FrameType, event: str, argument: Any) -> None:  # noqa: ANN401
        """Count a call."""
        if event == "c_call" and getattr(argument, "__name__", "") in _CALLS:
            self.count += 1
            if self.count == self.at:
                self.act()


@attrs.frozen
class Making:
    """A command that makes one store of others: merge or relayout."""

    name: str
    inputs: Sequence[str]
    layout: str
    needs_process: bool = False

    def run(self, folder: Path) -> None:
        """Do the work."""
        stores = [folder / "in" / name for name in self.inputs]
        for _ in unite(stores, self._into(folder), Layout(self.layout)):
            pass

    def _into(self, folder: Path) -> Path:
        return folder / "new" / "store"

    def result(self, folder: Path) -> object:
        """Return what the command made."""
        return _result_of(self._into(folder))

    def wrong_after(self, folder: Path, base: Path, result: object) -> str | None:
        """Tell why what is left breaks the promise; None if it keeps it."""
        into, inputs = self._into(folder), _bytes_of(base / "in")
        if _bytes_of(folder / "in") != inputs:
            return "the inputs have changed"
        if into.exists() and any(into.iterdir()):
            # It was stopped after the new store had got its name.
            if _result_of(into) != result:
                return "the new store has its name and is not whole"
            shutil.rmtree(into)
        self.run(folder)
        if _result_of(into) != result:
            return "the repeated command made something else"
        if _bytes_of(folder / "in") != inputs:
            return "the repeated command changed the inputs"
        left = [path.name for path in into.parent.iterdir() if path != into]
        return f"left behind: {left}" if left else None


@attrs.frozen
class Repair:
    """`check --repair`, which writes the gap rows that a store's ledger lacks."""

    name: str = "repair"
    needs_process: bool = True
    """An interrupt while the lock is taken leaves it to the end of the process."""

    def run(self, folder: Path) -> None:
        """Do the work."""
        with contextlib.redirect_stdout(io.StringIO()):
            status = main(["check", str(folder / "holed"), "--repair"])
        if status == _INTERRUPTED:
            raise KeyboardInterrupt
        assert status == 0, status

    def result(self, folder: Path) -> object:
        """Return what the store is then."""
        return _result_of(folder / "holed")

    def wrong_after(self, folder: Path, base: Path, result: object) -> str | None:
        """Tell why what is left breaks the promise; None if it keeps it."""
        store = folder / "holed"
        before, now = _ledger_of(base / "holed"), _ledger_of(store)
        candles = _candles_of(base / "holed")
        if _candles_of(store) != candles:
            return "candles have changed"
        self.run(folder)
        after = _ledger_of(store)
        torn = [str(one) for one in after if now[one] not in (before[one], after[one])]
        if torn:
            return f"the ledger is neither the old one nor the new one: {torn}"
        if self.result(folder) != result or _candles_of(store) != candles:
            return "the repeated command made something else"
        left = [path.name for path in (store / INTERNAL).rglob("*.tmp")]
        left += [path.name for path in scratch(store).iterdir()]
        return f"left behind: {left}" if left else None


Command = Making | Repair
COMMANDS: tuple[Command, ...] = (
    Making("merge", ("one", "two"), DEFAULT_LAYOUT),
    Making("relayout", ("one",), LAYOUTS[1]),
    Repair(),
)


def prepare(folder: Path) -> None:
    """Make the stores that the commands work on."""
    _prepare_inputs(folder / "in")
    _prepare_holed(folder / "holed")


def _prepare_inputs(folder: Path) -> None:
    """Make two stores that overlap; one has a gap, and candles that are not merged."""
    for name, first, end, value in (("one", 0, 6, 1.0), ("two", 4, 9, 2.0)):
        store = open_store(folder / name)
        store.journal.accept(minutes(first, end, value))
        if name == "one":
            store.journal.accept(receive(CHINESE, make_candle(nth_open_time_ms(CHINESE, 2), 3.0)))
        merge_all(store)
        store.journal.accept(minutes(end + 1, end + 3, value))
        interval = BTC.interval
        [gap_ms] = [one.candle.open_time_ms for one in minutes(end, end + 1)]
        [first_ms] = [one.candle.open_time_ms for one in minutes(first, first + 1)]
        gap = Span(gap_ms, interval.end_time_ms(gap_ms))
        account = SeriesAccount(first_ms, gap_ms + 3 * 60_000)
        store.journal.settle([Gap(BTC, gap, gap.to_ms, Reason.NOT_RECEIVED)], {BTC: account})
        store.close()


def _prepare_holed(folder: Path) -> None:
    """Make a store of two series: of each, 2 and 5 were lost in silence, and 1 is pending and
    stored.
    """
    store = open_store(folder)
    for series in (BTC, CHINESE):
        at = [nth_open_time_ms(series, n) for n in range(9)]
        store.journal.accept(receive(series, *(make_candle(at[n]) for n in (0, 1, 3, 4))))
        merge_all(store)
        store.journal.accept(receive(series, *(make_candle(at[n]) for n in (6, 7))))
        pending = Gap(series, Span(at[1], at[2]), at[2], Reason.RECORDER_DOWN)
        store.journal.settle([pending], {series: SeriesAccount(at[0], at[8])})
    store.close()


def _bytes_of(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def _result_of(store: Path) -> object:
    with journal_view(store) as journal:
        ledger, accounts = tuple(journal.gaps()), journal.accounts()
    tables = [stored_table(store, series) for series in (BTC, CHINESE)]
    files = sorted(
        str(one.relative_to(store)) for one in store.rglob("*.p*q*") if INTERNAL not in one.parts
    )
    return ledger, accounts, [None if one is None else one.to_pylist() for one in tables], files


def _candles_of(store: Path) -> str:
    files = {path: path.read_bytes() for path in store.glob("*.p*q*")}
    waiting = [str(stored_table(store, series)) for series in (BTC, CHINESE)]
    return repr((sorted((path.name, content) for path, content in files.items()), waiting))


def _ledger_of(store: Path) -> dict[Series, list[Gap]]:
    with journal_view(store) as journal:
        every = list(journal.gaps())
    return {series: [one for one in every if one.series == series] for series in (BTC, CHINESE)}


def _interrupted(command: Command, folder: Path, at: int) -> tuple[bool, int]:
    """Run the command up to an interrupt; return whether it came, and how many calls there were."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    stopper = Stopper(at, interrupt)
    sys.setprofile(stopper)
    try:
        command.run(folder)
    except KeyboardInterrupt:
        return True, stopper.count
    finally:
        sys.setprofile(None)
    return False, stopper.count


def _ended_child(command: Command, folder: Path, mode: str, at: int) -> bool:
    """Run the command in a child up to a kill or an interrupt; return whether it came."""
    child = os.fork()
    if not child:
        status = _FAILED
        try:
            if mode == "kill":
                sys.setprofile(Stopper(at, lambda: os.kill(os.getpid(), signal.SIGKILL)))
                command.run(folder)
                status = 0
            else:
                status = _INTERRUPTED if _interrupted(command, folder, at)[0] else 0
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    status = os.waitstatus_to_exitcode(ended)
    assert status in (0, _INTERRUPTED, -signal.SIGKILL), f"{command.name} failed at call {at}"
    return status != 0


def _points(calls: int, most: int) -> Iterator[int]:
    step = max(1.0, calls / most)
    at = 1.0
    while at <= calls:
        yield int(at)
        at += step


def campaign(mode: str, most: int) -> dict[str, object]:
    """Stop each command at its calls; at most so many of them, evenly spread."""
    # A child of a fork has none of its parent's threads.
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    points = stopped = 0
    wrong: list[str] = []
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        base, folder = Path(name, "base"), Path(name, "work")
        prepare(base)
        for command in COMMANDS:
            # Twice: the first run also imports, and fills caches.
            for _ in range(2):
                shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(base, folder)
                _, calls = _interrupted(command, folder, -1)
            result = command.result(folder)
            shutil.rmtree(folder)
            for at in _points(calls, most):
                shutil.copytree(base, folder)
                points += 1
                if mode == "kill" or command.needs_process:
                    stopped += _ended_child(command, folder, mode, at)
                else:
                    stopped += _interrupted(command, folder, at)[0]
                    gc.collect()
                try:
                    why = command.wrong_after(folder, base, result)
                except Exception as error:  # noqa: BLE001 - is reported
                    why = f"{type(error).__name__}: {error}"
                if why:
                    wrong.append(f"{command.name}, {mode} at call {at} of {calls}: {why}")
                shutil.rmtree(folder)
    return {"points": points, "stopped": stopped, "wrong": len(wrong), "first": wrong[:20]}


if __name__ == "__main__":
    print(json.dumps(campaign(sys.argv[1], int(sys.argv[2]))))
