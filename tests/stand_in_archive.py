"""The files that the stand-in publishes of past days and months.

An independent reading of github.com/binance/binance-public-data, README.md.
"""

import csv
import hashlib
import io
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from tests.stand_in_candles import Row

__all__ = ["ArchiveFile", "QuietLie"]

TRADE_TYPES = {"spot": "spot", "futures/um": "usdt_futures", "futures/cm": "coin_futures"}
PATH = re.compile(
    r"/data/(spot|futures/um|futures/cm)/(daily|monthly)/klines/([^/]+)/([^/]+)/"
    r"\3-\4-(\d{4}-\d{2}(?:-\d{2})?)\.zip(\.CHECKSUM)?"
)
PUBLISHED_AFTER_MS = 6 * 3_600_000
MICROSECONDS_FROM_MS = 1_735_689_600_000
"""2025-01-01, for spot."""
HEADER = (
    "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count",
    "taker_buy_volume", "taker_buy_quote_volume", "ignore",
)  # fmt: skip
"""Files of the futures begin with it, those of spot do not."""

QuietLie = tuple[str, int, int]
"""A symbol, and from when to when its files say that nobody traded."""


@dataclass(frozen=True)
class ArchiveFile:
    """One published file, or its checksum."""

    trade_type: str
    symbol: str
    interval: str
    name: str
    from_ms: int
    to_ms: int
    is_checksum: bool

    @classmethod
    def from_path(cls, path: str) -> "ArchiveFile | None":
        """What a path below the host names; None if it is no file of candles."""
        if (match := PATH.fullmatch(path)) is None:
            return None
        folder, kind, symbol, interval, date, checksum = match.groups()
        form = "%Y-%m-%d" if kind == "daily" else "%Y-%m"
        begin = datetime.strptime(date, form).replace(tzinfo=UTC)
        days = timedelta(days=1 if kind == "daily" else 32)
        end = begin + days if kind == "daily" else (begin + days).replace(day=1)
        from_ms, to_ms = (int(day.timestamp() * 1_000) for day in (begin, end))
        name, candle = f"{symbol}-{interval}-{date}", interval.replace("mo", "M")
        return cls(TRADE_TYPES[folder], symbol, candle, name, from_ms, to_ms, bool(checksum))

    def is_published(self, now_ms: int) -> bool:
        """Whether it is there some hours after its time."""
        return now_ms >= self.to_ms + PUBLISHED_AFTER_MS

    def content(self, rows: Iterable[Row], lies: Sequence[QuietLie]) -> bytes:
        """The file: flat and without trades where it lies."""
        told = (_quietened(row) if _is_lie(row, self.symbol, lies) else row for row in rows)
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        if self.trade_type != "spot":
            table.writerow(HEADER)
        table.writerows(_cells(row, self.trade_type) for row in told)
        packed = _packed(f"{self.name}.csv", text.getvalue())
        if self.is_checksum:
            return f"{hashlib.sha256(packed).hexdigest()}  {self.name}.zip\n".encode()
        return packed


def _is_lie(row: Row, symbol: str, lies: Iterable[QuietLie]) -> bool:
    return any(symbol == name and begin <= row.t < end for name, begin, end in lies)


def _quietened(row: Row) -> Row:
    return replace(row, h=row.o, l=row.o, c=row.o, v="0", q="0", n=0, V="0", Q="0")


def _cells(row: Row, trade_type: str) -> Iterator[object]:
    is_in_microseconds = trade_type == "spot" and row.t >= MICROSECONDS_FROM_MS
    opens, closes = (row.t * 1_000, row.T * 1_000 + 999) if is_in_microseconds else (row.t, row.T)
    yield from (opens, row.o, row.h, row.l, row.c, row.v, closes, row.q, row.n, row.V, row.Q, 0)


def _packed(name: str, text: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        # The same bytes whenever they are made: the checksum is asked for by itself.
        file.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return content.getvalue()
