"""A whole recorder with one fault after the other: health turns bad in time, and good again."""

import errno
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from kline_trio.candle import Series
from kline_trio.config import Config, StoreConfig
from kline_trio.exchange.protocol import stream_name
from kline_trio.monitor.health import Code, Thresholds, Verdict
from kline_trio.monitor.watch import Watch
from kline_trio.recorder.environment import Storage
from kline_trio.recorder.supervisor import open_recorder
from kline_trio.simulator.faults import Fault, SpanFault
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.journal.writer import Journal
from tests.builders import MINUTE_MS, SPOT, START_MS
from tests.faulty_exchange import (
    FaultyExchange,
    OmitClose,
    Refuse,
    RestFault,
    Silence,
    Stall,
    WrongTime,
)
from tests.virtual import joined

OTHER = Series("spot", "ETHUSDT", "1m")
FROM_MS, UNTIL_MS = START_MS + 2 * MINUTE_MS, START_MS + 7 * MINUTE_MS
BEGIN, END = 120.0, 420.0
"""Of each fault, in seconds from the start, at the real speed."""


@asynccontextmanager
async def watched(folder: Path, faults: Sequence[Fault]) -> AsyncIterator[tuple[Watch, Storage]]:
    """A recorder of two series whose faults begin after two minutes and end after seven."""
    exchange = FaultyExchange(start_ms=START_MS, speed=1, faults=faults)
    config = Config(streams=(SPOT, OTHER), store=StoreConfig(path=folder / "data"))
    async with joined(exchange) as environment, open_recorder(config, environment) as recorder:
        watch = Watch(recorder.statistics, Thresholds())
        async with trio.open_nursery() as beside:
            beside.start_soon(watch.run)
            yield watch, recorder._observer.storage
            beside.cancel_scope.cancel()


def verdict(watch: Watch) -> Verdict:
    return watch.latest.health.verdict


async def seconds_until(condition: Callable[[], bool], most: float) -> float:
    """How long it takes until a condition holds, looked at once a second."""
    began = trio.current_time()
    while not condition():
        assert trio.current_time() < began + most
        await trio.sleep(1)
    return trio.current_time() - began


async def turns_bad_and_good(watch: Watch, code: Code, within: float) -> str:
    """See health turn bad with a code, in time, and good again; return the words."""
    began = trio.current_time()
    await trio.sleep(BEGIN - 1)
    assert verdict(watch) is Verdict.OK, watch.latest.health
    await trio.sleep(1)

    def is_there() -> bool:
        return any(one.code is code for one in watch.latest.health.reasons)

    await seconds_until(is_there, within)
    assert verdict(watch) is Verdict.BAD
    await trio.sleep(60)
    assert verdict(watch) is Verdict.BAD
    text = next(one.text for one in watch.latest.health.reasons if one.code is code)
    await trio.sleep_until(began + END)
    # A connection may only be tried again after a minute.
    await seconds_until(lambda: verdict(watch) is Verdict.OK, 180)
    return text


def span(kind: type[SpanFault], **more: Any) -> Fault:  # noqa: ANN401
    return kind(trade_type="spot", from_ms=FROM_MS, until_ms=UNTIL_MS, **more)


async def test_a_market_that_is_silent(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with watched(tmp_path, [span(Stall, new_connections_too=True)]) as (watch, _):
        text = await turns_bad_and_good(watch, Code.NO_DATA, within=45 + 5)
    assert text.startswith("spot: no data for 1")
    assert "stalled: no data for 30 s" in text


async def test_an_exchange_that_refuses_streams_and_rest_is_in_maintenance(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    faults = [
        span(Stall, new_connections_too=True),
        span(Refuse, status=503),
        span(RestFault, status=503),
    ]
    async with watched(tmp_path, faults) as (watch, _):
        text = await turns_bad_and_good(watch, Code.MAINTENANCE, within=45 + 30)
    assert "may be a maintenance" in text


async def test_a_series_that_is_silent_while_rest_gives_nothing(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    faults = [span(Silence, stream=stream_name(SPOT)), span(RestFault, status=500)]
    # The next candle closes within a minute. Connections that lag for less than 45 s may bring it.
    async with watched(tmp_path, faults) as (watch, _):
        text = await turns_bad_and_good(watch, Code.ABSENT, within=60 + 5 + 45 + 30)
    assert text.startswith("spot BTCUSDT-1m: ")
    assert "absent for" in text


async def test_a_clock_that_is_lost(autojump_clock: trio.testing.MockClock, tmp_path: Path) -> None:
    faults = [
        span(Stall, new_connections_too=True),
        span(WrongTime, ahead_ms=400 * 24 * 60 * MINUTE_MS),
    ]
    async with watched(tmp_path, faults) as (watch, _):
        text = await turns_bad_and_good(watch, Code.CLOCK_LOST, within=45 + 30)
    assert text.startswith("spot: the exchange's time does not go on for")


async def test_a_candle_that_rest_refills_is_no_fault(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    omitted = OmitClose(trade_type="spot", stream=stream_name(SPOT), open_ms=FROM_MS)
    async with watched(tmp_path, [omitted]) as (watch, _):
        for _ in range(300):
            await trio.sleep(1)
            assert verdict(watch) is not Verdict.BAD, watch.latest.health


@disk_errors(Path("journal.sqlite"))
def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@disk_errors(Path("journal.sqlite"))
def read_only(*_: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize(
    ("broken", "words"), [(full, "No space left"), (read_only, "Read-only file system")]
)
async def test_a_disk_that_takes_nothing(
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: Callable[..., None],
    words: str,
) -> None:
    async with watched(tmp_path, []) as (watch, _):
        await trio.sleep(70)
        assert verdict(watch) is Verdict.OK
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "accept", broken)
            # The next candle closes within a minute; then it is bad at once.
            await seconds_until(lambda: verdict(watch) is Verdict.BAD, 70)
            [reason] = watch.latest.health.reasons
            assert reason.code is Code.DISK_FULL
            assert words in reason.text
            await trio.sleep(120)
            assert verdict(watch) is Verdict.BAD
        await seconds_until(lambda: verdict(watch) is Verdict.OK, 60)


async def test_commits_that_do_not_end_are_beyond_its_own_help(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with watched(tmp_path, []) as (watch, storage):
        await trio.sleep(70)
        hangs = trio.Event()

        async def hang() -> None:
            async with storage.commit_door.held():
                await hangs.wait()

        async with trio.open_nursery() as other:
            other.start_soon(hang)
            await seconds_until(lambda: watch.latest.health.is_stuck, 65)
            assert verdict(watch) is Verdict.BAD
            hangs.set()
        await seconds_until(lambda: verdict(watch) is Verdict.OK, 60)
