"""One symbol, as a market lists it."""

import pytest

from kline_trio.listing import Listing


def test_only_one_word_means_trading() -> None:
    assert Listing(symbol="A", status="TRADING").is_trading
    for word in ("", "BREAK", "TRADING_HALT", "CANCEL_ONLY", "PENDING_TRADING", "trading"):
        assert not Listing(symbol="A", status=word).is_trading


@pytest.mark.parametrize("symbol", ["", "a", "A/B", "..", "A" * 41, "A B"])
def test_a_symbol_that_could_be_no_file_is_no_listing(symbol: str) -> None:
    with pytest.raises(ValueError, match="a symbol"):
        Listing(symbol=symbol)
