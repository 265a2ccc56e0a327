"""The published archives: the files of a series, and their checked content.

Sources: github.com/binance/binance-public-data, README.md (paths, intervals, CHECKSUM files), and
its issues 249 (checksums that do not match) and 181 (when files are published).
"""

import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import attrs
import httpx2
import trio

from kline_trio.candle import Series
from kline_trio.errors import DamagedArchiveError, UnavailableError
from kline_trio.interval import DAY_MS, Span

_FOLDERS = {"spot": "spot", "usdt_futures": "futures/um", "coin_futures": "futures/cm"}
_DAILY_AFTER_MS = 2 * DAY_MS
"""Daily files come the next day, some hours or days late; younger ones are not requested."""
_MONTHLY_AFTER_MS = 8 * DAY_MS
"""Monthly files come on the first Monday of the next month."""
_LINE_BYTES = 256
"""A line of a file has 100 to 180 bytes; packed 30 to 60, but a zip file need not be packed."""
_BEGIN_BYTES = 4_096
"""For a header, and for the directory of a zip file."""
_MAX_FILE_BYTES = 256 * 2**20
"""A month of 1s has some 90 MB."""
_MAX_CSV_BYTES = 2**30
_CHECKSUM_BYTES = 1_024
"""A CHECKSUM has 64 digits and a name."""
_MAX_RATIO = 100
"""Real files are packed 4 to 12 times; 200 flat rows of a delisted contract some 60 times."""
_FILE_SECONDS = 300.0
_SUM = re.compile(rb"\s*([0-9a-fA-F]{64})\b")


@attrs.frozen
class ArchiveFile:
    """One published file."""

    path: str
    """Below the host."""
    span: Span
    """It should hold the candles that open in this span."""
    candles: int
    """The number of those candles."""

    @property
    def most_bytes(self) -> int:
        """The size of the largest valid file."""
        return min(_MAX_FILE_BYTES, _BEGIN_BYTES + self.candles * _LINE_BYTES)

    @property
    def most_csv_bytes(self) -> int:
        """The size of the largest valid content."""
        return min(_MAX_CSV_BYTES, _BEGIN_BYTES + self.candles * _LINE_BYTES)


def archive_files(series: Series, span: Span, now_ms: int) -> Iterator[ArchiveFile]:
    """Yield the files with the candles of a span, oldest first, that should be published by now.

    If more than two days of a month are wanted, yield the file of the month; else, and for the
    newest month, files of days. `now_ms` is the exchange's time.
    """
    interval = series.interval
    has_days = interval.duration_ms is not None and interval.duration_ms <= DAY_MS
    day = datetime.fromtimestamp(span.from_ms // DAY_MS * 86_400, UTC)
    while _ms(day) < span.to_ms:
        month = day.replace(day=1)
        following = (month + timedelta(days=32)).replace(day=1)
        if now_ms >= _ms(following) + _MONTHLY_AFTER_MS and (
            not has_days or _ms(day) + 3 * DAY_MS <= min(span.to_ms, _ms(following))
        ):
            kind, date, begin, end = "monthly", f"{month:%Y-%m}", month, following
        elif has_days and now_ms >= _ms(day) + DAY_MS + _DAILY_AFTER_MS:
            kind, date, begin, end = "daily", f"{day:%Y-%m-%d}", day, day + timedelta(days=1)
        else:
            return
        file = _file(series, kind, date, Span(_ms(begin), _ms(end)))
        # The month of a 3d candle can begin in the middle of one.
        if file.span.common_with(span):
            yield file
        day = end


def _file(series: Series, kind: str, date: str, days: Span) -> ArchiveFile:
    symbol, interval = quote(series.symbol), series.interval
    folder = f"data/{_FOLDERS[series.trade_type]}/{kind}/klines/{symbol}/{interval.file_name}"
    end_ms = interval.end_time_ms(interval.open_time_ms(days.to_ms - 1))
    span = Span(interval.next_open_time_ms(days.from_ms), end_ms)
    path = f"{folder}/{symbol}-{interval.file_name}-{date}.zip"
    return ArchiveFile(path, span, interval.count(span))


def _ms(day: datetime) -> int:
    return round(day.timestamp() * 1_000)


def unpacked(content: bytes, most_bytes: int = _MAX_CSV_BYTES) -> bytes:
    """Return the only member of a zip file.

    Raises:
      DamagedArchiveError: it is no zip file, has not exactly one member, or a member of more than
        `most_bytes` or of an impossible compression.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) != 1:
                raise DamagedArchiveError(f"a zip file of {len(members)} members, not one")
            # The announced size may be false: bound the bytes that are read.
            most = min(most_bytes, _MAX_RATIO * len(content))
            with archive.open(members[0]) as member:
                text = member.read(most + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
        raise DamagedArchiveError(f"no zip file that can be read: {error}") from None
    except NotImplementedError as error:
        raise DamagedArchiveError(f"a zip file packed in an unknown way: {error}") from None
    if len(text) > most:
        raise DamagedArchiveError(f"a zip file that swells to more than {most:,} bytes")
    return text


@attrs.frozen
class Archive:
    """Downloads files from the archive host."""

    client: httpx2.AsyncClient
    host: str

    async def fetch(self, file: ArchiveFile) -> bytes | None:
        """Return the zip file, checked by its published SHA-256; None if it is not published.

        Raises:
          DamagedArchiveError: two downloads in a row do not match the checksum; or no checksum is
            published; or the file or its checksum is longer than the largest valid one.
          UnavailableError: there was no valid answer.
        """
        for _ in range(2):
            fetched = await self._get(file.path, file.most_bytes)
            if fetched is None:
                return None
            content, sha256 = fetched
            checksum = await self._get(f"{file.path}.CHECKSUM", _CHECKSUM_BYTES)
            if checksum is None:
                raise DamagedArchiveError("it has no CHECKSUM yet")
            published = _SUM.match(checksum[0])
            if published and published[1].decode().lower() == sha256:
                return content
        raise DamagedArchiveError("it is not what its CHECKSUM says")

    async def _get(self, path: str, most_bytes: int) -> tuple[bytes, str] | None:
        """Return a file and its SHA-256 in hexadecimal digits; None if it is not published."""
        url = f"{self.host}/{path}"
        body = bytearray()
        # Piece by piece: a month of 1s at once would hold up the event loop.
        sha256 = hashlib.sha256()
        try:
            with trio.fail_after(_FILE_SECONDS):
                async with self.client.stream("GET", url) as response:
                    if response.status_code == httpx2.codes.NOT_FOUND:
                        return None
                    if response.status_code != httpx2.codes.OK:
                        raise UnavailableError(f"{url}: HTTP {response.status_code}")
                    # Raw: httpx2 must not decompress the zip file.
                    async with aclosing(response.aiter_raw()) as pieces:
                        async for piece in pieces:
                            body += piece
                            sha256.update(piece)
                            if len(body) > most_bytes:
                                raise DamagedArchiveError(f"more than {most_bytes:,} bytes")
        except trio.TooSlowError:
            raise UnavailableError(f"{url}: not within {_FILE_SECONDS:g} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
            raise UnavailableError(
                f"{url}: {str(error) or repr(error.__cause__ or error)}"
            ) from None
        return bytes(body), sha256.hexdigest()
