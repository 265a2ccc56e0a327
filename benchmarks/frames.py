"""WebSocket frames with candles, as Binance sends them."""

from benchmarks.made_up import MINUTE_MS, START_MS

__all__ = ["TICKS", "candle", "framed"]

TICKS = 60
"""Frames of each stream in a minute of a burst, unless it is told otherwise; the last is closed."""

_EVENT = (
    '{"e":"kline","E":%d,"s":"%s","k":{"t":%d,"T":%d,"s":"%s",'
    '"i":"1m","f":%d,"L":%d,"o":"%d.46000000","c":"%d.47000000","h":"%d.48000000",'
    '"l":"%d.45000000","v":"0.20926000","n":31,"x":%s,"q":"6076.58918320","V":"0.10436000",'
    '"Q":"3030.45472920","B":"0"}}'
)
"""As spot sent it on 2022-05-29, digit for digit."""

_WRAPPED = '{"stream":"%s","data":%s}'


def candle(name: str, minute: int, tick: int, ticks: int = TICKS, *, wrapped: bool = True) -> bytes:
    """The frame of a stream, `btcusdt@kline_1m`, at a tick of a minute; the last tick closes it."""
    start, symbol = START_MS + minute * MINUTE_MS, name.partition("@")[0].upper()
    price = 29_000 + minute % 1_000
    closed = tick == ticks - 1
    event = start + (MINUTE_MS + 3 if closed else tick * (MINUTE_MS // ticks))
    first = 1_384_844_002 + minute * 100
    text = _EVENT % (
        event, symbol, start, start + MINUTE_MS - 1, symbol, first, first + tick,
        price, price, price, price, "true" if closed else "false",
    )  # fmt: skip
    return framed((_WRAPPED % (name, text) if wrapped else text).encode())


def framed(payload: bytes, opcode: int = 1) -> bytes:
    """The payload as one whole frame of a server."""
    size, first = len(payload), 0x80 | opcode
    if size < 126:
        return bytes((first, size)) + payload
    return bytes((first, 126)) + size.to_bytes(2, "big") + payload
