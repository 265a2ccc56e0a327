"""Filling a store from archives as `backfill` does, with files in place of the network."""

from pathlib import Path

import httpx2
import trio

from benchmarks.made_up import START_MS
from kline_trio.candle import Series
from kline_trio.exchange.archive import Archive
from kline_trio.interval import Span
from kline_trio.recorder.archive_source import FETCHERS, ArchiveSource
from kline_trio.recorder.environment import Environment, SerialExecutor, Storage
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.store import Store

__all__ = ["fill_store"]

_DAY_MS = 86_400_000


def fill_store(zips: Path, into: Path) -> int:
    """Bring all daily files into a new store, durably; how many rows came.

    Args:
      zips: a folder for each symbol of the spot market, with files of 1m and their checksums.
      into: the store's folder.
    """
    store = Store.open(into, Layout(DEFAULT_LAYOUT))
    try:
        days = {folder.name: len(list(folder.glob("*.zip"))) for folder in sorted(zips.iterdir())}
        return trio.run(_fill, zips, days, store)
    finally:
        store.close()


async def _fill(zips: Path, days: dict[str, int], store: Store) -> int:
    environment = Environment()
    async with httpx2.AsyncClient(transport=_Shelf(zips)) as client:
        doors = [SerialExecutor(environment.on_disk) for _ in range(3)]
        archive = ArchiveSource(
            Archive(client, "https://archive.invalid"),
            Storage(store, doors[0], doors[1]),
            doors[2],
            lambda _: None,
        )
        for symbol, count in days.items():
            span = Span(START_MS, START_MS + count * _DAY_MS)
            # So soon after the month there is no monthly file yet.
            now_ms = span.to_ms + 3 * _DAY_MS
            series = Series("spot", symbol, "1m")
            assert archive.share(series, span, now_ms) == span
            archive.take(series, span, now_ms)
        async with trio.open_nursery() as nursery:
            for _ in range(FETCHERS):
                nursery.start_soon(archive.work)
            while not archive.is_done:  # noqa: ASYNC110 - a benchmark may poll
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    return archive.progress.rows


class _Shelf(httpx2.AsyncBaseTransport):
    """The host of the archives, without a wire."""

    def __init__(self, zips: Path) -> None:
        self._zips = zips

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await trio.lowlevel.checkpoint()
        symbol, _, name = request.url.path.split("/")[-3:]
        return httpx2.Response(
            200, stream=httpx2.ByteStream((self._zips / symbol / name).read_bytes())
        )
