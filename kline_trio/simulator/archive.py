"""The published archives: real files as they are, others made of the exchange's own candles.

Sources: github.com/binance/binance-public-data, README.md (paths, headers, microseconds on spot
from 2025 on, CHECKSUM files); a recorded body of a 404.
"""

import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import attrs

from kline_trio.simulator.calendar import intervals_of, next_open_ms, open_ms
from kline_trio.simulator.faults import ArchiveHole, BadChecksum, QuietStretch
from kline_trio.simulator.frames import Kline
from kline_trio.simulator.rest import Response
from kline_trio.simulator.rest_klines import CandleAt, Candles
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

CandlesOf = Callable[[str, str, int], Candles | None]
"""The candles of a trade type and a symbol as they stand at a moment."""


@attrs.frozen
class ArchiveShelf:
    """What the host of the archives answers."""

    scripts: Mapping[str, Script]
    """By trade type."""
    candles: CandlesOf
    files: Mapping[tuple[str, str], bytes] = attrs.field(factory=dict)
    """Real zip files, by trade type and name without the ending; they are given as they are."""

    @staticmethod
    def real_files(paths: Iterable[Path]) -> dict[tuple[str, str], bytes]:
        """Read zip files; the folder above each is its trade type."""
        return {(path.parent.name, path.stem): path.read_bytes() for path in paths}

    def answer(self, target: str, now_ms: int) -> Response:
        """Answer a GET.

        Args:
            target: The path.
            now_ms: Exchange time; what is younger than some hours is not published.
        """
        match = _PATH.fullmatch(unquote(target))
        content = self._zip(match, now_ms) if match else None
        if match is None or content is None:
            return _missing(target)
        trade_type = _TRADE_TYPES[match["folder"]]
        if not match["checksum"]:
            return Response(
                status=200, headers=(("content-type", "application/zip"),), body=content
            )
        digest = hashlib.sha256(content).hexdigest()
        if any(
            isinstance(fault, BadChecksum) and fault.name == match["name"]
            for fault in self.scripts[trade_type].archive_faults
        ):
            digest = digest[::-1]
        line = f"{digest}  {match['name']}.zip\n".encode()
        return Response(status=200, headers=(("content-type", "text/plain"),), body=line)

    def _zip(self, match: re.Match[str], now_ms: int) -> bytes | None:
        trade_type = _TRADE_TYPES[match["folder"]]
        real = self.files.get((trade_type, match["name"]))
        if real is not None:
            return real
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
        faults = [
            fault
            for fault in self.scripts[trade_type].archive_faults
            if not isinstance(fault, BadChecksum) and fault.symbol == match["symbol"]
        ]
        first_ms = max(from_ms, open_ms(interval, candles.first_ms))
        text = _csv(trade_type, interval, candles.at, faults, first_ms, to_ms)
        if not text:
            return None
        return _packed(f"{match['name']}.csv", text)


def _csv(
    trade_type: str,
    interval: str,
    candle_at: CandleAt,
    faults: Sequence[ArchiveHole | QuietStretch],
    from_ms: int,
    to_ms: int,
) -> str:
    """Return the rows that open in a span; empty if there are none."""
    unit = 1_000 if trade_type == "spot" and from_ms >= _MICROSECONDS_FROM_MS else 1
    lines, closed_at = [], ""
    opened_ms = open_ms(interval, from_ms)
    if opened_ms < from_ms:
        opened_ms = next_open_ms(interval, opened_ms)
    while opened_ms < to_ms:
        kline = candle_at(interval, opened_ms)
        hits = [fault for fault in faults if fault.from_ms <= opened_ms < fault.until_ms]
        if kline is not None and not any(isinstance(hit, ArchiveHole) for hit in hits):
            if any(kline.close_time_ms < hit.until_ms for hit in hits):
                kline = _quiet(kline, closed_at)
            closed_at = kline.close
            closes = (kline.close_time_ms + 1) * unit - 1
            lines.append(
                f"{opened_ms * unit},{kline.open},{kline.high},{kline.low},{kline.close},"
                f"{kline.volume},{closes},{kline.quote_volume},{kline.trade_num},"
                f"{kline.taker_buy_volume},{kline.taker_buy_quote_volume},0\n"
            )
        opened_ms = next_open_ms(interval, opened_ms)
    if not lines:
        return ""
    return ("" if trade_type == "spot" else _HEADER) + "".join(lines)


def _quiet(kline: Kline, price: str) -> Kline:
    """Return the candle as it were without trades since one that closed at a price."""
    price = price or kline.open
    return attrs.evolve(
        kline,
        open=price,
        high=price,
        low=price,
        close=price,
        volume="0",
        quote_volume="0",
        trade_num=0,
        taker_buy_volume="0",
        taker_buy_quote_volume="0",
    )


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
