"""Months of recording in virtual time, with random faults from a seed, held against the truth.

`python -m tests.simulation.year --days 365 --seeds 1 2 3` prints a line for each seed, and ends
with 1 if anything was lost, doubled, wrong, or explained wrongly. The same seed gives the same
trace, whose digest is in the line.
"""

import argparse
import hashlib
import logging
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

import attrs
import pytest
import trio

from kline_trio.config import (
    CompletenessConfig,
    Config,
    ConnectionConfig,
    StoreConfig,
    UniverseConfig,
)
from kline_trio.recorder.supervisor import Recorder, open_recorder
from kline_trio.storage import parquet
from kline_trio.storage.check import check
from kline_trio.storage.journal.ledger import State
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.layout import Layout
from kline_trio.storage.status import status
from tests.faulty_exchange import Fault, FaultyExchange
from tests.simulation.judgement import Judgement
from tests.simulation.weather import DAY_MS, LASTING, LISTED, NAMED, PATTERNS, START_MS, faults
from tests.virtual import joined, on_a_fast_disk, run_seeded, slow_disk

SPEED = 1_200.0
_DAY_S = DAY_MS / 1_000 / SPEED
_LIFE_S = 4 * _DAY_S
"""How long a recorder lives, in the mean."""
_SHORT_SHARE = 0.25
"""How many recorders are stopped within two seconds of their start."""
_MONTHS = Layout("{trade_type}_{symbol}_{time_interval}.pqt/{month}.parquet")


@attrs.define
class Result:
    """What came of one seed."""

    seed: int
    days: int
    stored: int = 0
    refilled: int = 0
    explained: int = 0
    lives: int = 0
    """How many recorders there were, one after the other."""
    series: int = 0
    """How many are accounted for."""
    reasons: Counter[str] = attrs.field(factory=Counter)
    """Of how many candles what stands in the ledger."""
    wrong: list[str] = attrs.field(factory=list)
    digest: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        verdict = "; ".join(self.wrong[:5]) or "0 lost, 0 duplicated, each absence explained"
        return (
            f"seed {self.seed}: {self.days} days, {self.lives} recorders, {self.series} series,"
            f" {self.stored:,} candles, {self.refilled:,} filled in, {self.explained:,} absent;"
            f" {verdict};"
            f" trace {self.digest[:12]}, {self.seconds:.0f} s"
        )


@attrs.frozen
class Storm:
    """What the recorders went through."""

    exchange: FaultyExchange
    faults: Sequence[Fault]
    lives: Sequence[tuple[int, int]]
    """From when to when, in the exchange's time, each recorder lived."""


def simulate(seed: int, days: int, folder: Path) -> Result:
    """Records so many days of the exchange's time in the folder."""
    began = time.monotonic()
    result = Result(seed, days)
    # In memory, and without syncs: this run is about logic; crashes have tests of their own.
    with (
        # Files of a few days are worth their while here, where no series is of 1m.
        on_a_fast_disk(least_archive_candles=200),
        pytest.MonkeyPatch.context() as patches,
    ):
        # And so that merges copy some of each file.
        patches.setattr(parquet, "_ROWS_PER_GROUP", 256)
        storm = run_seeded(seed, _record, seed, days, folder)
    _hold_against_the_truth(result, storm, folder)
    result.seconds = time.monotonic() - began
    return result


async def _record(seed: int, days: int, folder: Path) -> Storm:
    chance = Random(seed)
    end_ms = START_MS + days * DAY_MS
    wrong = tuple(faults(chance, end_ms))
    exchange = FaultyExchange(
        seed=seed,
        start_ms=START_MS,
        speed=SPEED,
        listed=LISTED,
        faults=wrong,
        forming=False,
    )
    config = Config(
        streams=NAMED,
        patterns=PATTERNS,
        store=StoreConfig(
            path=folder / "data", layout=_MONTHS, merge_seconds=10.0, max_merge_seconds=60.0
        ),
        # A connection grows two and a half days old, in the exchange's time.
        connection=ConnectionConfig(stall_seconds=5.0, max_age_hours=0.05, read_pause_seconds=0.0),
        completeness=CompletenessConfig(attempts=3, attempt_seconds=2.0),
        universe=UniverseConfig(refresh_seconds=12.0),
    )
    lives: list[tuple[int, int]] = []
    async with joined(exchange, seed=seed) as environment:
        while True:
            now_ms = exchange.now_ms(trio.current_time())
            left_s = (end_ms - now_ms) / 1_000 / SPEED
            life_s = min(30.0 + chance.expovariate(1 / _LIFE_S), left_s / 3)
            gap_s = min(chance.expovariate(1 / 30), 100.0)
            if not lives or chance.random() < 0.2:
                # So long that the archive has files of the days between.
                gap_s = chance.uniform(4.0, 6.0) * _DAY_S
            disk_seconds = chance.choice((0.05, 0.05, chance.uniform(0.05, 0.15)))
            if lives and chance.random() < _SHORT_SHARE:
                # It is stopped while it starts; the next one starts soon after.
                life_s, gap_s = chance.uniform(0.05, 2.0), chance.uniform(0.0, 5.0)
            is_last = left_s < life_s + gap_s + 2 * _DAY_S
            on_disk = slow_disk(Random(f"{seed} {len(lives)}"), disk_seconds)
            ways = attrs.evolve(environment, on_disk=on_disk)
            with trio.CancelScope() as life:
                async with open_recorder(config, ways) as recorder:
                    until = trio.current_time() + (left_s if is_last else life_s)
                    await _meddle(recorder, config, chance, until - 30.0)
                    await trio.sleep_until(until)
                    # Its last merges take seconds, which are hours on the exchange.
                    ended_ms = exchange.now_ms(trio.current_time())
                    if not is_last and chance.random() < 0.7:
                        # Whatever is under way is cut off; the rest of the time it is asked to end.
                        life.cancel()
                        await trio.lowlevel.checkpoint()
            lives.append((now_ms, ended_ms))
            if is_last:
                return Storm(exchange, wrong, lives)
            await trio.sleep(gap_s)


async def _meddle(recorder: Recorder, config: Config, chance: Random, until: float) -> None:
    """What users do to a running recorder; in the end all is as it was configured."""
    while True:
        next_at = trio.current_time() + chance.expovariate(1 / 200)
        if next_at > until:
            return
        await trio.sleep_until(next_at)
        match chance.choice(("reconnect", "reconnect", "redundancy", "away")):
            case "reconnect":
                recorder.reconnect(chance.choice((None, "spot", "coin_futures")))
            case "redundancy":
                ways = attrs.evolve(config.connection, redundancy=chance.choice((1, 2, 3)))
                recorder.reconfigure(attrs.evolve(config, connection=ways))
            case "away":
                one = chance.choice(LASTING)
                recorder.remove_symbols(one.trade_type, one.time_interval, one.symbol)
                await trio.sleep(min(chance.expovariate(1 / 10), 25.0))
                recorder.add_symbols(one.trade_type, one.time_interval, one.symbol)


def _hold_against_the_truth(result: Result, storm: Storm, folder: Path) -> None:
    digest = hashlib.sha256(repr(storm.lives).encode())
    with journal_view(folder / "data") as journal:
        ledger, accounts = tuple(journal.gaps()), journal.accounts()
    judgement = Judgement(
        storm.exchange, storm.faults, storm.lives, folder / "data", accounts, ledger
    )
    for series, have in judgement.stored.items():
        mine = judgement.absences(series)
        digest.update(repr((series, have[-100:], len(have), mine)).encode())
        result.stored += len(have)
        for one in mine:
            count = series.interval.count(one.span)
            result.reasons[f"{one.reason}, {one.state} {one.filled_by or ''}".rstrip()] += count
            if one.state is State.FILLED:
                result.refilled += count
            else:
                result.explained += count
    result.lives = len(storm.lives)
    result.series = len(accounts)
    result.wrong += judgement.wrong()
    # Without a clock, so that the watermark is what it measures against.
    result.wrong += judgement.wrong_status(status(folder / "data", clocks={}).series)
    result.wrong += [
        f"{file.path}: {fault.what}" for file in check(folder / "data") for fault in file.faults
    ]
    result.digest = digest.hexdigest()


def whole(seed: int, days: int) -> Result:
    """The same in a folder of its own, in memory if there is room."""
    memory = Path("/dev/shm")
    folder = Path(
        tempfile.mkdtemp(prefix="kline_trio-year-", dir=memory if memory.is_dir() else None)
    )
    try:
        return simulate(seed, days, folder)
    finally:
        shutil.rmtree(folder)


def main() -> int:
    """Runs the seeds that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    wrong = 0
    for seed in asked.seeds:
        result = whole(seed, asked.days)
        wrong += len(result.wrong)
        print(result, flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
