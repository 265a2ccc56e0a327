"""What both benchmarks of nautilus_trader name alike."""

from nautilus_trader.model.data import BarType
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import CurrencyPair
from nautilus_trader.model.objects import Currency, Price, Quantity

__all__ = ["instrument"]


def instrument(name: str) -> tuple[CurrencyPair, BarType]:
    """A pair of the spot market with the digits of BTCUSDT, and its bars of 1m."""
    symbol = InstrumentId(Symbol(name), Venue("BINANCE"))
    pair = CurrencyPair(
        instrument_id=symbol,
        raw_symbol=Symbol(name),
        base_currency=Currency.from_str("BTC"),
        quote_currency=Currency.from_str("USDT"),
        price_precision=2,
        size_precision=5,
        price_increment=Price(0.01, 2),
        size_increment=Quantity(0.00001, 5),
        ts_event=0,
        ts_init=0,
    )
    return pair, BarType.from_str(f"{symbol}-1-MINUTE-LAST-EXTERNAL")
