"""Real days with gaps: each ends complete, or with what is absent explained."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
import trio.testing

import kline_trio
from kline_trio.candle import Series, Source
from kline_trio.commands.backfill import fill
from kline_trio.config import (
    CompletenessConfig,
    Config,
    ConnectionConfig,
    HistoryConfig,
    StoreConfig,
)
from kline_trio.recorder.supervisor import open_recorder
from kline_trio.simulator import Replay
from kline_trio.simulator.exchange import Exchange
from kline_trio.simulator.faults import Drop, Fault, OmitClose, RestFault, Silence, Stall
from kline_trio.storage.journal.ledger import Gap, Reason, State
from kline_trio.storage.journal.reader import journal_view
from tests.end_to_end.expected import archive_truth
from tests.faulty_exchange import FaultyExchange
from tests.virtual import joined

DATA = Path(__file__).resolve().parents[2] / "../shared/data/klines/spot"
MINUTE_MS = 60_000


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000)


def real_files(symbol: str, days: Sequence[str]) -> list[Path]:
    files = [DATA / f"{symbol}-1m-{day}.zip" for day in days]
    for file in files:
        if not file.exists():
            pytest.skip(f"REAL DATA ABSENT: {file.name}")
    return files


def rest_rows(folder: Path, symbol: str, first_ms: int, count: int) -> Path:
    """What REST has and the archive lacks: made up, as nobody kept it."""
    rows = [
        [at, "20.5", "21.0", "20.0", "20.7", "100.5", at + 59_999, "2080.1", 162, "50", "1030", "0"]
        for at in range(first_ms, first_ms + (count + 1) * MINUTE_MS, MINUTE_MS)
    ]
    # The last row of a REST answer is still forming, and is left out.
    file = folder / "spot" / f"rest-{symbol}-1m-2023-01-01.json"
    file.parent.mkdir()
    file.write_text(json.dumps(rows))
    return file


async def filled(folder: Path, exchange: Exchange, symbol: str, since: str, until: str) -> None:
    config = Config(
        streams=(Series("spot", symbol, "1m"),),
        store=StoreConfig(path=folder / "data"),
        completeness=CompletenessConfig(attempts=3, attempt_seconds=1.0),
        history=HistoryConfig(since=datetime.fromisoformat(since).replace(tzinfo=UTC)),
    )
    async with joined(exchange) as environment:
        await fill(config, ms(until), environment)


def ledger(folder: Path, until: str) -> list[Gap]:
    with journal_view(folder / "data") as journal:
        return [one for one in journal.gaps() if one.span.to_ms <= ms(until)]


async def test_the_outage_of_2023_03_24(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """80 minutes that nobody has, after 72 flat ones that are candles like any other."""
    days = [f"2023-03-{day}" for day in (22, 23, 24, 25, 26)]
    files = real_files("BTCUSDT", days)
    exchange = FaultyExchange(
        start_ms=ms("2023-04-01T12:00"), speed=1, past=Replay.from_files(files), archive_files=files
    )
    # The last day is there only to tell the time: no frames come, and nothing is newer.
    await filled(tmp_path, exchange, "BTCUSDT", "2023-03-22", "2023-03-26")
    [outage] = [one for one in ledger(tmp_path, "2023-03-26") if one.state is not State.FILLED]
    assert (outage.span.from_ms, outage.span.to_ms) == (
        ms("2023-03-24T12:40"), ms("2023-03-24T14:00"),
    )  # fmt: skip
    assert (outage.reason, outage.state) == (Reason.EXCHANGE_HAD_NONE, State.CLOSED)
    frame = kline_trio.read(tmp_path / "data", "spot", "BTCUSDT", "1m", index="begin")
    assert len(frame) == 4 * 1_440 - 80
    flat = frame.loc["2023-03-24 11:28":"2023-03-24 12:39"]
    assert len(flat) == 72
    assert (flat["trade_num"] == 0).all()
    with pytest.raises(kline_trio.KlineTrioError, match=r"80 candles .*the exchange had none"):
        kline_trio.read(tmp_path / "data", "spot", "BTCUSDT", "1m", missing="raise")


@pytest.mark.parametrize("troubled", [False, True])
async def test_the_minute_that_the_archive_of_solusdt_lacks(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, troubled: bool
) -> None:
    files = real_files("SOLUSDT", [f"2023-02-{day}" for day in (13, 14, 15, 16)])
    lacked_ms = ms("2023-02-14T16:39")
    past = Replay.from_files([*files, rest_rows(tmp_path, "SOLUSDT", lacked_ms, 1)])
    start_ms = ms("2023-02-20T12:00")
    faults = [
        RestFault(
            trade_type="spot",
            from_ms=start_ms + 1_000 * number,
            until_ms=start_ms + 1_000 * number + 700,
            status=status,
        )
        for number, status in enumerate((500, 503, 429, 200, 500) * troubled)
    ]
    exchange = FaultyExchange(
        start_ms=start_ms, speed=1, past=past, archive_files=files, faults=faults
    )
    await filled(tmp_path, exchange, "SOLUSDT", "2023-02-13", "2023-02-17")
    [lacked] = [one for one in ledger(tmp_path, "2023-02-17") if one.span.from_ms == lacked_ms]
    assert (lacked.reason, lacked.filled_by) == (Reason.ARCHIVE_LACKS, Source.REST)
    assert lacked.span.to_ms == lacked_ms + MINUTE_MS
    frame = kline_trio.read(
        tmp_path / "data", "spot", "SOLUSDT", "1m", "2023-02-13", "2023-02-17", missing="raise"
    )
    assert len(frame) == 4 * 1_440
    assert frame.loc["2023-02-14 16:40:00+00:00", "trade_num"] == 162


async def test_a_daily_file_that_holds_230_rows_is_completed(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    files = real_files("ARBUSDT", [f"2023-07-{day}" for day in (26, 27, 28)])
    whole = Replay.from_files(files)
    have = {frame.closes_ms for frame in whole.frames if frame.closes_ms is not None}
    day = range(ms("2023-07-27"), ms("2023-07-28"), MINUTE_MS)
    lacking = [at for at in day if at not in have]
    assert len(lacking) == 1_210
    rest = rest_rows(tmp_path, "ARBUSDT", lacking[0], len(lacking))
    exchange = FaultyExchange(
        start_ms=ms("2023-07-31T12:00"),
        speed=1,
        past=Replay.from_files([rest, *files]),
        archive_files=files,
    )
    await filled(tmp_path, exchange, "ARBUSDT", "2023-07-26", "2023-07-29")
    frame = kline_trio.read(
        tmp_path / "data", "spot", "ARBUSDT", "1m", "2023-07-26", "2023-07-29", missing="raise"
    )
    assert len(frame) == 3 * 1_440
    by_rest = [one for one in ledger(tmp_path, "2023-07-29") if one.filled_by is Source.REST]
    assert sum((one.span.to_ms - one.span.from_ms) // MINUTE_MS for one in by_rest) == 1_210
    assert {one.reason for one in by_rest} == {Reason.ARCHIVE_LACKS}


async def test_a_real_day_with_faults_ends_equal_and_each_reason_is_the_exchanges_own(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """The day of the outage, replayed; what happened is what the ledger says, and nothing else."""
    files = real_files("BTCUSDT", ["2023-03-24"])
    stream = "btcusdt@kline_1m"
    faults: list[Fault] = [
        OmitClose(trade_type="spot", stream=stream, open_ms=ms("2023-03-24T01:00")),
        Silence(
            trade_type="spot",
            stream=stream,
            from_ms=ms("2023-03-24T02:00"),
            until_ms=ms("2023-03-24T03:00"),
        ),
        RestFault(
            trade_type="spot",
            from_ms=ms("2023-03-24T02:10"),
            until_ms=ms("2023-03-24T02:40"),
            status=500,
        ),
        Stall(trade_type="spot", from_ms=ms("2023-03-24T05:00"), until_ms=ms("2023-03-24T06:30")),
        Drop(trade_type="spot", at_ms=ms("2023-03-24T09:00")),
    ]
    exchange = FaultyExchange(speed=600, replay=Replay.from_files(files), faults=faults)
    config = Config(
        streams=(Series("spot", "BTCUSDT", "1m"),),
        store=StoreConfig(path=tmp_path / "data"),
        connection=ConnectionConfig(stall_seconds=4.0),
        completeness=CompletenessConfig(attempts=3, attempt_seconds=1.0),
    )
    down: list[int] = []
    async with joined(exchange) as environment:
        for end in ("2023-03-24T17:00", "2023-03-25T00:00"):
            async with open_recorder(config, environment):
                while exchange.now_ms(trio.current_time()) < ms(end):
                    await trio.sleep(0.5)
                    if exchange.now_ms(trio.current_time()) >= ms("2023-03-24T23:59"):
                        # The clock stands at the end of the replay.
                        await trio.sleep(60)
                        break
                down.append(exchange.now_ms(trio.current_time()))
            await trio.sleep(3)  # half an hour there
    frame = kline_trio.read(tmp_path / "data", "spot", "BTCUSDT", "1m", index="begin")
    truth = archive_truth(files)["spot", "BTCUSDT", "1m"]
    assert [int(moment.timestamp() * 1_000) for moment in frame.index] == [row.t for row in truth]
    assert list(frame["close"]) == [float(row.c) for row in truth]
    minutes = {
        at: (one.reason, one.state)
        for one in ledger(tmp_path, "2023-03-26")
        for at in range(one.span.from_ms, one.span.to_ms, MINUTE_MS)
    }
    assert minutes[ms("2023-03-24T01:00")] == (Reason.NOT_RECEIVED, State.FILLED)
    outage = range(ms("2023-03-24T12:40"), ms("2023-03-24T14:00"), MINUTE_MS)
    for at, told in minutes.items():
        if at in outage:
            assert told == (Reason.EXCHANGE_HAD_NONE, State.CLOSED)
        elif told[0] is Reason.RECORDER_DOWN:
            assert down[0] - 2 * MINUTE_MS <= at <= down[0] + 60 * MINUTE_MS
        else:
            # Until a stall is noticed, and a new connection is made, an hour and a half passes.
            assert told == (Reason.NOT_RECEIVED, State.FILLED)
            assert (
                any(
                    one.from_ms - 2 * MINUTE_MS
                    <= at
                    <= max(one.until_ms, one.from_ms) + 90 * MINUTE_MS
                    for one in exchange.incidents
                )
                or at >= down[0]
            ), datetime.fromtimestamp(at / 1_000, UTC)
    assert {at for at, told in minutes.items() if told[1] is State.CLOSED} == set(outage)
