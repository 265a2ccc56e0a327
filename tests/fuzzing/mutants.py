"""Broken copies of the sieve and of the decoder, each by one small change: fuzzing must find all.

A change is a piece of the source and what stands there instead. Where the source no longer has
the piece, `broken_subject` says so: choose the change anew.
"""

import inspect
from collections.abc import Mapping
from types import ModuleType

from kline_trio import candle
from kline_trio.exchange import protocol, sieve
from tests.fuzzing.laws import Subject

__all__ = ["MUTANTS", "broken_subject"]

_KLINE = "from kline_trio.candle import MAX_TIME_MS, Candle, Series, StreamedKline"

MUTANTS: Mapping[str, tuple[ModuleType, str, str]] = {
    # The sieve: what it takes for a frame.
    "fragments are judged": (
        sieve, "if not self._fragmented:", "if True:"),
    "the fragmented state is forgotten": (
        sieve, "self._fragmented = not fin", "self._fragmented = False"),
    "control frames end a message": (
        sieve, "if not control:\n            self._fragmented",
        "if True:\n            self._fragmented"),
    "FIN is not looked at": (
        sieve, "if head == _LONG_TEXT and", "if head & 0x7FFF == _LONG_TEXT & 0x7FFF and"),
    "reserved bits are ignored, in long frames": (
        sieve, "if head == _LONG_TEXT and", "if head & 0x8FFF == _LONG_TEXT and"),
    "reserved bits are ignored, in passing": (
        sieve, "or first & 0x70", "or first & 0x00"),
    "masks are ignored": (
        sieve, "length & 0x80  #", "length & 0x00  #"),
    "binary frames are judged too": (
        sieve, "if head == _LONG_TEXT and", "if head in (_LONG_TEXT, 0x827E) and"),
    "unknown opcodes are stepped over": (
        sieve, "or opcode not in _OPCODES", "or opcode > 10"),
    "fragmented pings are stepped over": (
        sieve, "(length > 125 or not fin)", "length > 125"),
    "long pings are stepped over": (
        sieve, "(length > 125 or not fin)", "not fin"),
    "continuations may come out of nothing": (
        sieve, "!= self._fragmented)", "!= self._fragmented != True)"),
    "a CLOSE is a frame as others are": (
        sieve, "if opcode == _CLOSE:", "if False:"),
    # Its lengths.
    "a short length is one too small": (
        sieve, "start, length = position + 2, head - _SHORT_TEXT",
        "start, length = position + 2, max(0, head - _SHORT_TEXT - 1)"),
    "the longest candle is one longer": (
        sieve, "_LONGEST_JUDGED = 4096", "_LONGEST_JUDGED = 4097"),
    "the longest candle is one shorter": (
        sieve, "_LONGEST_JUDGED = 4096", "_LONGEST_JUDGED = 4095"),
    "long-winded lengths are taken, of two bytes": (
        sieve, "126 <= length <= _LONGEST_JUDGED", "length <= _LONGEST_JUDGED"),
    "long-winded lengths are taken, of eight bytes": (
        sieve, "(126 if start == 4 else 65_536)", "(126 if start == 4 else 65_535)"),
    "an eight-byte length is read as two": (
        sieve, "4 if length == 126 else 10", "4"),
    # Its key.
    "the first of two keys decides": (
        sieve, "            or payload.find(_KEY, key + 1) >= 0\n", ""),
    "the first of two keys decides, in the walk": (
        sieve, "if letter < end:", "if letter < 0:"),
    "escapes are overlooked": (
        sieve, "            or _ESCAPE in payload\n", ""),
    "escapes are overlooked, in the walk": (
        sieve, "position if escapes else self._walk", "self._walk"),
    "only the key with its colon is counted": (
        sieve, "_KEY, _FORMING, _CLOSED = b'\"x\"', ", "_KEY, _FORMING, _CLOSED = b'\"x\":', "),
    "fals is enough": (
        sieve, "b'\"x\":false', b", "b'\"x\":fals', b"),
    "tru is enough": (
        sieve, "b'\"x\":true'\n", "b'\"x\":tru'\n"),
    "a header is taken with its candle": (
        sieve, "self.taken.append(payload)", "self.taken.append(data[position:end])"),
    "closed candles are taken in any spelling": (
        sieve, "startswith(_CLOSED, key)", "startswith(_KEY, key)"),
    "the key may be in the next frame": (
        sieve, "startswith(_FORMING, letter - 1, end)", "startswith(_FORMING, letter - 1)"),
    "the key may begin in a header": (
        sieve, "if letter == start or not", "if not"),
    "any key will do behind a name with an x": (
        sieve, "if not startswith(_FORMING, letter - 1, end):\n                    break", "pass"),
    # Its batches.
    "a batch leads over other frames": (
        sieve, "(lengths + 4 == np.diff(begins)) & ", ""),
    "a batch has long-winded lengths": (
        sieve, " & (lengths >= 126)", ""),
    "a batch has frames that are too long": (
        sieve, " & (lengths <= longest)", ""),
    "masks are ignored, in batches": (
        sieve, "shorts[begins] == _LONG_TEXT", "shorts[begins] & 0xFF7F == _LONG_TEXT"),
    "a frame in a batch has a key or more": (
        sieve, "np.diff(first) == 1", "np.diff(first) >= 1"),
    "a batch holds closed candles": (
        sieve, "goes[goes] = forming[own] & ", "goes[goes] = "),
    "a key in a batch may begin in a header": (
        sieve, " & (keys[own] >= begins[:-1][goes] + 4)", ""),
    "a key in a batch is fals": (
        sieve, " & (octets[keys + 8] == _FORMING_LAST)", ""),
    "the newest of a batch is the first": (
        sieve, "batch.begins[-1] + 4", "batch.begins[0] + 4"),
    "a batch counts one less": (
        sieve, "len(batch.begins)", "(len(batch.begins) - 1)"),
    "a batch is heard of once": (
        sieve, "for begin in batch.begins:", "for begin in batch.begins[:1]:"),
    "escapes are overlooked, in batches": (
        sieve, "batches_from_bytes and not escapes:", "batches_from_bytes:"),
    # How it goes on from read to read.
    "what is held is passed on too": (
        sieve, "if keep_from < position:\n            pieces.append(data[keep_from:position])",
        "if keep_from < size:\n            pieces.append(data[keep_from:size])"),
    "a header of one byte is given up": (
        sieve, "if len(frame) < 2:", "if len(frame) < 1:"),
    "what is left of a long frame is off by one": (
        sieve, "self._left = max(0, position - size)", "self._left = max(0, position - size - 1)"),
    "nothing of the read of the head is sieved": (
        sieve, "return data[:end] + self._sift(data[end:])", "return data"),
    "the head ends at its last line": (
        sieve, r'rb"\n\r?\n"', r'rb"\r\n"'),
    "all frames are held until they are whole": (
        sieve, "if first == _WHOLE_TEXT and length <= _LONGEST_JUDGED and end > len(data):",
        "if end > len(data):"),
    "any response is an upgrade": (
        sieve, "return self.status == _SWITCHING_PROTOCOLS", "return self.status != 0"),
    "all heads are collected": (
        sieve, "self._text = text if len(text) <= _LONGEST_HEAD else None", "self._text = text"),
    # The decoder.
    "x is not looked at": (
        protocol, "if kline.x:", "if True:"),
    "x may be a text": (
        protocol, _KLINE, f"{_KLINE}\n\nclass StreamedKline(StreamedKline):\n    x: bool | str\n"),
    "the envelope is not looked at": (
        protocol, "(name is not None and name != spelt) or", ""),
    "the event's symbol is not looked at": (
        protocol, "or frame.s not in (None, kline.s)", ""),
    "a symbol in small letters will do": (
        protocol, "if series is None or series.symbol != kline.s:", "if series is None:"),
    "the interval is not looked at": (
        protocol, "@kline_{kline.i}\"\n    #", "@kline_1m\"\n    #"),
    "a candle may close before it begins": (
        protocol, "if kline.t > frame.E:", "if False:"),
    "the volumes are swapped": (
        protocol, _KLINE, (f"{_KLINE}\n\nclass StreamedKline(StreamedKline):\n"
        "    V: str = msgspec.field(name='Q')\n    Q: str = msgspec.field(name='V')\n")),
    "deep nesting goes up": (
        protocol, "UnicodeError, RecursionError)", "UnicodeError)"),
    "JSON that is none goes up": (
        protocol, "msgspec.DecodeError, UnicodeError", "UnicodeError"),
    "the grid is not looked at": (
        candle,
        "if not 0 <= open_time_ms < MAX_TIME_MS or not interval.is_open_time(open_time_ms):",
        "if not 0 <= open_time_ms < MAX_TIME_MS:"),
    "any float is a number": (
        candle, "_EIGHT_DECIMALS.fullmatch(\" \".join(numbers))", "\" \".join(numbers)"),
    "a high may be below the close": (
        candle, '(("open", "high"), ("close", "high"))', '(("open", "high"),)'),
}  # fmt: skip
"""By what they do wrong."""

_EVENTS = {
    name: value
    for name, value in vars(protocol).items()
    if name[0].isupper() and getattr(value, "__module__", None) == protocol.__name__
}
"""A broken decoder gives the same events as the whole one."""


def broken_subject(name: str) -> Subject:
    """The package's sieve and decoder with one of the changes."""
    module, piece, instead = MUTANTS[name]
    sieve_class, decode = sieve.Sieve, protocol.decode
    if module is sieve:
        sieve_class = vars(_changed(sieve, piece, instead))["Sieve"]
    elif module is protocol:
        decode = vars(_changed(protocol, piece, instead, **_EVENTS))["decode"]
    else:
        candles = vars(_changed(candle, piece, instead))["Candle"]
        decode = vars(_changed(protocol, "", "", **_EVENTS, Candle=candles))["decode"]
    return Subject(sieve_class, decode)


def _changed(module: ModuleType, piece: str, instead: str, **names: object) -> ModuleType:
    source = inspect.getsource(module)
    assert piece in source, f"{module.__name__} no longer has {piece!r}"
    copy = ModuleType(module.__name__)
    changed = source.replace(piece, instead, 1)
    # Under another name, so that no coverage is measured of a copy.
    exec(compile(changed, f"<broken {module.__name__}>", "exec"), vars(copy))
    vars(copy).update(names)
    return copy
