"""The recorder as a whole, against the built-in exchange in virtual time."""

import logging
from collections.abc import Callable
from pathlib import Path

import attrs
import pandas as pd
import pytest
import trio
import trio.testing

import kline_trio
from kline_trio.candle import Candle, ReceivedCandle, Series
from kline_trio.config import Config, StoreConfig
from kline_trio.errors import DiskError, KlineTrioError, StoreInUseError
from kline_trio.exchange.protocol import stream_name
from kline_trio.recorder.environment import Environment
from kline_trio.recorder.supervisor import Recorder, open_recorder
from kline_trio.simulator.exchange import Exchange
from kline_trio.storage.paths import journal_path, lock_path
from tests.builders import COIN, MINUTE_MS, SPOT, START_MS, USDT, truth
from tests.faulty_exchange import Drop, FaultyExchange, Garbage, OmitClose, RepeatClose, Stall
from tests.virtual import joined


def config_in(folder: Path, *series: Series, merge_seconds: float = 60) -> Config:
    store = StoreConfig(path=folder / "data", merge_seconds=merge_seconds)
    return Config(streams=series or (SPOT, USDT, COIN), store=store)


def stored(folder: Path, series: Series) -> list[Candle]:
    frame = kline_trio.read(folder / "data", series.trade_type, series.symbol, series.time_interval)
    return [
        Candle(int(row[0].value // 1_000_000), *row[1:])
        for row in frame.itertuples(index=False, name=None)
    ]


async def record_for(exchange: Exchange, config: Config, seconds: float) -> None:
    async with joined(exchange) as environment, open_recorder(config, environment):
        await trio.sleep(seconds)


async def test_every_closed_candle_of_three_markets_is_stored_as_the_exchange_knows_it(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS, speed=60)
    await record_for(exchange, config_in(tmp_path), seconds=60.5)
    end_ms = START_MS + 60 * MINUTE_MS
    for series in (SPOT, USDT, COIN):
        assert stored(tmp_path, series) == truth(exchange, series, START_MS, end_ms)
    names = sorted(path.name for path in (tmp_path / "data").glob("*.pqt"))
    assert names == [
        "coin_futures_BTCUSD_PERP_3m.pqt",
        "spot_BTCUSDT_1m.pqt",
        "usdt_futures_ETHUSDT_1m.pqt",
    ]


async def test_the_drain_leaves_every_candle_in_a_file_that_pandas_reads(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    await record_for(Exchange(start_ms=START_MS), config_in(tmp_path, SPOT), seconds=30)
    frame = pd.read_parquet(tmp_path / "data" / "spot_BTCUSDT_1m.pqt")
    pd.testing.assert_frame_equal(
        frame, kline_trio.read(tmp_path / "data", "spot", "BTCUSDT", "1m")
    )
    assert frame.index.name == "candle_end_time"
    assert len(frame) >= 29


async def test_a_candle_is_readable_as_soon_as_it_is_accepted_long_before_its_merge(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    config = config_in(tmp_path, SPOT, merge_seconds=100_000)
    exchange = Exchange(start_ms=START_MS)
    async with joined(exchange) as environment, open_recorder(config, environment) as recorder:
        seen: list[ReceivedCandle] = []
        async for received in recorder.candles():
            seen.append(received)
            assert stored(tmp_path, SPOT) == [received.candle for received in seen]
            if len(seen) == 5:
                break
        await trio.sleep(1)
        merged = pd.read_parquet(tmp_path / "data" / "spot_BTCUSDT_1m.pqt")
        assert 1 <= len(merged) < 5


async def test_a_series_first_candle_is_merged_at_once_and_later_ones_in_time(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    path = tmp_path / "data" / "spot_BTCUSDT_1m.pqt"
    exchange = Exchange(start_ms=START_MS, speed=1)
    config = config_in(tmp_path, SPOT, merge_seconds=90)
    async with joined(exchange) as environment, open_recorder(config, environment) as recorder:
        candles = recorder.candles()
        await anext(candles)
        await trio.sleep(1)
        assert len(pd.read_parquet(path)) == 1
        await anext(candles)
        await trio.sleep(89)
        assert len(pd.read_parquet(path)) == 1
        await trio.sleep(2)
        assert len(pd.read_parquet(path)) >= 2


async def test_faults_of_the_exchange_cost_nothing(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    stream = stream_name(SPOT)
    exchange = FaultyExchange(
        start_ms=START_MS,
        faults=[
            Drop(trade_type="spot", at_ms=START_MS + 5 * MINUTE_MS + 30_000),
            OmitClose(trade_type="spot", stream=stream, open_ms=START_MS + 8 * MINUTE_MS),
            RepeatClose(
                trade_type="spot",
                stream=stream,
                open_ms=START_MS + 10 * MINUTE_MS,
                after_ms=9_000,
            ),
            Garbage(trade_type="spot", at_ms=START_MS + 12 * MINUTE_MS + 30_000),
            Stall(
                trade_type="spot",
                from_ms=START_MS + 20 * MINUTE_MS + 30_000,
                until_ms=START_MS + 2_000 * MINUTE_MS,
            ),
        ],
    )
    await record_for(exchange, config_in(tmp_path, SPOT), seconds=90.5)
    wanted = truth(exchange, SPOT, START_MS, START_MS + 90 * MINUTE_MS)
    have = stored(tmp_path, SPOT)
    # Of the newest ones the streams may still owe some.
    assert have == wanted[: len(have)]
    assert len(have) >= 88


async def test_recording_goes_on_where_the_last_run_ended(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    for start_ms in (START_MS, START_MS + 30 * MINUTE_MS):
        exchange = Exchange(start_ms=start_ms)
        await record_for(exchange, config_in(tmp_path, SPOT), seconds=30.6)
    wanted = truth(exchange, SPOT, START_MS, START_MS + 60 * MINUTE_MS)
    assert set(stored(tmp_path, SPOT)) >= set(wanted[:29] + wanted[30:59])


async def test_an_error_of_the_body_is_raised_as_itself_and_nothing_accepted_is_lost(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    seen: list[Candle] = []

    async def body(recorder: Recorder) -> None:
        async for received in recorder.candles():
            seen.append(received.candle)
            if len(seen) == 7:
                raise LookupError("the user's own")

    async with joined(exchange) as environment:
        with pytest.raises(LookupError, match="the user's own"):
            async with open_recorder(config_in(tmp_path, SPOT), environment) as recorder:
                await body(recorder)
    assert stored(tmp_path, SPOT)[:7] == seen


@pytest.mark.parametrize("after_seconds", [0, 0.005, 0.02, 0.05, 0.5, 1.31, 2.02, 3.33, 5.005])
async def test_cancelling_at_any_stage_leaves_a_store_that_holds_all_that_was_accepted(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, after_seconds: float
) -> None:
    exchange = Exchange(start_ms=START_MS)
    seen: list[Candle] = []
    async with joined(exchange) as environment:
        with trio.move_on_after(after_seconds):
            async with open_recorder(config_in(tmp_path, SPOT), environment) as recorder:
                async for received in recorder.candles():
                    seen.append(received.candle)  # noqa: PERF401 - the deadline ends the loop
        async with open_recorder(config_in(tmp_path, SPOT), environment):
            have = stored(tmp_path, SPOT) if seen else []
    assert have[: len(seen)] == seen


async def test_a_drain_that_is_out_of_time_leaves_the_rest_in_the_journal(
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "kline_trio")
    series = tuple(Series("spot", f"{base}USDT", "1m") for base in ("BTC", "ETH", "BNB", "SOL"))
    config = config_in(tmp_path, *series, merge_seconds=1000)
    hurried = attrs.evolve(config, store=attrs.evolve(config.store, drain_seconds=0.0))
    exchange = Exchange(start_ms=START_MS)
    await record_for(exchange, hurried, seconds=20)
    assert "waiting in the journal, 4 files" in caplog.messages[-1]
    assert ", 0 waiting" not in caplog.messages[-1]
    for one in series:
        have = stored(tmp_path, one)
        assert have == truth(exchange, one, START_MS, START_MS + 20 * MINUTE_MS)[: len(have)]
        assert len(have) >= 19


async def test_a_store_in_use_is_refused_and_its_holder_unharmed(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    config = config_in(tmp_path, SPOT)
    async with joined(exchange) as environment, open_recorder(config, environment):
        with pytest.raises(StoreInUseError, match="pid"):
            async with open_recorder(config, environment):
                pytest.fail("two recorders share a store")
        await trio.sleep(10)
    assert len(stored(tmp_path, SPOT)) >= 9


async def test_a_store_that_cannot_be_made_is_said_before_any_connection(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    async with joined(Exchange(start_ms=START_MS)) as environment:

        async def dial(url: str, nth: int) -> trio.abc.Stream:
            pytest.fail("dialled")

        with pytest.raises(DiskError, match="data"):
            async with open_recorder(config_in(tmp_path), attrs.evolve(environment, dial=dial)):
                pass


async def test_the_first_and_the_last_line_say_what_there_is_to_know(
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "kline_trio")
    exchange = Exchange(start_ms=START_MS + 19_000)
    await record_for(exchange, config_in(tmp_path), seconds=60)
    starts = [line for line in caplog.messages if "first close" in line]
    (start,) = starts
    assert start.startswith(f"3 series in 3 markets -> {tmp_path / 'data'}; first close in ")
    assert 30 <= float(start.split()[-2]) <= 41
    assert "Recorded spot BTCUSDT-1m at 2024-06-30 15:01:00+00:00" in caplog.messages
    assert caplog.messages[-1].startswith("stopped: 1")
    assert caplog.messages[-1].endswith(" recorded, 0 waiting in the journal, 3 files")


async def test_an_unknown_symbol_is_named_and_the_rest_is_recorded(
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    misspelt = Series("spot", "BTCUSTD", "1m")
    exchange = Exchange(start_ms=START_MS)
    await record_for(exchange, config_in(tmp_path, SPOT, misspelt), seconds=60)
    assert "spot: no symbol BTCUSTD (did you mean BTCUSDT?)" in caplog.messages
    assert any(
        "silent" in line and "btcustd@kline_1m" in line and "btcusdt" not in line
        for line in caplog.messages
    )
    assert len(stored(tmp_path, SPOT)) >= 58


async def test_a_reader_that_is_behind_loses_its_oldest_copies_and_never_the_store_s(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    config = config_in(tmp_path, SPOT)
    async with joined(exchange) as environment, open_recorder(config, environment) as recorder:
        candles = recorder.candles(waiting=3)
        await trio.sleep(20)
    seen = [received.candle async for received in candles]
    assert len(seen) == 3
    have = stored(tmp_path, SPOT)
    assert have[-3:] == seen
    assert candles.lost == len(have) - 3


@pytest.mark.parametrize(
    ("place", "kind"), [(journal_path, DiskError), (lock_path, StoreInUseError)]
)
@pytest.mark.parametrize("is_busy", [True, False])
async def test_a_recorder_whose_files_are_taken_away_ends(
    place: Callable[[Path], Path],
    kind: type[KlineTrioError],
    *,
    is_busy: bool,
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
) -> None:
    """At the next commit, or within ten seconds; and what was recorded is there."""
    exchange = Exchange(start_ms=START_MS)
    config = config_in(tmp_path, SPOT if is_busy else attrs.evolve(SPOT, time_interval="1M"))
    recorded = 0

    async def record(environment: Environment) -> None:
        nonlocal recorded
        async with open_recorder(config, environment):
            await trio.sleep(20)
            recorded = len(stored(tmp_path, SPOT)) if is_busy else 0
            place(tmp_path / "data").unlink()
            await trio.sleep_forever()

    async with joined(exchange) as environment:
        with trio.fail_after(40), pytest.raises(kind, match="while the recorder h"):
            await record(environment)
    if is_busy:
        assert recorded > 5
        assert len(stored(tmp_path, SPOT)) >= recorded
