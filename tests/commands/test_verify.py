"""What is stored against what the exchange says now."""

import argparse
import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import attrs
import httpx2
import numpy as np
import pytest
import trio
import trio.testing

import kline_trio
from kline_trio.candle import Candle, Series
from kline_trio.commands.progress import Progress
from kline_trio.commands.screen import Screen
from kline_trio.commands.verify import Extent, check_against, repair, verify
from kline_trio.commands.verify_report import Checked, NotCompared, Report
from kline_trio.config import Config, EndpointConfig, StoreConfig
from kline_trio.errors import ConfigError
from kline_trio.interval import Span
from kline_trio.reading.readable import readable_store
from kline_trio.simulator.exchange import Exchange
from kline_trio.simulator.faults import QuietStretch, RestFault, WrongRows
from kline_trio.storage.catalog import stored_table
from kline_trio.storage.comparison import summed_mismatches
from kline_trio.storage.journal.pruned import Pruned
from kline_trio.storage.step import Step
from kline_trio.storage.table import candles_of
from tests.builders import COIN, DAY_MS, ETH, MINUTE_MS, SPOT, START_MS, patterns, truth
from tests.storage.support import ADDRESS, merge_all, open_store, receive
from tests.virtual import Transport, joined

NOWHERE = Progress(Screen(may_draw=False))
BEGIN_MS = START_MS - START_MS % DAY_MS - 5 * DAY_MS


def recorded(folder: Path, exchange: Exchange, *series: Series) -> Config:
    """A store of two days, 2,880 minutes, just as the exchange knows them."""
    store = open_store(folder / "data")
    for one in series:
        candles = truth(exchange, one, BEGIN_MS, BEGIN_MS + 2 * DAY_MS)
        store.journal.accept(receive(one, *candles))
    merge_all(store)
    store.close()
    return Config(streams=series, store=StoreConfig(path=folder / "data"))


def damaged(config: Config, series: Series) -> None:
    """One candle with another close, and one that the exchange does not have."""
    store = open_store(config.store.path)
    [first, *_] = truth(Exchange(start_ms=START_MS), series, BEGIN_MS, BEGIN_MS + 180_000)
    wrong = attrs.evolve(first, close=first.high, trade_num=first.trade_num + 1)
    store.journal.accept(receive(series, wrong))
    merge_all(store)
    store.close()


async def found(
    exchange: Exchange, config: Config, against: str, sample: int | None = None
) -> list[Checked]:
    async with joined(exchange) as environment:
        return await verify(config, against, lambda _: None, Extent(sample=sample), environment)


@pytest.mark.parametrize("against", ["rest", "archive"])
async def test_what_was_recorded_well_is_equal_row_for_row(
    against: str, autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    config = recorded(tmp_path, exchange, SPOT, COIN)
    all_of_it = await found(exchange, config, against)
    for series, count in ((SPOT, 2_880), (COIN, 960)):
        [mine] = [one.compared for one in all_of_it if one.series == series]
        assert sum(one.compared for one in mine) == sum(one.equal for one in mine) == count
        assert not any(one.absent_here or one.absent_there for one in mine)


@pytest.mark.parametrize("against", ["rest", "archive"])
async def test_each_difference_is_found_and_can_be_repaired(
    against: str, autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    config = recorded(tmp_path, exchange, SPOT)
    damaged(config, SPOT)
    several = await found(exchange, config, against)
    [one] = several
    [(ours, theirs)] = [pair for part in one.compared for pair in part.differing]
    [right] = truth(exchange, SPOT, BEGIN_MS, BEGIN_MS + MINUTE_MS)
    assert theirs == right
    assert ours.trade_num == right.trade_num + 1
    async with joined(exchange) as environment:
        assert await repair(config, several, environment) == 1
    [again] = await found(exchange, config, against)
    assert not any(one.differing for one in again.compared)
    store = open_store(tmp_path / "data")
    merge_all(store)
    store.close()
    told = kline_trio.revisions(tmp_path / "data")
    last = told[(told["column"] == "trade_num") & (told["origin"] == "repair")]
    assert list(last["kept"]) == ["newer"]
    assert list(last["newer"]) == [right.trade_num]


@pytest.mark.parametrize("ahead_ms", [-3 * MINUTE_MS, 3 * MINUTE_MS, -365 * DAY_MS])
async def test_an_answer_whose_rows_are_of_another_time_is_asked_for_again(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, ahead_ms: int
) -> None:
    """Moved by whole candles, its rows stand on the grid."""
    lie = WrongRows(
        trade_type="spot", from_ms=START_MS, until_ms=START_MS + 8_000, ahead_ms=ahead_ms
    )
    exchange = Exchange(start_ms=START_MS, faults=[lie])
    config = recorded(tmp_path, exchange, SPOT)
    [checked] = await found(exchange, config, "rest")
    mine = checked.compared
    assert sum(one.equal for one in mine) == 2_880
    assert not any(one.differing or one.absent_here or one.absent_there for one in mine)


@pytest.mark.parametrize("against", ["rest", "archive"])
async def test_pruned_months_are_passed_over(
    against: str,
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Here the month is a day without its first hour. Late candles of it are passed over, too."""
    exchange = Exchange(start_ms=START_MS)
    candles = truth(exchange, SPOT, BEGIN_MS, BEGIN_MS + 2 * DAY_MS)
    late = attrs.evolve(candles[100], trade_num=1_000_000)
    store = open_store(tmp_path / "data")
    store.journal.accept(receive(SPOT, *candles[:60], late, *candles[1_440:]))
    span = Span(BEGIN_MS + 60 * MINUTE_MS, BEGIN_MS + DAY_MS)
    month = Pruned(SPOT, span, "lake-1", 1, 1_380, "c0ffee", START_MS)
    store.journal.keep_pruned([month], {"lake-1": ADDRESS})
    store.close()
    config = Config(streams=(SPOT,), store=StoreConfig(path=tmp_path / "data"))
    report = Report(readable_store(config.store.path), NOWHERE)
    [one] = await found(exchange, config, against)
    report.add(one)
    assert (one.in_lake, report.differing, report.not_compared) == (1_380, 0, 0)
    assert capsys.readouterr().out == (
        "spot BTCUSDT-1m: 1,500 compared, 1,500 equal, 0 differing, 0 absent here, 0 absent there,"
        " 1,380 in the lake alone\n"
    )
    async with joined(exchange) as environment:
        assert await repair(config, [one], environment) == 0


async def test_what_is_absent_on_one_side_is_named(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    candles = truth(exchange, SPOT, BEGIN_MS, BEGIN_MS + 100 * MINUTE_MS)
    store = open_store(tmp_path / "data")
    store.journal.accept(receive(SPOT, *candles[:40], *candles[45:]))
    store.close()
    config = Config(streams=(SPOT,), store=StoreConfig(path=tmp_path / "data"))
    [one] = await found(exchange, config, "rest")
    [comparison] = one.compared
    assert list(comparison.absent_here) == candles[40:45]
    assert comparison.absent_there == ()
    async with joined(exchange) as environment:
        assert await repair(config, [one], environment) == 5
    [one] = await found(exchange, config, "rest")
    [comparison] = one.compared
    assert comparison.equal == 100


QUIET = [(300, 313), (500, 504), (1_440, 2_880)]
"""As in USD-M's files of 2025-01-29, and a day that is flat from end to end."""


def with_quiet_files() -> Exchange:
    stretches = [
        QuietStretch(
            trade_type="spot",
            symbol="BTCUSDT",
            from_ms=BEGIN_MS + begin * MINUTE_MS,
            until_ms=BEGIN_MS + end * MINUTE_MS,
        )
        for begin, end in QUIET
    ]
    return Exchange(start_ms=START_MS, faults=stretches)


async def test_candles_with_trades_are_kept_where_the_archive_is_quiet(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = with_quiet_files()
    config = recorded(tmp_path, exchange, SPOT)
    damaged(config, SPOT)
    results, _, _ = await checked(exchange, config, "archive")
    compared = results[SPOT].compared
    assert [theirs.open_time_ms for one in compared for _, theirs in one.differing] == [BEGIN_MS], (
        "what is wrong elsewhere is found"
    )
    async with joined(exchange) as environment:
        assert await repair(config, [results[SPOT]], environment) == 1
    store = open_store(tmp_path / "data")
    merge_all(store)
    store.close()
    table = stored_table(tmp_path / "data", SPOT)
    assert table is not None
    assert candles_of(table) == truth(exchange, SPOT, BEGIN_MS, BEGIN_MS + 2 * DAY_MS)
    told = {one.span: one.problem for one in results[SPOT].failures}
    assert sorted(filter(None, told)) == [
        Span(BEGIN_MS + begin * MINUTE_MS, BEGIN_MS + end * MINUTE_MS) for begin, end in QUIET
    ]
    for problem in told.values():
        assert "BTCUSDT-1m-2024-06-2" in problem
        assert "the archive is quiet" in problem
        assert "the store's candles are kept" in problem


async def test_quiet_candles_that_are_stored_alike_are_equal_and_gaps_are_not_filled_with_them(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """As those of a halt, which REST has confirmed."""
    exchange = with_quiet_files()
    right = truth(exchange, SPOT, BEGIN_MS, BEGIN_MS + 1_440 * MINUTE_MS)
    price = right[299].close
    flat = [
        Candle(one.open_time_ms, price, price, price, price, 0, 0, 0, 0, 0)
        for one in right[300:313]
    ]
    store = open_store(tmp_path / "data")
    store.journal.accept(receive(SPOT, *right[:300], *flat, *right[313:500], *right[504:]))
    merge_all(store)
    store.close()
    config = Config(streams=(SPOT,), store=StoreConfig(path=tmp_path / "data"))
    results, _, _ = await checked(exchange, config, "archive")
    assert compared(results[SPOT]) == 1_436
    assert not any(one.absent_here for one in results[SPOT].compared)
    [failure] = results[SPOT].failures
    assert failure.span == Span(BEGIN_MS + 500 * MINUTE_MS, BEGIN_MS + 504 * MINUTE_MS)


async def test_a_sample_is_a_part(autojump_clock: trio.testing.MockClock, tmp_path: Path) -> None:
    exchange = Exchange(start_ms=START_MS)
    config = recorded(tmp_path, exchange, SPOT)
    [one] = await found(exchange, config, "rest", sample=100)
    assert len(one.compared) == 1


async def test_rest_that_stumbles_is_asked_again(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    fault = RestFault(
        trade_type="spot", from_ms=START_MS + 1_000, until_ms=START_MS + 120_000, status=500
    )
    exchange = Exchange(start_ms=START_MS, faults=[fault])
    config = recorded(tmp_path, exchange, SPOT)
    [checked] = await found(exchange, config, "rest")
    assert sum(one.equal for one in checked.compared) == 2_880


@pytest.mark.parametrize("name", ["5m", "1h", "1d"])
def test_minutes_make_up_the_longer_candles(name: str, tmp_path: Path) -> None:
    exchange = Exchange(start_ms=START_MS)
    longer = Series("spot", "BTCUSDT", name)
    recorded(tmp_path, exchange, SPOT, longer)
    tables = [stored_table(tmp_path / "data", one) for one in (SPOT, longer)]
    short, long = tables
    assert short is not None
    assert long is not None
    assert list(summed_mismatches(short, SPOT.interval, long, longer)) == []
    changed = short.set_column(
        short.schema.get_field_index("volume"),
        "volume",
        [short["volume"].to_numpy() + (np.arange(short.num_rows) == 700)],
    )
    [mismatch] = summed_mismatches(changed, SPOT.interval, long, longer)
    assert mismatch.column == "volume"
    assert mismatch.summed == pytest.approx(mismatch.stored + 1)
    # A candle of which a minute is absent is not judged.
    assert list(summed_mismatches(changed.slice(701), SPOT.interval, long, longer)) == []


# One failure ends nothing but itself.


@attrs.define
class Answering(Transport):
    """Answers some requests otherwise."""

    instead: Callable[[str], httpx2.Response | None]
    """The answer to a URL; None: the exchange's own."""
    asked: list[str] = attrs.field(factory=list)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(str(request.url))
        told = self.instead(str(request.url))
        if told is not None:
            await trio.sleep(0.01)
            return told
        return await super().handle_async_request(request)


def answer(status: int, body: bytes = b"") -> httpx2.Response:
    return httpx2.Response(status, stream=httpx2.ByteStream(body))


async def checked(
    exchange: Exchange,
    config: Config,
    against: str,
    instead: Callable[[str], httpx2.Response | None] = lambda _: None,
) -> tuple[dict[Series, Checked], list[NotCompared], Answering]:
    """The result for each series, what failed of no series, and what was asked."""
    told: list[Checked | NotCompared] = []
    async with joined(exchange) as environment:
        wire = Answering(exchange, instead)
        environment = attrs.evolve(environment, http_transport=wire)
        found = await verify(config, against, told.append, environment=environment)
    results = [one for one in told if isinstance(one, Checked)]
    failed = [one for one in told if isinstance(one, NotCompared)]
    assert found == results
    return {one.series: one for one in results}, failed, wire


def compared(result: Checked) -> int:
    assert all(not one.differing for one in result.compared)
    return sum(one.equal for one in result.compared)


def zipped(text: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("one.csv", text)
    return packed.getvalue()


async def test_a_refused_symbol_ends_only_its_own_comparison(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    config = recorded(tmp_path, exchange, ETH, SPOT, COIN)

    def refused(url: str) -> httpx2.Response | None:
        return answer(400, b'{"code":-1121,"msg":"Invalid symbol."}') if "ETH" in url else None

    results, _, wire = await checked(exchange, config, "rest", refused)
    assert (compared(results[SPOT]), compared(results[COIN])) == (2_880, 960)
    assert compared(results[ETH]) == 0
    first, rest = results[ETH].failures
    assert first.subject == "spot ETHUSDT-1m"
    assert "-1121 'Invalid symbol.'" in first.problem
    assert first.span is not None
    assert rest.span == Span(BEGIN_MS, first.span.from_ms), "what was not asked is named, too"
    assert len([url for url in wire.asked if "ETHUSDT" in url]) == 1


_LAST_DAY = "BTCUSDT-1m-2024-06-26.zip"
_FILE_FAULTS = {
    "HTTP 503": ("", 503, b""),
    "HTTP 403": ("", 403, b"<Error/>"),
    "the archive does not have it": ("", 404, b""),
    "it has no CHECKSUM yet": (".CHECKSUM", 404, b""),
    "not what its CHECKSUM says": (".CHECKSUM", 200, b"0" * 64),
    "no zip file that can be read": ("", 200, b"PK no zip file"),
    "no CSV of candles": ("", 200, zipped(b"candles\nup,down\n")),
    "1 row was passed over: a negative number": (
        "",
        200,
        zipped(f"{BEGIN_MS},1,1,1,1,-1,{BEGIN_MS + 59_999},0,0,0,0,0\n".encode()),
    ),
}


@pytest.mark.parametrize("problem", _FILE_FAULTS)
async def test_a_file_of_the_archive_that_fails_is_named_and_the_others_are_compared(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, problem: str
) -> None:
    exchange = Exchange(start_ms=START_MS)
    config = recorded(tmp_path, exchange, SPOT, COIN)
    ending, status, body = _FILE_FAULTS[problem]

    def one_fails(url: str) -> httpx2.Response | None:
        if url.endswith(_LAST_DAY + ending):
            return answer(status, body)
        if url.endswith(_LAST_DAY + ".CHECKSUM") and status == 200:
            return answer(200, hashlib.sha256(body).hexdigest().encode())
        return None

    results, _, _ = await checked(exchange, config, "archive", one_fails)
    assert compared(results[COIN]) == 960
    assert compared(results[SPOT]) == 1_440
    [failure] = results[SPOT].failures
    assert failure.subject == "spot BTCUSDT-1m"
    assert failure.span == Span(BEGIN_MS + DAY_MS, BEGIN_MS + 2 * DAY_MS)
    assert _LAST_DAY in failure.problem
    assert problem in failure.problem


@pytest.mark.parametrize("against", ["rest", "archive"])
async def test_a_damaged_file_of_the_store_ends_only_its_own_comparison(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, against: str
) -> None:
    exchange = Exchange(start_ms=START_MS)
    config = recorded(tmp_path, exchange, SPOT, COIN)
    (tmp_path / "data" / "spot_BTCUSDT_1m.pqt").write_bytes(b"PAR1, and nothing else")
    results, _, _ = await checked(exchange, config, against)
    assert compared(results[COIN]) == 960
    assert results[SPOT].is_unread
    [failure] = results[SPOT].failures
    assert "spot_BTCUSDT_1m.pqt" in failure.problem


async def test_a_market_without_time_or_list_keeps_no_other_from_being_compared(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    config = recorded(tmp_path, exchange, SPOT, COIN)
    config = attrs.evolve(config, patterns=patterns('[streams.usdt_futures]\n1m = ["*"]\n'))

    def dead(url: str) -> httpx2.Response | None:
        is_dead = "/api/v3/time" in url or "/fapi/v1/exchangeInfo" in url
        return answer(503) if is_dead else None

    results, failed, _ = await checked(exchange, config, "rest", dead)
    assert compared(results[COIN]) == 960
    [no_time] = results[SPOT].failures
    assert "/api/v3/time: HTTP 503" in no_time.problem
    [no_list] = failed
    assert no_list.subject == "usdt_futures"
    assert "list of symbols" in no_list.problem


@pytest.mark.parametrize(
    ("body", "failures"),
    [
        (b'{"symbols":[]}', ["spot"]),
        (b'{"symbols":[{"symbol":"BTCUSDT","status":"BREAK"}]}', ["spot"]),
        (b'{"symbols":[{"symbol":"OTHERUSDT","status":"TRADING"}]}', []),
    ],
)
async def test_patterns_mean_what_is_stored_whether_it_trades_or_not(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, body: bytes, failures: list[str]
) -> None:
    """Once nothing was compared then, and the status was 0."""
    exchange = Exchange(start_ms=START_MS)
    config = recorded(tmp_path, exchange, SPOT)
    every = patterns('[streams.spot]\n1m = ["BTC*"]\n')
    config = attrs.evolve(config, streams=(), patterns=every)
    results, failed, _ = await checked(
        exchange, config, "rest", lambda url: answer(200, body) if "exchangeInfo" in url else None
    )
    assert compared(results.pop(SPOT)) == 2_880
    assert results == {}
    assert [one.subject for one in failed] == failures


def test_without_a_store_there_is_nothing_to_compare(tmp_path: Path) -> None:
    config = Config(streams=(SPOT,), store=StoreConfig(path=tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"there is no store .*nowhere"):
        check_against(config, argparse.Namespace(against="rest", simulate=False))


async def test_a_dead_host_is_asked_for_a_while_and_not_for_each_page(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    days = 40
    store = open_store(tmp_path / "data")
    for one in (SPOT, ETH):
        candles = truth(exchange, one, BEGIN_MS - (days - 2) * DAY_MS, BEGIN_MS + 2 * DAY_MS)
        store.journal.accept(receive(one, *candles))
    merge_all(store)
    store.close()
    config = Config(streams=(SPOT, ETH), store=StoreConfig(path=tmp_path / "data"))
    began = trio.current_time()
    results, _, wire = await checked(
        # The newest candle is to be had: it tells the time.
        exchange,
        config,
        "rest",
        lambda url: answer(500) if "startTime" in url else None,
    )
    assert trio.current_time() - began < 120
    assert len([url for url in wire.asked if "/klines" in url]) < 50 * 4, "of four hosts"
    for series in (SPOT, ETH):
        spans = [one.span for one in results[series].failures if one.span]
        assert sum(series.interval.count(one) for one in spans) == days * 1_440


def test_what_could_not_be_compared_is_printed_and_makes_the_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kline_trio.commands.verify._ATTEMPT_SECONDS", 0.0)
    config = recorded(tmp_path, Exchange(start_ms=START_MS), SPOT, COIN)
    nobody = EndpointConfig(websocket=("ws://127.0.0.1:9/stream",), rest=("http://127.0.0.1:9",))
    endpoints = dict.fromkeys(("spot", "usdt_futures", "coin_futures"), nobody)
    config = attrs.evolve(config, endpoints=endpoints)
    options = argparse.Namespace(
        against="rest", since=None, sample=None, repair=True, simulate=False, debug=False
    )
    assert check_against(config, options) == 1
    said = capsys.readouterr().out
    for series in (SPOT, COIN):
        assert f"{series}: not compared: http://127.0.0.1:9/" in said
        assert f"{series}: 0 compared" in said


def test_stored_candles_that_cannot_be_read_are_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = Series("spot", "BTCUSDT", "5m")
    recorded(tmp_path, Exchange(start_ms=START_MS), SPOT, longer)
    (tmp_path / "data" / "spot_BTCUSDT_5m.pqt").write_bytes(b"PAR1, and nothing else")
    report = Report(readable_store(tmp_path / "data"), NOWHERE, [SPOT])
    report.add_sums()
    assert (report.differing, report.not_compared) == (0, 0)
    assert capsys.readouterr().out == ""
    report = Report(readable_store(tmp_path / "data"), NOWHERE, [SPOT, longer])
    report.add_sums()
    assert (report.differing, report.not_compared) == (0, 1)
    assert "spot BTCUSDT-5m: not compared: " in capsys.readouterr().out


async def test_each_request_of_a_comparison_is_a_step(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    exchange = Exchange(start_ms=START_MS)
    config = recorded(tmp_path, exchange, SPOT, COIN)
    steps: list[Step] = []
    async with joined(exchange) as environment:
        await verify(config, "rest", lambda _: None, environment=environment, on_step=steps.append)
    comparing = f"comparing {SPOT} with REST"
    assert steps[:2] == [
        Step(comparing, 0, 2, "series"),
        Step(f"{comparing}: request 1 of 3", 0, 2, "series"),
    ]
    assert Step(f"comparing {COIN} with REST", 1, 2, "series") in steps
