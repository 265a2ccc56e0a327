"""The made-up candles of one symbol, worded as its market words numbers."""

import attrs

from kline_trio.simulator.frames import Kline, decimal_text
from kline_trio.simulator.prices import Figures, Tape
from kline_trio.simulator.symbols import Listing

__all__ = ["Quotes", "first_version"]


class Quotes:
    """One symbol's trading, told as candles."""

    def __init__(self, seed: int, listing: Listing) -> None:
        self._symbol = listing.symbol
        self._tape = Tape(seed, listing)
        # spot prints eight decimals whatever the tick; futures print what the tick and lot have
        spot = listing.trade_type == "spot"
        amount = listing.price_decimals + listing.lot_decimals
        self._price = 10 ** (8 - listing.price_decimals) if spot else 1
        self._lot = 10 ** (8 - listing.lot_decimals) if spot else 1
        self._amount = 10 ** (8 - amount) if spot else 1
        self._price_digits = 8 if spot else listing.price_decimals
        self._lot_digits = 8 if spot else listing.lot_decimals
        self._amount_digits = 8 if spot or listing.contract_usd else amount

    def kline(
        self, interval: str, span: tuple[int, int], traded: tuple[int, int], tick: int = 1
    ) -> Kline:
        """Return a candle.

        Args:
            interval: Its interval.
            span: When it opens, and when the next one does.
            traded: From when, inclusive, to when, exclusive, its trades count; from a moment to
                the same one there is none, and the candle is flat at the last price before it.
            tick: What prices are rounded down to, in units of the last price decimal.
        """
        figures = self._tape.figures(*traded)
        if tick > 1:
            figures = _coarser(figures, tick)
        trades = figures.trades
        price, digits = self._price, self._price_digits
        lot, lot_digits = self._lot, self._lot_digits
        amount, amount_digits = self._amount, self._amount_digits
        return Kline(
            symbol=self._symbol,
            interval=interval,
            open_time_ms=span[0],
            close_time_ms=span[1] - 1,
            first_trade_id=figures.first_trade if trades else -1,
            last_trade_id=figures.first_trade + trades - 1 if trades else -1,
            open=decimal_text(figures.open * price, digits),
            close=decimal_text(figures.close * price, digits),
            high=decimal_text(figures.high * price, digits),
            low=decimal_text(figures.low * price, digits),
            volume=decimal_text(figures.volume * lot, lot_digits),
            trade_num=trades,
            quote_volume=decimal_text(figures.turnover * amount, amount_digits),
            taker_buy_volume=decimal_text(figures.taker_volume * lot, lot_digits),
            taker_buy_quote_volume=decimal_text(figures.taker_turnover * amount, amount_digits),
        )


def first_version(kline: Kline) -> Kline:
    """Return a candle with other values, each lawful in itself, as it stood before a revision."""
    return attrs.evolve(kline, close=kline.open, trade_num=kline.trade_num + 1)


def _coarser(figures: Figures, tick: int) -> Figures:
    return figures._replace(
        open=max(tick, figures.open // tick * tick),
        close=max(tick, figures.close // tick * tick),
        high=max(tick, figures.high // tick * tick),
        low=max(tick, figures.low // tick * tick),
    )
