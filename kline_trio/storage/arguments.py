"""Check the arguments of readers: folder, market, symbols, interval, columns, moments."""

import difflib
import os
from collections.abc import Collection, Iterable
from datetime import date
from pathlib import Path

from kline_trio.candle import TRADE_TYPES, check_symbol, upper_ascii
from kline_trio.errors import ConfigError, KlineTrioError
from kline_trio.interval import Interval
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.names import folder_path
from kline_trio.storage.simulated import simulated_hint


def store_folder(path: str | os.PathLike[str]) -> Path:
    """Return the path of a store's folder, with `~` expanded.

    Raises:
      KlineTrioError: there is no such folder, or the path is none.
    """
    folder = folder_path(path)
    with disk_errors(folder):
        if not folder.is_dir():
            raise KlineTrioError(f"there is no folder {folder}{simulated_hint(folder)}")
    return folder


def a_market(trade_type: object) -> str:
    """Return the trade type.

    Raises:
      ValueError: there is no such market.
    """
    if not isinstance(trade_type, str) or trade_type not in TRADE_TYPES:
        one_of = " ".join(TRADE_TYPES)
        raise ConfigError([f"trade_type is one of {one_of}, not {trade_type!r:.200}"])
    return trade_type


def a_symbol(symbol: object) -> str:
    """Return the symbol with its ASCII letters in upper case.

    Raises:
      ValueError: a symbol cannot be spelled so.
    """
    upper = upper_ascii(symbol) if isinstance(symbol, str) else symbol
    try:
        check_symbol(upper)  # type: ignore[arg-type]
    except ValueError as error:
        raise ConfigError([f"symbol {symbol!r:.200}: {error}"]) from None
    return str(upper)


def an_interval(name: object) -> str:
    """Return the exchange's spelling of an interval.

    Raises:
      ValueError: there is no such interval.
    """
    return Interval.from_text(name if isinstance(name, str) else "").name


def texts(name: str, value: Iterable[object]) -> list[str]:
    """Return the texts of an argument; a text alone counts as one.

    Args:
      name: the argument's name, for the error message.
      value: what a caller gave.

    Raises:
      ValueError: something in it is no text.
    """
    found = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    for one in found:
        if not isinstance(one, str):
            raise ConfigError([f'{name} are texts, as {name}=["..."], not {value!r:.200}'])
    return [str(one) for one in found]


def moment_ms(name: str, moment: str | date) -> int:
    """Return a date, datetime or text as Unix time in ms, rounded up; without a zone it is UTC.

    Args:
      name: the argument's name, for the error message.
      moment: what a caller gave.

    Raises:
      ValueError: it is no moment.
    """
    # The recorder imports this module, and never loads pandas.
    import pandas as pd

    if not isinstance(moment, str | date):
        # A bare number could be seconds, milliseconds or nanoseconds.
        raise ValueError(f"{name} is a date, a datetime or a text, not {moment!r}")
    try:
        stamp = pd.Timestamp(moment)
    except ValueError as error:
        raise ValueError(f"{name} is no date or time: {moment!r}") from error
    if pd.isna(stamp):
        raise ValueError(f"{name} is no date or time: {moment!r}")
    stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
    if stamp.unit in ("us", "ns"):
        # The first whole millisecond that is not before it, which is right for both bounds.
        stamp = stamp.ceil("ms")
    return int(stamp.as_unit("ms").to_datetime64().astype("int64"))


def unknown_series(place: str, wanted: str, known: Collection[str]) -> KlineTrioError:
    """Return the error that a store or lake has no such series. It names those most like it.

    Args:
      place: the store's folder, or the lake's address.
      wanted: the series, as text.
      known: the series of the store, as texts.
    """
    nearest = difflib.get_close_matches(wanted, known, n=3)
    hint = f"; nearest: {', '.join(nearest)}" if nearest else ""
    return KlineTrioError(
        f"no candles of {wanted} in {place}{hint}; kline_trio.series({place!r})"
        f" lists all {len(known)} series"
    )
