"""The program records what an exchange closes: all of it, once, as it was."""

import re
import signal
from collections.abc import Callable

import pandas as pd
import pyarrow.parquet as pq
import pytest

import kline_trio
from tests.end_to_end.expected import expected_frame, stored_frame
from tests.end_to_end.harness import THREE_MARKETS, Exchange, Recorder, StandIn, wait_until

MOMENT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00"
COLUMNS = {
    "candle_begin_time": "datetime64[ms, UTC]",
    "open": "float64",
    "high": "float64",
    "low": "float64",
    "close": "float64",
    "volume": "float64",
    "quote_volume": "float64",
    "trade_num": "int64",
    "taker_buy_base_asset_volume": "float64",
    "taker_buy_quote_asset_volume": "float64",
}


def test_after_sigint_files_hold_exactly_what_the_second_exchange_knows(
    stand_in: Callable[..., StandIn], recorder: Callable[..., Recorder]
) -> None:
    exchange = stand_in("--until", "+1200")
    ours = recorder(exchange)
    with ours.running() as program:
        program.wait_for("first close")
        exchange.wait_for_end()
        truth = exchange.truth()
        ours.wait_for_all(truth)
        assert program.end(signal.SIGINT) == 0
    assert set(truth) == set(THREE_MARKETS)
    for key, rows in truth.items():
        assert len(rows) >= 3
        expected = expected_frame(key[2], rows)
        pd.testing.assert_frame_equal(stored_frame(ours.store, key), expected)
        pd.testing.assert_frame_equal(kline_trio.read(ours.store, *key), expected)
    told = "\n".join(program.err)
    assert re.search(rf"4 series in 3 markets -> {ours.store}; first close in \d+ s$", told, re.M)
    for trade_type, symbol, interval in THREE_MARKETS:
        line = rf"Recorded {trade_type} {symbol}-{interval} at {MOMENT}$"
        assert len(re.findall(line, told, re.M)) == len(truth[trade_type, symbol, interval])
    count = sum(map(len, truth.values()))
    assert program.err[-1].endswith(f"stopped: {count} recorded, 0 waiting in the journal, 4 files")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_every_close_of_three_markets_is_stored_once_as_it_was_sent(
    either: Exchange, recorder: Callable[..., Recorder], number: signal.Signals
) -> None:
    ours = recorder(either)

    def all_have(count: int) -> bool:
        frames = [ours.readable(key) for key in THREE_MARKETS]
        return all(frame is not None and len(frame) >= count for frame in frames)

    with ours.running() as program:
        wait_until(lambda: all_have(2), "two candles of every series should be readable")
        assert program.end(number) == 0
    assert len(list(ours.store.glob("*.pqt"))) == len(THREE_MARKETS)
    for key in THREE_MARKETS:
        frame = stored_frame(ours.store, key)
        assert frame.index.name == "candle_end_time"
        assert str(frame.index.dtype) == "datetime64[ms, UTC]"
        assert {name: str(kind) for name, kind in frame.dtypes.items()} == COLUMNS
        assert frame.index.is_unique
        # The exchange sent more before and after; what lies between is all there.
        known = sent(either, key, frame.index[-1])
        pd.testing.assert_frame_equal(frame, known.loc[frame.index[0] : frame.index[-1]])


def sent(exchange: Exchange, key: tuple[str, str, str], until: pd.Timestamp) -> pd.DataFrame:
    """What an exchange has sent of a series, once it is known up to a candle's end."""
    known = pd.DataFrame()

    def reached() -> bool:
        nonlocal known
        known = expected_frame(key[2], exchange.truth().get(key, []))
        return until in known.index

    wait_until(reached, f"{key} should be known up to {until}")
    return known


def test_files_say_what_they_hold(either: Exchange, recorder: Callable[..., Recorder]) -> None:
    key = ("coin_futures", "BTCUSD_PERP", "3m")
    ours = recorder(either, key)
    with ours.running() as program:
        program.wait_for("Recorded coin_futures BTCUSD_PERP-3m")
        assert program.end(signal.SIGINT) == 0
    metadata = pq.read_schema(ours.store / "coin_futures_BTCUSD_PERP_3m.pqt").metadata
    told = {name.decode(): text.decode() for name, text in metadata.items()}
    assert (told["trade_type"], told["symbol"], told["time_interval"]) == key


def test_candles_can_be_read_while_the_recorder_runs(
    either: Exchange, recorder: Callable[..., Recorder]
) -> None:
    """Files lag behind by merge_seconds, which is a minute here; reading does not."""
    key = ("spot", "BTCUSDT", "1m")
    ours = recorder(either, key)
    with ours.running() as program:
        program.wait_for("Recorded spot BTCUSDT-1m", times=3)
        path = ours.store / "spot_BTCUSDT_1m.pqt"
        wait_until(path.exists, "the first candle should be merged at once")
        rows = len(stored_frame(ours.store, key))
        wait_until(lambda: len(kline_trio.read(ours.store, *key)) > rows, "more should be readable")
        frame = kline_trio.read(ours.store, *key)
        known = sent(either, key, frame.index[-1])
        pd.testing.assert_frame_equal(frame, known.loc[frame.index])
        assert [str(one) for one in kline_trio.series(ours.store)] == ["spot BTCUSDT-1m"]


def test_a_second_run_goes_on_in_the_same_files(
    either: Exchange, recorder: Callable[..., Recorder]
) -> None:
    key = ("spot", "BTCUSDT", "1m")
    ours = recorder(either, key)
    for _ in range(2):
        with ours.running() as program:
            program.wait_for("Recorded spot BTCUSDT-1m", times=2)
            assert program.end(signal.SIGINT) == 0
    frame = stored_frame(ours.store, key)
    assert len(frame) >= 4
    assert frame.index.is_unique
    pd.testing.assert_frame_equal(frame, sent(either, key, frame.index[-1]).loc[frame.index])


def test_for_stops_by_itself(either: Exchange, recorder: Callable[..., Recorder]) -> None:
    ours = recorder(either, ("spot", "BTCUSDT", "1m"))
    with ours.running("--for", "1.5s") as program:
        assert program.end() == 0
    assert re.search(
        r"stopped: \d+ recorded, 0 waiting in the journal, [01] files?", program.err[-1]
    )


def test_tail_prints_closed_candles_as_they_come_and_stores_nothing(
    either: Exchange, recorder: Callable[..., Recorder]
) -> None:
    ours = recorder(either)
    with ours.running(command="tail") as program:
        program.wait_for("spot BTCUSDT-1m open", times=2)
        assert program.end(signal.SIGINT) == 0
    for line in program.out:
        told = re.fullmatch(rf"({MOMENT}) (\w+) (\w+)-(\w+) (open .*)", line)
        assert told, line
        end = pd.Timestamp(told[1])
        row = sent(either, (told[2], told[3], told[4]), end).loc[end]
        words = told[5].split()
        assert words[::2] == ["open", "high", "low", "close", "volume", "trades"]
        numbers = (row.open, row.high, row.low, row.close, row.volume, row.trade_num)
        assert tuple(map(float, words[1::2])) == numbers, "all digits that the exchange sent"
    assert not ours.store.exists()
