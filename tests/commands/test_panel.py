"""The panel at the bottom of a terminal, as text."""

import io

import attrs
import pytest
from rich.console import Console

from kline_trio.commands.panel import Panel
from kline_trio.monitor.watch import Observation
from tests.monitor.observations import (
    connection,
    late,
    listener,
    market,
    observation,
    process,
    store,
)


def drawn(panel: Panel, found: Observation, width: int = 80) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(panel.draw(found))
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_it_shows_verdict_space_and_each_market() -> None:
    found = observation(markets=(market(), market(trade_type="usdt_futures", series=2_500)))
    first, head, spot, usdt = drawn(Panel(), found)
    assert first.split() == ["ok", "up", "8", "min", "84", "GB", "free"]
    assert head.split()[:4] == ["market", "series", "conn", "candles/min"]
    assert head.split()[4:] == ["lag", "absent", "pending", "refilled"]
    assert spot.split() == ["spot", "2", "1/1", "-", "-", "0", "0", "0"]
    assert usdt.split() == ["usdt_futures", "2,500", "1/1", "-", "-", "0", "0", "0"]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    found = observation(
        markets=(market(pending=123_456, absent={"refused": 9_999_999}),),
        late=(late(seconds=1_000_000.0),),
        store=store(days_left=2.0),
    )
    lines = drawn(Panel(), found, width)
    assert max(map(len, lines)) <= width
    assert len(lines) <= 12


def test_rates_are_those_of_the_last_minute() -> None:
    panel = Panel()
    for seconds in range(0, 130, 10):
        found = observation(
            process=process(uptime_seconds=float(seconds)),
            markets=(market(received=seconds // 10 * 7),),
        )
        *_, spot = drawn(panel, found)
    assert spot.split()[3] == "42"


def test_a_long_backfill_has_a_bar_with_rate_and_time_left() -> None:
    panel = Panel()
    for seconds in range(20):
        done = 500 * seconds
        found = observation(
            process=process(uptime_seconds=float(seconds)),
            markets=(market(pending=100_000 - done, refilled={"archive": done}),),
        )
        *_, bar = drawn(panel, found)
    assert bar.startswith("filling in")
    assert bar.endswith("9 % 90,500 absent, 500 a second, 3 min left")
    found = observation(markets=(market(pending=0),), process=process(uptime_seconds=30.0))
    assert "filling in" not in drawn(panel, found)[-1]


def test_what_is_wrong_stands_below_the_worst_first() -> None:
    found = observation(late=(late(),), store=store(days_left=2.0))
    first, *_, worst, other = drawn(Panel(), found)
    assert first.startswith(" bad")
    assert worst == "spot BTCUSDT-1m: 3 candles absent for 6 min"
    assert other.startswith("store: 84.0 GB free, for 2.0 days")


def test_many_reasons_leave_room_for_the_log() -> None:
    series = [late(attrs.evolve(late().series, symbol=f"A{number}USDT")) for number in range(9)]
    lines = drawn(Panel(), observation(late=tuple(series)))
    assert lines[-1] == "and 5 more"


def test_a_simulated_recorder_says_so() -> None:
    found = attrs.evolve(observation(), is_simulated=True)
    assert "SIMULATED" in drawn(Panel(), found)[0]


def test_a_market_without_a_delivering_connection_shows_that() -> None:
    found = observation(markets=(market(listener=listener(connection(is_delivering=False))),))
    assert drawn(Panel(), found)[2].split()[2] == "0/1"
