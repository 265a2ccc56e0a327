"""Which series are wanted, unknown symbols and the next close, as pure questions."""

from kline_trio.candle import Series
from kline_trio.listing import Listing
from kline_trio.selection import Rule, Selection
from kline_trio.symbols import (
    matches_pattern,
    seconds_to_next_close,
    select_series,
    unknown_symbols,
)
from tests.builders import SPOT


def test_unknown_symbols_come_with_the_nearest_that_is_known() -> None:
    wanted = [SPOT, Series("spot", "ETHUSTD", "1m"), Series("spot", "ZZZ", "1h")]
    assert unknown_symbols(wanted, "spot", {"BTCUSDT", "ETHUSDT"}) == {
        "ETHUSTD": "ETHUSDT",
        "ZZZ": None,
    }
    assert unknown_symbols([SPOT], "spot", {"BTCUSDT"}) == {}
    assert unknown_symbols(wanted, "usdt_futures", ()) == {}


def test_a_pattern_means_a_series_whether_its_symbol_trades_or_not() -> None:
    rules = (Rule(pattern="*USDT"), Rule(pattern="ETH*", is_exclusion=True))
    patterns = (Selection("spot", "1m", rules), Selection("spot", "1h", (Rule(quote=("EUR",)),)))
    ended = Listing(symbol="BTCEUR", status="BREAK", quote="EUR")
    assert matches_pattern(SPOT, patterns, None)
    assert matches_pattern(Series("spot", "BTCEUR", "1h"), patterns, ended)
    for other in (("spot", "ETHUSDT", "1m"), ("spot", "BTCEUR", "1h"), ("spot", "BTCUSDT", "5m")):
        assert not matches_pattern(Series(*other), patterns, None)


def test_the_next_close_is_the_earliest_of_all() -> None:
    hourly = Series("spot", "BTCUSDT", "1h")
    assert seconds_to_next_close([hourly], 1_700_000_000_000) == 2_800
    assert seconds_to_next_close([hourly, SPOT], 1_700_000_000_000) == 40
    assert seconds_to_next_close([SPOT], 1_700_000_040_000) == 60


def test_what_is_named_comes_first_and_each_series_once() -> None:
    star = (Rule(pattern="*USDT"),)
    eth = Series("coin_futures", "ETHUSD_PERP", "1m")
    patterns = (
        Selection("coin_futures", "1h", (Rule(pattern="*"),)),
        Selection("spot", "1m", star),
        Selection("spot", "1h", (Rule(pattern="NEWUSDT"), *star)),
    )
    listings = {
        "spot": {
            name: Listing(symbol=name, status=status)
            for name, status in (("ETHUSDT", "TRADING"), ("BTCUSDT", "TRADING"), ("XUSDT", "BREAK"))
        }
    }
    assert [str(one) for one in select_series((SPOT, eth), patterns, listings)] == [
        "spot BTCUSDT-1m",
        "spot ETHUSDT-1m",
        "spot NEWUSDT-1h",
        "spot BTCUSDT-1h",
        "spot ETHUSDT-1h",
        "coin_futures ETHUSD_PERP-1m",
    ]
    assert select_series((SPOT, eth), patterns, {}) == (SPOT, Series("spot", "NEWUSDT", "1h"), eth)
    assert select_series((), (), listings) == ()
