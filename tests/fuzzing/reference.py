"""What should come of any bytes: plain, slow readings of RFC 6455 and of JSON.

Written from the documents, one frame and one key at a time; nothing of the package's own reading
is used here but the names of series.
"""

import calendar
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from kline_trio.candle import Series

__all__ = ["ClosedCandle", "Reading", "Walk", "head_end", "is_forming", "read_text", "walk"]

LONGEST_FORMING = 4096
LONGEST_HEAD = 16_384


def is_forming(payload: bytes) -> bool:
    """Whether no reader of JSON could take this text for anything but a candle that forms."""
    return _has_lone_key(payload, b":false")


def is_closed(payload: bytes) -> bool:
    """The same of a candle that is closed, in the usual spelling."""
    return _has_lone_key(payload, b":true")


def _has_lone_key(payload: bytes, value: bytes) -> bool:
    parts = payload.split(b'"x"')
    return (
        len(payload) <= LONGEST_FORMING
        and len(parts) == 2
        and parts[1].startswith(value)
        and b"\\" not in payload
    )


def head_end(data: bytes, reads: Sequence[int]) -> int | None:
    """Where the frames begin; None if they never do.

    Args:
      data: all that came.
      reads: where each read ended; h11 looks after each how much it has of an unfinished head.
    """
    lines = data.split(b"\n")
    end = len(lines[0]) + 1
    for line in lines[1:-1]:
        end += len(line) + 1
        if line in (b"", b"\r"):
            break
    else:
        return None
    if any(LONGEST_HEAD < read < end for read in reads):
        return None
    words = lines[0].replace(b"\r", b" ").split(b" ")
    if len(words) < 2 or not re.fullmatch(rb"HTTP/[0-9]\.[0-9]", words[0]):
        return None
    told = words[1] == b"101" and (len(words) > 2 or len(lines[0]) == len(b"HTTP/1.1 101"))
    return end if told else None


@dataclass(slots=True)
class Walk:
    """What a stream of frames says."""

    dropped: list[tuple[int, int, int]] = field(default_factory=list)
    """Begin, begin of the payload, and end of each forming candle."""

    closed: list[tuple[int, int, int]] = field(default_factory=list)
    """The same of each closed candle in the usual spelling."""

    messages: list[tuple[str | bytes, bool]] = field(default_factory=list)
    """Whole messages, and whether each is a forming candle that is to be left out."""

    data_ends: list[int] = field(default_factory=list)
    """Where data frames end."""

    tail: int = 0
    """Where the first frame begins that is not complete, if it is one."""

    why: str = "more to come"
    """How it ends: also `close`, and what is a breach of the protocol."""

    torn_text: bool = False
    """Whether a message was no UTF-8, so that a client hears none of what comes later."""


def walk(data: bytes, at: int) -> Walk:
    """Read frames from there on, until a CLOSE or a breach of RFC 6455."""
    seen = Walk()
    parts: list[bytes] = []
    message_opcode = 0
    size = len(data)
    while True:
        seen.tail = at
        if size - at < 2:
            return seen
        fin, rsv, opcode = data[at] >> 7, data[at] >> 4 & 7, data[at] & 15
        masked, length = data[at + 1] >> 7, data[at + 1] & 127
        begin = at + 2
        if opcode not in (0, 1, 2, 8, 9, 10):
            seen.why = "unknown opcode"
            return seen
        if opcode >= 8 and (length > 125 or not fin):
            seen.why = "impossible control frame"
            return seen
        if masked or rsv:
            seen.why = "mask" if masked else "reserved bits"
            return seen
        if opcode < 8 and (opcode == 0) != bool(message_opcode):
            seen.why = "continuation"
            return seen
        if length > 125:
            width = 2 if length == 126 else 8
            if size - begin < width:
                return seen
            length = int.from_bytes(data[begin : begin + width], "big")
            begin += width
            if length < (126 if width == 2 else 65_536):
                seen.why = "long-winded length"
                return seen
        if opcode == 8:
            seen.why = "close"
            return seen
        end = begin + length
        if end > size:
            return seen
        if opcode < 8:
            seen.data_ends.append(end)
            payload = data[begin:end]
            forming = opcode == 1 and bool(fin) and is_forming(payload)
            if forming:
                seen.dropped.append((at, begin, end))
            if opcode == 1 and fin and is_closed(payload):
                seen.closed.append((at, begin, end))
            parts.append(payload)
            message_opcode = message_opcode or opcode
            if fin:
                _end_message(seen, message_opcode, b"".join(parts), forming)
                parts, message_opcode = [], 0
        at = end


def _end_message(seen: Walk, opcode: int, payload: bytes, forming: bool) -> None:
    if seen.torn_text:
        return
    try:
        seen.messages.append((payload.decode() if opcode == 1 else payload, forming))
    except UnicodeDecodeError:
        seen.torn_text = True


# Candles


ClosedCandle = tuple[Series, int, int, int, tuple[float, ...]]
"""Series, event time, open time, trades; open, high, low, close, v, q, V and Q."""


@dataclass(slots=True)
class Reading:
    """What a text says of a closed candle."""

    closed: ClosedCandle | None

    plain: bool
    """Whether it says each thing once, with all types as documented: then it must be taken."""


_NOTHING = Reading(None, plain=True)


_NUMBER = re.compile(r"\d{1,24}(\.\d{1,24})?", re.ASCII)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_STEPS_MS = {"1m": 60, "3m": 180, "1h": 3_600, "1d": 86_400}
_LENGTHS_S = {
    "1s": 1, "1m": 60, "3m": 180, "5m": 300, "15m": 900, "30m": 1_800, "1h": 3_600, "2h": 7_200,
    "4h": 14_400, "6h": 21_600, "8h": 28_800, "12h": 43_200, "1d": 86_400, "3d": 259_200,
    "1w": 604_800,
}  # fmt: skip
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 253_370_764_800_000
_FIELD_TYPES: Mapping[str, tuple[type, ...]] = {
    "stream": (str, type(None)),
    "e": (str, type(None)),
    "E": (int, type(None)),
    "s": (str, type(None)),
    "k": (dict, type(None)),
    "id": (int, str, type(None)),
    "code": (int, type(None)),
    "msg": (str, type(None)),
    "error": (dict, type(None)),
}


class _Json(json.JSONDecoder):
    """The standard library's, which also notes whether an object says one thing twice."""

    def __init__(self) -> None:
        super().__init__(object_pairs_hook=self._members, parse_constant=self._refuse)
        self.said_twice = False

    def _members(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            self.said_twice = True
        return found

    @staticmethod
    def _refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")


_JSON = _Json()


def read_text(text: str | bytes, streams: Mapping[str, Series]) -> Reading:
    """Read a message by the standard library's json, and by what the exchange documents."""
    # In what nobody reads of a binary message bytes that are no UTF-8 go unnoticed.
    words = text if isinstance(text, str) else text.decode(errors="replace")
    _JSON.said_twice = False
    try:
        said = _JSON.decode(words)
    except (ValueError, RecursionError):
        return _NOTHING
    if not isinstance(said, dict):
        return _NOTHING
    name, event, plain = None, said, not _JSON.said_twice
    if "data" in said:
        name, event = said.get("stream"), said["data"]
        plain = plain and "k" not in said
    if not isinstance(event, dict) or event.get("e") != "kline":
        return _NOTHING
    closed = _closed(name, event, streams)
    if closed is None:
        return _NOTHING
    odd = _SURROGATE.search(words) or "\ufffd" in words
    return Reading(closed, plain and not odd and _documented(said) and _documented(event))


def _documented(event: dict[str, Any]) -> bool:
    return all(
        type(event[key]) in types for key, types in _FIELD_TYPES.items() if key in event
    ) and not event.get("error")


def _closed(
    name: object, event: dict[str, Any], streams: Mapping[str, Series]
) -> ClosedCandle | None:
    k, told_ms, symbol = event.get("k"), event.get("E"), event.get("s")
    if not isinstance(k, dict) or k.get("x") is not True or type(told_ms) is not int:
        return None
    if not isinstance(k.get("s"), str) or not isinstance(k.get("i"), str):
        return None
    series = next(
        (s for s in streams.values() if (s.symbol, s.time_interval) == (k["s"], k["i"])), None
    )
    if series is None or symbol not in (None, k["s"]):
        return None
    if name is not None and streams.get(str(name)) is not series:
        return None
    opened, trades = k.get("t"), k.get("n")
    if type(opened) is not int or type(trades) is not int or not 0 <= trades < 2**63:
        return None
    if not 0 <= opened < _LAST_MS or not _on_grid(k["i"], opened) or told_ms < opened:
        return None
    if type(k.get("T")) is not int or not _fits(k["i"], opened, k["T"], told_ms):
        return None
    texts = [k.get(key) for key in "ohlcvqVQ"]
    if not all(isinstance(text, str) and _NUMBER.fullmatch(text) for text in texts):
        return None
    numbers = tuple(float(str(text)) for text in texts)
    first, high, low, last = numbers[:4]
    if max(first, last) > high or min(first, last) < low:
        return None
    return series, told_ms, opened, trades, numbers


def _fits(interval: str, opened_ms: int, closes_ms: int, told_ms: int) -> bool:
    """Whether it closes within its interval, not as one of another, and is told soon after."""
    if interval == "1M":
        moment = _EPOCH + timedelta(seconds=opened_ms // 1_000)
        days = calendar.monthrange(moment.year, moment.month)[1]
        length_ms = days * 86_400_000
    else:
        length_ms = _LENGTHS_S[interval] * 1_000
    others = {seconds * 1_000 for name, seconds in _LENGTHS_S.items() if name != interval}
    end_ms = opened_ms + length_ms
    return (
        opened_ms <= closes_ms < end_ms
        and closes_ms + 1 - opened_ms not in others
        and told_ms < end_ms + max(60_000, length_ms)
    )


def _on_grid(interval: str, opened_ms: int) -> bool:
    if opened_ms % 1_000:
        return False
    moment = _EPOCH + timedelta(seconds=opened_ms // 1_000)
    midnight = (moment.hour, moment.minute, moment.second) == (0, 0, 0)
    if interval == "1M":
        return midnight and moment.day == 1
    if interval == "1w":
        return midnight and moment.weekday() == 0
    return opened_ms // 1_000 % _STEPS_MS[interval] == 0
