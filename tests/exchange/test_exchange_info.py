"""exchangeInfo: recorded answers, and entries of every shape that must not lose the others."""

import json
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.errors import UnavailableError
from kline_trio.exchange.exchange_info import read_exchange_info
from kline_trio.listing import Listing
from kline_trio.selection import Rule, Selection

RECORDED = Path(__file__).resolve().parents[2] / "../shared/data/exchangeinfo"


def recorded(name: str) -> dict[str, Listing]:
    if not RECORDED.exists():
        pytest.skip(f"no recorded answers at {RECORDED}")
    info = read_exchange_info((RECORDED / name).read_bytes())
    assert info.odd == ()
    assert info.weight_per_minute in (1_200, 2_400, 6_000)
    return info.listings


def test_a_recorded_list_of_usdt_futures() -> None:
    found = recorded("usdt_futures-2026-10-07-trimmed.json")
    assert found["币安人生USDT"] == Listing(
        symbol="币安人生USDT",
        status="TRADING",
        contract_type="PERPETUAL",
        base="币安人生",
        quote="USDT",
        margin="USDT",
        onboard_ms=1_760_958_000_000,
        delivery_ms=4_133_404_800_000,
    )
    assert {name for name, one in found.items() if not one.is_trading} == {"OMGUSDT"}
    perpetuals = Selection(
        "usdt_futures", "1m", (Rule(quote=("USDT",), contract=("PERPETUAL",)),)
    ).resolve(found)
    assert perpetuals == ("BTCUSDT", "币安人生USDT")


def test_a_recorded_list_of_spot() -> None:
    found = recorded("spot-2021-08-14.json")
    assert Counter(one.status for one in found.values()) == {"TRADING": 1_193, "BREAK": 396}
    assert found["ETHBTC"] == Listing(
        symbol="ETHBTC", status="TRADING", base="ETH", quote="BTC", tick_size="0.00000100"
    )
    selection = Selection(
        "spot",
        "1m",
        (
            Rule(pattern="*USDT"),
            Rule(pattern="*DOWNUSDT", is_exclusion=True),
            Rule(pattern="*UPUSDT", is_exclusion=True),
        ),
    )
    symbols = selection.resolve(found)
    assert len(symbols) == len(set(symbols)) == 250
    assert not any(name.endswith(("UPUSDT", "DOWNUSDT")) for name in symbols)
    assert all(found[name].quote == "USDT" for name in symbols)


def test_a_recorded_list_of_coin_futures() -> None:
    found = recorded("coin_futures-2021-07-22.json")
    assert len(found) == 36
    assert all(one.is_trading for one in found.values())
    assert found["BTCUSD_PERP"] == Listing(
        symbol="BTCUSD_PERP",
        status="TRADING",
        contract_type="PERPETUAL",
        base="BTC",
        quote="USD",
        margin="BTC",
        tick_size="0.1",
        onboard_ms=1_597_042_800_000,
        delivery_ms=4_133_404_800_000,
    )


def test_a_contract_that_is_only_announced_has_an_empty_type() -> None:
    found = recorded("usdt_futures-2021-07-22.json")
    [announced] = [one for one in found.values() if one.contract_type == ""]
    assert announced.status == "PENDING_TRADING"


def read(*entries: object, **more: object) -> dict[str, Listing]:
    return read_exchange_info(json.dumps({"symbols": entries, **more}).encode()).listings


GOOD = {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC"}


@pytest.mark.parametrize(
    "entry",
    [
        {"symbol": "A", "status": 5},
        {"symbol": "A", "status": None},
        {"symbol": "A", "status": "x" * 65},
        {"symbol": "A", "onboardDate": "soon"},
        {"symbol": "A", "onboardDate": -1},
        {"symbol": "A", "deliveryDate": 10**18},
        {"symbol": "A", "deliveryDate": 1.5},
        {"symbol": "A", "deliveryDate": True},
        {"symbol": "A", "baseAsset": ["B"]},
        {"symbol": "A", "filters": None},
        {"symbol": "A", "filters": {"filterType": "PRICE_FILTER"}},
        {"symbol": "A", "filters": [3, {"filterType": 4}]},
        {"symbol": "A", "filters": [{"filterType": "PRICE_FILTER", "tickSize": 0.1}]},
        {"symbol": "A", "filters": [{"filterType": "PRICE_FILTER"}]},
        {"symbol": "A", "more": {"than": ["known"]}},
        {"symbol": "A"},
    ],
)
def test_a_key_of_another_shape_is_as_good_as_none(entry: dict[str, object]) -> None:
    found = read(GOOD, entry, GOOD | {"symbol": "ETHUSDT"})
    assert list(found) == ["BTCUSDT", "A", "ETHUSDT"]
    assert found["A"] == Listing(symbol="A")
    assert found["ETHUSDT"].base == "BTC"


def test_what_is_good_of_a_bad_entry_is_kept() -> None:
    ticks = [7, {"filterType": "PRICE_FILTER", "tickSize": "0.1"}]
    found = read({"symbol": "A", "contractStatus": "TRADING", "onboardDate": "x", "filters": ticks})
    assert found["A"] == Listing(symbol="A", status="TRADING", tick_size="0.1")


@pytest.mark.parametrize(
    "entry",
    [
        {"symbol": "../x"}, {"symbol": ""}, {"symbol": "btcusdt"}, {"symbol": 5}, {}, 7, None, [],
        {"symbol": "A" * 5_000}, {"symbol": "A B"},
    ],
)  # fmt: skip
def test_what_can_be_no_symbol_is_passed_over_and_counted(entry: object) -> None:
    info = read_exchange_info(json.dumps({"symbols": [GOOD, entry, entry]}).encode())
    assert list(info.listings) == ["BTCUSDT"]
    assert len(info.odd) == 2
    assert all(len(text) <= 40 for text in info.odd)


def test_limits_of_another_shape_lose_no_symbols() -> None:
    weight = {
        "rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 5,
    }  # fmt: skip
    body = json.dumps({"symbols": [GOOD], "rateLimits": [{"limit": "many"}, 3, weight]})
    info = read_exchange_info(body.encode())
    assert (list(info.listings), info.weight_per_minute) == (["BTCUSDT"], 5)
    for limits in ("null", "{}", "[]", "[{}]"):
        body = f'{{"symbols": [{json.dumps(GOOD)}], "rateLimits": {limits}}}'
        info = read_exchange_info(body.encode())
        assert (list(info.listings), info.weight_per_minute) == (["BTCUSDT"], None)


@pytest.mark.parametrize(("before", "tick_size"), [(49, "0.1"), (50, None), (100_000, None)])
def test_of_an_odd_entry_fifty_filters_are_read(before: int, tick_size: str | None) -> None:
    """Each may cost an exception: four million of them took ten seconds."""
    filters = [*[[]] * before, {"filterType": "PRICE_FILTER", "tickSize": "0.1"}]
    entry = {"symbol": "A", "status": 5, "filters": filters}
    body = json.dumps({"symbols": [entry]}).encode()
    assert read_exchange_info(body).listings["A"].tick_size == tick_size


def test_status_and_contract_status_are_two_words_for_one_thing() -> None:
    found = read(
        {"symbol": "A", "status": "BREAK"},
        {"symbol": "B", "contractStatus": "TRADING"},
        {"symbol": "C", "status": "TRADING", "contractStatus": "SETTLING"},
    )
    assert [one.status for one in found.values()] == ["BREAK", "TRADING", "SETTLING"]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"symbols":{}}', b'{"symbols":null}', b"<"])
def test_what_holds_no_list_is_no_answer(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        read_exchange_info(body)


@given(
    st.lists(
        st.none()
        | st.dictionaries(
            st.sampled_from(
                ["symbol", "status", "contractStatus", "baseAsset", "onboardDate", "filters"]
            ),
            st.none() | st.integers() | st.text("AB/é", max_size=3) | st.lists(st.integers()),
        ),
        max_size=4,
    )
)
def test_whatever_one_entry_is_the_others_are_read(entries: list[object]) -> None:
    info = read_exchange_info(json.dumps({"symbols": [*entries, GOOD]}).encode())
    assert info.listings["BTCUSDT"].base == "BTC"
    assert len(info.listings) + len(info.odd) <= len(entries) + 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"symbols":[' + b"1," * 4_000_001 + b"1]}",
        b'{"symbols":[' + b"{}," * 20_000 + b"{}]}",
        b'{"symbols":[' + b'{"symbol":"A"},' * 20_000 + b'{"symbol":"A"}]}',
    ],
    ids=["values", "odd entries", "symbols"],
)
def test_more_than_an_exchange_can_list_is_refused(body: bytes) -> None:
    with pytest.raises(UnavailableError, match="a list of"):
        read_exchange_info(body)
