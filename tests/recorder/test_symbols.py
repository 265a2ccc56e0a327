"""Unknown symbols and the next close, as pure questions."""

from kline_trio.candle import Series
from kline_trio.recorder.symbols import seconds_to_next_close, unknown_symbols

BTC = Series("spot", "BTCUSDT", "1m")


def test_unknown_symbols_come_with_the_nearest_that_is_known() -> None:
    wanted = [BTC, Series("spot", "ETHUSTD", "1m"), Series("spot", "ZZZ", "1h")]
    assert unknown_symbols(wanted, {"BTCUSDT", "ETHUSDT"}) == {"ETHUSTD": "ETHUSDT", "ZZZ": None}
    assert unknown_symbols([BTC], {"BTCUSDT"}) == {}


def test_the_next_close_is_the_earliest_of_all() -> None:
    hourly = Series("spot", "BTCUSDT", "1h")
    assert seconds_to_next_close([hourly], 1_700_000_000_000) == 2_800
    assert seconds_to_next_close([hourly, BTC], 1_700_000_000_000) == 40
    assert seconds_to_next_close([BTC], 1_700_000_040_000) == 60
