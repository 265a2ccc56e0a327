"""The command `check --against`: what is stored, against the exchange and against itself."""

import argparse
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

import attrs
import trio

from kline_trio.candle import Candle, Series
from kline_trio.config import Config
from kline_trio.console import log_lines
from kline_trio.interval import INTERVALS
from kline_trio.recorder.verification import Verified, compared, repair
from kline_trio.storage.comparison import summed_mismatches
from kline_trio.storage.stored import stored_table

__all__ = ["check_against"]

_MOST_LINES = 20
"""For each series."""


def check_against(config: Config, options: argparse.Namespace) -> int:
    """Compare, print what differs, and repair it if that is asked; 1 if anything differs."""
    differing = 0
    with log_lines(debug=False):
        found = trio.run(_compare, config, options)
    lines: Counter[Series] = Counter()
    for one in found:
        for text in _told(one):
            lines[one.series] += 1
            if lines[one.series] <= _MOST_LINES:
                print(f"{one.series} {text}")
    every = tuple(dict.fromkeys((*config.streams, *(one.series for one in found))))
    for series in every:
        mine = [one.comparison for one in found if one.series == series]
        if lines[series] > _MOST_LINES:
            print(f"{series}: and {lines[series] - _MOST_LINES:,} more")
        print(
            f"{series}: {sum(one.compared for one in mine):,} compared,"
            f" {sum(one.equal for one in mine):,} equal,"
            f" {sum(len(one.differing) for one in mine):,} differing,"
            f" {sum(len(one.absent_here) for one in mine):,} absent here,"
            f" {sum(len(one.absent_there) for one in mine):,} absent there"
        )
        differing += lines[series]
    across = _across_intervals(config, every)
    if options.repair and differing:
        written = trio.run(repair, config, found)
        print(f"repaired: {written:,} candles have the exchange's values now")
    return 1 if differing or across else 0


async def _compare(config: Config, options: argparse.Namespace) -> list[Verified]:
    async with compared(
        config, against=options.against, since_ms=options.since, sample=options.sample
    ) as found:
        return [one async for one in found]


def _told(one: Verified) -> list[str]:
    lines = []
    for ours, theirs in one.comparison.differing:
        values = ", ".join(
            f"{name} {getattr(ours, name)!r} here, {getattr(theirs, name)!r} there"
            for name in attrs.fields_dict(Candle)
            if getattr(ours, name) != getattr(theirs, name)
        )
        lines.append(f"{_time(ours.open_time_ms)}: {values}")
    lines += [f"{_time(one.open_time_ms)}: absent here" for one in one.comparison.absent_here]
    lines += [f"{_time(one.open_time_ms)}: absent there" for one in one.comparison.absent_there]
    return lines


def _across_intervals(config: Config, every: Iterable[Series]) -> int:
    """Print where longer candles are not what the stored shorter ones make up; how often."""
    found = 0
    order = list(INTERVALS)
    by_symbol: dict[tuple[str, str], list[Series]] = {}
    for series in every:
        by_symbol.setdefault((series.trade_type, series.symbol), []).append(series)
    for several in by_symbol.values():
        shortest, *longer = sorted(several, key=lambda one: order.index(one.time_interval))
        short = stored_table(config.store.path, shortest) if longer else None
        for series in longer:
            table = stored_table(config.store.path, series)
            if short is None or table is None:
                continue
            wrong = list(summed_mismatches(short, shortest.interval, table, series))
            for one in wrong[:_MOST_LINES]:
                print(
                    f"{series} {_time(one.open_time_ms)}: {one.column} {one.stored!r}, but"
                    f" {one.shorter.name} candles make {one.summed!r}"
                )
            print(
                f"{series}: against {shortest.time_interval}, {table.num_rows:,} candles,"
                f" {len(wrong):,} disagreements"
            )
            found += len(wrong)
    return found


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(" ", "seconds")
