"""One symbol, as a market lists it."""

import pytest

from kline_trio.listing import PENDING, TRADING, Listing, begun_ms


def test_only_one_word_means_trading() -> None:
    assert Listing(symbol="A", status="TRADING").is_trading
    for word in ("", "BREAK", "TRADING_HALT", "CANCEL_ONLY", "PENDING_TRADING", "trading"):
        assert not Listing(symbol="A", status=word).is_trading


@pytest.mark.parametrize("symbol", ["", "a", "A/B", "..", "A" * 41, "A B"])
def test_a_symbol_that_could_be_no_file_is_no_listing(symbol: str) -> None:
    with pytest.raises(ValueError, match="a symbol"):
        Listing(symbol=symbol)


def listed(**statuses: str) -> dict[str, Listing]:
    return {
        symbol: Listing(symbol=symbol, status=status, onboard_ms=9_000)
        for symbol, status in statuses.items()
    }


def test_what_trades_and_did_not_at_the_look_before_may_trade_since_then() -> None:
    """Whatever the list says of its begin: the date has been half an hour and a day late."""
    known = listed(A=TRADING, B="BREAK")
    seen = listed(A=TRADING, B=TRADING, C=TRADING, D=PENDING)
    assert begun_ms(known, seen, 5_000, {"A": 1_000, "B": 1_000}) == {"B": 5_000, "C": 5_000}


def test_what_was_announced_may_trade_since_it_is_in_the_list() -> None:
    assert begun_ms(listed(A=PENDING), listed(A=TRADING), 5_000, {"A": 2_000}) == {"A": 2_000}


def test_of_a_list_that_was_never_seen_before_nothing_is_known() -> None:
    assert begun_ms({}, listed(A=TRADING), None, {}) == {}
