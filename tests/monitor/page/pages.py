"""A small store, and readers of its page, for the tests of the page."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import attrs
import trio

from kline_trio.candle import Series, Source
from kline_trio.monitor.http_message import Request, Response
from kline_trio.monitor.page.api import Api
from kline_trio.monitor.page.sources import Source as PageSource
from kline_trio.storage.journal.ledger import Gap, Reason, Revision, SeriesAccount, State
from kline_trio.storage.store import Store
from tests.storage.support import (
    BTC,
    CHINESE,
    START_MS,
    at,
    make_candle,
    merge_all,
    minutes,
    open_store,
    receive,
    span,
)

HOUR = 60
HOURLY = Series("spot", "BTCUSDT", "1h")
BTC_KEY, CHINESE_KEY = "spot/BTCUSDT/1m", "usdt_futures/币安人生USDT/1w"


def gap(first: int, end: int, state: State, reason: Reason, by: Source | None = None) -> Gap:
    """A gap of BTC's minutes, which was found at its end."""
    return Gap(BTC, span(first, end), at(end), reason, state, filled_by=by)


GAPS = (
    gap(10, 13, State.PENDING, Reason.NOT_RECEIVED),
    gap(20, 22, State.CLOSED, Reason.EXCHANGE_HAD_NONE),
    gap(30, 35, State.FILLED, Reason.RECORDER_DOWN, Source.REST),
)


def write_store(path: Path) -> Store:
    """An open store: BTC with 60 minutes due and gaps of each state, and a Chinese symbol."""
    store = open_store(path)
    held = [n for n in range(HOUR) if not any(at(n) in one.span for one in GAPS[:2])]
    store.journal.accept([one for n in held[:40] for one in minutes(n, n + 1)])
    merge_all(store)
    store.journal.accept([one for n in held[40:] for one in minutes(n, n + 1)])
    week_ms = CHINESE.interval.open_time_ms(START_MS)
    store.journal.accept(receive(CHINESE, make_candle(week_ms)))
    older, newer = make_candle(at(5)), attrs.evolve(make_candle(at(5)), volume=9.0, trade_num=8)
    store.journal.settle(
        GAPS,
        {
            BTC: SeriesAccount(at(0), at(HOUR)),
            CHINESE: SeriesAccount(week_ms, CHINESE.interval.end_time_ms(week_ms)),
        },
        [Revision(BTC, older, newer, Source.REST, is_newer_kept=False)],
    )
    return store


def asked(name: str, **parameters: object) -> Request:
    """A request to the interface; a list gives a parameter several times."""
    query = urlencode(parameters, doseq=True)
    target = f"/api/v1/{name}?{query}" if query else f"/api/v1/{name}"
    return Request(method="GET", target=target, headers={})


async def ask(api: Api, name: str, **parameters: object) -> Response:
    return await api.handle(asked(name, **parameters))


async def get(api: Api, name: str, **parameters: object) -> Any:  # noqa: ANN401 - JSON
    """The values of an answer that is a success."""
    response = await ask(api, name, **parameters)
    assert response.status == 200, response.body
    assert response.content_type == "application/json"
    return json.loads(response.body)


@asynccontextmanager
async def running(source: PageSource) -> AsyncIterator[Api]:
    """An interface whose jobs run."""
    api = Api(source)
    async with trio.open_nursery() as nursery:
        for job in api.jobs():
            nursery.start_soon(job)
        yield api
        nursery.cancel_scope.cancel()
