"""Each due candle is stored or in the ledger, against the built-in exchange in virtual time."""

import re
import zipfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import attrs
import httpx2
import pytest
import trio
import trio.testing

from kline_trio.candle import Candle, Series, Source
from kline_trio.commands.backfill import fill
from kline_trio.config import CompletenessConfig, Config, HistoryConfig, StoreConfig
from kline_trio.exchange.protocol import stream_name
from kline_trio.interval import Span
from kline_trio.recorder.supervisor import open_recorder
from kline_trio.simulator.exchange import Exchange
from kline_trio.storage.catalog import stored_table
from kline_trio.storage.journal.ledger import Gap, Reason, State
from kline_trio.storage.journal.pruned import Pruned
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.layout import Layout
from kline_trio.storage.step import Step
from kline_trio.storage.table import candles_of
from tests.builders import COIN, MINUTE_MS, SPOT, START_MS, USDT, minute, truth
from tests.faulty_exchange import (
    ArchiveHole,
    BadChecksum,
    Delisting,
    Drop,
    Fault,
    FaultyExchange,
    OmitClose,
    Outage,
    QuietStretch,
    RestFault,
    Silence,
    Stall,
)
from tests.recorder.test_supervisor import stored
from tests.storage.support import ADDRESS, open_store
from tests.virtual import Transport, joined

ALL = (SPOT, USDT, COIN)


def config_in(folder: Path, *series: Series) -> Config:
    return Config(
        streams=series or ALL,
        store=StoreConfig(path=folder / "data"),
        # The exchange runs 60 times faster: an hour passes in a minute of ours.
        completeness=CompletenessConfig(attempts=3, attempt_seconds=2.0),
    )


async def record_for(exchange: Exchange, config: Config, seconds: float, seed: int = 0) -> None:
    async with joined(exchange, seed=seed) as environment, open_recorder(config, environment):
        await trio.sleep(seconds)


def ledger(folder: Path, series: Series) -> list[Gap]:
    with journal_view(folder / "data") as journal:
        return [one for one in journal.gaps() if one.series == series]


def minutes_of(absences: list[Gap]) -> list[tuple[float, float]]:
    return [
        ((one.span.from_ms - START_MS) / MINUTE_MS, (one.span.to_ms - START_MS) / MINUTE_MS)
        for one in absences
    ]


def assert_complete(
    folder: Path, exchange: Exchange, series: Series, from_ms: int, to_ms: int
) -> list[Candle]:
    have = stored(folder, series)
    assert [one for one in have if one.open_time_ms < to_ms] == truth(
        exchange, series, from_ms, to_ms
    )
    return have


@attrs.define
class _Misleading(Transport):
    """Gives a wrong time first."""

    lies: int = 1

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/time") and self.lies:
            self.lies -= 1
            ten_hours_later = self.exchange.now_ms(trio.current_time()) + 36_000_000
            return httpx2.Response(200, json={"serverTime": ten_hours_later})
        return await super().handle_async_request(request)


async def test_one_wrong_answer_about_the_time_makes_nothing_due_early(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    async with joined(exchange) as environment:
        misled = attrs.evolve(environment, http_transport=_Misleading(exchange))
        async with open_recorder(config_in(tmp_path, SPOT), misled):
            await trio.sleep(30)
    assert_complete(tmp_path, exchange, SPOT, START_MS, minute(28))
    assert ledger(tmp_path, SPOT) == []


async def test_whatever_the_streams_do_the_store_has_it_all(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """Dropped, stalled, silent and omitted closes come over REST."""
    faults: list[Fault] = []
    for series in ALL:
        name = series.trade_type
        faults += [
            Drop(trade_type=name, at_ms=minute(5.5)),
            OmitClose(trade_type=name, stream=stream_name(series), open_ms=minute(9)),
            Silence(
                trade_type=name, stream=stream_name(series), from_ms=minute(15), until_ms=minute(40)
            ),
            Stall(trade_type=name, from_ms=minute(60), until_ms=minute(100)),
        ]
    exchange = Exchange(start_ms=START_MS, faults=faults)
    await record_for(exchange, config_in(tmp_path), 140)
    for series in ALL:
        assert_complete(tmp_path, exchange, series, START_MS, minute(130))
        rows = ledger(tmp_path, series)
        assert {one.reason for one in rows} == {Reason.NOT_RECEIVED}
        assert {one.state for one in rows if one.span.to_ms < minute(130)} == {State.FILLED}
        by_rest = [one.span for one in rows if one.filled_by is Source.REST]
        assert any(span.from_ms <= minute(9) < span.to_ms for span in by_rest)


async def test_what_rest_refuses_is_asked_for_again(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    faults: list[Fault] = [Stall(trade_type="spot", from_ms=minute(10), until_ms=minute(50))]
    for number, status in enumerate((429, 500, 503, 200, 418)):
        faults.append(
            RestFault(
                trade_type="spot",
                from_ms=minute(12 + 8 * number),
                until_ms=minute(18 + 8 * number),
                status=status,
            )
        )
    exchange = Exchange(start_ms=START_MS, faults=faults)
    await record_for(exchange, config_in(tmp_path, SPOT), 600)
    assert_complete(tmp_path, exchange, SPOT, START_MS, minute(590))


async def test_an_outage_is_in_the_ledger_as_what_the_exchange_had_none_of(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    outage = Outage(trade_type="spot", from_ms=minute(20), until_ms=minute(100))
    exchange = Exchange(start_ms=START_MS, faults=[outage])
    await record_for(exchange, config_in(tmp_path, SPOT), 180)
    closed = [one for one in ledger(tmp_path, SPOT) if one.state is State.CLOSED]
    assert minutes_of(closed) == [(20, 100)]
    assert closed[0].reason is Reason.EXCHANGE_HAD_NONE
    assert closed[0].asked == 3
    have = {(one.open_time_ms - START_MS) // MINUTE_MS for one in stored(tmp_path, SPOT)}
    assert have >= {*range(20), *range(100, 170)}
    assert not have & set(range(20, 100))


async def test_what_closed_while_the_recorder_was_down_is_fetched_at_the_next_start(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    for start in (0, 90):
        exchange = Exchange(start_ms=minute(start))
        await record_for(exchange, config_in(tmp_path), 30.5)
    for series in ALL:
        assert_complete(tmp_path, exchange, series, START_MS, minute(117))
        down = [one for one in ledger(tmp_path, series) if one.reason is Reason.RECORDER_DOWN]
        assert {one.state for one in down} == {State.FILLED}
        assert {one.filled_by for one in down} == {Source.REST}
        assert sum(series.interval.count(one.span) for one in down) >= 59 * 60_000 / (
            series.interval.duration_ms or 1
        )


async def test_a_series_that_was_not_configured_for_a_while(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    for start, wanted in ((0, (SPOT, USDT)), (30, (USDT,)), (60, (SPOT, USDT))):
        exchange = Exchange(start_ms=minute(start))
        await record_for(exchange, config_in(tmp_path, *wanted), 29.5)
    assert_complete(tmp_path, exchange, SPOT, START_MS, minute(86))
    reasons = {
        (one.span.from_ms - START_MS) // MINUTE_MS: one.reason for one in ledger(tmp_path, SPOT)
    }
    assert Reason.NOT_CONFIGURED in reasons.values()
    assert any(
        one.reason is Reason.NOT_CONFIGURED and one.span.to_ms == minute(60)
        for one in ledger(tmp_path, SPOT)
    )


async def test_history_is_fetched_back_to_the_listing(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """What is older than the first candle is closed, and not asked for page by page."""
    listed = Outage(trade_type="spot", from_ms=0, until_ms=minute(-3_000))
    exchange = FaultyExchange(start_ms=START_MS, faults=[listed])
    since = minute(-60 * 24 * 365)
    history = HistoryConfig(since=datetime.fromtimestamp(since / 1_000, UTC))
    config = attrs.evolve(config_in(tmp_path, SPOT), history=history)
    await record_for(exchange, config, 60)
    assert_complete(tmp_path, exchange, SPOT, minute(-3_000), minute(50))
    rows = ledger(tmp_path, SPOT)
    assert [one.span for one in rows if one.reason is Reason.NOT_LISTED] == [
        Span(since, minute(-3_000))
    ]
    assert all(one.state is not State.PENDING for one in rows if one.span.to_ms < minute(50))


async def test_a_symbol_that_the_exchange_does_not_know_is_refused_and_named(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    unknown = Series("spot", "NOSUCHUSDX", "1m")
    exchange = Exchange(start_ms=START_MS)
    await record_for(exchange, config_in(tmp_path, SPOT, unknown), 40)
    assert_complete(tmp_path, exchange, SPOT, START_MS, minute(30))
    assert {one.reason for one in ledger(tmp_path, unknown) if one.state is State.CLOSED} == {
        Reason.REFUSED
    }


async def test_a_damaged_file_is_absent_again_and_comes_back(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    await record_for(exchange, config_in(tmp_path, SPOT), 30.5)
    file = tmp_path / "data" / "spot_BTCUSDT_1m.pqt"
    file.write_bytes(file.read_bytes()[:-100])
    exchange = Exchange(start_ms=minute(31))
    await record_for(exchange, config_in(tmp_path, SPOT), 60)
    assert_complete(tmp_path, exchange, SPOT, START_MS, minute(85))
    [lost, *_] = ledger(tmp_path, SPOT)
    assert (lost.reason, lost.filled_by) == (Reason.LOST_FROM_FILE, Source.REST)
    assert list((tmp_path / "data" / ".kline_trio" / "quarantine").glob("*/*.pqt"))


async def test_a_file_that_is_damaged_while_recording_comes_back_too(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    config = config_in(tmp_path, SPOT)
    config = attrs.evolve(
        config, store=attrs.evolve(config.store, merge_seconds=20, max_merge_seconds=20)
    )
    async with joined(exchange) as environment, open_recorder(config, environment):
        await trio.sleep(50)
        file = tmp_path / "data" / "spot_BTCUSDT_1m.pqt"
        file.write_bytes(file.read_bytes()[:-100])
        await trio.sleep(100)
    assert_complete(tmp_path, exchange, SPOT, START_MS, minute(140))


async def test_a_pruned_month_is_never_asked_for_again(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """Here the month is a day. The kill came after its file was removed, and still listed."""
    since = minute(-60 * 20)
    history = HistoryConfig(since=datetime.fromtimestamp(since / 1_000, UTC))
    config = attrs.evolve(config_in(tmp_path, SPOT), history=history)
    layout = "{trade_type}_{symbol}_{time_interval}/{date}.parquet"
    config = attrs.evolve(config, store=attrs.evolve(config.store, layout=Layout(layout)))
    exchange = Exchange(start_ms=START_MS)
    await record_for(exchange, config, 30.5)
    day = Span(minute(-60 * 39), minute(-60 * 15))
    pruned = Pruned(SPOT, day, "lake-1", 1, 300, "c0ffee", START_MS)
    store = open_store(tmp_path / "data", layout)
    store.journal.keep_pruned([pruned], {"lake-1": ADDRESS})
    store.close()
    (tmp_path / "data" / "spot_BTCUSDT_1m" / "2024-06-29.parquet").unlink()
    before = [one for one in ledger(tmp_path, SPOT) if one.span.common_with(day)]
    assert before
    requests: list[str] = []

    @attrs.define
    class Watched(Transport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            requests.append(str(request.url))
            return await super().handle_async_request(request)

    exchange = Exchange(start_ms=minute(31))
    async with joined(exchange) as environment:
        environment = attrs.evolve(environment, http_transport=Watched(exchange))
        async with open_recorder(config, environment):
            await trio.sleep(60)
    assert requests
    times = re.findall(r"(?:start|end)Time=(\d+)", " ".join(requests))
    assert min(map(int, times)) >= day.to_ms
    assert [one for one in ledger(tmp_path, SPOT) if one.span.common_with(day)] == before
    table = stored_table(tmp_path / "data", SPOT, end_ms=minute(80))
    assert table is not None
    assert candles_of(table) == truth(exchange, SPOT, day.to_ms, minute(80))


async def test_the_long_past_comes_from_the_archive_and_what_it_lacks_from_rest(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    hole = ArchiveHole(
        trade_type="spot", symbol="BTCUSDT", from_ms=minute(-9_000), until_ms=minute(-8_995)
    )
    outage = Outage(trade_type="spot", from_ms=minute(-7_000), until_ms=minute(-6_920))
    # 2024-06-26: a file whose checksum is wrong is fetched once more, and then REST is asked.
    bad = BadChecksum(trade_type="spot", name="BTCUSDT-1m-2024-06-26")
    exchange = FaultyExchange(start_ms=START_MS, faults=[hole, outage, bad])
    since = minute(-60 * 24 * 12)
    history = HistoryConfig(since=datetime.fromtimestamp(since / 1_000, UTC))
    config = attrs.evolve(config_in(tmp_path, SPOT), history=history)
    await record_for(exchange, config, 60)
    have = [one for one in stored(tmp_path, SPOT) if one.open_time_ms < minute(50)]
    out = range(minute(-7_000), minute(-6_920))
    assert have == [
        one for one in truth(exchange, SPOT, since, minute(50)) if one.open_time_ms not in out
    ]
    rows = ledger(tmp_path, SPOT)
    by_archive = [one for one in rows if one.filled_by is Source.ARCHIVE]
    # June 18 15:00 to June 28, less the day whose file is bad, the hole and the outage.
    assert sum(SPOT.interval.count(one.span) for one in by_archive) == 13_500 - 1_440 - 5 - 80
    [lacked] = [one for one in rows if one.span == Span(minute(-9_000), minute(-8_995))]
    assert (lacked.reason, lacked.filled_by) == (Reason.ARCHIVE_LACKS, Source.REST)
    [none] = [one for one in rows if one.state is State.CLOSED]
    assert none.span == Span(minute(-7_000), minute(-6_920))
    assert none.reason is Reason.EXCHANGE_HAD_NONE
    day = Span(1_719_360_000_000, 1_719_446_400_000)
    refused = [one for one in rows if one.span.common_with(day)]
    assert {(one.reason, one.filled_by) for one in refused} == {(Reason.ARCHIVE_LACKS, Source.REST)}


@attrs.define
class Counting(Transport):
    """Keeps how often each file of the archive was asked for."""

    files: Counter[str] = attrs.field(factory=Counter)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.files[request.url.path] += request.url.path.endswith(".zip")
        return await super().handle_async_request(request)


async def test_a_file_without_a_single_trade_is_not_believed(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """As USD-M's of 2025-01-29, of which REST has the trades (binance-public-data#395)."""
    day = Span(1_719_360_000_000, 1_719_446_400_000)  # 2024-06-26
    rows = [
        f"{ms},2,2,2,2,0,{ms + MINUTE_MS - 1},0,0,0,0,0\n"
        for ms in range(day.from_ms, day.to_ms, MINUTE_MS)
    ]
    file = tmp_path / "usdt_futures" / "ETHUSDT-1m-2024-06-26.zip"
    file.parent.mkdir()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("ETHUSDT-1m-2024-06-26.csv", "".join(rows))
    exchange = FaultyExchange(start_ms=START_MS, archive_files=[file])
    since = minute(-60 * 24 * 8)
    history = HistoryConfig(since=datetime.fromtimestamp(since / 1_000, UTC))
    config = attrs.evolve(config_in(tmp_path, USDT), history=history)
    async with joined(exchange) as environment:
        await fill(config, environment=environment)
    assert_complete(tmp_path, exchange, USDT, since, START_MS - 180_000)
    mine = [one for one in ledger(tmp_path, USDT) if one.span.common_with(day)]
    assert {(one.reason, one.filled_by) for one in mine} == {(Reason.ARCHIVE_QUIET, Source.REST)}


QUIET_DAY_MS = 1_719_360_000_000  # 2024-06-26
QUIET = [
    QuietStretch(
        trade_type="usdt_futures",
        symbol="ETHUSDT",
        from_ms=QUIET_DAY_MS + begin * MINUTE_MS,
        until_ms=QUIET_DAY_MS + end * MINUTE_MS,
    )
    for begin, end in ((1_130, 1_143), (1_200, 1_204), (1_300, 1_600))
]
"""The first two are as long as those of 2025-01-29; the last one goes into the next file."""
QUIET_SPANS = [Span(one.from_ms, one.until_ms) for one in QUIET]


@attrs.define
class Pages(Transport):
    """Keeps which candles REST was asked for, and may refuse to give any."""

    is_refusing: bool = False
    asked: list[Span] = attrs.field(factory=list)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        query = request.url.params
        if request.url.path.endswith("/klines") and "startTime" in query:
            if int(query["startTime"]):
                self.asked.append(Span(int(query["startTime"]), int(query["endTime"])))
            if self.is_refusing:
                body = b'{"code":-1121,"msg":"Invalid symbol."}'
                return httpx2.Response(400, stream=httpx2.ByteStream(body))
        return await super().handle_async_request(request)


async def filled_beside(folder: Path, pages: Pages, until_ms: int = START_MS) -> None:
    since = minute(-60 * 24 * 8)
    history = HistoryConfig(since=datetime.fromtimestamp(since / 1_000, UTC))
    config = attrs.evolve(config_in(folder, USDT), history=history)
    async with joined(pages.exchange) as environment:
        with trio.fail_after(300):
            await fill(
                config, until_ms, environment=attrs.evolve(environment, http_transport=pages)
            )


async def test_a_flat_stretch_in_a_file_is_asked_of_rest(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """As the 13 and the 4 minutes of USD-M's files of 2025-01-29."""
    pages = Pages(Exchange(start_ms=START_MS, faults=QUIET))
    await filled_beside(tmp_path, pages)
    assert_complete(tmp_path, pages.exchange, USDT, minute(-60 * 24 * 8), START_MS - 180_000)
    mine = [one for one in ledger(tmp_path, USDT) if one.reason is Reason.ARCHIVE_QUIET]
    assert [one.span for one in mine] == QUIET_SPANS
    assert {(one.state, one.filled_by) for one in mine} == {(State.FILLED, Source.REST)}
    [page] = [one for one in pages.asked if one.common_with(QUIET_SPANS[0])]
    assert page.common_with(QUIET_SPANS[-1]), "what fits on a page is asked for at once"
    asked = len(pages.asked)
    await filled_beside(tmp_path, pages)
    later = [one for one in pages.asked[asked:] if one.from_ms < QUIET_SPANS[-1].to_ms]
    assert later == [], "what REST confirmed is asked for no more"


async def test_where_rest_refuses_a_flat_stretch_the_archives_rows_are_taken(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """A symbol that is delisted long since: its rows are better than none."""
    pages = Pages(Exchange(start_ms=START_MS, faults=QUIET), is_refusing=True)
    until_ms = QUIET_DAY_MS + 2 * 86_400_000
    await filled_beside(tmp_path, pages, until_ms)
    mine = [one for one in ledger(tmp_path, USDT) if one.reason is Reason.ARCHIVE_ALONE]
    assert [one.span for one in mine] == QUIET_SPANS
    assert {(one.state, one.filled_by) for one in mine} == {(State.FILLED, Source.ARCHIVE)}
    have = {one.open_time_ms: one for one in stored(tmp_path, USDT)}
    out = [ms for span in QUIET_SPANS for ms in USDT.interval.open_times_ms(span)]
    assert all(have[ms].trade_num == 0 for ms in out)


@pytest.mark.parametrize("alone", [True, False])
async def test_a_file_that_is_not_in_the_archive_is_asked_for_once_and_then_rest(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, alone: bool
) -> None:
    """Found by a reader: it was asked for again at once, for ever, and REST never."""
    day = Span(1_719_360_000_000, 1_719_446_400_000)  # 2024-06-26
    hole = ArchiveHole(trade_type="spot", symbol="BTCUSDT", from_ms=day.from_ms, until_ms=day.to_ms)
    exchange = FaultyExchange(start_ms=START_MS, faults=[hole])
    since = minute(-60 * 24 * 8)
    history = HistoryConfig(since=datetime.fromtimestamp(since / 1_000, UTC))
    config = attrs.evolve(config_in(tmp_path, SPOT), history=history)
    async with joined(exchange) as environment:
        transport = Counting(exchange)
        environment = attrs.evolve(environment, http_transport=transport)
        with trio.fail_after(120):
            if alone:
                await fill(config, environment=environment)
            else:
                async with open_recorder(config, environment):
                    await trio.sleep(60)
    assert set(transport.files.values()) - {0} == {1}
    assert_complete(tmp_path, exchange, SPOT, since, START_MS - 180_000)
    mine = [one for one in ledger(tmp_path, SPOT) if one.span.common_with(day)]
    assert {(one.state, one.filled_by) for one in mine} == {(State.FILLED, Source.REST)}


async def test_a_symbol_that_is_delisted_is_told_from_an_outage(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    end = Delisting(trade_type="usdt_futures", symbol="ETHUSDT", at_ms=minute(30))
    outage = Outage(trade_type="usdt_futures", from_ms=minute(10), until_ms=minute(15))
    exchange = FaultyExchange(start_ms=START_MS, faults=[end, outage])
    await record_for(exchange, config_in(tmp_path, USDT, SPOT), 120)
    closed = [one for one in ledger(tmp_path, USDT) if one.state is State.CLOSED]
    assert minutes_of(closed)[0] == (10, 15)
    assert [one.reason for one in closed] == [Reason.EXCHANGE_HAD_NONE, Reason.DELISTED]
    assert closed[1].span.from_ms == minute(30)
    assert_complete(tmp_path, exchange, SPOT, START_MS, minute(110))


async def test_a_backfill_says_how_far_it_is_and_what_it_waits_for(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    since = minute(-60 * 24 * 3)
    history = HistoryConfig(since=datetime.fromtimestamp(since / 1_000, UTC))
    config = attrs.evolve(config_in(tmp_path, SPOT), history=history)
    steps: list[Step] = []
    async with joined(FaultyExchange(start_ms=START_MS)) as environment:
        done = await fill(config, environment=environment, on_step=steps.append)
    assert steps[0] == Step(
        "waiting for the exchange's time, to find what is absent", unit="candle"
    )
    assert steps[-1] == Step("merging the candles of the journal")
    counted = [one for one in steps if one.total is not None]
    assert counted
    assert [one.done for one in counted] == sorted(one.done for one in counted)
    assert all(one.unit == "candle" and one.done <= (one.total or 0) for one in counted)
    assert counted[-1].done <= done.filled
