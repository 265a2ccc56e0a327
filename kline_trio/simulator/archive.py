"""The published archives, made of the exchange's own candles.

Sources: github.com/binance/binance-public-data, README.md (paths, headers, microseconds on spot
from 2025 on, CHECKSUM files); a recorded body of a 404.
"""

import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

import attrs

from kline_trio.simulator.calendar import intervals_of, open_ms
from kline_trio.simulator.faults import ArchiveFault
from kline_trio.simulator.frames import Kline
from kline_trio.simulator.rest import Response
from kline_trio.simulator.rest_klines import Candles, candles_forward, kline_row
from kline_trio.simulator.script import Script

__all__ = ["ArchiveShelf"]

_PATH = re.compile(
    r"/data/(?P<folder>spot|futures/um|futures/cm)/(?P<kind>daily|monthly)/klines/"
    r"(?P<symbol>[^/]+)/(?P<interval>[^/]+)/(?P<name>[^/]+)\.zip(?P<checksum>\.CHECKSUM)?"
)
_TRADE_TYPES = {"spot": "spot", "futures/um": "usdt_futures", "futures/cm": "coin_futures"}
_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    "taker_buy_quote_volume,ignore\n"
)
_MICROSECONDS_FROM_MS = 1_735_689_600_000
"""2025-01-01, for spot."""
_PUBLISHED_AFTER_MS = 6 * 3_600_000
"""Daily files come some hours after the day (binance-public-data issue 181)."""
_NO_DAYS = ("3d", "1w", "1M")


@attrs.frozen
class ArchiveShelf:
    """The host of the archives."""

    scripts: Mapping[str, Script]
    """By trade type."""
    candles: Callable[[str, str, int], Candles | None]
    """The candles of a trade type and a symbol as they stand at a moment."""

    def answer(self, target: str, now_ms: int) -> Response:
        """Answer a GET.

        Args:
            target: The path.
            now_ms: Exchange time; the files of the last hours are not published yet.
        """
        match = _PATH.fullmatch(unquote(target))
        content = self._zip(match, now_ms) if match else None
        if match is None or content is None:
            return _missing(target)
        form = "application/zip"
        if match["checksum"]:
            form = "text/plain"
            content = f"{hashlib.sha256(content).hexdigest()}  {match['name']}.zip\n".encode()
        return Response(status=200, headers=(("content-type", form),), body=content)

    def _zip(self, match: re.Match[str], now_ms: int) -> bytes | None:
        trade_type = _TRADE_TYPES[match["folder"]]
        interval = "1M" if match["interval"] == "1mo" else match["interval"]
        prefix = f"{match['symbol']}-{match['interval']}-"
        daily = match["kind"] == "daily"
        if interval not in intervals_of(trade_type) or not match["name"].startswith(prefix):
            return None
        if match["interval"] == "1M" or (daily and interval in _NO_DAYS):
            return None
        try:
            form = "%Y-%m-%d" if daily else "%Y-%m"
            day = datetime.strptime(match["name"].removeprefix(prefix), form).replace(tzinfo=UTC)
        except ValueError:
            return None
        end = day + timedelta(days=1) if daily else (day + timedelta(days=32)).replace(day=1)
        from_ms, to_ms = round(day.timestamp() * 1_000), round(end.timestamp() * 1_000)
        if now_ms < to_ms + _PUBLISHED_AFTER_MS:
            return None
        candles = self.candles(trade_type, match["symbol"], now_ms)
        if candles is None or to_ms <= candles.first_ms:
            return None
        faults = self.scripts[trade_type].archive_faults
        faults = [fault for fault in faults if fault.symbol == match["symbol"]]
        first_ms = max(from_ms, open_ms(interval, candles.first_ms))
        klines = candles_forward(interval, candles.at, first_ms, to_ms - 1)
        unit = 1_000 if trade_type == "spot" and from_ms >= _MICROSECONDS_FROM_MS else 1
        text = _csv(trade_type, klines, faults, unit)
        if not text:
            return None
        return _packed(f"{match['name']}.csv", text)


def _csv(
    trade_type: str, klines: Iterable[Kline], faults: Sequence[ArchiveFault], unit: int
) -> str:
    """Return the file of the candles; empty if the archive has none of them."""
    lines, closed_at = [], ""
    for kline in klines:
        kept: Kline | None = kline
        for fault in faults:
            if kept is not None and fault.from_ms <= kline.open_time_ms < fault.until_ms:
                kept = fault.archived(kept, closed_at)
        if kept is not None:
            closed_at = kept.close
            lines.append(",".join(map(str, kline_row(kept, unit))) + "\n")
    if not lines:
        return ""
    return ("" if trade_type == "spot" else _HEADER) + "".join(lines)


def _packed(name: str, text: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        # A fixed date: the same candles are the same bytes.
        archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), text)
    return packed.getvalue()


def _missing(target: str) -> Response:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code>'
        "<Message>The specified key does not exist.</Message>"
        f"<Key>{target.lstrip('/')}</Key></Error>"
    )
    return Response(status=404, headers=(("content-type", "application/xml"),), body=body.encode())
