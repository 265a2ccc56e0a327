"""Let engines read a small lake, and compare what they read with what was published.

  python -m tests.lake.engines [--only NAME ...] [--python PROGRAM]

An engine that is not installed is skipped, and named. `--python` is the Python of an environment
that has engines, for those whose requirements exclude ours, such as Daft: the project itself need
not be installed there.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import attrs
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.feather as feather

from kline_trio.candle import Series, Source
from kline_trio.lake.location import Location
from kline_trio.lake.rows import lake_rows
from kline_trio.lake.schema import CANDLES, KEY
from kline_trio.lake.upkeep import compact
from kline_trio.storage.catalog import series, stored_span
from kline_trio.storage.store import Store
from tests.lake import engine_readers
from tests.lake.engine_readers import ENGINES, NOT_INSTALLED, SINCE, TABLE
from tests.lake.filling import publish_store
from tests.storage.support import (
    CHINESE,
    COIN,
    MONTHLY,
    make_candle,
    merge_all,
    minutes,
    nth_open_time_ms,
    open_store,
    receive,
)

ETH = Series("spot", "ETHUSDT", "1m")
COMPACTED_ONLY = ("duckdb-dataset", "daft", "daft-on-ray")
"""Engines that fail at texts as MERGE writes them, Arrow's `string_view`. Compaction writes plain
ones."""
_SECONDS = 300
_ROUNDS = 3


class NotInstalledError(Exception):
    """An engine's package is not installed. The text names it."""


@attrs.frozen
class Lakes:
    """The same candles in a lake as recorders publish them, and in one that was compacted."""

    truth: pa.Table
    """The rows, by key."""
    published: Location
    compacted: Location

    @classmethod
    def make(cls, folder: Path) -> "Lakes":
        """Publish a store of several markets, intervals and months, with revisions and a repair."""
        published, compacted = (Location(str(folder / name)) for name in ("lake", "compacted"))
        store = open_store(folder / "data")
        for rounds in range(_ROUNDS):
            _record(store, rounds)
            merge_all(store)
            publish_store(store, published)
        publish_store(store, compacted)
        store.close()
        compact(compacted, "tests", lambda _: None)
        return cls(_truth(store.path), published, compacted)


def _record(store: Store, rounds: int) -> None:
    """Record a part of the candles. A value of the part before is revised."""
    first = rounds * 20
    store.journal.accept(minutes(first, first + 20, value=rounds + 1.5))
    store.journal.accept(minutes(first, first + 1, value=7.25))
    for series_of, count in ((ETH, 10), (COIN, 400), (CHINESE, 3), (MONTHLY, 1)):
        numbers = range(rounds * count, (rounds + 1) * count)
        candles = (make_candle(nth_open_time_ms(series_of, n), 0.1 * n) for n in numbers)
        store.journal.accept(receive(series_of, *candles))
    if rounds:
        store.journal.accept(minutes(first - 5, first - 4, value=3.0), Source.REPAIR)


def _truth(store_path: Path) -> pa.Table:
    spans = {one: stored_span(store_path, one) for one in series(store_path)}
    rows = lake_rows(store_path, {one: (span,) for one, span in spans.items() if span})
    return _in_order(rows)


def _in_order(rows: pa.Table) -> pa.Table:
    return rows.sort_by([(name, "ascending") for name in KEY]).combine_chunks()


def _query(truth: pa.Table) -> pa.Table:
    """The rows that the readers' query chooses."""
    for name, text in TABLE.items():
        truth = truth.filter(pc.equal(truth[name], pa.scalar(text)))
    since = pa.scalar(SINCE).cast(pa.timestamp("us")).cast(truth["candle_begin_time"].type)
    return truth.filter(pc.greater_equal(truth["candle_begin_time"], since))


def differences(name: str, lake: Location, truth: pa.Table, python: str) -> list[str]:
    """Return how the rows that an engine reads differ from the truth; nothing if they are equal.

    Raises:
      NotInstalledError: the engine is not there.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "rows")
        words = [python, str(engine_readers.__file__), name, lake.table_url("candles"), str(out)]
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=_SECONDS, cwd=folder
        )
        if done.returncode == NOT_INSTALLED:
            raise NotInstalledError(done.stdout.split()[-1])
        if done.returncode:
            return [done.stderr.strip().splitlines()[-1]]
        found = [feather.read_table(f"{out}.{n}") for n in range(2)]
    lines, truth = [], _in_order(truth.select(CANDLES.names).cast(CANDLES))
    for what, rows, wanted in zip(("all", "query"), found, (truth, _query(truth)), strict=True):
        mine = _in_order(rows.select(CANDLES.names).cast(CANDLES))
        if not mine.equals(wanted):
            lines.append(f"{what}: {mine.num_rows} rows, {wanted.num_rows} wanted, or others")
    return lines


def main() -> int:
    """Run all engines, or some. Return 1 if one reads other rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_FORMAT)
    parser.add_argument("--only", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--python", default=sys.executable, metavar="PROGRAM")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        lakes = Lakes.make(Path(folder))
        print(f"{lakes.truth.num_rows:,} candles")
        for name in options.only:
            for state in ("published", "compacted"):
                if state == "published" and name in COMPACTED_ONLY:
                    print(f"{name}: {state}: not supported")
                    continue
                try:
                    found = differences(name, getattr(lakes, state), lakes.truth, options.python)
                except NotInstalledError as error:
                    print(f"{name}: SKIPPED: {error} is not installed")
                    break
                print(f"{name}: {state}: {'; '.join(found) or 'equal'}", flush=True)
                failed += bool(found)
    return 1 if failed else 0


_FORMAT = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    sys.exit(main())
