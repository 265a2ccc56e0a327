"""The published archives: which files there are, and what is taken of the host's answers."""

import hashlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from itertools import pairwise

import httpx2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kline_trio.candle import Series
from kline_trio.errors import DamagedArchiveError, UnavailableError
from kline_trio.exchange.archive import Archive, ArchiveFile, archive_files
from kline_trio.interval import INTERVALS, Span

DAY_MS = 86_400_000
BTC = Series("spot", "BTCUSDT", "1m")


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000)


def names(series: Series, since: str, until: str, now: str) -> list[str]:
    files = archive_files(series, Span(ms(since), ms(until)), ms(now))
    return [file.path.rpartition("/")[2] for file in files]


def test_whole_months_are_one_file_and_the_newest_days_one_each() -> None:
    assert names(BTC, "2024-01-30", "2024-03-04", "2024-03-07T12:00") == [
        "BTCUSDT-1m-2024-01-30.zip",
        "BTCUSDT-1m-2024-01-31.zip",
        "BTCUSDT-1m-2024-02-01.zip",
        *(f"BTCUSDT-1m-2024-02-{day:02}.zip" for day in range(2, 30)),
        "BTCUSDT-1m-2024-03-01.zip",
        "BTCUSDT-1m-2024-03-02.zip",
        "BTCUSDT-1m-2024-03-03.zip",
    ]
    assert names(BTC, "2024-01-30", "2024-03-04", "2024-03-20") == [
        "BTCUSDT-1m-2024-01-30.zip",
        "BTCUSDT-1m-2024-01-31.zip",
        "BTCUSDT-1m-2024-02.zip",
        "BTCUSDT-1m-2024-03-01.zip",
        "BTCUSDT-1m-2024-03-02.zip",
        "BTCUSDT-1m-2024-03-03.zip",
    ]


def test_what_cannot_be_published_yet_is_not_asked_for() -> None:
    assert names(BTC, "2024-03-01", "2024-03-05", "2024-03-04T23:59") == [
        "BTCUSDT-1m-2024-03-01.zip"
    ]
    assert names(BTC, "2024-03-04", "2024-03-05", "2024-03-05") == []


def test_long_candles_have_months_only_and_a_month_is_called_1mo() -> None:
    weeks = Series("usdt_futures", "BTCUSDT", "1w")
    assert names(weeks, "2024-01-01", "2024-03-04", "2024-03-20") == [
        "BTCUSDT-1w-2024-01.zip",
        "BTCUSDT-1w-2024-02.zip",
    ]
    month = Series("coin_futures", "BTCUSD_PERP", "1M")
    [file] = archive_files(month, Span(ms("2024-01-01"), ms("2024-02-01")), ms("2024-03-20"))
    assert file.path == (
        "data/futures/cm/monthly/klines/BTCUSD_PERP/1mo/BTCUSD_PERP-1mo-2024-01.zip"
    )


def test_symbols_of_other_scripts_are_percent_encoded() -> None:
    series = Series("usdt_futures", "币安人生USDT", "1m")
    [file] = archive_files(series, Span(ms("2026-01-01"), ms("2026-01-02")), ms("2026-01-09"))
    assert file.path.startswith("data/futures/um/daily/klines/%E5%B8%81%E5%AE%89")
    assert file.path.isascii()


@given(
    name=st.sampled_from(sorted(INTERVALS)),
    first=st.integers(0, 900),
    days=st.integers(1, 200),
    age=st.integers(0, 60),
)
@example(name="3d", first=46, days=165, age=37)
def test_files_follow_each_other_without_gap_or_overlap(
    name: str, first: int, days: int, age: int
) -> None:
    series = Series("spot", "BTCUSDT", name)
    interval = series.interval
    from_ms = interval.open_time_ms(ms("2022-01-01") + first * DAY_MS)
    to_ms = interval.end_time_ms(interval.open_time_ms(from_ms + days * DAY_MS))
    files = list(archive_files(series, Span(from_ms, to_ms), to_ms + age * DAY_MS))
    for earlier, later in pairwise(files):
        assert earlier.span.to_ms == later.span.from_ms
    if files:
        assert files[0].span.from_ms <= from_ms
        assert files[-1].span.from_ms < to_ms
    if age >= 45:
        assert files
        assert files[-1].span.to_ms >= to_ms or interval.duration_ms is None or days < 3


FILE = ArchiveFile("data/spot/daily/klines/A/1m/A-1m-2024-01-01.zip", Span(0, DAY_MS), 1_440)
CONTENT = b"PK some zip file"
SUM = f"{hashlib.sha256(CONTENT).hexdigest()}  A-1m-2024-01-01.zip\n".encode()


async def fetch(answer: Callable[[str], httpx2.Response]) -> bytes | None:
    def respond(request: httpx2.Request) -> httpx2.Response:
        response = answer(request.url.path)
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=httpx2.ByteStream(response.content),
        )

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(respond)) as client:
        return await Archive(client, "https://archive").fetch(FILE)


def served(zipped: bytes, checksum: bytes) -> Callable[[str], httpx2.Response]:
    return lambda path: httpx2.Response(
        200, content=checksum if path.endswith(".CHECKSUM") else zipped
    )


async def test_a_file_is_what_its_checksum_says() -> None:
    assert await fetch(served(CONTENT, SUM)) == CONTENT
    assert await fetch(served(CONTENT, SUM.upper())) == CONTENT


async def test_a_mismatch_is_fetched_once_more() -> None:
    tries: list[str] = []

    def answer(path: str) -> httpx2.Response:
        tries.append(path)
        whole = CONTENT if len(tries) > 2 else CONTENT[:-1]
        return served(whole, SUM)(path)

    assert await fetch(answer) == CONTENT
    assert len(tries) == 4
    for checksum in (b"", b"<html>", SUM[:40], SUM.replace(b"a", b"b").replace(b"1", b"2")):
        with pytest.raises(DamagedArchiveError, match="not what its CHECKSUM says"):
            await fetch(served(CONTENT, checksum))


async def test_a_404_is_not_published_and_other_answers_are_no_file() -> None:
    assert await fetch(lambda _: httpx2.Response(404, text="<Error/>")) is None
    for status in (403, 500, 302):
        with pytest.raises(UnavailableError, match=f"HTTP {status}"):
            await fetch(lambda _, status=status: httpx2.Response(status))  # type: ignore[misc]

    def without_checksum(path: str) -> httpx2.Response:
        return httpx2.Response(404 if path.endswith(".CHECKSUM") else 200, content=CONTENT)

    with pytest.raises(UnavailableError, match="no CHECKSUM yet"):
        await fetch(without_checksum)


@pytest.mark.parametrize("what", ["file", "checksum"])
async def test_what_has_no_end_is_cut_off_at_the_largest_right_answer(what: str) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1_000
            yield b"0" * 1_000

    def answer(request: httpx2.Request) -> httpx2.Response:
        is_checksum = request.url.path.endswith(".CHECKSUM")
        if is_checksum == (what == "checksum"):
            return httpx2.Response(200, content=endless())
        return httpx2.Response(200, stream=httpx2.ByteStream(CONTENT))

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
        with pytest.raises(DamagedArchiveError, match=r"more than [0-9,]+ bytes"):
            await Archive(client, "https://archive").fetch(FILE)
    assert sent <= (400_000 if what == "file" else 3_000)


@pytest.mark.parametrize(
    ("interval", "since", "candles"),
    [("1s", "2024-03-01", 2_678_400), ("1m", "2024-03-01", 44_640)],
)
def test_a_file_s_bound_grows_with_its_candles(interval: str, since: str, candles: int) -> None:
    """Real months have some 90 MB and 2 MB."""
    series = Series("spot", "BTCUSDT", interval)
    [file] = archive_files(series, Span(ms("2024-03-01"), ms("2024-04-01")), ms("2024-06-01"))
    assert file.candles == candles
    assert candles * 60 < file.most_bytes < candles * 260
    assert candles * 180 < file.most_csv_bytes < candles * 260
