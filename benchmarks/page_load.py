"""How long the first view of the page takes, how many bytes, and how fast the calendar answers."""

import http.client
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

from playwright.sync_api import Browser

from tests.browser.browsing import open_chromium, open_visitor
from tests.browser.inspector import Inspector
from tests.browser.recording import Recording, open_server
from tests.browser.stores import DAYS, END_MS, Ledger, many_series
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
            visitor.page.goto(f"http://127.0.0.1:{wire.port}/")
            visitor.page.locator("[role=grid] [role=gridcell]").first.wait_for()
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
    first_ms = _answer(server, "zoom=day")[0]
    yield f"calendar, {of}: first answer of all", first_ms, None, "ms"
    all_days = {"from_ms": END_MS - DAYS * _DAY_MS, "to_ms": END_MS}
    questions: dict[str, dict[str, str | int]] = {
        "90 days": {"zoom": "day"},
        "730 days, 60 rows": {"zoom": "day", "limit": 60, **all_days},
        "30 days by the hour": {
            "zoom": "hour",
            "from_ms": END_MS - 30 * _DAY_MS,
            "to_ms": END_MS,
            "limit": 60,
        },
        "two years by the month": {"zoom": "month", **all_days},
        "a search": {"zoom": "day", "q": "btc"},
    }
    for name, query in questions.items():
        answers = [_answer(server, urlencode(query)) for _ in range(3 * rounds)]
        took = median(one for one, _ in answers)
        yield f"calendar, {name}, {answers[0][1] / 1e3:,.0f} kB gzipped", took, 100.0, "ms"


def _answer(server: Recording, query: str) -> tuple[float, int]:
    """Return how many milliseconds an answer took, and how many bytes it has."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        began = time.perf_counter()
        connection.request("GET", f"/api/v1/calendar?{query}", headers={"accept-encoding": "gzip"})
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        return (time.perf_counter() - began) * 1e3, len(body)
    finally:
        connection.close()
