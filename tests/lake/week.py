"""A week of four recorders that are killed at random, and the lake that they leave.

`python -m tests.lake.week` runs two shards with two copies each against one built-in exchange, at
such a speed that a week passes in ten minutes, and one object store. Recorders are killed and
started again; one machine is lost for good, and another one goes on from the lake. At the end every
candle of the week has to be in the lake once, with the exchange's own values.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import obstore
import polars as pl
import tomli
from deltalake import DeltaTable

from kline_trio.candle import Candle, Series
from kline_trio.interval import DAY_MS, time_text
from kline_trio.lake.location import Location
from kline_trio.simulator.exchange import Exchange
from kline_trio.simulator.symbols import listed_symbols
from kline_trio.storage.table import BEGIN
from tests.builders import truth
from tests.lake.engines import differences
from tests.lake.servers import ADMIN, Server, environment_of, location_of, seaweed_server

ROOT = Path(__file__).parents[2]
START = "2026-09-21T00:00:00Z"
START_MS = 1_789_948_800_000
SERIES = [
    Series(trade_type, symbol, interval)
    for trade_type, symbols, intervals in (
        ("spot", ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT"), ("5m", "1h")),
        ("usdt_futures", ("BTCUSDT", "ETHUSDT"), ("15m",)),
        ("coin_futures", ("BTCUSD_PERP", "ETHUSD_PERP"), ("15m",)),
    )
    for symbol in symbols
    for interval in intervals
]
_COPIES = 2
_SHARDS = 2
_PUBLISH_SECONDS = 4
_SETTLE_SECONDS = 60
_VALUES = [one.name for one in attrs.fields(Candle)]


@attrs.define
class Machine:
    """One recorder with its folder."""

    folder: Path
    shard: str
    environment: dict[str, str]
    process: "subprocess.Popen[bytes] | None" = None
    starts: int = 0

    def start(self) -> None:
        """Start the recorder; its log goes on."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kline_trio", "recorder.toml", "--quiet"],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        self.starts += 1

    def end(self, number: signal.Signals) -> None:
        """Send a signal and wait for the end; kill what does not end."""
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def run(self, *arguments: str) -> None:
        """Run a command in the folder.

        Raises:
          RuntimeError: it failed.
        """
        done = subprocess.run(
            [sys.executable, "-m", "kline_trio", *arguments],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{self.folder.name}: {arguments}: {done.stdout}{done.stderr}")


@attrs.frozen
class Week:
    """The outcome."""

    candles: int
    wrong: tuple[str, ...]
    kills: int
    starts: int


def main(arguments: list[str]) -> int:
    """Run the week and print what was found; 1 if a candle is missing, double or wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.lake.week", description=__doc__)
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--seconds", type=float, default=600.0, help="that these days take")
    parser.add_argument("--seed", type=int, default=1)
    what = "an interpreter with daft, for a fourth engine"
    parser.add_argument("--daft", metavar="PYTHON", help=what)
    options = parser.parse_args(arguments)
    engines = dict.fromkeys(("duckdb", "polars", "dask"), sys.executable)
    if options.daft:
        engines["daft"] = options.daft
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="k-") as name:
        found = run(Path(name), options.days, options.seconds, options.seed, engines)
    for line in found.wrong[:20]:
        print(line)
    print(
        f"{found.candles:,} candles, {len(found.wrong):,} wrong; {found.kills} kills,"
        f" {found.starts} starts, {time.monotonic() - began:,.0f} s"
    )
    return 1 if found.wrong else 0


def run(folder: Path, days: float, seconds: float, seed: int, engines: Mapping[str, str]) -> Week:
    """Play a time of so many days in so many seconds, and compare the lake with the exchange."""
    rng, kills = random.Random(seed), 0
    end_ms = START_MS + round(days * DAY_MS)
    with ExitStack() as stack:
        server = stack.enter_context(seaweed_server(folder / "server"))
        endpoints = stack.enter_context(_exchange(folder, days * 86_400 / seconds, seed))
        machines = [
            _machine(folder / f"recorder-{shard}-{copy}", f"{shard}/{_SHARDS}", server, endpoints)
            for shard in range(1, _SHARDS + 1)
            for copy in range(1, _COPIES + 1)
        ]
        for one in machines:
            stack.callback(one.end, signal.SIGKILL)
            one.start()
        began, is_lost = time.monotonic(), False
        while (passed := time.monotonic() - began) < seconds:
            time.sleep(rng.uniform(0.02, 0.08) * seconds)
            one = rng.choice(machines)
            one.end(rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
            kills += 1
            if passed > seconds / 2 and not is_lost:
                is_lost = True
                _restore_elsewhere(one, server)
            time.sleep(rng.uniform(0.0, 0.03) * seconds)
            one.start()
        print(
            f"the time is over after {kills} kills; the recorders fill what they lack", flush=True
        )
        time.sleep(_SETTLE_SECONDS)
        for one in machines:
            one.end(signal.SIGTERM)
            one.run("publish", "recorder.toml")
        location = location_of(server, "week", ADMIN)
        starts = sum(one.starts for one in machines)
        # Also for engines that do not read what a MERGE of delta-rs writes.
        machines[0].run("compact", "recorder.toml")
        whole = _candles(location)
        wrong = [line for series in SERIES for line in _compared(whole, series, end_ms, seed)]
        wrong += _foreign(whole)
        wrong += _differences(location, folder / "copy", engines)
        return Week(whole.filter(pl.col(BEGIN) < end_ms).height, tuple(wrong), kills, starts)


@contextmanager
def _exchange(folder: Path, speed: float, seed: int) -> Iterator[str]:
    """Serve the built-in exchange; give its endpoints as TOML."""
    command = [sys.executable, "-u", "-m", "kline_trio", "simulate", "--start", START]
    command += ["--speed", f"{speed:.3f}", "--seed", str(seed)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (folder / "exchange.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)
    try:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or not lines[-1].startswith("archive = "):
            lines.append(process.stdout.readline().decode())
            assert process.poll() is None, "the exchange has ended"
        tomli.loads("".join(lines))
        yield "".join(lines)
    finally:
        process.kill()
        process.wait()


def _machine(folder: Path, shard: str, server: Server, endpoints: str) -> Machine:
    folder.mkdir()
    streams: dict[str, dict[str, list[str]]] = {}
    for one in SERIES:
        named = streams.setdefault(one.trade_type, {})
        named.setdefault(one.time_interval, []).append(one.symbol)
    lines = []
    for market, intervals in streams.items():
        lines.append(f"[streams.{market}]")
        lines += [f'"{interval}" = {symbols}' for interval, symbols in intervals.items()]
    lines += [endpoints, "[history]", f'since = "{START}"']
    lines += ["[lake]", f'url = "s3://{server.bucket}/week"', f"copies = {_COPIES}"]
    lines += [f'shard = "{shard}"', f"publish_seconds = {_PUBLISH_SECONDS}"]
    (folder / "recorder.toml").write_text("\n".join(lines), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment_of(server)}
    return Machine(folder, shard, environment)


def _restore_elsewhere(machine: Machine, server: Server) -> None:
    """Lose the machine's store for good, and get one back from the lake."""
    shutil.rmtree(machine.folder / "data")
    machine.run("restore", f"s3://{server.bucket}/week", "--into", "data")


def _candles(location: Location) -> pl.DataFrame:
    """Read the whole table, by series and time; begins are milliseconds."""
    url, settings = location.table_url("candles"), location.table_options()
    # Polars has other types for the limits of time and retries.
    settings = {name: text for name, text in settings.items() if name.startswith("aws_")}
    whole = pl.scan_delta(url, storage_options=settings).collect()
    begins = pl.col(BEGIN).dt.timestamp("ms")
    return whole.with_columns(begins).sort("trade_type", "symbol", "time_interval", BEGIN)


def _compared(whole: pl.DataFrame, series: Series, end_ms: int, seed: int) -> Iterator[str]:
    """Give a line for each candle of the time that is missing, double or wrong."""
    wanted = {one.open_time_ms: one for one in truth(_truth(seed), series, START_MS, end_ms)}
    rows = whole.filter(pl.col(name) == text for name, text in attrs.asdict(series).items())
    found: dict[int, Candle] = {}
    for row in rows.select(BEGIN, *_VALUES[1:]).iter_rows():
        if row[0] in found:
            yield f"{series} {time_text(row[0])}: is there twice"
        found[row[0]] = Candle(*row)
    for begin_ms, candle in wanted.items():
        if begin_ms not in found:
            yield f"{series} {time_text(begin_ms)}: is missing"
        elif found[begin_ms] != candle:
            yield f"{series} {time_text(begin_ms)}: {found[begin_ms]} instead of {candle}"


def _truth(seed: int) -> Exchange:
    listed = {
        market: listed_symbols(market, [], at_ms=START_MS)
        for market in ("spot", "usdt_futures", "coin_futures")
    }
    return Exchange(seed=seed, start_ms=START_MS, speed=1.0, listed=listed)


def _foreign(whole: pl.DataFrame) -> Iterator[str]:
    """Give a line for each series in the lake that nobody was to record."""
    for names in whole.select("trade_type", "symbol", "time_interval").unique().iter_rows():
        if Series(*names) not in SERIES:
            yield f"{names}: nobody was to record this"


def _differences(location: Location, folder: Path, engines: Mapping[str, str]) -> Iterator[str]:
    """Give a line for each engine that reads other rows than the table has."""
    store = location.objects()
    for meta in obstore.list(store, "candles/").collect():
        target = folder / meta["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(obstore.get(store, meta["path"]).bytes())
    copy = Location(str(folder))
    whole = DeltaTable(copy.table_url("candles")).to_pyarrow_table()
    for engine, python in engines.items():
        found = differences(engine, copy, whole, python)
        print(f"{engine}: {found or 'the same rows'}", flush=True)
        yield from (f"{engine}: {line}" for line in found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
