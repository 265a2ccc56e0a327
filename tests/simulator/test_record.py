"""The account of what went wrong, and its bound."""

from kline_trio.simulator import Happened
from kline_trio.simulator.record import Record


def thing(number: int) -> Happened:
    return Happened(fault="Stall", trade_type="spot", from_ms=number, until_ms=number)


def test_each_thing_is_told_once_in_its_order() -> None:
    """However many connections it hits."""
    record = Record()
    for number in (2, 1, 2):
        record.add(thing(number))
    assert record.happened == (thing(2), thing(1))
    assert record.counts == {"Stall": 2}


def test_the_oldest_are_forgotten_and_still_counted() -> None:
    """So that years of faults take no more room than a day of them."""
    record = Record(most=3)
    for number in range(10):
        record.add(thing(number))
    assert record.happened == (thing(7), thing(8), thing(9))
    assert record.counts == {"Stall": 10}
