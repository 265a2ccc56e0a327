"""What an exchange can do to a recorder, over real sockets: it goes on, and stores only truth."""

import re
import signal
from collections.abc import Callable

import pandas as pd
import pytest

from tests.end_to_end.expected import ETH, SPOT, USDT, Key, expected_frame, stored_frame
from tests.end_to_end.harness import Program, Recorder, StandIn


def record_two_more(program: Program, *keys: Key) -> None:
    """Wait until two more candles of each series were recorded."""
    for trade_type, symbol, interval in keys:
        line = f"Recorded {trade_type} {symbol}-{interval}"
        program.wait_for(line, times=program.count(line) + 2)


def assert_only_truth_is_stored(exchange: StandIn, ours: Recorder, *keys: Key) -> None:
    """All that was handed over is stored, from a series' first candle to its last, and no more.

    What closed while nobody was connected was not handed over.
    """
    truth = exchange.truth()
    assert len(list(ours.store.glob("*.pqt"))) == len(keys)
    for key in keys:
        frame = stored_frame(ours.store, key)
        known = expected_frame(key[2], truth[key]).loc[frame.index[0] : frame.index[-1]]
        pd.testing.assert_frame_equal(frame, known)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("drop", "spot: lost: the connection broke; trying again"),
        ("close", "spot: lost: the exchange closed it: 1001"),
        ("stall", "spot: no data for 2 s; trying again"),
    ],
)
def test_a_connection_that_ends_or_stalls_is_replaced_and_the_other_market_unharmed(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder], what: str, words: str
) -> None:
    exchange = stand_in()
    ours = recorder(exchange, SPOT, USDT)
    ours.configure(exchange, "stall_seconds = 2")
    with ours.running() as program:
        record_two_more(program, SPOT, USDT)
        exchange.do(what)
        program.wait_for("spot: receiving 1 stream again after")
        record_two_more(program, SPOT, USDT)
        assert program.end(signal.SIGINT) == 0
    assert len([line for line in program.err if re.search(words, line)]) == 1, program.story()
    assert program.count("trying again") == 1
    assert program.count("usdt_futures: receiving") == 1
    assert_only_truth_is_stored(exchange, ours, SPOT, USDT)


def test_a_connection_that_will_be_shut_down_is_replaced_while_it_still_delivers(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    exchange = stand_in()
    ours = recorder(exchange, SPOT, USDT)
    with ours.running() as program:
        record_two_more(program, SPOT, USDT)
        exchange.do("shutdown")
        program.wait_for("spot: the exchange is about to close this connection")
        program.wait_for("spot: receiving 1 stream on another connection too")
        record_two_more(program, SPOT, USDT)
        assert program.end(signal.SIGINT) == 0
    assert program.count("trying again") == 0
    assert program.count("usdt_futures: receiving") == 1
    assert_only_truth_is_stored(exchange, ours, SPOT, USDT)


def test_garbage_is_told_once_a_reason_and_stored_never(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    exchange = stand_in()
    ours = recorder(exchange, SPOT)
    with ours.running() as program:
        for _ in range(2):
            record_two_more(program, SPOT)
            exchange.do("garbage")
        record_two_more(program, SPOT)
        assert program.end(signal.SIGINT) == 0
    told = [line for line in program.err if "passed over" in line]
    reasons = [re.sub(r".*passed over (.*?): b?['\"].*", r"\1", line) for line in told]
    assert len(set(reasons)) == len(reasons) >= 6, reasons
    assert all(line.isascii() and len(line) < 400 for line in told)
    assert program.count("trying again") == 0
    assert_only_truth_is_stored(exchange, ours, SPOT)


def test_of_a_repeated_and_revised_close_the_last_one_counts(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    exchange = stand_in()
    ours = recorder(exchange, SPOT)
    with ours.running() as program:
        record_two_more(program, SPOT)
        exchange.do("repeat")
        exchange.do("revise")
        record_two_more(program, SPOT)
        record_two_more(program, SPOT)
        assert program.end(signal.SIGINT) == 0
    assert (stored_frame(ours.store, SPOT)["volume"] == 4321).sum() == 1
    assert_only_truth_is_stored(exchange, ours, SPOT)


@pytest.mark.parametrize(
    ("status", "count", "advice"),
    [
        (429, 1, "too many attempts from this address"),
        (451, 2, "not for this location: name another host under [endpoints], or use a proxy"),
        (503, 2, "the exchange, or something before it, said no"),
    ],
)
def test_a_refusal_is_told_once_with_advice_and_tried_again(
    stand_in: Callable[..., StandIn],
    recorder: Callable[..., Recorder],
    status: int,
    count: int,
    advice: str,
) -> None:
    exchange = stand_in("--refuse", f"spot:{status}:{count}")
    ours = recorder(exchange, SPOT)
    with ours.running() as program:
        again = program.wait_for("spot: receiving 1 stream again after")
        record_two_more(program, SPOT)
        assert program.end(signal.SIGINT) == 0
    assert program.count(f"spot: refused with HTTP {status}: {advice}; trying again") == 1
    assert program.count("trying again") == 1
    if status == 429:  # asking on at once would make a ban of it
        assert float(again.split()[-2]) >= 2
    assert_only_truth_is_stored(exchange, ours, SPOT)


def test_a_ban_of_one_market_is_waited_out_and_stops_neither_the_others_nor_the_end(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    exchange = stand_in("--refuse", "spot:418:1")
    ours = recorder(exchange, SPOT, USDT)
    with ours.running() as program:
        program.wait_for("spot: refused with HTTP 418: this address is banned for a while")
        record_two_more(program, USDT)
        assert program.end(signal.SIGINT) == 0
    assert program.count("spot: receiving") == 0
    assert_only_truth_is_stored(exchange, ours, USDT)


def test_a_stream_that_was_acknowledged_and_stays_silent_is_named_once(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    exchange = stand_in()
    exchange.do("silence", stream="ethusdt@kline_1m", seconds=1e6)
    ours = recorder(exchange, SPOT, ETH)
    ours.configure(exchange, "stall_seconds = 2")
    with ours.running() as program:
        line = program.wait_for("spot: acknowledged, but silent for 2 s")
        record_two_more(program, SPOT)
        assert program.end(signal.SIGINT) == 0
    assert line.endswith("2 s: ethusdt@kline_1m (no such symbol, or no trades)")
    assert program.count("but silent") == 1
    assert program.count("trying again") == 0
    # What the stream does not tell comes over REST.
    assert_only_truth_is_stored(exchange, ours, SPOT, ETH)


@pytest.mark.parametrize("mode", ["garbage", "500", "429"])
def test_broken_rest_does_not_stop_recording(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder], mode: str
) -> None:
    exchange = stand_in("--rest", mode)
    ours = recorder(exchange, SPOT)
    with ours.running() as program:
        record_two_more(program, SPOT)
        assert program.end(signal.SIGINT) == 0
    assert program.count("spot: REST gives no answer") == 1
    assert program.count(f"1 series in 1 market -> {ours.store}") == 1
    assert_only_truth_is_stored(exchange, ours, SPOT)


def test_an_unknown_symbol_is_named_and_the_rest_records_on(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    exchange = stand_in()
    ours = recorder(exchange, SPOT, ("spot", "BTCUSDTT", "1m"))
    with ours.running() as program:
        program.wait_for("spot: no symbol BTCUSDTT (did you mean BTCUSDT?)")
        record_two_more(program, SPOT)
        assert program.end(signal.SIGINT) == 0
    assert_only_truth_is_stored(exchange, ours, SPOT)
