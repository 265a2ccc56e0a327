"""Layouts: which file a candle belongs to, by its series and time, and the reverse."""

import itertools
import string
from datetime import date, timedelta
from pathlib import PurePosixPath

import attrs

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.interval import Span
from kline_trio.storage.names import disk_name, text_of

DEFAULT_LAYOUT = "{trade_type}_{symbol}_{time_interval}.pqt"
"""One file a series, named as in the original design."""

SUFFIXES = (".pqt", ".parquet")
"""The endings of candle files' names."""

_REQUIRED = ("trade_type", "symbol", "time_interval")
_KNOWN = (*_REQUIRED, "year", "month", "date")
_WIDTHS = {"date": 10, "month": 7, "year": 4}
"""The placeholders of time, finest first, with the number of characters of their texts."""
_MOST_BYTES = {"trade_type": 12, "symbol": 160, "time_interval": 3, **_WIDTHS}
"""The most bytes of each placeholder's text in UTF-8; a symbol has 40 characters of four bytes."""
_MOST_NAME_BYTES = 250
"""File systems have 255; a copy that is being made is named `.NAME.tmp`."""
_FIRST_DAY = "0000-01-01"
_EPOCH = date(1970, 1, 1)
_ALL_TIME = Span(0, MAX_TIME_MS)

_Pieces = list[tuple[str, str | None]]
"""Each piece is a literal text and the placeholder that follows it, if one does."""


def _pieces(template: str) -> _Pieces:
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"layout {template!r}: {error}") from None
    for _, name, spec, conversion in parsed:
        # str.format would also take {symbol.x}, {symbol[0]}, {symbol!r} and {symbol:>9}.
        if name is not None and (name not in _KNOWN or spec or conversion):
            known = " ".join(f"{{{known}}}" for known in _KNOWN)
            raise ValueError(f"layout {template!r}: unknown placeholder {{{name}}}; one of {known}")
    return [(text, name) for text, name, _, _ in parsed]


def _check_template(_: object, __: object, template: str) -> None:
    pieces = _pieces(template)
    for required in _REQUIRED:
        if required not in [name for _, name in pieces]:
            # Two series would share a file.
            raise ValueError(f"layout {template!r}: {{{required}}} is missing")
    for (_, before), (text, _) in itertools.pairwise(pieces):
        # Else A1 at 5m and A at 15m would share a file.
        if before is not None and (not text or text.isalnum()):
            raise ValueError(f"layout {template!r}: put a separator, as _ or /, after {{{before}}}")
    if not template.isprintable() or "\\" in template:
        raise ValueError(f"layout {template!r}: only printable characters, and no backslash")
    if not template.endswith(SUFFIXES):
        raise ValueError(f"layout {template!r}: must end in .pqt or .parquet")
    if template.startswith("/"):
        raise ValueError(f"layout {template!r}: must be relative to the store's folder")
    for part in template.split("/"):
        # "." and ".." among them; pandas and Spark leave out what begins with a dot or underscore.
        if part.startswith((".", "_")) or not part:
            raise ValueError(
                f"layout {template!r}: no part of the path may be empty, or begin with . or _"
            )


@attrs.frozen
class Layout:
    """Where each candle's file is, relative to the store's folder.

    Raises:
      ValueError: the template cannot be used; the text says what to change.
    """

    template: str = attrs.field(default=DEFAULT_LAYOUT, validator=_check_template)
    """`/`-separated, with `{trade_type} {symbol} {time_interval}`, all required, and `{year}`
    (YYYY), `{month}` (YYYY-MM), `{date}` (YYYY-MM-DD) of the candle's begin in UTC."""

    def check_names(self) -> None:
        """Refuse a layout whose names can grow too long, which an old store may have all the same.

        Raises:
          ValueError: a long symbol would make a longer name than file systems have.
        """
        for part in self.template.split("/"):
            texts = [text + "x" * _MOST_BYTES.get(name or "", 0) for text, name in _pieces(part)]
            size = len("".join(texts).encode())
            if size > _MOST_NAME_BYTES:
                raise ValueError(
                    f"layout {self.template!r}: a part of the path has up to {size} bytes of UTF-8"
                    f" with a long symbol; {_MOST_NAME_BYTES} is the most"
                )

    def path(self, series: Series, open_time_ms: int) -> PurePosixPath:
        """Return the file, relative to the store's folder, of the candle that opens then."""
        day = (_EPOCH + timedelta(milliseconds=open_time_ms)).isoformat()
        path = PurePosixPath(disk_name(_filled(self.template, series, day)))
        assert not path.is_absolute(), path
        assert ".." not in path.parts, path
        return path

    def place(self, series: Series, path: PurePosixPath) -> Span | None:
        """Return the span of open times whose candles belong to this file.

        Its ends need not be open times of the series.

        Args:
          series: whose file it is.
          path: relative to the store's folder.

        Returns:
          None if the path is not one that the layout gives to the series.
        """
        finest = next((name for name in _WIDTHS if f"{{{name}}}" in self.template), None)
        if finest is None:
            return _ALL_TIME if self.path(series, 0) == path else None
        # The texts of all times have the same widths, so any day tells where the finest one is.
        before = _filled(self.template.partition(f"{{{finest}}}")[0], series, _FIRST_DAY)
        text = text_of(path)[len(before) :][: _WIDTHS[finest]]
        try:
            first = date.fromisoformat(text + _FIRST_DAY[len(text) :])
            span = Span(_ms(first), _ms(_next(first, finest)))
            return span if self.path(series, span.from_ms) == path else None
        except (ValueError, OverflowError):
            return None


def _filled(template: str, series: Series, day: str) -> str:
    return template.format(
        trade_type=series.trade_type,
        symbol=series.symbol,
        time_interval=series.interval.file_name,
        year=day[:4],
        month=day[:7],
        date=day,
    )


def _next(first: date, period: str) -> date:
    days = {"date": 1, "month": 31, "year": 366}[period]
    later = first + timedelta(days=days)
    return {"date": later, "month": later.replace(day=1), "year": later.replace(month=1, day=1)}[
        period
    ]


def _ms(day: date) -> int:
    return (day - _EPOCH) // timedelta(milliseconds=1)
