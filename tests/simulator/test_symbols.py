"""Which symbols the built-in exchange lists."""

import pytest

from kline_trio.simulator.symbols import (
    TRADE_TYPES,
    ascii_lower,
    listed_symbols,
    listing_of,
)
from tests.faulty_exchange import plausible_symbols

from .support import START_MS


@pytest.mark.parametrize("trade_type", TRADE_TYPES)
def test_every_listed_symbol_trades_at_a_sensible_scale(trade_type: str) -> None:
    """Each listed name is one the market could have, with a price of at least 200 ticks."""
    for symbol in listed_symbols(trade_type, at_ms=START_MS):
        listing = listing_of(trade_type, symbol)
        assert listing is not None
        assert listing.level_ticks >= 200
        assert listing.price_decimals + listing.lot_decimals <= 8


@pytest.mark.parametrize(
    ("trade_type", "symbol"),
    [
        ("spot", "pepeusdt"),
        ("spot", "龙虾USDT"),
        ("spot", "1INCHBTC"),
        ("usdt_futures", "BTCUSDT_260925"),
        ("coin_futures", "aptusd_perp"),
    ],
)
def test_a_plausible_symbol_is_listed_when_wanted(trade_type: str, symbol: str) -> None:
    """What a user asks for is there if the market could have it, in any case."""
    listed = listed_symbols(trade_type, [symbol], at_ms=START_MS)
    assert symbol.upper() in listed


@pytest.mark.parametrize(
    ("trade_type", "symbol"),
    [
        ("spot", "BTCUSTD"),
        ("spot", "USDT"),
        ("spot", "BTC-USDT"),
        ("usdt_futures", "BTCUSD_PERP"),
        ("usdt_futures", "BTCUSDT_261399"),
        ("coin_futures", "BTCUSD"),
        ("coin_futures", "BTCUSDT_PERP"),
        ("coin_futures", "../BTCUSD_PERP"),
    ],
)
def test_a_misspelt_symbol_stays_unknown(trade_type: str, symbol: str) -> None:
    """A name that the market could not have is not listed, whoever asks."""
    assert symbol not in listed_symbols(trade_type, [symbol], at_ms=START_MS)


def test_only_ascii_letters_change_case() -> None:
    """Stream names of symbols in other scripts keep what is not ASCII."""
    assert ascii_lower("币安人生USDT") == "币安人生usdt"
    assert ascii_lower("İUSDT") == "İusdt"


@pytest.mark.parametrize(
    ("trade_type", "count"),
    [("spot", 3_000), ("usdt_futures", 900), ("coin_futures", 60), ("spot", 3), ("spot", 0)],
)
def test_a_market_can_be_as_large_as_one_likes(trade_type: str, count: int) -> None:
    """So many different names that could be listed, always the same, in any number."""
    names = plausible_symbols(trade_type, count)
    assert len(set(names)) == len(names) == count
    assert names == plausible_symbols(trade_type, count + 50)[:count]
    assert all(listing_of(trade_type, name) for name in names)


def test_large_markets_have_what_patterns_choose_by() -> None:
    """Several quotes, leveraged tokens, numbers in front, and a name in Chinese."""
    names = plausible_symbols("spot", 2_500)
    listings = [listing_of("spot", name) for name in names]
    quotes = {one.quote for one in listings if one is not None}
    assert quotes == {"USDT", "USDC", "BTC", "TRY", "FDUSD", "ETH", "BNB", "EUR"}
    assert 800 < len([name for name in names if name.endswith("USDT")]) < 1_300
    assert [name for name in names if name.endswith("DOWNUSDT")]
    assert [name for name in names if name.startswith("1000")]
    assert "币安人生USDT" in names
