"""Following the markets' lists, in virtual time, against a list that a test changes."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from random import Random

import attrs
import httpx2
import pytest
import trio
import trio.testing

import kline_trio
from kline_trio.config import Config
from kline_trio.errors import DiskError, DiskFullError
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.exchange.markets import MARKETS
from kline_trio.exchange.rate_limiter import RateLimiter
from kline_trio.exchange.rest import RestMarket
from kline_trio.listing import Listing
from kline_trio.recorder.environment import RecurringEvent, SerialExecutor
from kline_trio.recorder.universe import Universe
from kline_trio.storage.paths import scratch, universe_path
from kline_trio.storage.universe import UniverseFile, changes
from kline_trio.symbols import select_series
from tests.virtual import slow_disk

START_MS = 1_719_759_600_000
REFRESH_SECONDS = 600.0
Status = dict[str, str]


@attrs.define(eq=False)
class Lists:
    """What each market answers, and when it was asked."""

    symbols: dict[str, Status] = attrs.field(factory=dict)
    """By trade type: the status of each symbol."""
    status_code: int = 200
    asked: dict[str, list[float]] = attrs.field(factory=dict)

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        trade_type = {"/api/v3": "spot", "/fapi/v1": "usdt_futures", "/dapi/v1": "coin_futures"}[
            request.url.path.rpartition("/")[0]
        ]
        if request.url.path.endswith("/time"):
            return httpx2.Response(200, json={"serverTime": START_MS + 7})
        if request.url.path.endswith("/klines"):
            end_ms = START_MS + 59_999
            row = [START_MS, "1", "1", "1", "1", "1", end_ms, "1", 1, "1", "1", "0"]
            return httpx2.Response(200, json=[row])
        self.asked.setdefault(trade_type, []).append(trio.current_time())
        listed = [
            {"symbol": name, "status": status, "quoteAsset": "USDT"}
            for name, status in self.symbols.get(trade_type, {}).items()
        ]
        await trio.sleep(0.5)
        return httpx2.Response(self.status_code, content=json.dumps({"symbols": listed}).encode())

    def market(self, trade_type: str, client: httpx2.AsyncClient) -> RestMarket:
        market = MARKETS[trade_type]
        pool = RateLimiter(6_000, 1.0)
        return RestMarket(client, market, (market.rest,), pool, ExchangeClock())


@attrs.define(eq=False)
class Following:
    universe: Universe
    lists: Lists
    told: list[tuple[str, float]]
    nursery: trio.Nursery
    is_accounted: bool = True


@pytest.fixture
def house(tmp_path: Path) -> Path:
    scratch(tmp_path).mkdir(parents=True)
    return tmp_path


@asynccontextmanager
async def following(
    house: Path, lists: Lists, *, refresh_seconds: float = REFRESH_SECONDS
) -> AsyncIterator[Following]:
    told: list[tuple[str, float]] = []
    transport = httpx2.MockTransport(lists)
    async with httpx2.AsyncClient(transport=transport) as client:
        universe = Universe(
            {name: lists.market(name, client) for name in lists.symbols},
            UniverseFile.open(house),
            SerialExecutor(slow_disk(Random(0))),
            refresh_seconds,
            {name: RecurringEvent() for name in MARKETS},
        )

        def changed(trade_type: str, _: object) -> None:
            told.append((trade_type, trio.current_time()))

        async with trio.open_nursery() as nursery:
            follow = Following(universe, lists, told, nursery)
            for name in lists.symbols:
                nursery.start_soon(universe.follow, name, changed, lambda _: follow.is_accounted)
            yield follow
            nursery.cancel_scope.cancel()


def trading(*symbols: str) -> Status:
    return dict.fromkeys(symbols, "TRADING")


def rows(house: Path) -> list[tuple[str, str, str]]:
    frame = kline_trio.universe(house)
    return list(zip(frame["trade_type"], frame["symbol"], frame["status"], strict=True))


async def test_each_market_is_looked_at_on_its_schedule_and_changes_are_told_and_kept(
    house: Path,
    autojump_clock: trio.testing.MockClock,
) -> None:
    lists = Lists({"spot": trading("A", "B"), "coin_futures": trading("C_PERP")})
    async with following(house, lists) as follow:
        universe = follow.universe
        assert universe.listings == {"spot": {}, "coin_futures": {}}
        await trio.sleep(5)
        assert set(universe.listings["spot"]) == {"A", "B"}
        assert sorted(name for name, _ in follow.told) == ["coin_futures", "spot"]
        assert universe.is_seen("spot")
        assert universe.is_seen("coin_futures")
        before = universe.listings["spot"]
        await trio.sleep(REFRESH_SECONDS)
        assert universe.listings["spot"] is before
        lists.symbols["spot"] = {"B": "BREAK", "A": "TRADING", "NEW": "TRADING"}
        await trio.sleep(REFRESH_SECONDS)
        assert set(universe.listings["spot"]) == {"A", "B", "NEW"}
        del lists.symbols["spot"]["B"]
        await trio.sleep(REFRESH_SECONDS)
    assert [round(one / REFRESH_SECONDS, 1) for one in lists.asked["spot"]] == [0, 1, 2, 3]
    assert len(follow.told) == 4
    assert [row for row in rows(house) if row[0] == "spot"] == [
        ("spot", "A", "TRADING"), ("spot", "B", "TRADING"), ("spot", "B", "BREAK"),
        ("spot", "NEW", "TRADING"), ("spot", "B", "GONE"),
    ]  # fmt: skip
    assert ("coin_futures", "C_PERP", "TRADING") in rows(house)
    assert kline_trio.universe(house)["time"].dt.year.unique().tolist() == [2024]


async def test_nothing_is_written_before_the_journal_knows_of_the_new_series(
    house: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """A start that finds a symbol in the file takes it for one that is known."""
    async with following(house, Lists({"spot": trading("A")})) as follow:
        follow.is_accounted = False
        await trio.sleep(3 * REFRESH_SECONDS)
        assert follow.told
        assert rows(house) == []
        follow.is_accounted = True
        await trio.sleep(2)
        assert rows(house) == [("spot", "A", "TRADING")]


async def test_a_hint_is_followed_at_once_and_hints_are_gathered(
    house: Path, autojump_clock: trio.testing.MockClock
) -> None:
    lists = Lists({"usdt_futures": trading("A")})
    async with following(house, lists, refresh_seconds=3_600) as follow:
        await trio.sleep(1_000)
        for _ in range(50):
            follow.universe.hints["usdt_futures"].ring()
            follow.universe.hints["spot"].ring()
        lists.symbols["usdt_futures"] = trading("A", "币安人生USDT")
        await trio.sleep(1)
        assert set(follow.universe.listings["usdt_futures"]) == {"A", "币安人生USDT"}
        # Once more a minute later, since the list may lag behind the event.
        await trio.sleep(500)
        assert lists.asked["usdt_futures"] == pytest.approx([0, 1_000, 1_060.5])
        for _ in range(300):
            follow.universe.hints["usdt_futures"].ring()
            await trio.sleep(0.1)
    asked = lists.asked["usdt_futures"][3:]
    assert len(asked) == 3
    assert all(later - one >= 10 for one, later in pairwise(asked))


async def test_a_hint_while_the_list_is_asked_for_is_not_lost(
    house: Path, autojump_clock: trio.testing.MockClock
) -> None:
    lists = Lists({"usdt_futures": trading("A")})
    async with following(house, lists) as follow:
        await trio.sleep(0.2)
        follow.universe.hints["usdt_futures"].ring()
        await trio.sleep(30)
    assert lists.asked["usdt_futures"] == pytest.approx([0, 10.5])


async def test_without_answers_it_goes_on_with_what_it_knows(
    house: Path, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    known = {name: Listing(symbol=name, status="TRADING", quote="USDT") for name in ("A", "B")}
    UniverseFile.open(house).append(changes("spot", {}, known, START_MS - 5))
    lists = Lists({"spot": trading("A", "B")}, status_code=503)
    with caplog.at_level(logging.INFO, "kline_trio"):
        async with following(house, lists) as follow:
            assert follow.universe.listings == {"spot": known}
            await trio.sleep(3_000)
            assert follow.universe.listings == {"spot": known}
            assert not follow.universe.is_seen("spot")
            waits = [round(later - one) for one, later in pairwise(lists.asked["spot"])]
            assert waits[:5] == [10, 20, 40, 80, 160]
            assert max(waits) <= REFRESH_SECONDS + 1
            lists.status_code = 200
            await trio.sleep(REFRESH_SECONDS + 1)
            assert follow.universe.is_seen("spot")
    assert len(follow.told) == 1, "the first look is told, whatever it shows"
    assert len(rows(house)) == 2
    [away, back] = [line for line in caplog.messages if line.startswith("spot: its list")]
    assert "not to be had: https://api.binance.com/api/v3/exchangeInfo: HTTP 503" in away
    assert "to be had again" in back


@pytest.mark.parametrize("left", [[], ["A"]])
async def test_a_list_that_lost_most_is_looked_at_twice(
    left: list[str],
    house: Path,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    lists = Lists({"spot": trading("A", "B", "C")})
    async with following(house, lists) as follow:
        await trio.sleep(5)
        for is_true in (False, True):
            lists.symbols["spot"] = trading(*left)
            follow.universe.hints["spot"].ring()
            await trio.sleep(8)
            assert set(follow.universe.listings["spot"]) == {"A", "B", "C"}
            assert "spot: " in caplog.text
            if not is_true:
                lists.symbols["spot"] = trading("A", "B", "C")
            await trio.sleep(30)
            assert set(follow.universe.listings["spot"]) == set(left if is_true else "ABC")
    assert len(follow.told) == 2
    assert len(rows(house)) == 3 + (3 - len(left))


async def test_half_a_list_is_believed(house: Path, autojump_clock: trio.testing.MockClock) -> None:
    lists = Lists({"spot": trading("A", "B")})
    async with following(house, lists) as follow:
        await trio.sleep(5)
        lists.symbols["spot"] = trading("A")
        follow.universe.hints["spot"].ring()
        await trio.sleep(8)
        assert set(follow.universe.listings["spot"]) == {"A"}


async def test_a_market_that_lists_nothing_at_first_is_no_doubt(
    house: Path, autojump_clock: trio.testing.MockClock
) -> None:
    lists = Lists({"spot": {}})
    async with following(house, lists) as follow:
        await trio.sleep(5)
        assert follow.universe.is_seen("spot")
        assert len(follow.told) == 1, "the first look is told, whatever it shows"
    assert not universe_path(house).exists()


async def test_want_of_room_is_waited_for_and_every_change_is_kept(
    house: Path,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    lists = Lists({"spot": trading("A", "B")})
    caplog.set_level(logging.INFO, "kline_trio")
    async with following(house, lists, refresh_seconds=30) as follow:
        with monkeypatch.context() as patch:
            patch.setattr(UniverseFile, "append", refuse(DiskFullError("full")))
            for status in ("BREAK", "HALT"):
                await trio.sleep(35)
                lists.symbols["spot"]["B"] = status
            await trio.sleep(35)
            assert follow.universe.listings["spot"]["B"].status == "HALT"
            assert not universe_path(house).exists()
        await trio.sleep(6)
        assert rows(house) == [
            ("spot", "A", "TRADING"), ("spot", "B", "TRADING"), ("spot", "B", "BREAK"),
            ("spot", "B", "HALT"),
        ]  # fmt: skip
    said = [line for line in caplog.messages if line.startswith(("disk full", "there is"))]
    assert [line.split(";")[0] for line in said] == [
        "disk full: full", "disk full: full", "there is disk space again",
    ]  # fmt: skip


async def test_a_disk_that_refuses_ends_it(
    house: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UniverseFile, "append", refuse(DiskError("broken")))
    with pytest.RaisesGroup(DiskError, flatten_subgroups=True):
        async with following(house, Lists({"spot": trading("A")})):
            await trio.sleep(5)


def refuse(error: Exception) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


async def test_what_a_cancelled_one_did_not_keep_the_next_finds(
    house: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = Lists({"spot": trading("A")})
    with monkeypatch.context() as patch:
        patch.setattr(UniverseFile, "append", refuse(DiskFullError("full")))
        async with following(house, lists):
            await trio.sleep(100)
    async with following(house, lists) as follow:
        await trio.sleep(5)
        assert len(follow.told) == 1
    assert rows(house) == [("spot", "A", "TRADING")]


async def test_chinese_symbols_go_from_the_configuration_to_rows(
    house: Path, autojump_clock: trio.testing.MockClock
) -> None:
    config = Config.from_text(
        "[streams.usdt_futures]\n"
        '1m = ["币安*usdt", { quote = "usdt" }, "!ETH*", "我踏马来了USDT"]\n'
        '[streams.spot]\n1h = ["龙虾usdt"]\n1m = ["龙?usdt"]\n',
        name="",
        folder=house,
    )
    lists = Lists(
        {"usdt_futures": trading("ETHUSDT", "币安人生USDT", "BTCUSDT"), "spot": trading("龙虾USDT")}
    )
    async with following(house, lists) as follow:

        def series() -> list[str]:
            found = select_series(config.streams, config.patterns, follow.universe.listings)
            return [str(one) for one in found]

        assert series() == ["spot 龙虾USDT-1h", "usdt_futures 我踏马来了USDT-1m"]
        await trio.sleep(5)
        assert series() == [
            "spot 龙虾USDT-1h", "spot 龙虾USDT-1m", "usdt_futures 币安人生USDT-1m",
            "usdt_futures BTCUSDT-1m", "usdt_futures 我踏马来了USDT-1m",
        ]  # fmt: skip
    assert set(kline_trio.universe(house, "2024-07-01")["symbol"]) == {
        "ETHUSDT", "币安人生USDT", "BTCUSDT", "龙虾USDT",
    }  # fmt: skip


@pytest.mark.parametrize("is_seen_before", [False, True])
async def test_a_start_in_the_maintenance_of_a_whole_market_ends_nothing(
    house: Path, autojump_clock: trio.testing.MockClock, is_seen_before: bool
) -> None:
    """Also if the recorder before has seen that most do not trade, and has written it down."""
    symbols = [f"A{number}USDT" for number in range(40)]
    halted = Lists({"spot": trading(*symbols[30:]) | dict.fromkeys(symbols[:30], "BREAK")})
    async with following(house, Lists({"spot": trading(*symbols)})) as follow:
        await trio.sleep(5)
        if is_seen_before:
            follow.lists.symbols["spot"] = halted.symbols["spot"]
            await trio.sleep(REFRESH_SECONDS)
    async with following(house, halted) as follow:
        await trio.sleep(5)
        assert follow.universe.is_halted("spot")
        follow.lists.symbols["spot"] = trading(*symbols)
        await trio.sleep(REFRESH_SECONDS)
        assert not follow.universe.is_halted("spot")


async def test_a_symbol_that_was_ever_listed_is_known_after_a_restart(
    house: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with following(house, Lists({"spot": trading("A", "B", "C")})) as follow:
        await trio.sleep(5)
        del follow.lists.symbols["spot"]["A"]
        await trio.sleep(REFRESH_SECONDS)
    async with following(house, Lists({"spot": trading("B", "C")})) as follow:
        assert follow.universe.knew("spot", "A")
        assert not follow.universe.knew("spot", "D")
