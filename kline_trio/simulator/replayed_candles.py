"""What REST has of a replay: every candle that a file closes, and the one that is forming."""

from collections.abc import Iterable, Mapping

import attrs
import msgspec

from kline_trio.simulator.calendar import next_open_ms
from kline_trio.simulator.frames import Kline
from kline_trio.simulator.replay import Frame
from kline_trio.simulator.rest_klines import Candles

__all__ = ["ReplayedCandles"]

_Key = tuple[str, str]


@attrs.frozen
class ReplayedCandles:
    """The candles of a replay, by market and symbol."""

    first_ms: int
    """No candle opens before it."""
    _by_symbol: Mapping[_Key, Mapping[tuple[str, int], Kline]]

    @classmethod
    def of_frames(cls, frames: Iterable[Frame]) -> "ReplayedCandles":
        """Read what closes out of the frames; a later close of the same candle counts."""
        found: dict[_Key, dict[tuple[str, int], Kline]] = {}
        for frame in frames:
            if frame.closes_ms is not None:
                kline = frame.kline or _kline(frame.text)
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


def _kline(text: str) -> Kline:
    fields = msgspec.json.decode(text)["k"]
    return Kline(
        symbol=fields["s"],
        interval=fields["i"],
        open_time_ms=fields["t"],
        close_time_ms=fields["T"],
        first_trade_id=fields["f"],
        last_trade_id=fields["L"],
        open=fields["o"],
        close=fields["c"],
        high=fields["h"],
        low=fields["l"],
        volume=fields["v"],
        trade_num=fields["n"],
        quote_volume=fields["q"],
        taker_buy_volume=fields["V"],
        taker_buy_quote_volume=fields["Q"],
    )
