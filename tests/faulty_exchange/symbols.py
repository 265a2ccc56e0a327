"""Names of large markets."""

from collections.abc import Iterator
from itertools import count as count_up
from itertools import islice

from kline_trio.simulator.symbols import BUILT_IN, listing_of

__all__ = ["plausible_symbols"]


def plausible_symbols(trade_type: str, count: int) -> tuple[str, ...]:
    """Return so many different symbols that a market could list, the built-in ones first.

    The others are made up, always the same: with the quotes of the market, with names that begin
    with a number, and on spot with the UP and DOWN tokens that patterns leave out.
    """
    names = dict.fromkeys(BUILT_IN[trade_type])
    made_up = _made_up(trade_type)
    while len(names) < count:
        name = next(made_up)
        if listing_of(trade_type, name) is not None:
            names[name] = None
    return tuple(islice(names, count))


def _made_up(trade_type: str) -> Iterator[str]:
    """Give names for ever: of 2,500 spot symbols about a thousand are quoted in USDT."""
    for number in count_up():
        base, rest = "", number
        while rest or len(base) < 4:
            rest, place = divmod(rest, len(_SYLLABLES))
            base += _SYLLABLES[place]
        if number % 40 == 39:
            base = f"1000{base}"
        if trade_type == "coin_futures":
            yield f"{base}USD_PERP"
            continue
        yield f"{base}USDT"
        for quote, every in _MADE_UP_QUOTES[trade_type].items():
            if number % every == 0:
                yield f"{base}{quote}"
        if trade_type == "spot" and number % 20 == 0:
            yield f"{base}UPUSDT"
            yield f"{base}DOWNUSDT"


_SYLLABLES = [first + second for first in "BDFGKLMNPRSTVZ" for second in "AEIOU"]
_MADE_UP_QUOTES = {
    "spot": {"USDC": 2, "BTC": 3, "TRY": 4, "FDUSD": 5, "ETH": 7, "BNB": 8, "EUR": 11},
    "usdt_futures": {"USDC": 8},
}
"""For every which made-up asset there is another symbol."""
