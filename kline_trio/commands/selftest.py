"""The command `selftest`: the real program against the built-in exchange, where all goes wrong.

The exchange drops, stalls, omits and lies; its REST interface stumbles; the recorder is killed and
started again; files of its archive are flat where there were trades. In the end the store is held
against the exchange's own account of what it traded.
"""

import argparse
import math
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
from kline_trio.commands.output import show_progress
from kline_trio.commands.simulate import toml_of
from kline_trio.config import Config
from kline_trio.interval import Span
from kline_trio.simulator.exchange import DEFAULT_START_MS, Exchange
from kline_trio.simulator.faults import (
    Drop,
    Fault,
    LateClose,
    OmitClose,
    Outage,
    QuietStretch,
    RestFault,
    Silence,
    Stall,
    WrongFrame,
    WrongRows,
    WrongTime,
)
from kline_trio.simulator.server import open_exchange
from kline_trio.simulator.symbols import ascii_lower
from kline_trio.storage.catalog import stored_table
from kline_trio.storage.check import check
from kline_trio.storage.journal.ledger import Gap, Reason, State
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.table import candles_of

__all__ = ["selftest"]

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
_TROUBLE_SECONDS = 10.0
"""How often something goes wrong on each market."""
_LIFE_SECONDS = (6.0, 14.0)
"""How long the recorder lives until it is killed."""
_DEATH_SECONDS = (0.2, 3.0)
_LAST_LIFE_SECONDS = 15.0
"""The last time it may go on until all is asked for."""


_numbers = attrgetter(
    *("open", "high", "low", "close"),
    *("volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume"),
)


@attrs.define
class _Tally:
    """The result of a run."""

    due: int = 0
    lost: int = 0
    wrong: int = 0
    duplicated: int = 0
    explained: int = 0
    misexplained: int = 0
    """Candles absent for another reason than the exchange, or the time of a kill, gives."""
    reasons: Counter[str] = attrs.field(factory=Counter)
    faults: list[str] = attrs.field(factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing is lost, doubled, wrong or damaged."""
        bad = (self.lost, self.wrong, self.duplicated, self.misexplained)
        return not (any(bad) or self.faults)


def selftest(options: argparse.Namespace) -> int:
    """Run the test, and print its result. Return 1 if anything is lost, doubled or wrong."""
    with tempfile.TemporaryDirectory(prefix="kline_trio-selftest-") as name:
        folder = Path(name)
        seconds = max(20.0, 60.0 * options.minutes)
        exchange = Exchange(
            seed=options.seed, speed=_SPEED, faults=_troubles(options.seed, seconds)
        )
        chance = Random(options.seed)  # noqa: S311 - a test
        lives = trio.run(_record, exchange, folder, seconds, chance)
        tally = _tally(folder / "data", exchange, lives)
        went_wrong = Counter(one.fault for one in exchange.incidents)
        told = ", ".join(f"{count:,} {fault}" for fault, count in sorted(went_wrong.items()))
        print(f"what went wrong: {told}, {len(lives) - 1:,} kill -9")
        reasons = ", ".join(f"{count:,} {why}" for why, count in sorted(tally.reasons.items()))
        print(f"{tally.due:,} candles were due; absent for a while: {reasons or 'none'}")
        for fault in tally.faults:
            print(fault)
        if tally.misexplained:
            print(f"{tally.misexplained:,} candles are absent for another reason than is told")
        if tally.wrong:
            print(f"{tally.wrong:,} candles are not what the exchange traded")
        print(
            f"{tally.lost:,} lost, {tally.duplicated:,} duplicated,"
            f" {tally.explained:,} gaps explained"
        )
        if not tally.is_good:
            print((folder / "log").read_text(encoding="utf-8", errors="replace")[-4_000:])
    return 0 if tally.is_good else 1


async def _record(exchange: Exchange, folder: Path, seconds: float, chance: Random) -> list[Span]:
    """Start and kill the recorder until the time is over. Return its lives, in exchange time."""
    lives: list[Span] = []
    with (folder / "log").open("wb") as log:
        async with open_exchange(exchange) as endpoints:
            text = _SETTINGS + toml_of(endpoints)
            (folder / "recorder.toml").write_text(text, encoding="utf-8")
            end = trio.current_time() + seconds
            while trio.current_time() < end:
                born_ms = exchange.now_ms(trio.current_time())
                recorder = await trio.lowlevel.open_process(
                    [sys.executable, "-m", "kline_trio", str(folder / "recorder.toml")],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
                left = end - trio.current_time()
                last = left < _LIFE_SECONDS[1]
                life = max(left, _LAST_LIFE_SECONDS) if last else chance.uniform(*_LIFE_SECONDS)
                with trio.move_on_after(life) as patience:
                    await recorder.wait()
                if patience.cancelled_caught:
                    recorder.send_signal(signal.SIGINT if last else signal.SIGKILL)
                lives.append(Span(born_ms, exchange.now_ms(trio.current_time())))
                await recorder.wait()
                if last:
                    break
                left_s = math.ceil(end - trio.current_time())
                show_progress(f"{left_s} s left, killed {len(lives)} times")
                await trio.sleep(chance.uniform(*_DEATH_SECONDS))
    show_progress("")
    return lives


def _troubles(seed: int, seconds: float) -> Iterator[Fault]:
    """Give the faults of a run, evenly over its time."""
    chance = Random(seed)  # noqa: S311 - a test
    for one in _SERIES:
        for begin, end in _QUIET_MINUTES:
            yield QuietStretch(
                trade_type=one.trade_type,
                symbol=one.symbol,
                from_ms=_ARCHIVED_MS + begin * _MINUTE_MS,
                until_ms=_ARCHIVED_MS + end * _MINUTE_MS,
            )
    for trade_type in TRADE_TYPES:
        at_s = chance.uniform(2.0, _TROUBLE_SECONDS)
        while at_s < seconds - 10.0:
            at_ms = DEFAULT_START_MS + round(at_s * 1_000 * _SPEED)
            yield _trouble(chance, trade_type, at_ms - at_ms % _MINUTE_MS)
            at_s += chance.uniform(0.5, 1.5) * _TROUBLE_SECONDS / 2


def _trouble(chance: Random, trade_type: str, at_ms: int) -> Fault:
    """Return a fault of a market, chosen at random, that begins at a minute."""
    series = chance.choice([one for one in _SERIES if one.trade_type == trade_type])
    several = at_ms + chance.randint(3, 10) * _MINUTE_MS
    ahead_ms = chance.choice((8 * _MINUTE_MS, 180 * _MINUTE_MS, 10 * _YEAR_MS))
    stream: Any = {
        "trade_type": trade_type,
        "stream": f"{ascii_lower(series.symbol)}@kline_{series.time_interval}",
    }
    moment: Any = {"trade_type": trade_type, "at_ms": at_ms}
    close: Any = {**stream, "open_ms": at_ms - at_ms % (5 * 3 * _MINUTE_MS)}
    span: Any = {"trade_type": trade_type, "from_ms": at_ms, "until_ms": several}
    # For less than ten seconds of ours: what bears witness for longer is believed.
    short: Any = {**span, "until_ms": min(several, at_ms + 8 * _MINUTE_MS)}
    return chance.choice(
        (
            Drop(**moment),
            Stall(**span),
            Silence(**stream, from_ms=at_ms, until_ms=several),
            OmitClose(**close),
            LateClose(**close, late_ms=90_000),
            Outage(**span),
            RestFault(**span, status=chance.choice((200, 429, 500, 503))),
            WrongTime(**span, ahead_ms=ahead_ms),
            WrongRows(**short, ahead_ms=chance.choice((7, -ahead_ms))),
            WrongFrame(**moment, ahead_ms=ahead_ms),
            WrongFrame(**moment, ahead_ms=chance.choice((ahead_ms, -_YEAR_MS)), moves="candle"),
        )
    )


def _tally(store_path: Path, exchange: Exchange, lives: list[Span]) -> _Tally:
    """Compare the store with the exchange's own account."""
    tally = _Tally()
    with journal_view(store_path) as journal:
        accounts, absences = journal.accounts(), tuple(journal.gaps())
    for series, account in accounts.items():
        table = stored_table(store_path, series)
        have = {} if table is None else {one.open_time_ms: one for one in candles_of(table)}
        interval = series.interval
        mine = [one for one in absences if one.series == series]
        unfilled = [one for one in mine if one.state is not State.FILLED]
        explained = {ms for one in unfilled for ms in interval.open_times_ms(one.span)}
        whole = Span(account.first_ms, max(account.watermark_ms, account.first_ms + 1))
        for open_time_ms in interval.open_times_ms(whole):
            tally.due += 1
            if open_time_ms in have:
                tally.wrong += have[open_time_ms] != _truth(exchange, series, open_time_ms)
            elif open_time_ms not in explained:
                tally.lost += 1
        tally.explained += len(unfilled)
        for one in mine:
            tally.misexplained += _misexplained(one, exchange, lives)
            tally.reasons[str(one.reason)] += interval.count(one.span)
    missing = sorted(set(_SERIES) - accounts.keys())
    tally.faults += [f"{series}: nothing was recorded" for series in missing]
    for file in check(store_path):
        for fault in file.faults:
            tally.duplicated += "twice" in fault.what
            tally.faults.append(f"{file.path}: {fault.what}")
    return tally


def _misexplained(one: Gap, exchange: Exchange, lives: list[Span]) -> int:
    """Return how many of the candles are absent for another reason than the ledger has."""
    series = one.series
    market, interval = exchange.markets[series.trade_type], series.interval
    wrong = 0
    for open_time_ms in interval.open_times_ms(one.span):
        end_ms = interval.end_time_ms(open_time_ms)
        out = market.script.outage(series.symbol, open_time_ms, end_ms) is not None
        if one.state is State.CLOSED:
            wrong += not out or one.reason is not Reason.EXCHANGE_HAD_NONE
        elif one.reason is Reason.RECORDER_DOWN:
            # It takes seconds to start, and what failed to come in the last moments before a kill
            # was not named yet: on the exchange these are minutes.
            wrong += any(
                life.from_ms + 12 * _MINUTE_MS < end_ms < life.to_ms - 4 * _MINUTE_MS
                for life in lives
            )
    return wrong


def _truth(exchange: Exchange, series: Series, open_time_ms: int) -> Candle | None:
    market = exchange.markets[series.trade_type]
    kline = market.candle(series.symbol, series.time_interval, open_time_ms, 1 << 52)
    if kline is None:
        return None
    open_, high, low, close, volume, quote_volume, *takers = map(float, _numbers(kline))
    prices = (open_, high, low, close)
    return Candle(open_time_ms, *prices, volume, quote_volume, kline.trade_num, *takers)
