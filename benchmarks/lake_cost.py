"""What all symbols, all intervals and ten years of a lake cost, in bytes and requests.

Bytes of rows and requests of each kind of work are measured: the real publisher, compaction and
vacuum work on a server of S3 in this process, which notes each request. A month is then simulated
by arithmetic, hour by hour, with the project's own plan of compactions; a year is twelve months of
30 days. Of the small tables only requests are counted. How many symbols there are, and all prices,
are assumptions: name yours.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from benchmarks.archives import DATA
from benchmarks.lake_facts import Sizes, counted_facts
from benchmarks.lake_rows import months
from benchmarks.lake_years import Facts, Month, Part, Prices, Requests, month_of_lake, price
from benchmarks.machine import conclude
from kline_trio.counting import counted
from kline_trio.interval import INTERVALS

__all__ = ["main"]

_SYMBOLS = ("spot=1500", "usdt_futures=600", "coin_futures=60")
_ONLY_SPOT = "1s"
_GB = 1e9
_FULL, _QUICK = Sizes(1_000_000, 1_500, 20), Sizes(70_000, 60, 2, cycle=2)


def main(arguments: list[str]) -> int:
    """Print the tables; nothing is judged."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks lake_cost", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows and commits")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder with klines/ in it")
    parser.add_argument(
        "--symbols", nargs="+", default=_SYMBOLS, metavar="MARKET=NUMBER",
        help=f"an assumption; else {' '.join(_SYMBOLS)}",
    )  # fmt: skip
    parser.add_argument("--years", type=int, default=10)
    parser.add_argument("--put-price", type=float, default=0.005, metavar="MONEY",
                        help="of 1,000 PUT, POST and list requests; an assumption")  # fmt: skip
    parser.add_argument("--get-price", type=float, default=0.0004, metavar="MONEY",
                        help="of 1,000 GET and HEAD requests; an assumption")  # fmt: skip
    parser.add_argument("--gb-month", type=float, default=0.023, metavar="MONEY",
                        help="of a GB for a month; an assumption")  # fmt: skip
    parser.add_argument("--facts", type=Path, metavar="FILE",
                        help="take what an earlier run measured, from its JSON")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if options.facts is None:
        facts = counted_facts(months(options.data), _QUICK if options.quick else _FULL)
    else:
        facts = _facts_of(json.loads(options.facts.read_bytes())["table"]["facts"])
    symbols = {market: int(number) for market, _, number in (
        one.partition("=") for one in options.symbols)}  # fmt: skip
    prices = Prices(options.put_price, options.get_price, options.gb_month)
    _print_facts(facts)
    every = {market: _intervals(market) for market in symbols}
    cases = {
        "1m alone": {market: ["1m"] for market in symbols},
        "all intervals from 1m on": {
            market: [name for name in names if name != _ONLY_SPOT]
            for market, names in every.items()
        },
        "all intervals": every,
    }
    found = {case: month_of_lake(facts, symbols, names) for case, names in cases.items()}
    _print_intervals(found["all intervals"], options.years)
    for case, month in found.items():
        _print_case(case, month, options.years, prices)
    table = {"facts": attrs.asdict(facts), "months": {
        case: attrs.asdict(month) for case, month in found.items()}}  # fmt: skip
    return conclude(table, options.json, goals=[])


def _intervals(market: str) -> list[str]:
    return [name for name in INTERVALS if market == "spot" or name != _ONLY_SPOT]


def _facts_of(values: dict[str, Any]) -> Facts:
    read: dict[str, Any] = {
        name: Requests(**one) if isinstance(one, dict) and "writes" in one else one
        for name, one in values.items()
    }
    return Facts(**read)


def _print_facts(facts: Facts) -> None:
    print("measured: bytes of a row")
    print(f"{'':<9} {'lake':>6} {'store':>6}")
    for name in INTERVALS:
        note = "  taken from 1m" if name == _ONLY_SPOT else ""
        row, stored = facts.row_bytes[name], facts.store_row_bytes[name]
        print(f"{name:<9} {row:>6.1f} {stored:>6.1f}{note}")
    print(f"published, not compacted: {facts.new_row_bytes:.1f}, and {facts.new_file_bytes:,.0f}"
          " a file")  # fmt: skip
    print(f"measured: requests {'PUT, list':>29} {'GET, HEAD':>10} {'delete':>8}")
    for what, one in {
        "a publication, one small file": facts.publication,
        "each further file": facts.more_file,
        "each further commit of 250,000 rows": facts.more_commit,
        "a compaction that finds nothing to do": facts.compaction,
        "each month that is rewritten": facts.job,
        "each file of 128 MiB written": facts.upload,
        "each MiB of a large file read again": facts.large_read,
        "a vacuum that finds nothing to do": facts.vacuum,
    }.items():
        print(f"  {what:<38} {one.writes:>7.1f} {one.reads:>10.1f} {one.deletes:>8.1f}")


def _print_intervals(month: Month, years: int) -> None:
    print(f"arithmetic: {counted(years, 'year')}")
    print(f"{'':<9} {'candles':>16} {'lake':>12} {'files':>8} {'store':>12} {'written':>12}")
    names = {one.time_interval for one in month.parts}
    for name in [one for one in INTERVALS if one in names]:
        parts = [one for one in month.parts if one.time_interval == name]
        print(f"{name:<9} {_columns(parts, years)}")
    print(f"{'all':<9} {_columns(month.parts, years)}")


def _columns(parts: Sequence[Part], years: int) -> str:
    times = 12 * years

    def total(name: str) -> float:
        return float(sum(getattr(one, name) for one in parts)) * times

    return (
        f"{total('rows'):>16,.0f} {_gb(total('size')):>12} {total('files'):>8,.0f}"
        f" {_gb(total('store_bytes')):>12} {_gb(total('written')):>12}"
    )


def _print_case(case: str, month: Month, years: int, prices: Prices) -> None:
    times = 12 * years
    size = sum(one.size for one in month.parts)
    print(f"arithmetic: {case}: {month.rows * times:,} candles in {counted(years, 'year')}")
    works: Mapping[str, Requests] = {
        "publishing": month.publishing,
        "compacting": month.compacting,
        "vacuum": month.removing,
        "all": month.requests,
    }
    for what, one in works.items():
        print(
            f"  {what:<11} {one.writes:>12,.0f} PUT, list {one.reads:>12,.0f} GET, HEAD a month;"
            f" at these prices {price(prices, one, 0):>8,.2f} a month"
        )
    last = price(prices, Requests(), size * times / _GB)
    mean = price(
        prices, Requests().plus(month.requests, times), size / _GB * times * (times + 1) / 2
    )
    print(f"  storage     {_gb(size)} more each month, {_gb(size * times)} at the end:"
          f" {last:,.2f} in the last month")  # fmt: skip
    print(f"  all of {counted(years, 'year')} at these prices: {mean:,.0f};"
          f" log of the table {_gb(month.log_bytes)} in the first month")  # fmt: skip


def _gb(size: float) -> str:
    return f"{size / _GB:,.2f} GB"
