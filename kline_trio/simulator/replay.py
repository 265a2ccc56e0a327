"""Replays of real data: archive files, REST answers and recorded WebSocket text as one timeline.

File forms: github.com/binance/binance-public-data, README.md (columns, microseconds on spot from
2025 on); headers differ from file to file (its issues 246 and 386).  A row of an archive becomes
a first forming frame and a closing one; a recorded frame is sent as it was received.
"""

import gzip
import re
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import msgspec

from kline_trio.simulator.calendar import INTERVALS, next_open_ms, open_ms
from kline_trio.simulator.frames import Kline, without_trades
from kline_trio.simulator.symbols import TRADE_TYPES, ascii_lower

__all__ = ["Frame", "Replay"]

LONGEST_GAP_MS = 3 * 3600 * 1000
"""The clock leaps over longer stretches that hold no frame of any market."""

_CLOSE_LATE_MS = 3
"""From a candle's end to its closing frame; a close quoted in 2026-09 came 3 ms after."""
_FORMING_AFTER_MS = 500
_MICROSECONDS = 10**14
_FOLDERS = {**{name: name for name in TRADE_TYPES}, "um": "usdt_futures", "cm": "coin_futures"}
_NAME = re.compile(r"(?:rest-)?(?P<symbol>.+?)-(?P<interval>\d+(?:mo|[smhdwM]))-\d{4}-\d{2}.*")
_RECEIVED = re.compile(r"(?P<seconds>\d+(?:\.\d+)?): (?P<frame>\{.*)")
_ROW = re.compile(r"(\d+(\.\d+)?([eE][+-]?\d+)?(,|$)){11}", re.ASCII)
_HOST = re.compile(r"wss?://([a-z]+-)*(?P<kind>[a-z]*?)stream[.-]")
_OF_HOST = {"f": "usdt_futures", "d": "coin_futures"}
_BROKEN = (
    ValueError,
    EOFError,
    RuntimeError,  # a zip file with a password, or packed in an unknown way
    zipfile.BadZipFile,
    zlib.error,
    gzip.BadGzipFile,
    msgspec.MsgspecError,
)
_COIN_SYMBOL = re.compile(r"[^_]+USD_(?:PERP|\d{6})")


@attrs.frozen(kw_only=True)
class Frame:
    """One event of a replay, either a candle to be worded when it is sent or a recorded text."""

    due_ms: int
    trade_type: str
    stream: str
    kline: Kline | None = None
    text: str = ""
    """The bare event of a recorded frame; empty with a candle."""
    closes_ms: int | None = None
    """Open time of the candle that the frame closes."""


@attrs.frozen(kw_only=True)
class Replay:
    """All frames of a set of files in the order of their time."""

    frames: tuple[Frame, ...]
    expected: Mapping[str, frozenset[str]]
    """For each trade type the streams that must be subscribed before the clock starts."""
    left_out: int = 0
    """Recorded lines that belong to no stream, such as replies to other people's requests."""

    @classmethod
    def from_files(
        cls,
        paths: Iterable[str | Path],
        expected: Mapping[str, Collection[str]] | None = None,
    ) -> "Replay":
        """Read files into one timeline.

        Args:
            paths: Archive files (``.zip``, ``.csv.gz``, ``.csv``), REST answers (``.json``) and
                recorded frames (``.txt``).  The market follows from the folders above a file
                (``spot``, ``usdt_futures`` or ``um``, ``coin_futures`` or ``cm``), from its name,
                or from a prefix as in ``usdt_futures:some/file.zip``.
            expected: Streams to wait for; by default every kline stream in the files.

        Raises:
            OSError: A file cannot be read.
            ValueError: A file is in no known form, or its market is unknown.
        """
        frames: list[Frame] = []
        left_out = 0
        for path in paths:
            trade_type, file = _trade_type(str(path))
            if file.exists() and not file.is_file():
                raise ValueError(f"{file}: cannot be replayed: it is no file")
            try:
                if _NAME.fullmatch(file.name):
                    found, skipped = list(_archive_frames(trade_type, file)), 0
                else:
                    found, skipped = _recorded_frames(trade_type, file)
            except _BROKEN as error:
                raise ValueError(f"{file}: cannot be replayed: {error}") from error
            if not found:
                raise ValueError(f"{file}: cannot be replayed: it holds no candle")
            frames.extend(found)
            left_out += skipped
        if not frames:
            raise ValueError("nothing to replay: there is no file")
        frames.sort(key=lambda frame: frame.due_ms)
        awaited = {name: {*(expected or {}).get(name, ())} for name in TRADE_TYPES}
        for frame in frames if expected is None else ():
            if "@kline_" in frame.stream:
                awaited[frame.trade_type].add(frame.stream)
        streams = {name: frozenset(some) for name, some in awaited.items()}
        return cls(frames=tuple(frames), expected=streams, left_out=left_out)

    def of(self, trade_type: str) -> list[Frame]:
        """Return the frames of a market."""
        return [frame for frame in self.frames if frame.trade_type == trade_type]

    def symbols(self, trade_type: str) -> tuple[str, ...]:
        """Return the symbols of a market whose candles are in archive files or REST answers."""
        klines = (frame.kline for frame in self.of(trade_type))
        return tuple(dict.fromkeys(kline.symbol for kline in klines if kline is not None))

    @property
    def leaps(self) -> list[tuple[int, int]]:
        """Where the clock leaps: (from, to) for each stretch without any frame."""
        dues = [frame.due_ms for frame in self.frames]
        return [
            (before, after - 1000)
            for before, after in pairwise(dues)
            if after - before > LONGEST_GAP_MS
        ]


def _trade_type(path: str) -> tuple[str | None, Path]:
    prefix, _, rest = path.partition(":")
    if prefix in TRADE_TYPES:
        return prefix, Path(rest)
    file = Path(path)
    for folder in reversed(file.parts[:-1]):
        if folder in _FOLDERS:
            return _FOLDERS[folder], file
    return next((name for name in TRADE_TYPES if name in file.name), None), file


def _archive_frames(trade_type: str | None, file: Path) -> Iterator[Frame]:
    match = _NAME.fullmatch(file.name)
    interval = match["interval"].replace("mo", "M") if match else ""
    if trade_type is None or match is None or interval not in INTERVALS:
        raise ValueError("the market or the interval cannot be told from the name")
    symbol, trade_id = match["symbol"], 1
    stream = f"{ascii_lower(symbol)}@kline_{interval}"
    rows = list(_rows(file))
    for number, row in enumerate(rows, 1):
        kline = _kline(symbol, interval, row, trade_id)
        trade_id += kline.trade_num
        end_ms = next_open_ms(interval, kline.open_time_ms)
        first_ms = min(_FORMING_AFTER_MS, (end_ms - kline.open_time_ms) // 2)
        forming = Frame(
            due_ms=kline.open_time_ms + first_ms,
            trade_type=trade_type,
            stream=stream,
            kline=without_trades(kline, kline.open, _zero_like),
        )
        yield forming
        # the last row of a REST answer is the candle still forming
        if file.suffix == ".json" and number == len(rows):
            return
        yield attrs.evolve(
            forming, due_ms=end_ms + _CLOSE_LATE_MS, kline=kline, closes_ms=kline.open_time_ms
        )


def _rows(file: Path) -> Iterator[list[str]]:
    """Give the rows of an archive file or REST answer as texts; a header is left out."""
    if file.suffix == ".json":
        for row in msgspec.json.decode(file.read_bytes(), type=list[list[int | str]]):
            yield [str(cell) for cell in row]
        return
    if file.suffix == ".zip":
        with zipfile.ZipFile(file) as archive:
            text = "".join(archive.read(name).decode() for name in archive.namelist())
    elif file.suffix == ".gz":
        text = gzip.decompress(file.read_bytes()).decode()
    else:
        text = file.read_text()
    for number, line in enumerate(text.splitlines()):
        if line and (number or line[0].isdigit()):
            yield line.split(",")


def _kline(symbol: str, interval: str, row: list[str], trade_id: int) -> Kline:
    if not _ROW.fullmatch(",".join(row[:11])):
        raise ValueError(f"not a row of an archive: {','.join(row)[:80]!r}")
    opened_ms, trades = int(row[0]), int(row[8])
    if opened_ms >= _MICROSECONDS:
        opened_ms //= 1000
    # the close time on the interval's grid, even where the archive has it cut short
    closes_ms = next_open_ms(interval, open_ms(interval, opened_ms)) - 1
    ids = (trade_id, trade_id + trades - 1) if trades else (-1, -1)
    prices = row[1], row[4], row[2], row[3]
    quote, taker, taker_quote = row[7], row[9], row[10]
    start = symbol, interval, opened_ms, closes_ms
    return Kline(*start, *ids, *prices, row[5], trades, quote, taker, taker_quote)


def _zero_like(text: str) -> str:
    _, point, decimals = text.partition(".")
    return f"0{point}{'0' * len(decimals)}"


def _recorded_frames(trade_type: str | None, file: Path) -> tuple[list[Frame], int]:
    """Read recorded text: ``seconds: frame`` lines after a URL line, or frames alone."""
    lines = file.read_text(encoding="utf-8").splitlines()
    if lines and lines[0].startswith(("ws://", "wss://")):
        host = _HOST.match(lines.pop(0))
        trade_type = _OF_HOST.get(host["kind"] if host else "", "spot")
    frames: list[Frame] = []
    left_out = due_ms = 0
    for line in filter(None, lines):
        received = _RECEIVED.fullmatch(line)
        text = received["frame"] if received else line
        try:
            content = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.DecodeError:
            raise ValueError(f"not a recorded frame: {line[:80]!r}") from None
        stream = _stream_of(content)
        if stream is None:
            left_out += 1
            continue
        event = content.get("data", content)
        if not isinstance(event, dict):  # whole-market streams carry a list
            event = {}
        moment_ms = round(float(received["seconds"]) * 1000) if received else event.get("E")
        due_ms = max(due_ms, moment_ms if isinstance(moment_ms, int) else 0)
        frames.append(
            Frame(
                due_ms=due_ms,
                trade_type=trade_type or _guessed_trade_type(event),
                stream=stream,
                text=text[text.index('"data":') + 7 : -1] if "data" in content else text,
                closes_ms=_closes_ms(event.get("k")),
            )
        )
    return frames, left_out


def _stream_of(content: dict[str, object]) -> str | None:
    if isinstance(content.get("stream"), str):
        return str(content["stream"])
    kline = content.get("k")
    if content.get("e") == "kline" and isinstance(kline, dict) and kline.keys() >= {"s", "i"}:
        return f"{ascii_lower(str(kline['s']))}@kline_{kline['i']}"
    return None


def _closes_ms(kline: object) -> int | None:
    opened_ms = kline.get("t") if isinstance(kline, dict) and kline.get("x") is True else None
    return opened_ms if isinstance(opened_ms, int) else None


def _guessed_trade_type(event: dict[str, object]) -> str:
    """Guess the market of a quoted kline by its symbol, or by spot's eight decimals."""
    kline = event.get("k")
    if _COIN_SYMBOL.fullmatch(str(event.get("s"))):
        return "coin_futures"
    opened = str(kline.get("o")) if isinstance(kline, dict) else ""
    return "spot" if len(opened.partition(".")[2]) == 8 else "usdt_futures"
