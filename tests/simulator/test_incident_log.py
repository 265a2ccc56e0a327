"""The account of what went wrong, and its bound."""

from kline_trio.simulator.incident_log import Incident, IncidentLog


def thing(number: int) -> Incident:
    return Incident(fault="Stall", trade_type="spot", from_ms=number, until_ms=number)


def test_each_thing_is_told_once_in_its_order() -> None:
    """However many connections it hits."""
    log = IncidentLog()
    for number in (2, 1, 2):
        log.add(thing(number))
    assert log.incidents == (thing(2), thing(1))
    assert log.counts == {"Stall": 2}


def test_the_oldest_are_forgotten_and_still_counted() -> None:
    """So that years of faults take no more room than a day of them."""
    log = IncidentLog(most=3)
    for number in range(10):
        log.add(thing(number))
    assert log.incidents == (thing(7), thing(8), thing(9))
    assert log.counts == {"Stall": 10}
