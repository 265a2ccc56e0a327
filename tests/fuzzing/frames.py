"""What is mutated: payloads of all three markets, real ones where they are present."""

import functools
import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

from kline_trio.candle import Series

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "REAL_FRAMES",
    "SESSIONS",
    "STREAMS",
    "TEXT",
    "bases",
    "wire",
]

SESSIONS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "ws"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

REAL_FRAMES = 400
"""So many frames are taken of the recorded sessions, candles first: that they differ counts."""

_KEYS = (
    # symbol, interval, open time, length, decimals, what stands between the members of `k`
    ("BTCUSDT", "1m", 1_700_000_040_000, 60_000, 8, ","),
    ("币安人生USDT", "3m", 1_700_000_100_000, 180_000, 8, ","),
    ("ETHUSDT", "1h", 1_699_999_200_000, 3_600_000, 2, ", "),
    ("1000SHIBUSDT", "1w", 1_699_833_600_000, 604_800_000, 6, ", "),
    ("BTCUSD_PERP", "1d", 1_699_920_000_000, 86_400_000, 1, ","),
    ("ETHUSD_230630", "1M", 1_698_796_800_000, 2_592_000_000, 0, ","),
)
_TRADE_TYPES = ("spot", "spot", "usdt_futures", "usdt_futures", "coin_futures", "coin_futures")

_STRANGERS = (
    # Of streams that were not asked for, and of spellings that are not the exchange's.
    ("DOGEUSDT", "1m", 1_700_000_040_000, 60_000, 8, ","),
    ("BTCUSDT", "5m", 1_700_000_100_000, 300_000, 8, ","),
    ("btcusdt", "1m", 1_700_000_040_000, 60_000, 8, ","),
)

_OTHERS = (
    '{"result":null,"id":1}',
    '{"result":["btcusdt@kline_1m"],"id":"a"}',
    '{"error":{"code":2,"msg":"Invalid request: invalid stream"},"id":2}',
    '{"code":3,"msg":"Invalid JSON: expected value at line 1 column 1","id":null}',
    '{"e":"serverShutdown","E":1700000040000}',
    '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1700000040000}}',
    '{"stream":"btcusdt@bookTicker","data":{"u":1,"s":"BTCUSDT","b":"1.0","B":"2"}}',
    '{"stream":"btcusdt@depth","data":{"e":"depthUpdate","E":1,"s":"BTCUSDT","b":[["1","2"]]}}',
    "{}",
    "[]",
    "",
    '"x":false',
    '"x":true',
    '{"x":false}',
)

STREAMS: Mapping[str, Series] = {
    f"{symbol.lower()}@kline_{interval}": Series(trade_type, symbol, interval)
    for trade_type, (symbol, interval, *_) in zip(_TRADE_TYPES, _KEYS, strict=True)
}
"""What the imagined recorder has asked for; more than one stream of real sessions is not in it."""


@functools.cache
def bases(*, real: bool = True) -> list[bytes]:
    """The payloads; the same list wherever the recorded sessions are the same, or absent."""
    texts = [
        text
        for key in (*_KEYS, *_KEYS, *_STRANGERS)
        for state in ("true", "false")
        for enveloped in (True, False)
        for text in (_kline_text(key, state, enveloped=enveloped),)
    ]
    texts += [text.replace('"n":7', '"n":0') for text in texts[:4]]
    found = [text.encode() for text in (*texts, *_OTHERS, *_OTHERS)]
    return [*found, *_real_payloads()] if real else found


def _kline_text(key: tuple[str, str, int, int, int, str], state: str, *, enveloped: bool) -> str:
    symbol, interval, opened, length, decimals, comma = key
    dice = random.Random(f"{symbol}{interval}")
    low, first, last, high = sorted(f"{dice.uniform(10, 99):.{decimals}f}" for _ in range(4))
    k = comma.join(
        (
            f'"t":{opened}', f'"T":{opened + length - 1}', f'"s":"{symbol}"', f'"i":"{interval}"',
            '"f":100', '"L":106', f'"o":"{first}"', f'"c":"{last}"', f'"h":"{high}"',
            f'"l":"{low}"', '"v":"12.50000000"', '"n":7', f'"x":{state}', '"q":"345.67800000"',
            '"V":"5.25000000"', '"Q":"123.40000000"', '"B":"0"',
        )
    )  # fmt: skip
    event = f'{{"e":"kline","E":{opened + length - 9},"s":"{symbol}","k":{{{k}}}}}'
    name = f"{symbol.lower()}@kline_{interval}"
    return f'{{"stream":"{name}","data":{event}}}' if enveloped else event


def _real_payloads() -> list[bytes]:
    """Frames of recorded sessions; of each forming candle also what would be its close."""
    if not SESSIONS.is_dir():
        return []
    texts = list(_texts_of(sorted(SESSIONS.iterdir())))
    texts.sort(key=lambda text: '"e":"kline"' not in text)
    closes = [text.replace('"x":false', '"x":true') for text in texts[: REAL_FRAMES // 4]]
    chosen = texts[: REAL_FRAMES - len(closes)]
    # As if the recorder had asked for one of their symbols.
    renamed = [
        text.replace("BTCUSD_211231", "BTCUSDT").replace("btcusd_211231", "btcusdt")
        for text in (*closes, *chosen)
    ]
    return [text.encode() for text in renamed]


def _texts_of(paths: Iterable[Path]) -> Iterable[str]:
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            text = line[line.find("{") :]
            if text.startswith("{"):
                json.loads(text)  # whatever is in there is JSON
                yield text


def wire(
    opcode: int,
    payload: bytes,
    *,
    fin: bool = True,
    rsv: int = 0,
    width: int | None = None,
    mask: bytes = b"",
    length: int | None = None,
) -> bytes:
    """A frame, as RFC 6455 says or, if so asked, not.

    Args:
      opcode: of four bits.
      payload: what the frame carries.
      fin: whether the message ends with it.
      rsv: the three reserved bits.
      width: of the extended length, 0, 2 or 8 bytes; None the least.
      mask: four bytes, or none.
      length: what the header says; None for the truth.
    """
    size = len(payload) if length is None else length
    if width is None:
        width = 0 if size < 126 else 2 if size < 65_536 else 8
    short = {0: size & 0x7F, 2: 126, 8: 127}[width]
    extended = (size % 256**width).to_bytes(width, "big") if width else b""
    if mask:
        payload = bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))
    head = bytes([fin << 7 | rsv << 4 | opcode, (0x80 if mask else 0) | short])
    return head + extended + mask + payload
