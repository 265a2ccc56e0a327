"""Months of recording in virtual time, with random faults from a seed, held against the truth.

`python -m tests.simulation.year --days 365 --seeds 1 2 3` prints a line for each seed, and ends
with 1 if anything was lost, doubled, wrong, or explained wrongly. The same seed gives the same
trace, whose digest is in the line.
"""

import argparse
import hashlib
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import attrs
import trio
import trio.testing
from trio._core import _run

from kline_trio.candle import Series
from kline_trio.config import CompletenessConfig, Config, ConnectionConfig, StoreConfig
from kline_trio.exchange.protocol import stream_name
from kline_trio.recorder.supervisor import Recorder, open_recorder
from kline_trio.simulator.exchange import Exchange
from kline_trio.simulator.faults import (
    Drop,
    Fault,
    Garbage,
    Lag,
    LateClose,
    OmitClose,
    Outage,
    RepeatClose,
    RestFault,
    ReviseClose,
    Shutdown,
    Silence,
    Stall,
)
from kline_trio.storage import disk, journal_tables
from kline_trio.storage.check import check
from kline_trio.storage.journal_view import journal_view
from kline_trio.storage.layout import Layout
from kline_trio.storage.ledger import Absence, Account, Reason, State
from kline_trio.storage.stored import stored_table
from kline_trio.storage.table import candles_of
from tests.recorder.test_supervisor import truth
from tests.virtual import joined

START_MS = 1_704_067_200_000  # 2024-01-01
DAY_MS = 86_400_000
MINUTE_MS = 60_000
SPEED = 1_200.0
SERIES = (
    Series("spot", "BTCUSDT", "1m"),
    Series("usdt_futures", "ETHUSDT", "3m"),
    Series("coin_futures", "BTCUSD_PERP", "5m"),
)
_MONTHS = Layout("{trade_type}_{symbol}_{time_interval}.pqt/{month}.parquet")


@attrs.define
class Result:
    """What came of one seed."""

    seed: int
    days: int
    stored: int = 0
    refilled: int = 0
    explained: int = 0
    wrong: list[str] = attrs.field(factory=list)
    digest: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        verdict = "; ".join(self.wrong[:5]) or "0 lost, 0 duplicated, each absence explained"
        return (
            f"seed {self.seed}: {self.days} days, {self.stored:,} candles, {self.refilled:,}"
            f" filled in, {self.explained:,} absent; {verdict};"
            f" trace {self.digest[:12]}, {self.seconds:.0f} s"
        )


def no_sync(*_: object) -> None:
    """In the place of a sync; a mock would remember each of its calls."""


def simulate(seed: int, days: int, folder: Path) -> Result:
    """Records so many days of the exchange's time in the folder."""
    began = time.monotonic()
    result = Result(seed, days)
    # In memory, and without syncs: this run is about logic; crashes have tests of their own.
    settings = journal_tables._SETTINGS.replace("synchronous = FULL", "synchronous = OFF")
    with (
        mock.patch.object(journal_tables, "_SETTINGS", settings),
        mock.patch.object(disk, "_sync", no_sync),
        mock.patch.object(os, "fsync", no_sync),
    ):
        _run._r.seed(seed)
        exchange, lives = trio.run(
            _record, seed, days, folder, clock=trio.testing.MockClock(autojump_threshold=0)
        )
    _hold_against_the_truth(result, exchange, lives, folder)
    result.seconds = time.monotonic() - began
    return result


async def _record(seed: int, days: int, folder: Path) -> tuple[Exchange, list[tuple[int, int]]]:
    """The exchange, and from when to when, in its time, each recorder lived."""
    chance = Random(seed)
    end_ms = START_MS + days * DAY_MS
    exchange = Exchange(
        seed=seed,
        start_ms=START_MS,
        speed=SPEED,
        faults=list(_faults(chance, end_ms)),
        forming=False,
    )
    config = Config(
        streams=SERIES,
        store=StoreConfig(
            path=folder / "data", layout=_MONTHS, merge_seconds=5.0, max_merge_seconds=60.0
        ),
        # A connection grows two and a half days old, in the exchange's time.
        connection=ConnectionConfig(stall_seconds=5.0, max_age_hours=0.05, read_rest_seconds=0.0),
        completeness=CompletenessConfig(attempts=3, attempt_seconds=2.0),
    )
    lives = []
    async with joined(exchange, seed=seed) as seams:
        while True:
            now_ms = exchange.now_ms(trio.current_time())
            left_s = (end_ms - now_ms) / 1_000 / SPEED
            is_last = left_s < 400
            life_s = left_s if is_last else min(left_s - 200, chance.expovariate(1 / 4_000))
            with trio.CancelScope() as life:
                async with open_recorder(config, seams) as recorder:
                    until = trio.current_time() + max(life_s, 5.0)
                    await _meddle(recorder, config, chance, until - 30.0)
                    await trio.sleep_until(until)
                    if not is_last and chance.random() < 0.7:
                        # Whatever is under way is cut off; the rest of the time it is asked to end.
                        life.cancel()
                        await trio.lowlevel.checkpoint()
            lives.append((now_ms, exchange.now_ms(trio.current_time())))
            if is_last:
                return exchange, lives
            await trio.sleep(min(chance.expovariate(1 / 30), 100.0))


async def _meddle(recorder: Recorder, config: Config, chance: Random, until: float) -> None:
    """What users do to a running recorder; in the end all is as it was configured."""
    while True:
        await trio.sleep(chance.expovariate(1 / 400))
        if trio.current_time() > until:
            return
        match chance.choice(("reconnect", "reconnect", "redundancy", "away")):
            case "reconnect":
                recorder.reconnect(chance.choice((None, "spot", "coin_futures")))
            case "redundancy":
                ways = attrs.evolve(config.connection, redundancy=chance.choice((1, 2, 3)))
                recorder.reconfigure(attrs.evolve(config, connection=ways))
            case "away":
                one = chance.choice(SERIES)
                recorder.remove_symbols(one.trade_type, one.time_interval, one.symbol)
                await trio.sleep(min(chance.expovariate(1 / 10), 25.0))
                recorder.add_symbols(one.trade_type, one.time_interval, one.symbol)


def _faults(chance: Random, end_ms: int) -> Iterator[Fault]:
    yield Lag(trade_type="spot", from_ms=START_MS, until_ms=end_ms)
    for series in SERIES:
        stream, trade_type = stream_name(series), series.trade_type
        # None in the last hours, so that all is settled at the end.
        at_ms, last_ms = START_MS + 3_600_000, end_ms - 6 * 3_600_000
        while True:
            at_ms += round(chance.expovariate(1 / (5 * 3_600_000)))
            at_ms = series.interval.open_time_ms(at_ms)
            if at_ms >= last_ms:
                break
            until_ms = min(at_ms + round(chance.expovariate(1 / 1_800_000)), last_ms)
            close = {"trade_type": trade_type, "stream": stream, "open_ms": at_ms}
            stretch: dict[str, Any] = {
                "trade_type": trade_type, "from_ms": at_ms, "until_ms": until_ms + MINUTE_MS,
            }  # fmt: skip
            yield chance.choice(
                (
                    Drop(trade_type=trade_type, at_ms=at_ms + 30_000),
                    Shutdown(trade_type=trade_type, at_ms=at_ms),
                    Garbage(trade_type=trade_type, at_ms=at_ms),
                    Stall(**stretch),
                    Silence(
                        stream=stream,
                        cure=chance.choice((None, "subscription", "connection")),
                        **stretch,
                    ),
                    Outage(**stretch),
                    RestFault(status=chance.choice((200, 429, 418, 500, 503, 403)), **stretch),
                    OmitClose(**close),  # type: ignore[arg-type]
                    LateClose(late_ms=chance.randint(1, 600_000), **close),  # type: ignore[arg-type]
                    RepeatClose(**close),  # type: ignore[arg-type]
                    ReviseClose(**close),  # type: ignore[arg-type]
                )
            )


def _hold_against_the_truth(
    result: Result, exchange: Exchange, lives: list[tuple[int, int]], folder: Path
) -> None:
    digest = hashlib.sha256(repr(lives).encode())
    with journal_view(folder / "data") as journal:
        ledger, accounts = tuple(journal.absences()), journal.accounts()
    for series in SERIES:
        table = stored_table(folder / "data", series)
        have = [] if table is None else candles_of(table)
        account = accounts[series]
        # It begins with the first candle after the exchange has told the time.
        if not START_MS <= account.first_ms < START_MS + 3_600_000:
            result.wrong.append(f"{series} is accounted for from {account.first_ms} on")
        if account.watermark_ms < lives[-1][1] - 3 * 3_600_000:
            result.wrong.append(f"{series} is accounted for up to {account.watermark_ms} only")
        mine = [one for one in ledger if one.series == series]
        digest.update(repr((have[-100:], len(have), mine)).encode())
        _compare(result, exchange, series, have, account)
        _judge_reasons(result, exchange, series, mine, lives)
        result.stored += len(have)
        for one in mine:
            count = series.interval.count(one.span)
            if one.state is State.FILLED:
                result.refilled += count
            else:
                result.explained += count
    result.wrong += [
        f"{file.path}: {fault.what}" for file in check(folder / "data") for fault in file.faults
    ]
    result.digest = digest.hexdigest()


def _compare(
    result: Result, exchange: Exchange, series: Series, have: list[Any], account: Account
) -> None:
    """Each candle up to the watermark is the exchange's own, or lies in an outage."""
    market = exchange.markets[series.trade_type]
    interval = series.interval
    wanted = [
        one
        for one in truth(exchange, series, account.first_ms, account.watermark_ms)
        if not market.script.outage(
            series.symbol, one.open_time_ms, interval.end_time_ms(one.open_time_ms)
        )
    ]
    stored = {one.open_time_ms: one for one in have if one.open_time_ms < account.watermark_ms}
    lost = [one for one in wanted if one.open_time_ms not in stored]
    if lost:
        result.wrong.append(f"{series}: {len(lost)} lost, first {lost[0].open_time_ms}")
    differ = [one for one in wanted if stored.get(one.open_time_ms, one) != one]
    if differ:
        result.wrong.append(f"{series}: {len(differ)} are not what was traded")
    if len(stored) > len(wanted):
        result.wrong.append(f"{series}: {len(stored) - len(wanted)} that never were")
    if len(have) != len({one.open_time_ms for one in have}):
        result.wrong.append(f"{series}: some are there twice")


def _judge_reasons(
    result: Result,
    exchange: Exchange,
    series: Series,
    mine: list[Absence],
    lives: list[tuple[int, int]],
) -> None:
    """Each absence has the reason that the exchange's own record, and ours of lives, give it."""
    market, interval = exchange.markets[series.trade_type], series.interval
    for one in mine:
        for open_time_ms in interval.open_times_ms(one.span):
            end_ms = interval.end_time_ms(open_time_ms)
            out = market.script.outage(series.symbol, open_time_ms, end_ms) is not None
            if (one.state is State.CLOSED) != out and one.state is not State.PENDING:
                result.wrong.append(f"{series} {open_time_ms}: {one.state}, outage: {out}")
            if one.state is State.CLOSED and one.reason is not Reason.EXCHANGE_HAD_NONE:
                result.wrong.append(f"{series} {open_time_ms}: closed as {one.reason}")
            if one.reason is Reason.RECORDER_DOWN and _lived_through(lives, end_ms):
                result.wrong.append(f"{series} {open_time_ms}: the recorder was not down")
            if one.state is State.PENDING and end_ms < lives[-1][1] - 3 * 3_600_000:
                result.wrong.append(f"{series} {open_time_ms}: still pending")


def _lived_through(lives: list[tuple[int, int]], end_ms: int) -> bool:
    """Whether a recorder lived at a candle's end, so long that it had heard what time it is, and
    went on for long enough to name what it lacks.
    """
    hours = 3_600_000
    return any(from_ms + 3 * hours < end_ms < to_ms - hours for from_ms, to_ms in lives)


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
