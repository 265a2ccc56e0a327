"""Observations as plain values for JSON."""

import enum
import math
from collections.abc import Mapping
from typing import Any

import attrs

from kline_trio.candle import Series
from kline_trio.recorder.statistics import Lags, SeriesStatistics, Statistics


def observation_values(
    found: Statistics,
    verdict: Mapping[str, object],
    series: tuple[SeriesStatistics, ...] | None,
) -> dict[str, object]:
    """Return a snapshot with its verdict as values of JSON.

    Args:
      found: the snapshot.
      verdict: of `Observation.verdict`.
      series: all series; None: leave them out, except the late ones.
    """
    statistics = as_values(found)
    assert isinstance(statistics, dict)
    if series is None:
        del statistics["series"]
    else:
        statistics["series"] = [as_values(one) for one in series]
    return {
        **verdict,
        "pid": found.process.pid,
        "version": found.version,
        "statistics": statistics,
    }


def as_values(value: object) -> object:
    """Return a value of statistics as values of JSON; a number that is not finite becomes null.

    Lags become their count, sum, maximum and quantiles, in seconds.
    """
    match value:
        case Series(trade_type, symbol, time_interval):
            return {"trade_type": trade_type, "symbol": symbol, "time_interval": time_interval}
        case Lags():
            return {
                "count": value.count,
                "sum_seconds": value.sum_seconds,
                "max_seconds": value.max_seconds,
                "p50_seconds": value.quantile(0.5),
                "p99_seconds": value.quantile(0.99),
            }
        case enum.Enum():
            return value.value
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): as_values(one) for key, one in value.items()}
        case list() | tuple():
            return [as_values(one) for one in value]
    kind: Any = type(value)
    if attrs.has(kind):
        return {one.name: as_values(getattr(value, one.name)) for one in attrs.fields(kind)}
    return str(value)
