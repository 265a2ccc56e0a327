"""What is missing between stored candles: rows without values, or an error that tells why."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from kline_trio.candle import Series
from kline_trio.errors import KlineTrioError
from kline_trio.interval import Interval, Span
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.journal.ledger import State
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.table import BEGIN, END, overlay

__all__ = ["made_whole"]

_SHOWN_GAPS = 5


def made_whole(
    store_path: Path,
    wanted: Series,
    table: pa.Table,
    start_ms: int | None,
    end_ms: int | None,
    *,
    raises: bool,
) -> pa.Table:
    """The table with a row, without values, for each candle that it lacks; or an error about them.

    Args:
      store_path: the store's folder.
      wanted: whose candles they are.
      table: those that are there, by begin.
      start_ms: from where on; None: from the first that is there.
      end_ms: up to where, exclusive; None: up to the last that is there.
      raises: whether what is missing is an error.

    Raises:
      KlineTrioError: candles are missing, if that is an error; or the journal cannot be read.
    """
    interval = wanted.interval
    begins: list[Any] = table[BEGIN].cast(pa.int64()).to_pylist()
    if not begins and (start_ms is None or end_ms is None):
        return table
    from_ms: int = begins[0] if start_ms is None else _first_open_ms(interval, start_ms)
    to_ms: int = (
        interval.end_time_ms(begins[-1]) if end_ms is None else _first_open_ms(interval, end_ms)
    )
    gaps = list(interval.gaps(Span(from_ms, to_ms), begins)) if from_ms < to_ms else []
    if not gaps:
        return table
    if raises:
        raise KlineTrioError(_told(store_path, wanted, gaps))
    absent = [ms for gap in gaps for ms in interval.open_times_ms(gap)]
    times = {BEGIN: absent, END: [interval.end_time_ms(ms) for ms in absent]}
    columns = [
        pa.array(times[field.name], pa.int64()).cast(field.type)
        if field.name in times
        else pa.nulls(len(absent), field.type)
        for field in table.schema
    ]
    return overlay(table, pa.Table.from_arrays(columns, schema=table.schema))


def _first_open_ms(interval: Interval, moment_ms: int) -> int:
    """The first candle that begins at this moment or later."""
    open_time_ms = interval.open_time_ms(moment_ms)
    return open_time_ms if open_time_ms == moment_ms else interval.end_time_ms(open_time_ms)


def _told(store_path: Path, wanted: Series, gaps: Sequence[Span]) -> str:
    """Which candles are missing, and why as far as the ledger knows."""
    with disk_errors(store_path), journal_view(store_path) as journal:
        ledger = [*journal.gaps([wanted])]
    lines = []
    for gap in gaps[:_SHOWN_GAPS]:
        reasons = sorted(
            {
                str(one.reason)
                for one in ledger
                if one.state is not State.FILLED
                and one.span.from_ms < gap.to_ms
                and one.span.to_ms > gap.from_ms
            }
        )
        stretch = f"{_text(gap.from_ms)} to {_text(gap.to_ms)}"
        lines.append(f"{stretch} ({', '.join(reasons) or 'not in the ledger'})")
    count = sum(wanted.interval.count(gap) for gap in gaps)
    more = f" and {len(gaps) - _SHOWN_GAPS} more stretches" if len(gaps) > _SHOWN_GAPS else ""
    return f"{count:,} candles of {wanted} are missing: {'; '.join(lines)}{more}"


def _text(moment_ms: int) -> str:
    return datetime.fromtimestamp(moment_ms / 1_000, UTC).isoformat(" ", "seconds")
