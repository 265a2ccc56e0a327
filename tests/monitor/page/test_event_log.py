"""Events of the ledger and the universe."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.candle import Series, Source
from kline_trio.interval import Span
from kline_trio.listing import GONE, Listing
from kline_trio.monitor.page.event_log import (
    Event,
    Healing,
    Kind,
    Tone,
    gap_events,
    newest_first,
    span_text,
    status_events,
)
from kline_trio.storage.journal.ledger import Gap, Reason, State
from kline_trio.storage.universe import Sighting, StatusChange, UniverseFile, status_changes
from tests.storage.support import BTC, MINUTE_MS, START_MS, at, open_store, span

NOW = {"spot": at(50)}


def gap(
    first: int, end: int, state: State = State.PENDING, series: Series = BTC, seen: int = 40
) -> Gap:
    by = Source.REST if state is State.FILLED else None
    place = span(first, end, series)
    return Gap(series, place, at(seen), Reason.NOT_RECEIVED, state, filled_by=by)


def told(events: list[Event]) -> list[tuple[Kind, int]]:
    return sorted((one.kind, one.time_ms) for one in events)


def test_a_gap_that_is_filled_between_two_looks_has_two_events() -> None:
    healing = Healing().after([gap(3, 5)], NOW)
    assert told(gap_events([gap(3, 5)], healing)) == [(Kind.GAP_FOUND, at(40))]
    filled = [gap(3, 5, State.FILLED)]
    healing = healing.after(filled, NOW)
    assert told(gap_events(filled, healing)) == [
        (Kind.GAP_FILLED, at(50)), (Kind.GAP_FOUND, at(40)),
    ]  # fmt: skip
    later = healing.after(filled, {"spot": at(90)})
    assert gap_events(filled, later) == gap_events(filled, healing), "the moment is kept"


def test_a_gap_that_was_filled_before_the_first_look_has_one_event() -> None:
    filled = [gap(3, 5, State.FILLED)]
    events = gap_events(filled, Healing().after(filled, NOW))
    assert told(events) == [(Kind.GAP_FILLED, at(40))]
    assert events[0].tone is Tone.GOOD


def test_parts_of_a_gap_heal_one_by_one() -> None:
    healing = Healing().after([gap(0, 9)], NOW)
    parts = [gap(0, 3, State.FILLED), gap(3, 6), gap(6, 9, State.CLOSED)]
    healing = healing.after(parts, {"spot": at(60)})
    assert told(gap_events(parts, healing)) == [
        (Kind.GAP_CLOSED, at(60)), (Kind.GAP_FILLED, at(60)),
        *[(Kind.GAP_FOUND, at(40))] * 3,
    ]  # fmt: skip


def test_nothing_heals_before_it_was_found() -> None:
    """The exchange's time of a look may be some minutes old."""
    healing = Healing().after([gap(3, 5)], NOW).after([gap(3, 5, State.FILLED)], {"spot": at(7)})
    assert told(gap_events([gap(3, 5, State.FILLED)], healing)) == [
        (Kind.GAP_FILLED, at(40)), (Kind.GAP_FOUND, at(40)),
    ]  # fmt: skip


def test_gaps_that_the_ledger_forgets_are_forgotten() -> None:
    healing = Healing().after([gap(3, 5)], NOW).after([gap(3, 5, State.FILLED)], NOW)
    assert healing.seen_ms
    assert not healing.after([], NOW).seen_ms


def many(count: int) -> list[Gap]:
    return [gap(3, 5, series=Series("spot", f"A{n}USDT", "1m")) for n in range(count)]


def test_an_outage_of_many_series_is_one_event() -> None:
    [event] = gap_events(many(2_500), Healing())
    assert event.text == (
        "spot: 5,000 candles of 2,500 series, 2024-01-31 00:03:00 to 00:05:00: absent;"
        " reason: not received"
    )
    assert (event.series, event.trade_type) == (None, "spot")
    assert len(gap_events(many(3), Healing())) == 3
    assert len(gap_events(many(9), Healing(), is_grouped=False)) == 9


def test_only_the_newest_gaps_need_words() -> None:
    gaps = [gap(n, n + 1, seen=n + 2) for n in range(0, 40, 2)]
    times = [at(n + 2) for n in range(0, 40, 2)]
    assert [one.time_ms for one in gap_events(gaps, Healing(), most=3)] == times[:-4:-1]
    before = gap_events(gaps, Healing(), at(10), 3)
    assert [one.time_ms for one in before] == [at(8), at(6), at(4)]


def test_an_event_keeps_its_id() -> None:
    gaps = [*many(5), gap(8, 9), gap(20, 21, State.CLOSED)]
    events = gap_events(gaps, Healing())
    assert {one.id for one in events} == {one.id for one in gap_events(gaps, Healing())}
    assert len({one.id for one in events}) == len(events)
    assert gap_events(many(5), Healing())[0].id == gap_events(many(9), Healing())[0].id


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ((None, "TRADING"), Kind.LISTED, "spot BTCUSDT: listed"),
        ((None, "PENDING_TRADING"), Kind.LISTED, "spot BTCUSDT: listed: PENDING_TRADING"),
        (("TRADING", GONE), Kind.DELISTED, "spot BTCUSDT: gone from the exchange's list"),
        (("TRADING", "BREAK"), Kind.STATUS, "spot BTCUSDT: TRADING -> BREAK"),
        (("", "x\n" * 30), Kind.STATUS, f"spot BTCUSDT:  -> {chr(92)}n".replace(" \\n", " x\\n")),
    ],
)
def test_a_change_of_a_symbol_is_an_event(
    change: tuple[str | None, str], kind: Kind, text: str
) -> None:
    [event] = status_events([StatusChange(START_MS, "spot", "BTCUSDT", *change)])
    assert event.kind is kind
    assert event.text.startswith(text)
    assert "\n" not in event.text


def test_many_new_symbols_are_one_event() -> None:
    names = ["<script>", "币安人生USDT", *(f"A{n}USDT" for n in range(8))]
    changes = [StatusChange(START_MS, "spot", name, None, "TRADING") for name in names]
    [event] = status_events(changes)
    assert event.text == (
        "spot: 10 symbols listed: <script>, 币安人生USDT, A0USDT, A1USDT, A2USDT and 5 more"
    )


def test_the_universe_tells_what_came_after_the_first_list(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    file = UniverseFile.open(tmp_path)

    def see(time_ms: int, symbol: str, status: str, trade_type: str = "spot") -> None:
        file.append([Sighting(time_ms, trade_type, Listing(symbol=symbol, status=status))])

    assert status_changes(tmp_path) == []
    for symbol in ("BTCUSDT", "ETHUSDT"):
        see(START_MS, symbol, "TRADING")
    assert status_changes(tmp_path) == []
    see(START_MS + 1, "BTCUSDT", "TRADING")
    see(START_MS + 2, "BTCUSDT", "BREAK")
    see(START_MS + 3, "ETHUSDT", GONE)
    see(START_MS + 4, "ETHUSDT", "TRADING")
    see(START_MS + 5, "ETHUSD_PERP", "TRADING", "coin_futures")
    see(START_MS + 6, "NEWUSDT", "TRADING")
    assert status_changes(tmp_path) == [
        StatusChange(START_MS + 2, "spot", "BTCUSDT", "TRADING", "BREAK"),
        StatusChange(START_MS + 3, "spot", "ETHUSDT", "TRADING", GONE),
        StatusChange(START_MS + 4, "spot", "ETHUSDT", None, "TRADING"),
        StatusChange(START_MS + 6, "spot", "NEWUSDT", None, "TRADING"),
    ]


@pytest.mark.parametrize(
    ("minutes", "text"),
    [
        ((0, 5), "2024-01-31 00:00:00 to 00:05:00"),
        ((0, 1_440), "2024-01-31 00:00:00 to 2024-02-01 00:00:00"),
    ],
)
def test_a_span_names_the_day_once(minutes: tuple[int, int], text: str) -> None:
    begin, end = minutes
    assert span_text(Span(START_MS + begin * MINUTE_MS, START_MS + end * MINUTE_MS)) == text


EVENTS = st.builds(
    Event,
    id=st.text("abc", min_size=1, max_size=2),
    time_ms=st.integers(0, 5),
    kind=st.sampled_from(Kind),
    tone=st.just(Tone.INFO),
    text=st.just(""),
)


@given(
    parts=st.lists(st.lists(EVENTS)),
    limit=st.integers(1, 5),
    before_ms=st.none() | st.integers(0, 5),
)
def test_several_logs_are_one_in_order(
    parts: list[list[Event]], limit: int, before_ms: int | None
) -> None:
    found, is_truncated = newest_first(parts, limit, before_ms)
    every = [one for part in parts for one in part if before_ms is None or one.time_ms < before_ms]
    assert [one.time_ms for one in found] == sorted((one.time_ms for one in every), reverse=True)[
        :limit
    ]
    assert is_truncated is (len(every) > limit)
