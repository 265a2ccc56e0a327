"""The command `selftest`: record from a faulty built-in exchange, and check the store.

The exchange drops connections, stalls, omits closes and sends wrong data. Its REST interface fails
at times, and files of its archive have no trades where there were some. The recorder is killed and
started again. In the end the test compares the store with the trades of the exchange.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from random import Random
from typing import Any

import attrs
import trio

from kline_trio.candle import TRADE_TYPES, Candle, Series
from kline_trio.commands.progress import Progress, open_progress
from kline_trio.commands.simulate import toml_of
from kline_trio.config import Config
from kline_trio.counting import counted
from kline_trio.interval import Span
from kline_trio.simulator import faults
from kline_trio.simulator.exchange import DEFAULT_START_MS, Exchange
from kline_trio.simulator.server import open_exchange
from kline_trio.simulator.symbols import ascii_lower
from kline_trio.storage.catalog import stored_table
from kline_trio.storage.check import check
from kline_trio.storage.journal.ledger import Gap, Reason, State
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.step import Step
from kline_trio.storage.table import candles_of

_MINUTE_MS = 60_000
_YEAR_MS = 365 * 86_400_000
_SPEED = 60.0
_SETTINGS = """
[streams.spot]
1m = ["BTCUSDT", "BNBUSDT"]
5m = ["BTCUSDT"]

[streams.usdt_futures]
1m = ["ETHUSDT", "币安人生USDT"]

[streams.coin_futures]
3m = ["BTCUSD_PERP"]

[store]
merge_seconds = 1
max_merge_seconds = 3

[connection]
stall_seconds = 3

[completeness]
attempts = 3
attempt_seconds = 0.5

[history]
since = "2026-09-18"

"""
_SERIES = Config.from_text(_SETTINGS, name="selftest", folder=Path()).streams
_ARCHIVED_MS = 1_789_689_600_000
"""2026-09-18, the first day of history, and the only one that is in the archive."""
_QUIET_MINUTES = ((300, 313), (700, 704))
"""Where the archive's files have no trades, as USD-M's of 2025-01-29."""
_FAULT_SECONDS = 10.0
"""Two faults of each market begin within this time on average."""
_RUN_SECONDS = (6.0, 14.0)
"""Kill the recorder after a time between these."""
_DOWN_SECONDS = (0.2, 3.0)
"""Start the recorder again after a time between these."""
_LAST_RUN_SECONDS = 15.0
"""Run at least this long before the last stop, so that all gaps are asked for."""
_decimals = attrgetter(
    *("open", "high", "low", "close", "volume"),
    *("quote_volume", "taker_buy_volume", "taker_buy_quote_volume"),
)


@attrs.define
class _Result:
    """Counts of candles and gaps, and what is wrong besides."""

    due: int = 0
    lost: int = 0
    wrong: int = 0
    duplicated: int = 0
    explained: int = 0
    misexplained: int = 0
    """Candles whose reason in the ledger contradicts the exchange or the times of the kills."""
    reasons: Counter[str] = attrs.field(factory=Counter)
    faults: list[str] = attrs.field(factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing is lost, duplicated, wrong or damaged."""
        bad = (self.lost, self.wrong, self.duplicated, self.misexplained)
        return not (any(bad) or self.faults)

    def show(self) -> None:
        """Print the counts and the faults."""
        due = counted(self.due, "candle was due", "candles were due")
        print(f"{due}; absent for a while: {_counts(self.reasons, 'none')}")
        for fault in self.faults:
            print(fault)
        if self.misexplained:
            candles = counted(self.misexplained, "candle has", "candles have")
            print(f"{candles} the wrong reason in the ledger")
        if self.wrong:
            candles = counted(self.wrong, "candle is", "candles are")
            print(f"{candles} not what the exchange traded")
        lost, duplicated = f"{self.lost:,} lost", f"{self.duplicated:,} duplicated"
        print(f"{lost}, {duplicated}, {counted(self.explained, 'gap')} explained")


def _counts(counts: Counter[str], none: str) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())) or none


def selftest(options: argparse.Namespace) -> int:
    """Run the test and print its result. Return 1 if a candle is lost, duplicated or wrong."""
    with tempfile.TemporaryDirectory(prefix="kline_trio-selftest-") as name:
        folder = Path(name)
        seconds = max(20.0, 60.0 * options.minutes)
        planned = _faults(options.seed, seconds)
        exchange = Exchange(seed=options.seed, speed=_SPEED, faults=planned)
        with open_progress() as progress:
            random = Random(options.seed)  # noqa: S311 - a test
            runs = trio.run(_record, exchange, folder, seconds, random, progress)
            result = _compare(folder / "data", exchange, runs, progress)
        happened = Counter(one.fault for one in exchange.incidents)
        print(f"what went wrong: {_counts(happened, '')}, {len(runs) - 1:,} kill -9")
        result.show()
        if not result.is_good:
            print((folder / "log").read_text(encoding="utf-8", errors="replace")[-4_000:])
    return 0 if result.is_good else 1


async def _record(
    exchange: Exchange, folder: Path, seconds: float, random: Random, progress: Progress
) -> list[Span]:
    """Start and kill the recorder until the time is over. Return its runs, in exchange time."""
    runs: list[Span] = []
    async with open_exchange(exchange) as endpoints:
        text = _SETTINGS + toml_of(endpoints)
        (folder / "recorder.toml").write_text(text, encoding="utf-8")
        end = trio.current_time() + seconds
        is_last = False
        while not is_last and (left := end - trio.current_time()) > 0:
            is_last = left < _RUN_SECONDS[1]
            run = max(left, _LAST_RUN_SECONDS) if is_last else random.uniform(*_RUN_SECONDS)
            number = signal.SIGINT if is_last else signal.SIGKILL
            what = f"recording; killed {counted(len(runs), 'time')}"
            progress.show(Step(what, max(0, round(seconds - left)), round(seconds), "second"))
            runs.append(await _run_recorder(exchange, folder, run, number))
            if not is_last:
                await trio.sleep(random.uniform(*_DOWN_SECONDS))
    return runs


async def _run_recorder(
    exchange: Exchange, folder: Path, seconds: float, number: signal.Signals
) -> Span:
    """Run the recorder, and end it by a signal. Return its run, in exchange time."""
    start_ms = exchange.now_ms(trio.current_time())
    with (folder / "log").open("ab") as log:
        recorder = await trio.lowlevel.open_process(
            [sys.executable, "-m", "kline_trio", str(folder / "recorder.toml")],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    with trio.move_on_after(seconds) as timeout:
        await recorder.wait()
    if timeout.cancelled_caught:
        recorder.send_signal(number)
    span = Span(start_ms, exchange.now_ms(trio.current_time()))
    await recorder.wait()
    return span


def _faults(seed: int, seconds: float) -> Iterator[faults.Fault]:
    """Give the faults of the exchange, evenly over the time of the test."""
    random = Random(seed)  # noqa: S311 - a test
    for one in _SERIES:
        for begin, end in _QUIET_MINUTES:
            yield faults.QuietStretch(
                trade_type=one.trade_type,
                symbol=one.symbol,
                from_ms=_ARCHIVED_MS + begin * _MINUTE_MS,
                until_ms=_ARCHIVED_MS + end * _MINUTE_MS,
            )
    for trade_type in TRADE_TYPES:
        at_seconds = random.uniform(2.0, _FAULT_SECONDS)
        while at_seconds < seconds - 10.0:
            at_ms = DEFAULT_START_MS + round(at_seconds * 1_000 * _SPEED)
            yield _fault(random, trade_type, at_ms - at_ms % _MINUTE_MS)
            at_seconds += random.uniform(0.5, 1.5) * _FAULT_SECONDS / 2


def _fault(random: Random, trade_type: str, at_ms: int) -> faults.Fault:
    """Return a random fault of a market that begins at a minute."""
    series = random.choice([one for one in _SERIES if one.trade_type == trade_type])
    until_ms = at_ms + random.randint(3, 10) * _MINUTE_MS
    ahead_ms = random.choice((8 * _MINUTE_MS, 180 * _MINUTE_MS, 10 * _YEAR_MS))
    name = f"{ascii_lower(series.symbol)}@kline_{series.time_interval}"
    stream: Any = {"trade_type": trade_type, "stream": name}
    moment: Any = {"trade_type": trade_type, "at_ms": at_ms}
    close: Any = {**stream, "open_ms": at_ms - at_ms % (5 * 3 * _MINUTE_MS)}
    span: Any = {"trade_type": trade_type, "from_ms": at_ms, "until_ms": until_ms}
    # Less than ten local seconds: the recorder accepts a time that is confirmed for longer.
    short: Any = {**span, "until_ms": min(until_ms, at_ms + 8 * _MINUTE_MS)}
    return random.choice(
        (
            faults.Drop(**moment),
            faults.Stall(**span),
            faults.Silence(**stream, from_ms=at_ms, until_ms=until_ms),
            faults.OmitClose(**close),
            faults.LateClose(**close, late_ms=90_000),
            faults.Outage(**span),
            faults.RestFault(**span, status=random.choice((200, 429, 500, 503))),
            faults.WrongTime(**span, ahead_ms=ahead_ms),
            faults.WrongRows(**short, ahead_ms=random.choice((7, -ahead_ms))),
            faults.WrongFrame(**moment, ahead_ms=ahead_ms),
            faults.WrongFrame(
                **moment, ahead_ms=random.choice((ahead_ms, -_YEAR_MS)), moves="candle"
            ),
        )
    )


def _compare(store_path: Path, exchange: Exchange, runs: list[Span], progress: Progress) -> _Result:
    """Compare the store with the trades of the exchange."""
    result = _Result()
    with journal_view(store_path) as journal:
        accounts, gaps = journal.accounts(), tuple(journal.gaps())
    for done, (series, account) in enumerate(accounts.items()):
        step = Step(f"comparing {series} with the trades", done, len(accounts), "series")
        progress.show(step)
        table = stored_table(store_path, series)
        stored = {} if table is None else {one.open_time_ms: one for one in candles_of(table)}
        interval = series.interval
        of_series = [one for one in gaps if one.series == series]
        unfilled = [one for one in of_series if one.state is not State.FILLED]
        explained = {ms for one in unfilled for ms in interval.open_times_ms(one.span)}
        whole = Span(account.first_ms, max(account.watermark_ms, account.first_ms + 1))
        for open_time_ms in interval.open_times_ms(whole):
            result.due += 1
            if open_time_ms in stored:
                result.wrong += stored[open_time_ms] != _traded(exchange, series, open_time_ms)
            elif open_time_ms not in explained:
                result.lost += 1
        result.explained += len(unfilled)
        for one in of_series:
            result.misexplained += _misexplained(one, exchange, runs)
            result.reasons[str(one.reason)] += interval.count(one.span)
    missing = sorted(set(_SERIES) - accounts.keys())
    result.faults += [f"{series}: nothing was recorded" for series in missing]
    for file in check(store_path, progress.show):
        for fault in file.faults:
            result.duplicated += "twice" in fault.what
            result.faults.append(f"{file.path}: {fault.what}")
    return result


def _misexplained(gap: Gap, exchange: Exchange, runs: list[Span]) -> int:
    """Return how many candles of a gap are absent for another reason than the ledger has."""
    series = gap.series
    market, interval = exchange.markets[series.trade_type], series.interval
    wrong = 0
    for open_time_ms in interval.open_times_ms(gap.span):
        end_ms = interval.end_time_ms(open_time_ms)
        if gap.state is State.CLOSED:
            outage = market.script.outage(series.symbol, open_time_ms, end_ms)
            wrong += outage is None or gap.reason is not Reason.EXCHANGE_HAD_NONE
        elif gap.reason is Reason.RECORDER_DOWN:
            # A start takes seconds, which are minutes on the exchange; and gaps of the last
            # moments before a kill were not in the ledger yet.
            wrong += any(
                run.from_ms + 12 * _MINUTE_MS < end_ms < run.to_ms - 4 * _MINUTE_MS for run in runs
            )
    return wrong


def _traded(exchange: Exchange, series: Series, open_time_ms: int) -> Candle | None:
    """Return the exchange's own candle; None if it had none."""
    market = exchange.markets[series.trade_type]
    kline = market.candle(series.symbol, series.time_interval, open_time_ms, 1 << 52)
    if kline is None:
        return None
    open_, high, low, close, volume, quote_volume, *takers = map(float, _decimals(kline))
    prices = (open_, high, low, close)
    return Candle(open_time_ms, *prices, volume, quote_volume, kline.trade_num, *takers)
