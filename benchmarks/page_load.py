"""How long the first view of the page takes, how many bytes, and how fast the calendar answers."""

import http.client
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

from playwright.sync_api import Browser

from tests.browser.browsing import open_chromium, open_visitor
from tests.browser.inspector import Inspector
from tests.browser.recording import Recording, open_server
from tests.browser.stores import DAYS, END_MS, Ledger, many_series
from tests.browser.views import open_overview
from tests.fault_proxy import FaultProxy

__all__ = ["measure_load"]

_DAY_MS = 86_400_000
_SETTLED_MS = 1_000
"""How long after its last request a view is drawn."""


def measure_load(chromium: str, *, quick: bool) -> Iterator[tuple[str, float, float | None, str]]:
    """Give what the first view and the calendar take."""
    count, rounds = (500, 2) if quick else (2_500, 7)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "data"
        Ledger(series=many_series(count)).write(store)
        with open_server(store) as server:
            of = f"{count:,} series, two years"
            yield from _calendar(server, of, rounds)
            with open_chromium(chromium) as browser:
                yield from _first_views(browser, server, of, rounds)


def _first_views(
    browser: Browser, server: Recording, of: str, rounds: int
) -> Iterator[tuple[str, float, float | None, str]]:
    paints, drawn, kilobytes = [], [], []
    for _ in range(rounds):
        # A proxy counts every byte, those of workers and headers too.
        with FaultProxy.running(server.port) as wire, open_visitor(browser) as visitor:
            began = time.perf_counter()
            open_overview(visitor.page, server.through(wire.port))
            drawn.append((time.perf_counter() - began) * 1e3)
            paints.append(Inspector.of(browser, visitor.page).first_paint_ms())
            visitor.page.wait_for_timeout(_SETTLED_MS)
            kilobytes.append(wire.carried / 1e3)
    yield f"first paint, {of}: median", median(paints), 1_000.0, "ms"
    yield f"first paint, {of}: slowest", max(paints), None, "ms"
    yield f"calendar drawn, {of}: median", median(drawn), None, "ms"
    yield f"on the wire, {of}", max(kilobytes), 400.0, "kB"


def _calendar(
    server: Recording, of: str, rounds: int
) -> Iterator[tuple[str, float, float | None, str]]:
    first_ms, _ = _answer(server, {"zoom": "day"})
    yield f"calendar, {of}: first answer of all", first_ms, None, "ms"
    questions: dict[str, tuple[int, dict[str, str | int]]] = {
        "90 days": (90, {"zoom": "day"}),
        "730 days, 60 rows": (DAYS, {"zoom": "day", "limit": 60}),
        "30 days by the hour, 60 rows": (30, {"zoom": "hour", "limit": 60}),
        "two years by the month": (DAYS, {"zoom": "month"}),
        "a search": (90, {"zoom": "day", "q": "btc"}),
    }
    for name, (days, query) in questions.items():
        answers = []
        for offset in range(3 * rounds):
            # Rows that nobody has asked for: equal answers are made once.
            to_ms = END_MS - offset * _DAY_MS
            span = {"from_ms": to_ms - days * _DAY_MS, "to_ms": to_ms}
            answers.append(_answer(server, {**query, **span, "offset": offset}))
        took = median(one for one, _ in answers)
        size = max(one for _, one in answers) / 1e3
        yield f"calendar, {name}, {size:,.0f} kB gzipped", took, 100.0, "ms"


def _answer(server: Recording, query: Mapping[str, str | int]) -> tuple[float, int]:
    """Return how many milliseconds an answer took, and how many bytes it has."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        began = time.perf_counter()
        path = f"/api/v1/calendar?{urlencode(query)}"
        connection.request("GET", path, headers={"accept-encoding": "gzip"})
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        return (time.perf_counter() - began) * 1e3, len(body)
    finally:
        connection.close()
