"""The tree of visible rows, and their cells."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.candle import Series
from kline_trio.interval import DAY_MS
from kline_trio.monitor.page.calendar_rows import (
    MARKET_LABELS,
    Folding,
    Row,
    calendar_values,
    run_values,
    visible_rows,
    words_of,
)
from kline_trio.monitor.page.zoom import Window, Zoom
from kline_trio.storage.calendar import Counts, Due
from kline_trio.storage.journal.ledger import Reason, SeriesAccount, State
from tests.storage.support import BTC, START_MS, at
from tests.storage.test_calendar import calendar, gap

HOURLY = Series("spot", "BTCUSDT", "1h")
CHINESE = Series("usdt_futures", "币安人生USDT", "1w")
ETH = Series("spot", "ETHUSDT", "1m")
EVERY = tuple(sorted([BTC, HOURLY, Series("spot", "BTCUSDT", "1M"), ETH, CHINESE]))
SYMBOL = "spot/BTCUSDT"


def shape(rows: Sequence[Row]) -> list[tuple[str, int, str, str]]:
    return [(one.key, one.depth, one.kind, one.label) for one in rows]


def test_markets_are_open_symbols_are_closed_and_a_lone_series_is_its_symbol() -> None:
    rows = visible_rows(EVERY, Folding())
    assert shape(rows) == [
        ("spot", 0, "market", "Spot"),
        (SYMBOL, 1, "symbol", "BTCUSDT"),
        ("spot/ETHUSDT/1m", 1, "series", "ETHUSDT 1m"),
        ("usdt_futures", 0, "market", "USD-M futures"),
        ("usdt_futures/币安人生USDT/1w", 1, "series", "币安人生USDT 1w"),
    ]
    assert [len(one.members) for one in rows] == [4, 3, 1, 1, 1]
    assert [one.is_open for one in rows] == [True, False, False, True, False]


def test_an_open_symbol_shows_its_series_by_their_length() -> None:
    rows = visible_rows(EVERY, Folding(open=frozenset([SYMBOL, "spot/NONEUSDT"])))
    assert shape(rows)[1:5] == [
        (SYMBOL, 1, "symbol", "BTCUSDT"),
        (f"{SYMBOL}/1m", 2, "series", "1m"),
        (f"{SYMBOL}/1h", 2, "series", "1h"),
        (f"{SYMBOL}/1M", 2, "series", "1M"),
    ]


def test_a_closed_market_is_one_row() -> None:
    rows = visible_rows(EVERY, Folding(closed=frozenset(["spot"]), open=frozenset([SYMBOL])))
    assert [one.key for one in rows[:2]] == ["spot", "usdt_futures"]
    assert len(rows[0].members) == 4


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("eth", ["spot/ETHUSDT/1m"]),
        ("SPOT 1h", ["spot/BTCUSDT/1h"]),
        ("1h btc", ["spot/BTCUSDT/1h"]),
        ("spot/BTCUSDT/1h", ["spot/BTCUSDT/1h"]),
        ("人生", ["usdt_futures/币安人生USDT/1w"]),
        ("btc eth", []),
        ("<script>", []),
        ("   ", [f"{SYMBOL}", "spot/ETHUSDT/1m", "usdt_futures/币安人生USDT/1w"]),
    ],
)
def test_a_search_shows_what_it_matches(text: str, keys: list[str]) -> None:
    rows = visible_rows(EVERY, Folding(words=words_of(text)))
    assert [one.key for one in rows if one.kind != "market"] == keys


def test_a_match_opens_what_holds_it() -> None:
    words = words_of("btc m")
    rows = visible_rows(EVERY, Folding(words=words))
    assert [one.key for one in rows] == ["spot", SYMBOL, f"{SYMBOL}/1m", f"{SYMBOL}/1M"]
    assert len(rows[0].members) == 2, "the sum is of what matches"
    rows = visible_rows(EVERY, Folding(words=words, closed=frozenset([SYMBOL])))
    assert [one.key for one in rows] == ["spot", SYMBOL]


NAMES = st.builds(
    Series,
    st.sampled_from(["spot", "usdt_futures", "coin_futures"]),
    st.sampled_from(["AUSDT", "BUSDT", "币USDT"]),
    st.sampled_from(["1m", "1M", "1h"]),
)
KEYS = ["spot", "usdt_futures", "spot/AUSDT", "usdt_futures/币USDT", "other"]


@given(
    every=st.sets(NAMES),
    opened=st.sets(st.sampled_from(KEYS)),
    closed=st.sets(st.sampled_from(KEYS)),
    words=st.lists(st.sampled_from(["a", "usdt", "m", "spot"]), max_size=2),
)
def test_each_matching_series_counts_once_at_each_depth(
    every: set[Series], opened: set[str], closed: set[str], words: list[str]
) -> None:
    series = tuple(sorted(every))
    folding = Folding(open=frozenset(opened), closed=frozenset(closed), words=tuple(words))
    rows = visible_rows(series, folding)
    assert len({one.key for one in rows}) == len(rows)
    matching = [number for number, one in enumerate(series) if folding.has(one)]
    markets = [number for one in rows if one.kind == "market" for number in one.members]
    assert sorted(markets) == matching
    names = [one.key for one in rows if one.kind == "market"]
    assert names == [one for one in MARKET_LABELS if one in names], "the usual order"
    for place, row in enumerate(rows):
        below = []
        for other in rows[place + 1 :]:
            if other.depth <= row.depth:
                break
            below.append(other)
        if row.is_open:
            lower = [one for one in below if one.depth == row.depth + 1]
            assert sorted(n for one in lower for n in one.members) == list(row.members)
        else:
            assert not below
        if row.kind == "series":
            assert len(row.members) == 1


def test_only_the_rows_of_the_window_are_counted() -> None:
    first_ms = START_MS
    accounts = {one: SeriesAccount(first_ms, first_ms + 3 * DAY_MS) for one in (BTC, ETH)}
    found = calendar(accounts, gap(BTC, 5, 8), gap(ETH, 2, 3, State.CLOSED, reason=Reason.REFUSED))
    rows = visible_rows(found.series, Folding())
    window = Window.of(Zoom.DAY, first_ms - DAY_MS, first_ms + 4 * DAY_MS, 0)
    values = calendar_values(found, {}, window, rows, 1, 1)
    assert values["total_rows"] == 3
    assert values["offset"] == 1
    assert values["starts_ms"] == [first_ms + n * DAY_MS for n in range(-1, 4)]
    assert values["rows"] == [
        {
            "key": "spot/BTCUSDT/1m",
            "depth": 1,
            "kind": "series",
            "label": "BTCUSDT 1m",
            "series": "spot/BTCUSDT/1m",
            "members": 1,
            "is_open": False,
            "percent": 99.93,
            "runs": [[0, 1], [5, 1, 1_440, 0, 3, 0, 0, [0]], [1, 2], [0, 1]],
        }
    ]
    reasons = values["reasons"]
    assert isinstance(reasons, list)
    assert reasons[0] == "not received"
    market = calendar_values(found, {}, window, rows, 0, 1)["rows"][0]  # type: ignore[index]
    assert market["runs"][1] == [5, 1, 2_880, 0, 3, 1, 0, [0, reasons.index("refused")]]
    assert market["members"] == 2


def test_what_is_due_after_the_watermark_is_counted() -> None:
    found = calendar({BTC: SeriesAccount(at(0), at(10))})
    rows = visible_rows(found.series, Folding())
    window = Window.of(Zoom.DAY, START_MS, START_MS + 1, 0)
    for is_live, run in ((True, [1, 1]), (False, [3, 1, 20, 0, 0, 0, 10, []])):
        due = {"spot": Due(at(20), is_live)}
        values = calendar_values(found, due, window, rows, 1, 9)
        assert values["rows"][0]["runs"] == [run]  # type: ignore[index]


def test_a_run_of_complete_cells_is_short() -> None:
    assert run_values(7, Counts(1_440)) == [1, 7]
    assert run_values(7, Counts(0)) == [0, 7]
    assert run_values(2, Counts(10, refilled=2, reasons=(Reason.DELISTED,))) == [
        2, 2, 10, 2, 0, 0, 0, [4],
    ]  # fmt: skip
