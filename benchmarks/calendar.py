"""What the page asks of a store: its calendar of completeness, and charts of years.

A ledger of two years in which 5 % of the days of each series are incomplete, scattered, is read
and asked for rows by day. Then ten years of one series are reduced to 1,500 points, in an
interpreter of its own, whose memory is measured. The least CPU of several runs counts.
"""

import argparse
import math
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import attrs
import numpy as np

from benchmarks.machine import conclude, verdict
from benchmarks.made_up import BTC, MINUTE_MS, START_MS, made_table
from benchmarks.spent import spending
from kline_trio.candle import Series, Source
from kline_trio.interval import DAY_MS, Span
from kline_trio.storage.calendar import Calendar, Due, ledger_version
from kline_trio.storage.journal.ledger import Gap, Reason, SeriesAccount, State
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.store import Store
from kline_trio.storage.table import schema

__all__ = ["Answer", "goals_met", "main"]

_SERIES = 2_500
_DAYS = 730
_INCOMPLETE = 0.05
"""The share of a series' days with a gap."""
_MARKETS = {"spot": 0.5, "usdt_futures": 0.4, "coin_futures": 0.1}
_STATES = {State.FILLED: 85, State.CLOSED: 12, State.PENDING: 3}
_VISIBLE = 60
_YEARS, _YEAR = 10, 365 * 1_440
_POINTS = 1_500
_CHART = """
import sys, time
from pathlib import Path
from kline_trio.candle import Series
from kline_trio.storage.coarse import coarse_candles
path, *names, points = sys.argv[1:]
series = Series(*names)
def most():
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return float(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
coarse_candles(Path(path), series, 0, 1, int(points))
before, began = most(), time.process_time()
assert len(coarse_candles(Path(path), series, 0, 2**60, int(points))) > int(points) // 4
print(time.process_time() - began, (most() - before) / 1024)
"""
"""Not `ru_maxrss`, which remembers the interpreter that started this one. Only Linux tells."""


@attrs.frozen
class Answer:
    """The cost of one answer."""

    what: str
    cost: float
    unit: str
    most: float | None
    """Its limit; None: it is not judged."""


def main(arguments: list[str]) -> int:
    """Print the table; 1 if an answer costs more than it may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks calendar", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="250 series; a year; three runs")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    count, years, runs = (250, 1, 3) if options.quick else (_SERIES, _YEARS, 9)
    with tempfile.TemporaryDirectory() as folder:
        ledger, candles = Path(folder) / "ledger", Path(folder) / "candles"
        gaps = _write_ledger(ledger, count)
        print(
            f"{count:,} series, {gaps:,} rows of the ledger; {years} x 365 days of a series of 1m"
        )
        table = [*_of_calendar(ledger, runs), *_of_journal(ledger, runs)]
        _write_candles(candles, years)
        table += _of_chart(candles, runs, years)
    for one in table:
        most = "" if one.most is None else f"  (at most {one.most:,.0f})"
        print(f"{one.what:<52} {one.cost:>8.1f} {one.unit}{most}")
    return conclude([attrs.asdict(one) for one in table], options.json, goals_met(table))


def _write_ledger(path: Path, count: int) -> int:
    """Write accounts and gaps; return how many gaps."""
    random, written = Random(1), 0  # noqa: S311 - no secrets
    store = Store.open(path, Layout(DEFAULT_LAYOUT))
    for trade_type, share in _MARKETS.items():
        for number in range(round(share * count)):
            series = Series(trade_type, f"S{number:04}USDT", "1m")
            gaps = list(_gaps(series, random))
            store.journal.settle(gaps, {series: SeriesAccount(START_MS, _day(_DAYS))})
            written += len(gaps)
    store.close()
    return written


def _day(number: int) -> int:
    return START_MS + number * DAY_MS


def _gaps(series: Series, random: Random) -> Iterator[Gap]:
    for day in range(_DAYS):
        if random.random() < _INCOMPLETE:
            first_ms = _day(day) + random.randrange(1_300) * MINUTE_MS
            span = Span(first_ms, first_ms + random.choice((1, 2, 5, 30, 100)) * MINUTE_MS)
            [state] = random.choices(list(_STATES), list(_STATES.values()))
            by = Source.REST if state is State.FILLED else None
            reason = random.choice((Reason.NOT_RECEIVED, Reason.RECORDER_DOWN, Reason.REFUSED))
            yield Gap(series, span, span.to_ms, reason, state, 1, by)


def _write_candles(path: Path, years: int) -> None:
    store = Store.open(path, Layout(DEFAULT_LAYOUT))
    for year in range(years):
        store.fill_in(made_table(year * _YEAR, _YEAR).cast(schema(BTC)), BTC)
    store.close()


def _of_calendar(path: Path, runs: int) -> Iterator[Answer]:
    tracemalloc.start()
    calendar = Calendar.read(path)
    megabytes = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    now = {name: Due(_day(_DAYS) + DAY_MS // 2, is_live=True) for name in _MARKETS}
    stopped = {name: Due(one.until_ms, is_live=False) for name, one in now.items()}
    days = np.array([_day(number) for number in range(_DAYS + 1)])
    visible = [[number] for number in range(_VISIBLE)]
    places = list(enumerate(calendar.series))
    markets = [[at for at, one in places if one.trade_type == name] for name in _MARKETS]
    every = range(len(calendar.series))
    work: tuple[tuple[str, float | None, Callable[[], object]], ...] = (
        ("the calendar is read", 1_500, lambda: Calendar.read(path)),
        ("whether it has changed", None, lambda: ledger_version(path)),
        (f"{_VISIBLE} rows of {_DAYS} days", 20, lambda: calendar.rows(visible, days, now)),
        ("the same, no recorder runs", 20, lambda: calendar.rows(visible, days, stopped)),
        (f"3 markets of {_DAYS} days", 50, lambda: calendar.rows(markets, days, now)),
        ("the same, no recorder runs", 50, lambda: calendar.rows(markets, days, stopped)),
        ("totals of all series", None, lambda: calendar.totals(every, now)),
    )
    for what, most, ask in work:
        yield Answer(what, _least_ms(ask, runs), "ms", most)
    yield Answer("memory of the calendar", megabytes, "MB", 30)


def _of_journal(path: Path, runs: int) -> Iterator[Answer]:
    with journal_view(path) as journal:
        newest = _least_ms(lambda: journal.newest_gaps(200), runs)
        between = _least_ms(lambda: journal.gaps_between(None, 0, _day(_DAYS), 200), runs)
    yield Answer("the 200 gaps that were found last", newest, "ms", None)
    yield Answer("the 200 latest gaps", between, "ms", None)


def _of_chart(path: Path, runs: int, years: int) -> list[Answer]:
    names = (BTC.trade_type, BTC.symbol, BTC.time_interval, str(_POINTS))
    command = [sys.executable, "-c", _CHART, str(path), *names]
    cpu = growth = math.inf
    for _ in range(min(runs, 3)):
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
        seconds, megabytes = map(float, done.stdout.split())
        cpu, growth = min(cpu, seconds), min(growth, megabytes)
    what = f"a chart of {years} x 365 days, {_POINTS:,} points at most"
    return [Answer(what, cpu * 1e3, "ms", 1_000), Answer("memory it takes", growth, "MB", 50)]


def _least_ms(work: Callable[[], object], runs: int) -> float:
    least = math.inf
    for _ in range(runs):
        with spending() as spent:
            work()
        least = min(least, spent.cpu_seconds * 1e3)
    return least


def goals_met(table: list[Answer]) -> list[bool]:
    """Say of each answer that is judged whether it costs no more than it may."""
    judged = [one for one in table if one.most is not None and not math.isnan(one.cost)]
    goals = [one.cost <= (one.most or 0) for one in judged]
    print(f"all within their limits: {verdict(goals)}")
    return goals
