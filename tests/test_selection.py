"""Rules, one after the other: the last that speaks of a symbol decides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.listing import Listing
from kline_trio.selection import Rule, Selection


def listed(*symbols: str, status: str = "TRADING") -> dict[str, Listing]:
    return {symbol: Listing(symbol=symbol, status=status) for symbol in symbols}


def rule(text: str) -> Rule:
    return Rule(pattern=text.removeprefix("!"), is_exclusion=text.startswith("!"))


def resolve(texts: str, listings: dict[str, Listing]) -> str:
    selection = Selection("spot", "1m", tuple(map(rule, texts.split())))
    return " ".join(selection.resolve(listings))


MARKET = {
    **listed("BTCUSDT", "ETHUSDT", "BTCDOWNUSDT", "ETHBTC", "币安人生USDT"),
    **listed("LUNAUSDT", status="BREAK"),
}


@pytest.mark.parametrize(
    ("rules", "symbols"),
    [
        ("*USDT", "BTCDOWNUSDT BTCUSDT ETHUSDT 币安人生USDT"),
        ("*USDT !*DOWNUSDT", "BTCUSDT ETHUSDT 币安人生USDT"),
        ("*USDT !*DOWNUSDT BTCDOWNUSDT", "BTCUSDT ETHUSDT 币安人生USDT BTCDOWNUSDT"),
        ("BTCUSDT *", "BTCUSDT BTCDOWNUSDT ETHBTC ETHUSDT 币安人生USDT"),
        ("???BTC", "ETHBTC"),
        ("????USDT !BTC* !ETH*", "币安人生USDT"),
        ("币安*", "币安人生USDT"),
        ("LUNA*", ""),
        ("LUNAUSDT", "LUNAUSDT"),
        ("NEWUSDT BTC*", "NEWUSDT BTCDOWNUSDT BTCUSDT"),
        ("NEWUSDT !NEW*", ""),
        ("NEWUSDT !NEW* NEWUSDT", "NEWUSDT"),
        ("*C !*", ""),
    ],
)
def test_rules_act_in_order(rules: str, symbols: str) -> None:
    assert resolve(rules, MARKET) == symbols


def test_names_are_meant_whatever_is_listed_and_patterns_only_what_trades() -> None:
    selection = Selection("spot", "1m", (rule("OLDUSDT"), rule("*USDT")))
    assert selection.resolve({}) == ("OLDUSDT",)
    halted = listed("BTCUSDT", status="TRADING_HALT")
    assert selection.resolve(halted) == ("OLDUSDT",)


def test_properties_are_texts_of_any_time() -> None:
    perpetual = Listing(
        symbol="BTCUSDT", status="TRADING", contract_type="PERPETUAL", base="BTC", quote="USDT",
        margin="USDT",
    )  # fmt: skip
    assert Rule(quote=("BUSD", "usdt")).matches(perpetual)
    assert Rule(quote=("USDT",), contract=("perpetual",), base=("BTC",)).matches(perpetual)
    assert not Rule(quote=("USDT",), contract=("TRADIFI_PERPETUAL",)).matches(perpetual)
    assert not Rule(margin=("BNB",)).matches(perpetual)
    assert Rule(pattern="BTC*", margin=("USDT",)).matches(perpetual)
    assert not Rule(pattern="ETH*", margin=("USDT",)).matches(perpetual)
    announced = Listing(symbol="NEWUSDT", contract_type="")
    assert not Rule(contract=("PERPETUAL",)).matches(announced)
    assert not Rule(quote=("USDT",)).matches(announced)
    tomorrow = Listing(symbol="AUSDT", contract_type="WEEKLY_牛")
    assert Rule(contract=("weekly_牛",)).matches(tomorrow)


@pytest.mark.parametrize("pattern", ["", "a*", "[A]", "A.*", "A/*", "*" + "A" * 41, "A B", "!A"])
def test_a_pattern_that_could_match_no_symbol_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="symbol"):
        Rule(pattern=pattern)


def test_many_wildcards_cost_no_time() -> None:
    assert not Rule(pattern="*A" * 20 + "*B").matches(Listing(symbol="A" * 40))


def test_a_selection_is_of_a_market_and_an_interval_that_are_there() -> None:
    with pytest.raises(ValueError, match="trade_type"):
        Selection("margin", "1m", (rule("*"),))
    with pytest.raises(ValueError, match="time_interval"):
        Selection("spot", "2m", (rule("*"),))


letters = st.text("AB牛", min_size=1, max_size=3)
patterns = st.text("AB牛*?", min_size=1, max_size=3)
rules_of_all_kinds = st.lists(
    st.builds(lambda pattern, out: Rule(pattern=pattern, is_exclusion=out), patterns, st.booleans())
    | st.builds(lambda texts: Rule(quote=tuple(texts)), st.lists(letters, min_size=1, max_size=2)),
    max_size=6,
)
markets = st.dictionaries(
    letters, st.tuples(st.sampled_from(["TRADING", "BREAK", "?"]), st.none() | letters), max_size=8
).map(
    lambda entries: {
        symbol: Listing(symbol=symbol, status=status, quote=quote)
        for symbol, (status, quote) in entries.items()
    }
)


def is_like(symbol: str, pattern: str) -> bool:
    """What a pattern means, spelt out."""
    if not pattern:
        return not symbol
    if pattern[0] == "*":
        return is_like(symbol, pattern[1:]) or bool(symbol and is_like(symbol[1:], pattern))
    return bool(symbol) and pattern[0] in ("?", symbol[0]) and is_like(symbol[1:], pattern[1:])


def is_meant(symbol: str, rules: list[Rule], market: dict[str, Listing]) -> bool:
    for one in reversed(rules):
        listing = market.get(symbol, Listing(symbol=symbol))
        if one.is_name:
            if one.pattern == symbol:
                return True
        elif not is_like(symbol, one.pattern) or (one.quote and listing.quote not in one.quote):
            continue
        elif one.is_exclusion:
            return False
        elif listing.is_trading:
            return True
    return False


@given(rules_of_all_kinds, markets)
def test_the_last_rule_that_speaks_of_a_symbol_decides(
    rules: list[Rule], market: dict[str, Listing]
) -> None:
    found = Selection("spot", "1m", tuple(rules)).resolve(market)
    everything = {*market, *(one.pattern for one in rules if one.is_name)}
    assert set(found) == {symbol for symbol in everything if is_meant(symbol, rules, market)}
    assert len(found) == len(set(found))


@given(rules_of_all_kinds, markets, st.randoms())
def test_the_order_does_not_hang_on_that_of_the_list(
    rules: list[Rule], market: dict[str, Listing], random: object
) -> None:
    names = list(market)
    random.shuffle(names)  # type: ignore[attr-defined]
    selection = Selection("spot", "1m", tuple(rules))
    found = selection.resolve(market)
    assert found == selection.resolve({name: market[name] for name in names})
    # What was found, asked for by name in the place of all rules, is found again.
    named = tuple(Rule(pattern=symbol) for symbol in found)
    assert Selection("spot", "1m", named).resolve(market) == found


@given(rules_of_all_kinds, markets)
def test_rules_said_twice_mean_the_same(rules: list[Rule], market: dict[str, Listing]) -> None:
    once = Selection("spot", "1m", tuple(rules)).resolve(market)
    twice = Selection("spot", "1m", (*rules, *rules)).resolve(market)
    assert set(once) == set(twice)


@pytest.mark.parametrize(
    ("rules", "idle"),
    [
        ("*USDT !*DOWNUSDT BTCUSTD", ""),
        ("*USTD *USDT", "*USTD"),
        ("*USDT !USDT*", "!USDT*"),
        # Whatever does not trade cannot be taken in, and may yet be kept out.
        ("LUNA* ETHBTC", "LUNA*"),
        ("* !LUNA*", ""),
        ("NEWUSDT !NEW*", ""),
    ],
)
def test_rules_that_match_nothing_are_idle(rules: str, idle: str) -> None:
    selection = Selection("spot", "1m", tuple(map(rule, rules.split())))
    assert " ".join(map(str, selection.idle(MARKET))) == idle
    assert Selection("spot", "1m", (Rule(quote=("UDST",)),)).idle(MARKET)
