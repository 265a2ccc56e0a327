"""The symbols that the exchange lists, how they trade, and what each is at a moment.

Names and number forms are real ones of 2021 to 2026; the price levels are rough.  Other symbols
are judged by the naming rules of the markets, so a misspelt symbol stays unknown.

Sources: USD-M and COIN-M docs, "Exchange Information" and "Contract Info Stream"; spot docs,
rest-api.md and enums.md.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter

import attrs
import msgspec

from kline_trio.simulator.calendar import quarter_delivery_ms
from kline_trio.simulator.frames import Kline, decimal_text

TRADE_TYPES = ("spot", "usdt_futures", "coin_futures")

_ASSETS = {
    # price level in USD, decimals of price and of lot on spot, the same two on USD-M
    "BTC": (60_000, 2, 5, 2, 3),
    "ETH": (2_500, 2, 4, 2, 3),
    "BNB": (600, 2, 3, 2, 2),
    "SOL": (150, 2, 3, 3, 0),
    "XRP": (0.6, 4, 1, 4, 1),
    "ADA": (0.5, 4, 1, 4, 0),
    "DOGE": (0.12, 5, 0, 5, 0),
    "AVAX": (30, 2, 2, 3, 0),
    "LINK": (15, 2, 2, 3, 2),
    "LTC": (80, 2, 3, 2, 3),
    "DOT": (6, 3, 2, 3, 1),
    "BCH": (400, 1, 3, 2, 3),
    "ETC": (25, 2, 2, 3, 2),
    "FIL": (5, 3, 2, 3, 1),
    "TRX": (0.2, 4, 1, 5, 0),
    "XLM": (0.3, 4, 0, 5, 0),
    "ATOM": (8, 3, 2, 3, 2),
    "NEAR": (5, 3, 1, 3, 0),
    "UNI": (8, 3, 2, 3, 0),
    "AAVE": (150, 2, 3, 2, 1),
    "XMR": (160, 1, 3, 2, 3),
    "KSM": (25, 2, 3, 3, 1),
    "YFI": (6_000, 0, 5, 1, 3),
    "ARB": (0.8, 4, 1, 4, 1),
    "SHIB": (0.00002, 8, 0, 8, 0),
    "1000SHIB": (0.02, 6, 0, 6, 0),
    "币安人生": (0.15, 4, 0, 5, 0),
}
_OTHER_ASSET = (1, 4, 1, 4, 0)

BUILT_IN = {
    "spot": (
        *(f"{asset}USDT" for asset in _ASSETS if asset != "1000SHIB"),
        *("1000SHIBUSDT", "ETHBTC", "BNBBTC", "XMRBTC", "ADAEUR", "BTCFDUSD", "BTCUSDC"),
    ),
    "usdt_futures": (
        *(f"{asset}USDT" for asset in _ASSETS if asset != "SHIB"),
        *("BTCUSDC", "ETHUSDC"),
    ),
    "coin_futures": tuple(
        f"{asset}USD_PERP"
        for asset in ("BTC", "ETH", "BNB", "SOL", "XRP", "ADA", "DOGE", "LINK", "LTC", "DOT")
    ),
}
_QUARTERLIES = {
    "spot": (),
    "usdt_futures": ("BTCUSDT", "ETHUSDT"),
    "coin_futures": ("BTCUSD", "ETHUSD"),
}
_QUOTES = {
    "spot": ("USDT", "FDUSD", "USDC", "TUSD", "BUSD", "USD1", "BTC", "ETH", "BNB", "EUR", "TRY"),
    "usdt_futures": ("USDT", "USDC", "BUSD", "USD1"),
    "coin_futures": ("USD",),
}
_PLAUSIBLE = {
    "spot": re.compile(r"(?P<pair>\w+)"),
    "usdt_futures": re.compile(r"(?P<pair>[^\W_]+)(_(?P<delivery>\d{6}))?"),
    "coin_futures": re.compile(r"(?P<pair>[^\W_]+)_(PERP|(?P<delivery>\d{6}))"),
}
_TRADE_USD = 200
"""Mean value of a trade outside COIN-M."""
_QUIET = {"ATOMUSDT", "YFIUSDT", "XMRUSDT", "XMRBTC", "KSMUSDT", "LTCUSD_PERP", "DOTUSD_PERP"}
"""Symbols that leave minutes, or half hours, without a trade."""

NEVER_MS = 4_133_404_800_000
"""The ``deliveryDate`` of a perpetual contract, as live exchangeInfo answers show it."""
ONBOARD_MS = 1_569_398_400_000
"""2019-09-25 08:00 UTC; no symbol of the first hour has a candle before it."""
_FAR_MS = 1 << 52
_QUARTER_MS = 92 * 24 * 3600 * 1000


@attrs.frozen(kw_only=True)
class Listing:
    """One listed symbol and the scale of its trading."""

    trade_type: str
    symbol: str
    base: str
    quote: str
    price_decimals: int
    lot_decimals: int
    """0 on COIN-M, whose volumes count contracts."""
    level_ticks: int
    """What the price wanders about, in units of the last price decimal."""
    trades_per_1000_minutes: int
    lots_per_trade: int
    contract_usd: int = 0
    """Value of a COIN-M contract in US dollars (``contractSize``); 0 on the other markets."""
    delivery_ms: int = NEVER_MS

    @property
    def pair(self) -> str:
        """The symbol without its contract suffix."""
        return self.base + self.quote


def ascii_lower(text: str) -> str:
    """Lower-case ASCII letters only, as stream names do with non-ASCII symbols."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


def _ascii_upper(text: str) -> str:
    return "".join(letter.upper() if letter.isascii() else letter for letter in text)


def listed_symbols(trade_type: str, wanted: Iterable[str] = (), *, at_ms: int) -> tuple[str, ...]:
    """Return the built-in symbols and those of ``wanted`` that the market could well list.

    Args:
        trade_type: One of ``TRADE_TYPES``.
        wanted: Symbols as files write them, in any case; implausible ones are left out.
        at_ms: Exchange time; decides which quarterly contracts are the current ones.
    """
    names = [*BUILT_IN[trade_type]]
    for pair in _QUARTERLIES[trade_type]:
        for ahead in (0, 1):
            moment = datetime.fromtimestamp(quarter_delivery_ms(at_ms, ahead) / 1000, UTC)
            names.append(f"{pair}_{moment:%y%m%d}")
    upper = map(_ascii_upper, wanted)
    names.extend(name for name in upper if listing_of(trade_type, name) is not None)
    return tuple(dict.fromkeys(names))


def listing_of(trade_type: str, symbol: str) -> Listing | None:
    """Return how a symbol trades, or None where the market would not have such a name."""
    match = _PLAUSIBLE[trade_type].fullmatch(symbol)
    if match is None or symbol != _ascii_upper(symbol):
        return None
    pair = match["pair"]
    quote = next((quote for quote in _QUOTES[trade_type] if pair.endswith(quote)), None)
    if quote is None or pair == quote:
        return None
    base = pair.removesuffix(quote)
    delivery_ms = _delivery_ms(match.groupdict().get("delivery"))
    return None if delivery_ms is None else _scaled(trade_type, symbol, base, quote, delivery_ms)


def _scaled(trade_type: str, symbol: str, base: str, quote: str, delivery_ms: int) -> Listing:
    usd, *decimals = _ASSETS.get(base, _OTHER_ASSET)
    price_decimals, lot_decimals = map(int, decimals[:2] if trade_type == "spot" else decimals[2:])
    level = usd
    if quote in ("BTC", "ETH", "BNB"):
        level = usd / _ASSETS[quote][0]
        price_decimals, lot_decimals = 8 - min(lot_decimals, 2), min(lot_decimals, 2)
    contract_usd = 0
    if trade_type == "coin_futures":
        lot_decimals, contract_usd = 0, 100 if base == "BTC" else 10
        price_decimals = min(price_decimals, 1 if base == "BTC" else 4)
    busy = 600_000 if base in ("BTC", "ETH") else 90_000
    lots = min(1_000_000, max(2, round(_TRADE_USD / usd * 10**lot_decimals)))
    return Listing(
        trade_type=trade_type,
        symbol=symbol,
        base=base,
        quote=quote,
        price_decimals=price_decimals,
        lot_decimals=lot_decimals,
        level_ticks=max(200, round(level * 10**price_decimals)),
        trades_per_1000_minutes=150 if symbol in _QUIET else busy,
        lots_per_trade=10 if contract_usd else lots,
        contract_usd=contract_usd,
        delivery_ms=delivery_ms,
    )


def _delivery_ms(date: str | None) -> int | None:
    """Return the 08:00 UTC of a YYMMDD suffix, or None where there is no such day."""
    if date is None:
        return NEVER_MS
    try:
        moment = datetime.strptime(date, "%y%m%d").replace(hour=8, tzinfo=UTC)
    except ValueError:
        return None
    return round(moment.timestamp() * 1000)


@attrs.frozen
class State:
    """A symbol as it is shown from a moment on."""

    from_ms: int
    status: str | None
    """None while it is not listed."""
    onboard_ms: int
    delivery_ms: int
    tick_size: str


@attrs.frozen(kw_only=True)
class Notice:
    """One event of ``!contractInfo``."""

    due_ms: int
    listing: Listing
    state: State
    brackets: Sequence[Mapping[str, float]] = ()
    """Leverage brackets. The docs have ``bks`` only "when bracket gets updated"; logged events have
    it empty otherwise (github.com/nvcuong123/monitorMarket, doc/binance/contractInfo.js)."""

    @property
    def text(self) -> str:
        """The event."""
        event = {
            "e": "contractInfo",
            "E": self.due_ms,
            "s": self.listing.symbol,
            "ps": self.listing.pair,
            "ct": contract_type(self.listing, self.state, self.due_ms),
            "dt": self.state.delivery_ms,
            "ot": self.state.onboard_ms,
            "cs": self.state.status,
            "bks": self.brackets,
            # since 2026-06-30 (derivatives change log); last as in a test of ccxt/go-binance
            "st": 2 if self.listing.contract_usd else 1,
        }
        return msgspec.json.encode(event).decode()


def contract_type(listing: Listing, state: State, now_ms: int) -> str:
    """Return a future's ``contractType``."""
    if listing.delivery_ms == NEVER_MS:
        return "PERPETUAL"
    if state.status == "DELIVERING" and listing.contract_usd:
        # COIN-M docs, "Contract type": used only for DELIVERING status
        return "CURRENT_QUARTER_DELIVERING"
    return "CURRENT_QUARTER" if listing.delivery_ms - now_ms < _QUARTER_MS else "NEXT_QUARTER"


class SymbolTimeline:
    """All that happens to one symbol: a contract with a delivery date ends with it."""

    begins_ms = -_FAR_MS
    ends_ms = _FAR_MS
    goes_on_flat = False
    """Whether flat candles without trades go on to close after the end."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        ends_ms, tick_size = listing.delivery_ms, decimal_text(1, listing.price_decimals)
        listed = State(0, "TRADING", ONBOARD_MS, ends_ms, tick_size)
        self._states = [listed]
        if ends_ms != NEVER_MS:
            self.ends_ms = ends_ms
            self._states.append(attrs.evolve(listed, from_ms=ends_ms, status="DELIVERING"))

    @property
    def notices(self) -> Sequence[Notice]:
        """The events of ``!contractInfo`` about the symbol."""
        return [
            Notice(due_ms=state.from_ms, listing=self.listing, state=state)
            for state in self._states[1:]
        ]

    def at(self, now_ms: int) -> State:
        """Return the symbol's state at a moment."""
        begun = bisect_right(self._states, now_ms, key=attrgetter("from_ms"))
        return self._states[max(0, begun - 1)]

    def rounded(self, kline: Kline) -> Kline:
        """Return a candle with prices that fit the tick of its time."""
        return kline

    def absence(self, open_ms: int, end_ms: int) -> tuple[str, int] | None:
        """Return why there is no such candle, as an event's name and time; None if it is there."""
        return ("Delisting", self.ends_ms) if self.is_over(open_ms) else None

    def is_over(self, open_ms: int) -> bool:
        """Return whether there is no candle from ``open_ms`` on, ever."""
        return open_ms >= self.ends_ms and not self.goes_on_flat
