"""A program behind the shim: goes through all points of all scenarios, a forked child for each.

`python -m tests.storage.faults.campaign KIND FOLDER [STEP]`, where KIND is kill, full, short, or
the name of an errno, prints a line of JSON: how many points there were, how many were reached, and
what was wrong with the first few. With a STEP of 3 it tries every third point, as the tests do.
"""

import errno
import itertools
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pyarrow as pa

from kline_trio.errors import DiskError, DiskFullError
from kline_trio.storage.store import Store
from tests.storage.faults.scenario import SCENARIOS, Batch, Scenario, wrong_with
from tests.storage.faults.shim import FAIL_ON, FAIL_ONCE, KILL_AMID, KILL_BEFORE, SHORT, Shim

_FINISHED, _DISK_ERROR, _WRONG_ERROR = 0, 3, 4


@attrs.frozen
class Point:
    """One thing to go wrong."""

    scenario: Scenario
    what: int
    call: int
    error: int = 0
    again: int = 0
    """If a second kill is to hit the recovery: at which call of it."""


@attrs.define
class Campaign:
    """All points, and what came of them."""

    folder: Path
    shim: Shim = attrs.field(factory=Shim)
    bases: dict[str, Path] = attrs.field(factory=dict)
    points: int = 0
    killed: int = 0
    failed: int = 0
    wrong: list[str] = attrs.field(factory=list)

    def run(self, points: Iterator[Point]) -> None:
        """Goes through them."""
        for point in points:
            self.points += 1
            why = self._try(point)
            if why:
                self.wrong.append(f"{point.scenario.name}, {point.what} at {point.call}: {why}")

    def calls(self, scenario: Scenario) -> tuple[int, list[int]]:
        """How many calls the scenario makes that change the disk, and which of them are writes."""
        path = self._fresh(scenario)
        self.shim.disarm()
        scenario.work(path, lambda store, batch: store.journal.accept(batch))
        calls, writes = self.shim.count(), self.shim.writes()
        assert not wrong_with(scenario, path, len(scenario.batches)), scenario.name
        return calls, writes

    def _fresh(self, scenario: Scenario) -> Path:
        base = self.bases.get(scenario.name)
        if base is None:
            base = self.bases[scenario.name] = self.folder / f"base-{len(self.bases)}"
            scenario.prepare(base)
        path = self.folder / "store"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(base, path)
        return path

    def _try(self, point: Point) -> str | None:
        path = self._fresh(point.scenario)
        status, acknowledged = self._in_a_child(point, path)
        if os.WIFSIGNALED(status):
            self.killed += 1
        elif os.WEXITSTATUS(status) == _DISK_ERROR:
            self.failed += 1
        elif os.WEXITSTATUS(status) != _FINISHED:
            return f"it ended with status {os.WEXITSTATUS(status)}"
        if point.again:
            again = Scenario("again", *attrs.astuple(point.scenario, recurse=False)[1:])
            second = attrs.evolve(
                point, scenario=attrs.evolve(again, work=_recover), call=point.again
            )
            self._in_a_child(second, path)
        try:
            return wrong_with(point.scenario, path, point.scenario.prepared + acknowledged)
        except Exception as error:  # noqa: BLE001 - is reported
            return f"{type(error).__name__}: {error}"

    def _in_a_child(self, point: Point, path: Path) -> tuple[int, int]:
        """Its status, and how many batches it had acknowledged before it ended."""
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            os._exit(self._work(point, path, writing))
        os.close(writing)
        acknowledged = 0
        while said := os.read(reading, 4_096):
            acknowledged += len(said)
        os.close(reading)
        _, status = os.waitpid(child, 0)
        return status, acknowledged

    def _work(self, point: Point, path: Path, writing: int) -> int:
        def accept(store: Store, batch: Batch) -> None:
            try:
                store.journal.accept(batch)
            except DiskFullError:
                if point.what != FAIL_ON:
                    raise
                # Room has come back: the same store must go on.
                self.shim.disarm()
                store.journal.accept(batch)
            os.write(writing, b".")

        try:
            self.shim.arm(point.what, point.call, point.error)
            point.scenario.work(path, accept)
        except DiskError:
            return _DISK_ERROR
        except BaseException as error:  # noqa: BLE001 - is reported
            print(f"{point.scenario.name}: {error!r}", file=sys.stderr)
            return _WRONG_ERROR
        return _FINISHED


def _recover(path: Path, _: object) -> None:
    store = Store.open(path, None)
    store.close()


def kill_points(campaign: Campaign) -> Iterator[Point]:
    """Before each call and amid each write of each scenario; then a second kill amid recovery."""
    for scenario in SCENARIOS:
        calls, writes = campaign.calls(scenario)
        for call in range(1, calls + 1):
            yield Point(scenario, KILL_BEFORE, call)
        for call in writes:
            yield Point(scenario, KILL_AMID, call)
        for call in range(3, calls + 1, 7):
            for again in range(1, 16, 3):
                yield Point(scenario, KILL_BEFORE, call, again=again)


def error_points(campaign: Campaign, kind: str) -> Iterator[Point]:
    """Each call fails with this error, or it and all later ones find no room, or it is short."""
    for scenario in SCENARIOS:
        # SQLite takes these two for EIO: what follows differs in our own few calls alone.
        step = 3 if kind in ("EDQUOT", "EROFS") else 1
        calls, writes = campaign.calls(scenario)
        for call in writes if kind == "short" else range(1, calls + 1, step):
            if kind == "full":
                yield Point(scenario, FAIL_ON, call, errno.ENOSPC)
            elif kind == "short":
                yield Point(scenario, SHORT, call)
            else:
                yield Point(scenario, FAIL_ONCE, call, getattr(errno, kind))


def main(kind: str, folder: str, step: str = "1") -> None:
    """Runs one of the two campaigns."""
    # A child of a fork has none of its parent's threads.
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    campaign = Campaign(Path(folder))
    campaign.folder.mkdir(parents=True, exist_ok=True)
    points = kill_points(campaign) if kind == "kill" else error_points(campaign, kind)
    campaign.run(itertools.islice(points, None, None, int(step)))
    told = {
        "points": campaign.points,
        "killed": campaign.killed,
        "failed": campaign.failed,
        "wrong": len(campaign.wrong),
        "first": campaign.wrong[:20],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
