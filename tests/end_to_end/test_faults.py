"""What an exchange can do to a recorder, over real sockets: it goes on, and stores only truth."""

import signal
from collections.abc import Callable

import pandas as pd
import pytest

from tests.end_to_end.harness import Key, Program, Recorder, StandIn, expected_frame, stored_frame

SPOT: Key = ("spot", "BTCUSDT", "1m")
USDT: Key = ("usdt_futures", "ETHUSDT", "1m")


def record_all(exchange: StandIn, ours: Recorder) -> Program:
    """Record until the exchange's clock stands; then the store must hold what was handed over."""
    with ours.running() as program:
        exchange.wait_for_end()
        truth = {key: rows for key, rows in exchange.truth().items() if key in ours.streams}
        ours.wait_for_all(truth)
        assert program.end(signal.SIGINT) == 0
    for key, rows in truth.items():
        pd.testing.assert_frame_equal(stored_frame(ours.store, key), expected_frame(key[2], rows))
    return program


def at(seconds: int, what: str, **more: object) -> dict[str, object]:
    return {"at": f"+{seconds}", "do": what, "market": "spot", **more}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (at(200, "drop"), "spot: lost"),
        (at(200, "close", code=1001), "spot: "),
        (at(200, "shutdown"), ""),
    ],
    ids=["drop", "close", "shutdown"],
)
def test_a_connection_that_ends_is_replaced(
    stand_in: Callable[..., StandIn],
    recorder: Callable[..., Recorder],
    what: dict[str, object],
    words: str,
) -> None:
    exchange = stand_in("--until", "+900", script=[what])
    program = record_all(exchange, recorder(exchange, SPOT, USDT))
    told = "\n".join(program.err)
    assert words in told
    if what["do"] != "shutdown":
        assert "spot: receiving 1 stream again after" in told
    assert "usdt_futures: receiving 1 stream again" not in told


def test_a_stalled_connection_is_replaced(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    exchange = stand_in("--until", "+1200", script=[at(200, "stall")])
    ours = recorder(exchange, SPOT)
    ours.configure(exchange, "stall_seconds = 2")
    program = record_all(exchange, ours)
    assert "spot: receiving 1 stream again after" in "\n".join(program.err)


def test_garbage_is_told_once_a_reason_and_stored_never(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    script = [at(seconds, "garbage") for seconds in (200, 320)]
    exchange = stand_in("--until", "+600", script=script)
    program = record_all(exchange, recorder(exchange, SPOT))
    told = [line.partition("passed over ")[2] for line in program.err if "passed over" in line]
    assert told
    assert len(set(told)) == len(told), told
    assert "receiving 1 stream again" not in "\n".join(program.err)


def test_of_a_repeated_and_revised_close_the_last_one_counts(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    exchange = stand_in("--until", "+600", script=[at(200, "repeat"), at(260, "revise")])
    ours = recorder(exchange, SPOT)
    record_all(exchange, ours)
    assert (stored_frame(ours.store, SPOT)["volume"] == 4321).sum() == 1


@pytest.mark.parametrize(
    ("status", "advice"),
    [(451, "name another host under [endpoints]"), (503, "said no")],
)
def test_a_refusal_is_told_with_advice_and_tried_again(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder], status: int, advice: str
) -> None:
    exchange = stand_in("--until", "+1500", "--refuse", f"spot:{status}:1")
    program = record_all(exchange, recorder(exchange, SPOT))
    [line] = [line for line in program.err if "refused with" in line]
    assert f"HTTP {status}" in line
    assert advice in line


@pytest.mark.parametrize("mode", ["garbage", "500", "429"])
def test_broken_rest_does_not_stop_recording(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder], mode: str
) -> None:
    exchange = stand_in("--until", "+400", "--rest", mode)
    program = record_all(exchange, recorder(exchange, SPOT))
    assert "spot: REST gives no answer" in "\n".join(program.err)
    assert "1 series in 1 markets ->" in "\n".join(program.err)


def test_an_unknown_symbol_is_named_and_the_rest_records_on(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    exchange = stand_in("--until", "+400")
    program = record_all(exchange, recorder(exchange, SPOT, ("spot", "BTCUSDTT", "1m")))
    assert "spot: no symbol BTCUSDTT; did you mean BTCUSDT?" in "\n".join(program.err)
