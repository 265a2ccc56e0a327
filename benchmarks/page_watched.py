"""What ten open pages cost a recorder, and what a page and its recorder hold after a day."""

import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import psutil
from playwright.sync_api import Browser

from tests.browser.browsing import open_chromium, open_context, open_visitor
from tests.browser.inspector import Inspector
from tests.browser.recording import OrderedExchange, Recording, open_exchange, open_recording
from tests.browser.stores import END_MS, Ledger, many_series
from tests.browser.views import open_overview

__all__ = ["measure_day", "measure_watching"]

_PAGES = 10
_HOUR_MS = 3_600_000
_IDLE_SHARE = 0.5
_QUIET_SAMPLES = 12


def measure_watching(
    chromium: str, *, quick: bool
) -> Iterator[tuple[str, float, float | None, str]]:
    """Give the share of a core that ten pages, each of a browser of its own, cost a recorder."""
    count, speed, rounds = (60, 20.0, 1) if quick else (2_500, 1.0, 3)
    with _recorder_of_many(count, speed) as recording:
        recorder = psutil.Process(recording.program.process.pid)
        # A minute of the exchange: as many candles close in each span.
        seconds = 60.0 / speed
        without, watched = [], []
        with open_chromium(chromium) as browser:
            for _ in range(rounds):
                without.append(_share(recorder, seconds))
                with _pages(browser, recording):
                    watched.append(_share(recorder, seconds))
    of = f"{count:,} series"
    yield f"of a core, {of}, nobody looks", min(without) * 100, None, "%"
    yield f"of a core more with {_PAGES} browsers", (min(watched) - min(without)) * 100, 3.0, "%"


@contextmanager
def _recorder_of_many(count: int, speed: float) -> Iterator[Recording]:
    """Record so many series, whose ledger is two years long, until all is calm."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        series = many_series(count)
        # REST would be asked for what is pending.
        Ledger(series=series, has_pending=False).write(folder / "data")
        streams = [(one.trade_type, one.symbol, one.time_interval) for one in series]
        options = ("--start-ms", str(END_MS), "--speed", str(speed), "--symbols", str(count))
        # After their first candles, which are merged at once, nothing is merged.
        tables = "[store]\nmerge_seconds = 7200\n"
        with (
            open_exchange(folder, *options) as exchange,
            open_recording(folder, exchange, streams, tables=tables) as recording,
        ):
            _wait_until_calm(psutil.Process(recording.program.process.pid), 2 * 60.0 / speed)
            yield recording


def _wait_until_calm(recorder: psutil.Process, seconds: float) -> None:
    time.sleep(seconds)
    while _share(recorder, 5.0) > _IDLE_SHARE:
        pass


@contextmanager
def _pages(browser: Browser, recording: Recording) -> Iterator[None]:
    with ExitStack() as tabs:
        for _ in range(_PAGES):
            visitor = tabs.enter_context(open_visitor(browser))
            open_overview(visitor.page, recording)
        yield


def _share(process: psutil.Process, seconds: float) -> float:
    before, began = process.cpu_times(), time.perf_counter()
    time.sleep(seconds)
    after = process.cpu_times()
    used = after.user + after.system - before.user - before.system
    return used / (time.perf_counter() - began)


@attrs.frozen
class _Held:
    """What is in use after all garbage was collected."""

    heap_bytes: int
    nodes: int
    tasks: int
    descriptors: int


def measure_day(chromium: str, *, quick: bool) -> Iterator[tuple[str, float, float | None, str]]:
    """Give by how much two tabs, one for each view, and their recorder grow from hour 2 to 24."""
    speed = 7_200.0 if quick else 600.0
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        exchange = running.enter_context(
            open_exchange(folder, "--speed", str(speed), "--closes-only")
        )
        recording = running.enter_context(open_recording(folder, exchange))
        browser = running.enter_context(open_chromium(chromium))
        context = open_context(browser, "desktop", "dark")
        pages = [
            running.enter_context(open_visitor(browser, context=context)).page for _ in range(2)
        ]
        open_overview(pages[0], recording)
        pages[1].goto(f"{recording.url}?series=spot/BTCUSDT/1m")
        inspectors = [Inspector.of(browser, page) for page in pages]
        # The hours begin with the pages.
        began_ms = exchange.now_ms()
        early = _held_after(began_ms + 2 * _HOUR_MS, inspectors, exchange, recording)
        late = _held_after(began_ms + 24 * _HOUR_MS, inspectors, exchange, recording)
    yield "heap of the browser at hour 2", early.heap_bytes / 1e6, None, "MB"
    yield (
        "heap of the browser, hours 2 to 24",
        (late.heap_bytes - early.heap_bytes) / 1e6,
        5.0,
        "MB more",
    )
    yield "nodes of the document, hours 2 to 24", late.nodes - early.nodes, None, "more"
    yield "tasks of the recorder, hours 2 to 24", max(0, late.tasks - early.tasks), 0.0, "more"
    more = late.descriptors - early.descriptors
    yield "descriptors of the recorder, hours 2 to 24", max(0, more), 0.0, "more"


def _held_after(
    moment_ms: int,
    inspectors: Sequence[Inspector],
    exchange: OrderedExchange,
    recording: Recording,
) -> _Held:
    page = inspectors[0].page
    while exchange.now_ms() < moment_ms:
        page.wait_for_timeout(200)
    recorder = psutil.Process(recording.program.process.pid)
    tasks, descriptors = [], []
    # A request of its own, a merge or a job on the disk comes and goes: the least counts.
    for _ in range(_QUIET_SAMPLES):
        tasks.append(_tasks(recording))
        descriptors.append(recorder.num_fds())
        page.wait_for_timeout(150)
    heap = sum(one.heap_bytes() for one in inspectors) + inspectors[0].worker_heap_bytes()
    nodes = sum(one.nodes() for one in inspectors)
    return _Held(heap, nodes, min(tasks), min(descriptors))


def _tasks(recording: Recording) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{recording.url}metrics", timeout=20) as response:
        lines = response.read().decode().splitlines()
    return int(float(next(one for one in lines if one.startswith("kline_trio_tasks ")).split()[1]))
