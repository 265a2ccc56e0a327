"""Each endpoint, asked about a small store without a recorder."""

import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import trio
import trio.testing

from kline_trio.candle import Series
from kline_trio.errors import UnavailableError
from kline_trio.interval import DAY_MS, Span
from kline_trio.monitor.page.api import Api
from kline_trio.monitor.page.candles import CandleQuery
from kline_trio.monitor.page.parameters import Parameters
from kline_trio.monitor.page.shared_answers import SharedAnswers
from kline_trio.monitor.page.sources import StoredSource
from kline_trio.monitor.page.store_answers import StoreAnswers
from kline_trio.storage.store import Store
from kline_trio.storage.table import table_of
from tests.monitor.page.pages import BTC_KEY, CHINESE_KEY, HOUR, ask, get, running, write_store
from tests.storage.support import (
    BTC,
    LAYOUTS,
    START_MS,
    at,
    make_candle,
    merge_all,
    minutes,
    open_accounted,
)

HEARD_MS = 1_790_000_000_000
DAY = 1_440


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store whose last recorder was heard some seconds after the last due candle."""
    store = write_store(tmp_path)
    times = dict.fromkeys(("spot", "usdt_futures"), at(HOUR) + 65_000)
    store.journal.beat(None, times, HEARD_MS)
    store.close()
    return store


@pytest.fixture
async def api(store: Store) -> AsyncIterator[Api]:
    source = StoredSource(store.path, lambda: HEARD_MS / 1_000 + 7_200)
    async with running(source) as api:
        yield api


async def test_the_overview_of_a_stopped_store(api: Api, store: Store) -> None:
    await api.index.get()
    found = await get(api, "overview")
    assert found["sentence"] == (
        "No recorder runs. The last one was heard 2 h ago. 3 candles are missing and not fetched"
        " yet, counted up to 2024-01-31 01:00:00."
    )
    assert (found["api"], found["is_live"], found["verdict"]) == (1, False, "stopped")
    assert found["store"] == str(store.path)
    assert found["totals"] == {
        "series": 2, "complete_series": 1, "due": 61, "stored": 56, "refilled": 5, "pending": 3,
        "absent": 2, "unaccounted": 0, "percent": 91.803,
        "by_reason": {"not received": 3, "the exchange had none": 2},
    }  # fmt: skip
    assert (found["heard_ms"], found["now_ms"]) == (HEARD_MS, at(HOUR) + 65_000)
    assert found["connections"] == found["reasons"] == []
    assert [one["trade_type"] for one in found["markets"]] == ["spot", "usdt_futures"]
    assert found["markets"][0]["pending"] == 3
    assert found["disk"]["files"] == 1
    assert found["disk"]["journal_rows"] == 16
    assert found["calendar"] == (await get(api, "calendar"))["version"]
    assert found["events"]


async def test_the_first_overview_has_totals_if_the_store_is_read_soon(api: Api) -> None:
    with trio.fail_after(5):
        while (await get(api, "overview"))["totals"] is None:
            pass


async def test_the_calendar(api: Api) -> None:
    found = await get(api, "calendar", zoom="hour", from_ms=at(0), to_ms=at(120))
    assert found["starts_ms"] == [at(0), at(60)]
    assert found["end_ms"] == at(120)
    assert (found["total_rows"], found["offset"], found["zoom"]) == (4, 0, "hour")
    names = found["reasons"]
    indexes = [names.index(one) for one in ("not received", "recorder was down",
                                            "the exchange had none")]  # fmt: skip
    spot, btc, *_ = found["rows"]
    assert spot["runs"] == btc["runs"] == [[5, 1, 60, 5, 3, 2, 0, indexes], [0, 1]]
    assert (btc["key"], btc["series"], btc["label"]) == (BTC_KEY, BTC_KEY, "BTCUSDT 1m")
    assert [one["percent"] for one in found["rows"]] == [91.666, 91.666, 100.0, 100.0]
    table = await ask(
        api, "calendar", zoom="hour", from_ms=at(0), to_ms=at(120), limit=1, format="csv"
    )
    assert table.body.decode().splitlines() == [
        "key,from_ms,to_ms,cells,state,refilled,pending,absent,unaccounted,reasons",
        f"spot,{at(0)},{at(60)},1,pending,5,3,2,0,{'; '.join(names[one] for one in indexes)}",
        f"spot,{at(60)},{at(120)},1,not_due,0,0,0,0,",
    ]
    page = await get(api, "calendar", offset=3, limit=1)
    assert [one["key"] for one in page["rows"]] == [CHINESE_KEY]
    assert len(page["starts_ms"]) == 90
    assert page["end_ms"] == START_MS + 24 * 3_600_000, "the last cell is that of now"
    closed = await get(api, "calendar", closed=["spot", "usdt_futures"])
    assert [one["is_open"] for one in closed["rows"]] == [False, False]
    searched = await get(api, "calendar", q="人生")
    assert [one["key"] for one in searched["rows"]] == ["usdt_futures", CHINESE_KEY]


async def test_events_of_all_and_of_a_series(api: Api) -> None:
    found = await get(api, "events")
    assert [(one["kind"], one["time_ms"]) for one in found["events"]] == [
        ("gap_filled", at(35)), ("gap_closed", at(22)), ("gap_found", at(13)), ("revised", at(6)),
    ]  # fmt: skip
    filled, closed, pending, revised = (one["text"] for one in found["events"])
    assert filled == (
        "spot BTCUSDT-1m: 5 candles, 2024-01-31 00:30:00 to 00:35:00: filled by rest;"
        " reason: recorder was down"
    )
    assert closed.endswith("absent for good; reason: the exchange had none")
    assert pending.endswith("3 candles, 2024-01-31 00:10:00 to 00:13:00: absent;"
                            " reason: not received")  # fmt: skip
    assert revised == (
        "spot BTCUSDT-1m: 2024-01-31 00:05:00 came with another volume, trade num by rest;"
        " the older value is kept"
    )
    assert found["truncated"] is False
    short = await get(api, "events", limit=1, before_ms=at(35))
    assert ([one["kind"] for one in short["events"]], short["truncated"]) == (["gap_closed"], True)
    assert (await get(api, "events", series=BTC_KEY))["events"] == found["events"]
    assert (await get(api, "events", series=CHINESE_KEY))["events"] == []


async def test_the_list_of_series(api: Api) -> None:
    found = await get(api, "series")
    assert found["total"] == 2
    assert found["series"][0] == {
        "series": BTC_KEY, "state": "pending", "first_ms": at(0), "last_ms": at(HOUR),
        "percent": 91.666, "due": 60, "stored": 55, "refilled": 5, "pending": 3, "absent": 2,
        "unaccounted": 0,
    }  # fmt: skip
    page = await get(api, "series", offset=1, limit=1)
    assert [one["series"] for one in page["series"]] == [CHINESE_KEY]
    assert page["truncated"] is False
    assert (await get(api, "series", limit=1))["truncated"] is True
    assert [one["series"] for one in (await get(api, "series", q="btc"))["series"]] == [BTC_KEY]


async def test_one_series_with_its_neighbours(api: Api) -> None:
    found = await get(api, "series/summary", series=BTC_KEY)
    assert (found["previous"], found["next"]) == (None, CHINESE_KEY)
    assert (found["candles_from_ms"], found["candles_to_ms"]) == (at(0), at(HOUR))
    assert found["account"] == {
        "first_ms": at(0), "watermark_ms": at(HOUR), "retired_ms": None
    }  # fmt: skip
    assert (found["files"], found["file_rows"], found["interval_ms"]) == (1, 40, 60_000)
    assert found["reasons"] == ["not received", "recorder was down", "the exchange had none"]
    found = await get(api, "series/summary", series=CHINESE_KEY)
    assert (found["previous"], found["next"]) == (BTC_KEY, None)
    assert found["symbol"] == "币安人生USDT"


async def test_candles_are_coarse_if_they_are_many(api: Api) -> None:
    found = await get(api, "candles", series=BTC_KEY)
    assert (found["step_ms"], found["is_coarse"], found["interval"]) == (60_000, False, "1m")
    assert len(found["open_time_ms"]) == 55
    assert found["open_time_ms"][9:11] == [at(9), at(13)], "nothing is made up for a gap"
    assert set(found["candles"]) == {1}
    coarse = await get(api, "candles", series=BTC_KEY, from_ms=at(0), to_ms=at(60), points=12)
    assert (coarse["step_ms"], coarse["is_coarse"], coarse["step"]) == (300_000, True, "5m")
    assert coarse["candles"] == [5, 5, 2, 5, 3, 5, 5, 5, 5, 5, 5, 5]
    newest = await get(api, "candles", series=BTC_KEY, points=3)
    assert newest["open_time_ms"] == [at(57), at(58), at(59)]
    columns = ("open", "high", "low", "close", "volume", "quote_volume", "trade_num")
    assert all(len(newest[name]) == 3 for name in columns)
    none = await get(api, "candles", series=BTC_KEY, from_ms=at(100), to_ms=at(200))
    assert none["open_time_ms"] == []


@pytest.mark.parametrize("interval", ["1m", "3d", "1w", "1M"])
def test_the_newest_candles_are_as_many_as_the_points(tmp_path: Path, interval: str) -> None:
    series = Series("spot", "BTCUSDT", interval)
    for to_ms in (START_MS, START_MS + 1, START_MS + 45 * DAY_MS):
        from_ms, _ = CandleQuery(series, None, to_ms, 50).span(tmp_path)
        first_ms = series.interval.next_open_time_ms(from_ms)
        assert len(list(series.interval.open_times_ms(Span(first_ms, to_ms)))) == 50
    assert CandleQuery(series, None, 1, 5_000).span(tmp_path)[0] >= 0


async def test_gaps(api: Api) -> None:
    found = await get(api, "gaps", series=BTC_KEY)
    assert [(one["from_ms"], one["candles"], one["state"]) for one in found["gaps"]] == [
        (at(30), 5, "filled"), (at(20), 2, "closed"), (at(10), 3, "pending"),
    ]  # fmt: skip
    assert found["gaps"][0] == {
        "series": BTC_KEY, "from_ms": at(30), "to_ms": at(35), "candles": 5,
        "reason": "recorder was down", "state": "filled", "asked": 0, "filled_by": "rest",
        "first_seen_ms": at(35),
    }  # fmt: skip
    assert (await get(api, "gaps"))["gaps"] == found["gaps"]
    [pending] = (await get(api, "gaps", state="pending"))["gaps"]
    assert pending["filled_by"] is None
    [closed] = (await get(api, "gaps", from_ms=at(21), to_ms=at(30)))["gaps"]
    assert closed["state"] == "closed"
    short = await get(api, "gaps", limit=2)
    assert (len(short["gaps"]), short["truncated"]) == (2, True)


async def test_a_file_without_candles_is_passed_over(tmp_path: Path) -> None:
    """Another program left it, with one row group of no rows."""
    for name, rows in (("a", 0), ("b", 3)):
        table = table_of(BTC, [make_candle(at(n)) for n in range(rows)])
        metadata = {**table.schema.metadata, b"kline_trio_format": b"1"}
        table = table.replace_schema_metadata(metadata)
        pq.write_table(table, tmp_path / f"spot_BTCUSDT_1m_{name}.pqt")
    async with running(StoredSource(tmp_path)) as api:
        found = await get(api, "series/summary", series=BTC_KEY)
        assert (found["candles_from_ms"], found["candles_to_ms"]) == (at(0), at(3))
        newest = await get(api, "candles", series=BTC_KEY)
        assert newest["open_time_ms"] == [at(0), at(1), at(2)]


async def test_revisions_and_files(api: Api) -> None:
    found = await get(api, "revisions", series=BTC_KEY)
    assert found == {
        "revisions": [
            {"series": BTC_KEY, "open_time_ms": at(5), "origin": "rest", "column": "volume",
             "older": 1.0, "newer": 9.0, "kept": "older"},
            {"series": BTC_KEY, "open_time_ms": at(5), "origin": "rest", "column": "trade_num",
             "older": 7, "newer": 8, "kept": "older"},
        ],
        "truncated": False,
    }  # fmt: skip
    [file] = (await get(api, "files", series=BTC_KEY))["files"]
    assert (file["path"], file["rows"]) == ("spot_BTCUSDT_1m.pqt", 40)
    assert len(file["crc32"]) == 8
    assert (await get(api, "files", series=CHINESE_KEY))["files"] == []


async def test_the_history_of_a_stopped_store_is_empty(api: Api) -> None:
    found = await get(api, "history")
    assert (found["step_seconds"], found["time_ms"]) == (10, [])


TABLES: dict[str, dict[str, str]] = {
    "events": {},
    "series": {},
    "candles": {"series": BTC_KEY},
    "gaps": {},
    "revisions": {"series": BTC_KEY},
    "files": {"series": BTC_KEY},
}


@pytest.mark.parametrize(("name", "parameters"), TABLES.items())
async def test_a_table_is_csv_too(api: Api, name: str, parameters: dict[str, str]) -> None:
    response = await ask(api, name, format="csv", **parameters)
    assert response.content_type == "text/csv; charset=utf-8"
    assert ("content-disposition", f'attachment; filename="{name}.csv"') in response.headers
    rows = list(csv.DictReader(io.StringIO(response.body.decode())))
    as_json = await get(api, name, **parameters)
    if name == "candles":
        assert [int(one["open_time_ms"]) for one in rows] == as_json["open_time_ms"]
    else:
        assert [set(one) for one in rows] == [set(one) for one in as_json[name]]
        assert len(rows) == len(as_json[name]) > 0


async def test_a_proxy_is_asked_to_pass_the_stream_on_at_once(api: Api) -> None:
    """By default nginx keeps an answer until it has some kilobytes: a page would hear nothing."""
    response = await ask(api, "stream")
    assert response.stream is not None
    assert ("x-accel-buffering", "no") in response.headers


async def test_the_history_is_csv_too(api: Api) -> None:
    response = await ask(api, "history", format="csv")
    assert response.body == b"time_ms,frames,candles,lag_p50,lag_max\n"


async def test_an_answer_has_another_tag_only_if_it_is_another(api: Api) -> None:
    for name, parameters in TABLES.items():
        first, again = [await ask(api, name, **parameters) for _ in range(2)]
        assert first.etag == again.etag is not None
    one, other = await ask(api, "gaps"), await ask(api, "gaps", limit=1)
    assert one.etag != other.etag


@pytest.mark.parametrize(
    ("name", "parameters", "status", "text"),
    [
        ("nothing", {}, 404, "there is nothing here"),
        ("series/", {}, 404, "there is nothing here"),
        ("gaps", {"form": "csv"}, 400, "there is no parameter form; one of format, from_ms"),
        ("gaps", {"limit": "many"}, 400, "limit: a whole number is wanted, not many"),
        ("gaps", {"limit": "0"}, 400, "limit: 1 to 5,000 are taken, not 0"),
        ("gaps", {"limit": "9" * 30}, 400, "limit: this number is too large"),
        ("gaps", {"limit": "٣"}, 400, "limit: a whole number is wanted"),
        ("gaps", {"limit": ["1", "2"]}, 400, "limit: one value is wanted"),
        ("gaps", {"from_ms": "-1"}, 400, "from_ms: a time in ms since 1970 is wanted"),
        ("gaps", {"from_ms": "5", "to_ms": "5"}, 400, "to_ms must be after from_ms"),
        ("gaps", {"state": "open"}, 400, "state: one of any, pending, filled, closed, not open"),
        ("gaps", {"series": "spot/<script>/1m"}, 400, "series: spot/<script>/1m: a symbol holds"),
        ("gaps", {"series": "spot/BTCUSDT"}, 400, "a series is market/symbol/interval"),
        ("gaps", {"series": "spot/ETHUSDT/1m"}, 404, "the store has no series spot/ETHUSDT/1m"),
        ("events", {"series": "spot/ETHUSDT/1m"}, 404, "the store has no series"),
        ("revisions", {}, 400, "series: the key of a series is wanted"),
        ("files", {"series": "spot/ETHUSDT/1m"}, 404, "the store has no series"),
        ("series/summary", {"series": "spot/ETHUSDT/1m"}, 404, "the store has no series"),
        ("candles", {"series": BTC_KEY, "points": "5001"}, 400, "points: 1 to 5,000 are taken"),
        ("candles", {"series": BTC_KEY, "from_ms": 5, "to_ms": 4}, 400, "to_ms must be after"),
        ("calendar", {"zoom": "year"}, 400, "zoom: one of hour, day, week, month, not year"),
        ("calendar", {"zoom": "hour", "from_ms": 0}, 400, "more than 1,500 cells of one hour"),
        ("calendar", {"limit": 201}, 400, "limit: 1 to 200 are taken, not 201"),
        ("calendar", {"q": "x" * 201}, 400, "q: at most 200 letters are taken"),
        ("calendar", {"open": ["x"] * 501}, 400, "open: at most 500 values are taken"),
        ("stream", {"series": [BTC_KEY] * 51}, 400, "series: at most 50 are taken"),
        ("stream", {"series": "x"}, 400, "series: x: a series is market/symbol/interval"),
    ],
)
async def test_a_wrong_question_is_refused_in_words(
    api: Api, name: str, parameters: dict[str, object], status: int, text: str
) -> None:
    response = await ask(api, name, **parameters)
    assert response.status == status
    assert response.content_type == "application/json"
    assert text in response.body.decode()
    assert response.body.startswith(b'{"error":"')


async def test_a_store_that_cannot_be_read_is_said(api: Api, store: Store) -> None:
    journal = store.path / ".kline_trio" / "journal.sqlite"
    journal.write_bytes(b"nonsense" * 1_000)
    response = await ask(api, "calendar")
    assert response.status == 503
    assert b"the store cannot be read" in response.body
    found = await get(api, "overview")
    assert found["totals"] is None
    assert found["sentence"].startswith("What is missing is not known: the store cannot be read: ")


@pytest.fixture
def fast_clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(rate=50.0)


async def test_a_disk_that_does_not_answer_keeps_nobody_waiting(
    api: Api, fast_clock: trio.testing.MockClock
) -> None:
    answers = StoreAnswers(api.source, api.index, SharedAnswers())
    answers._disk.acquire_on_behalf_of_nowait("a thread that the disk does not answer")
    with trio.fail_after(60), pytest.raises(UnavailableError, match="not answered for 30 s"):
        await answers.gaps(Parameters({}))


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A store with a file for each of four days, the last of which a power cut has damaged."""
    store = open_accounted(tmp_path, 4 * DAY, LAYOUTS[2])
    store.journal.accept(minutes(0, 4 * DAY))
    merge_all(store)
    store.close()
    newest = max(tmp_path.rglob("2024-*.parquet"))
    newest.write_bytes(newest.read_bytes()[:-40])
    return tmp_path


async def test_the_oldest_file_is_not_the_newest_if_that_is_damaged(damaged: Path) -> None:
    async with running(StoredSource(damaged)) as api:
        candles = await get(api, "candles", series=BTC_KEY, points=5)
        assert candles["open_time_ms"][-1] == at(3 * DAY - 1)
        summary = await get(api, "series/summary", series=BTC_KEY)
        assert summary["candles_to_ms"] == at(3 * DAY)


async def test_a_bug_of_a_job_is_logged_and_the_job_begins_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    """Else the streams of all pages would be silent until the recorder starts anew."""
    api = Api(StoredSource(tmp_path))
    real, calls = api.stream.overview, 0

    def overview() -> bytes:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise ValueError("a bug")
        return real()

    api.stream.overview = overview
    heard: list[bytes] = []

    async def take(chunk: bytes) -> None:
        await trio.lowlevel.checkpoint()
        heard.append(chunk)

    async with trio.open_nursery() as nursery:
        for job in api.jobs():
            nursery.start_soon(job)
        nursery.start_soon(api.stream.send, [], take)
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
    assert sum(b"event: overview" in one for one in heard) > 3
    assert "page: a job ended by a bug" in caplog.text
