"""Kill publishers at random moments, and compare the lake with the store after each.

`python -m tests.lake.kills --count 100` kills a hundred; a sample of it runs with the tests. The
journal comes to know of the parts that a publisher had reported, or of none, as chance has it.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import attrs

from kline_trio.candle import Series
from kline_trio.interval import Span
from kline_trio.lake.location import Location
from kline_trio.lake.tables import made_table
from kline_trio.storage.catalog import series
from kline_trio.storage.store import Store
from tests.lake.faults import RECORDER, change_store, check_lake
from tests.lake.servers import Server, environment_of, location_of, seaweed_server
from tests.lake.support import begin_and_publish, make_store
from tests.storage.support import child_environment

_ROWS = 8
"""Of a chunk: more chunks, more moments."""
_KILLS_A_LAKE = 5
_OF_A_WHOLE_ONE = 1.5
"""The latest kill. The first requests of a process take longer than those of this one."""


@attrs.define(eq=False)
class Kills:
    """A store, and lakes that killed publishers write to."""

    store: Store
    place: Path | Server
    """Where the lakes are: below a folder, or on a server."""
    seed: int = 0
    outcomes: Counter[str] = attrs.field(init=False, factory=Counter)
    _lakes: int = attrs.field(init=False, default=0)
    _random: random.Random = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def play(self, count: int) -> None:
        """Kill so many publishers.

        Raises:
          AssertionError: the lake differs from the store.
        """
        location = self._new_lake()
        first_seconds = self._measured(location)
        change_store(self.store, 0)
        next_seconds = self._measured(location)
        for killed in range(count):
            if killed % _KILLS_A_LAKE == 0:
                location, seconds = self._new_lake(), first_seconds
            else:
                change_store(self.store, killed)
                seconds = next_seconds
            self._kill_one(location, self._random.uniform(0, _OF_A_WHOLE_ONE * seconds))
            begin_and_publish(self.store, location, RECORDER, _ROWS)
            check_lake(self.store.path, location, f"kill {killed} of seed {self.seed}")

    def _measured(self, location: Location) -> float:
        """Publish, and return how many seconds that took."""
        began = time.monotonic()
        begin_and_publish(self.store, location, RECORDER, _ROWS)
        return time.monotonic() - began

    def _new_lake(self) -> Location:
        self._lakes += 1
        name = f"kills-{self.seed}-{os.getpid()}-{self._lakes}"
        if isinstance(self.place, Path):
            return Location(str(self.place / name))
        return location_of(self.place, name)

    def _kill_one(self, location: Location, after_seconds: float) -> None:
        environment = child_environment()
        if isinstance(self.place, Server):
            environment |= environment_of(self.place)
        # As the recorder does before its publisher starts.
        table = made_table(location, "candles")
        self.store.journal.begin_lake(RECORDER, table.id, series(self.store.path))
        with subprocess.Popen(
            [
                sys.executable, "-m", "tests.lake.publisher",
                str(self.store.path), location.url, str(_ROWS),
            ],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:  # fmt: skip
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.stdin.write("\n")
            process.stdin.flush()
            try:
                process.wait(after_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
            lines = process.stdout.read().splitlines()
        self._keep(lines)

    def _keep(self, lines: list[str]) -> None:
        """Give what the publisher reported to the journal, or forget it."""
        reports = [json.loads(line) for line in lines if line.endswith("}")]
        is_whole = bool(reports) and "all" in reports[-1]
        self.outcomes["ended before" if is_whole else f"{len(reports)} parts"] += 1
        if self._random.random() < 0.5:
            return
        for report in reports:
            if "all" in report:
                self.store.journal.published({}, report["all"], is_all=True)
            else:
                spans = {
                    Series(*names): [Span(*ends) for ends in some]
                    for *names, some in report["spans"]
                }
                self.store.journal.published(spans, report["sequence"])


def main() -> None:
    """Kill publishers, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.lake.kills", description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="how many publishers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--server", choices=["folder", "seaweed"], default="seaweed")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        place: Path | Server = folder / "lakes"
        if options.server == "seaweed":
            place = stack.enter_context(seaweed_server(folder))
        store = make_store(folder / "store")
        stack.callback(store.close)
        kills = Kills(store, place, options.seed)
        began = time.monotonic()
        try:
            kills.play(options.count)
        finally:
            seconds = time.monotonic() - began
            sys.stdout.write(f"{options.count} kills in {seconds:.0f} s: {dict(kills.outcomes)}\n")


if __name__ == "__main__":
    main()
