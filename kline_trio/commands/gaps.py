"""The command `gaps`: list the candles that are or were absent, and what became of them."""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from kline_trio.commands.live import SIMULATED, existing_store, json_text
from kline_trio.commands.store import store_of
from kline_trio.counting import counted
from kline_trio.errors import ConfigError
from kline_trio.interval import time_text
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.journal.ledger import Gap, State
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.simulated import is_simulated

_COLUMNS = (
    "trade_type", "symbol", "time_interval", "from", "to", "candles", "reason", "state",
    "filled_by", "asked", "first_seen",
)  # fmt: skip


def gaps(options: argparse.Namespace) -> None:
    """Print the ledger: a line for each gap, by series and time.

    Raises:
      ConfigError: there is no such store.
      DiskError: the journal cannot be read.
    """
    store, config = store_of(options.store)
    if config is not None:
        store = existing_store(store, options.store)
    if not store.is_dir():
        raise ConfigError([f"there is no store {store}"])
    with disk_errors(store), journal_view(store) as journal:
        if options.csv:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(_COLUMNS)
            writer.writerows(_values(gap).values() for gap in journal.gaps())
            return
        found = list(journal.gaps())
    if options.json:
        rows = [_values(gap) for gap in found]
        values = {"store": str(store), "simulated": is_simulated(store), "gaps": rows}
        print(json_text(values))
    else:
        print("\n".join(_lines(store, found)))


def _values(gap: Gap) -> dict[str, object]:
    """Return a gap by its columns; `to` is exclusive."""
    series = gap.series
    span = (time_text(gap.span.from_ms), time_text(gap.span.to_ms))
    filled_by = None if gap.filled_by is None else str(gap.filled_by)
    count, first_seen = series.interval.count(gap.span), time_text(gap.first_seen_ms)
    state = (str(gap.reason), str(gap.state), filled_by, gap.asked, first_seen)
    names = (series.trade_type, series.symbol, series.time_interval)
    return dict(zip(_COLUMNS, (*names, *span, count, *state), strict=True))


def _lines(store: Path, found: Sequence[Gap]) -> Iterator[str]:
    """Give a summary, and a line for each gap."""
    if is_simulated(store):
        yield SIMULATED
    counts: Counter[State] = Counter()
    for gap in found:
        counts[gap.state] += gap.series.interval.count(gap.span)
    several = len({gap.series for gap in found})
    words = [f"{counts[state]:,} {text}" for state, text in _TEXTS.items() if counts[state]]
    candles = f"; candles: {', '.join(words)}" if words else ""
    yield f"{store}: {counted(len(found), 'gap')} of {several:,} series{candles}"
    width = max((len(str(gap.series)) for gap in found), default=0)
    for gap in found:
        begin, end = (
            time_text(moment).removesuffix("+00:00")
            for moment in (gap.span.from_ms, gap.span.to_ms)
        )
        count = counted(gap.series.interval.count(gap.span), "candle")
        yield f"{gap.series!s:<{width}}  {begin} to {end}  {count}  {gap.reason}: {_fate(gap)}"


_TEXTS = {State.PENDING: "still asked for", State.CLOSED: "given up", State.FILLED: "filled in"}


def _fate(gap: Gap) -> str:
    """Return what became of a gap."""
    asked = f", asked {counted(gap.asked, 'time')}" if gap.asked else ""
    if gap.state is not State.FILLED:
        return _TEXTS[gap.state] + asked
    return f"filled in by {gap.filled_by}" if gap.filled_by else "filled in, by what is not known"
