"""Replays of real data: files become one timeline, which an exchange plays by a clock of its own.

File forms: github.com/binance/binance-public-data, README.md (columns, microseconds on spot from
2025 on); headers differ from file to file (its issues 246 and 386).  A row of an archive becomes
a first forming frame and a closing one; a recorded frame is sent as it was received.
"""

import gzip
import re
import zipfile
import zlib
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import msgspec

from kline_trio.simulator.calendar import INTERVALS, next_open_ms, open_ms
from kline_trio.simulator.clock import Clock
from kline_trio.simulator.frames import Event, Kline, kline_event, kline_of, without_trades
from kline_trio.simulator.rest import Candles
from kline_trio.simulator.symbols import TRADE_TYPES, ascii_lower

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
    expected: frozenset[tuple[str, str]]
    """The streams, each as trade type and name, that must be subscribed before the clock starts."""

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
            expected: The streams to wait for before the clock starts; None: all in the files.

        Raises:
            OSError: A file cannot be read.
            ValueError: A file is in no known form, or its market is unknown.
        """
        frames: list[Frame] = []
        for path in paths:
            trade_type, file = _trade_type(str(path))
            if file.exists() and not file.is_file():
                raise ValueError(f"{file}: cannot be replayed: it is no file")
            try:
                name = _NAME.fullmatch(file.name)
                read = partial(_archive_frames, name) if name else _recorded_frames
                found = list(read(trade_type, file))
            except _BROKEN as error:
                raise ValueError(f"{file}: cannot be replayed: {error}") from error
            if not found:
                raise ValueError(f"{file}: cannot be replayed: it holds no candle")
            frames.extend(found)
        if not frames:
            raise ValueError("nothing to replay: there is no file")
        frames.sort(key=lambda frame: frame.due_ms)
        if expected is None:
            awaited = {(one.trade_type, one.stream) for one in frames if "@kline_" in one.stream}
        else:
            awaited = {(name, stream) for name in expected for stream in expected[name]}
        return cls(frames=tuple(frames), expected=frozenset(awaited))

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


def _archive_frames(name: re.Match[str], trade_type: str | None, file: Path) -> Iterator[Frame]:
    interval = name["interval"].replace("mo", "M")
    if trade_type is None or interval not in INTERVALS:
        raise ValueError("the name gives no market or no interval")
    symbol, trade_id = name["symbol"], 1
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


def _recorded_frames(trade_type: str | None, file: Path) -> Iterator[Frame]:
    """Read recorded text: ``seconds: frame`` lines after a URL line, or frames alone.

    Lines that belong to no stream, such as replies to other people's requests, are left out.
    """
    lines = file.read_text(encoding="utf-8").splitlines()
    if lines and lines[0].startswith(("ws://", "wss://")):
        host = _HOST.match(lines.pop(0))
        trade_type = _OF_HOST.get(host["kind"] if host else "", "spot")
    due_ms = 0
    for line in filter(None, lines):
        received = _RECEIVED.fullmatch(line)
        text = received["frame"] if received else line
        try:
            content = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.DecodeError:
            raise ValueError(f"not a recorded frame: {line[:80]!r}") from None
        stream = _stream_of(content)
        if stream is None:
            continue
        event = content.get("data", content)
        if not isinstance(event, dict):  # whole-market streams carry a list
            event = {}
        moment_ms = round(float(received["seconds"]) * 1000) if received else event.get("E")
        due_ms = max(due_ms, moment_ms if isinstance(moment_ms, int) else 0)
        yield Frame(
            due_ms=due_ms,
            trade_type=trade_type or _guessed_trade_type(event),
            stream=stream,
            text=text[text.index('"data":') + 7 : -1] if "data" in content else text,
            closes_ms=_closes_ms(event.get("k")),
        )


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


class ReplayFeed:
    """One connection's place in the timeline of its market; see `Feed`.

    Args:
        playback: What is played.
        trade_type: The market.
        now_ms: Exchange time of the connection; what lies before it is never sent.
    """

    def __init__(self, playback: "Playback", trade_type: str, now_ms: int) -> None:
        self._awaited = playback.awaited
        self._trade_type = trade_type
        self._frames = playback.frames[trade_type]
        self._place = bisect_left(self._frames, now_ms, key=lambda frame: frame.due_ms)
        self._streams: dict[str, int] = {}

    def subscribe(self, stream: str, now_ms: int) -> None:
        """See `Feed`."""
        self._streams[stream] = now_ms
        self._awaited.discard((self._trade_type, stream))

    def unsubscribe(self, stream: str) -> None:
        """See `Feed`."""
        self._streams.pop(stream, None)

    def next_due_ms(self) -> int | None:
        """See `Feed`; every frame of the market counts, subscribed or not."""
        return self._frames[self._place].due_ms if self._place < len(self._frames) else None

    def take(self, now_ms: int, limit: int) -> list[Event]:
        """See `Feed`; frames are never left out, however late the connection is."""
        events: list[Event] = []
        while self._place < len(self._frames) and len(events) < limit:
            frame = self._frames[self._place]
            if frame.due_ms > now_ms:
                break
            self._place += 1
            # A connection that lags asks for what was due before it subscribed.
            if self._streams.get(frame.stream, frame.due_ms + 1) <= frame.due_ms:
                events.append(Event(frame.due_ms, frame.stream, _text(frame), frame.closes_ms))
        return events


class Playback:
    """A replay that an exchange plays.

    Args:
        frames: What is played, by trade type and time.
        replay: Where it comes from.
        longest_lag_ms: How far behind a connection may be.
    """

    def __init__(
        self, frames: Mapping[str, Sequence[Frame]], replay: Replay, longest_lag_ms: int = 0
    ) -> None:
        self.frames = frames
        self.start_ms = replay.frames[0].due_ms - 1000
        dues_ms = [some[-1].due_ms for some in frames.values() if some]
        # The clock stands still when the last frame has come to the connection that lags most.
        self._end_ms = max(dues_ms) + longest_lag_ms
        self._leaps = replay.leaps
        self.awaited = set(replay.expected)
        """The streams, by market, that must be subscribed before the clock starts."""

    def clock(self, speed: float) -> Clock:
        """Return the clock of the replay."""
        return Clock(self.start_ms, speed, self._end_ms, self._leaps)


@attrs.frozen
class ReplayedCandles:
    """What REST has of a replay: every candle that a file closes, and the one that is forming."""

    first_ms: int
    """No candle opens before it."""
    _by_symbol: Mapping[tuple[str, str], Mapping[tuple[str, int], Kline]]

    @classmethod
    def of_frames(cls, frames: Iterable[Frame]) -> "ReplayedCandles":
        """Collect the closed candles of the frames; the last close of a candle counts."""
        found: dict[tuple[str, str], dict[tuple[str, int], Kline]] = {}
        for frame in frames:
            if frame.closes_ms is not None:
                kline = frame.kline or kline_of(msgspec.json.decode(frame.text)["k"])
                symbol = found.setdefault((frame.trade_type, kline.symbol), {})
                symbol[kline.interval, kline.open_time_ms] = kline
        times = [open_ms for candles in found.values() for _, open_ms in candles]
        return cls(min(times, default=0), found)

    def of(self, trade_type: str, symbol: str, now_ms: int) -> Candles | None:
        """Return the candles of a symbol that the files hold; None if they hold none."""
        candles = self._by_symbol.get((trade_type, symbol))
        if candles is None:
            return None

        def candle(interval: str, open_ms: int) -> Kline | None:
            kline = candles.get((interval, open_ms))
            if kline is None or next_open_ms(interval, open_ms) <= now_ms:
                return kline
            return attrs.evolve(kline, close=kline.open, high=kline.open, low=kline.open)

        return Candles(candle, self.first_ms)


def _text(frame: Frame) -> str:
    if frame.kline is None:
        return frame.text
    closed, blanks = frame.closes_ms is not None, frame.trade_type == "usdt_futures"
    return kline_event(frame.kline, frame.due_ms, closed=closed, blanks=blanks)
