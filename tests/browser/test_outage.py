"""An outage appears on the page, is explained, and heals: on a screen, on a phone, by keyboard."""

import re
from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.browser.browsing import Scheme, open_visitor
from tests.browser.exchange import HOSTILE
from tests.browser.recording import open_exchange, open_recording
from tests.browser.views import Overview, open_overview

PENDING = re.compile(r"pending.*not received")

PEOPLE: list[tuple[str, Scheme]] = [("desktop", "dark"), ("phone", "light"), ("desktop", "light")]
"""The last has no mouse."""


def test_an_outage_appears_is_explained_and_heals(chromium: Browser, tmp_path: Path) -> None:
    """One outage, which three people watch: it takes half a minute."""
    with ExitStack() as running:
        enter = running.enter_context
        exchange = enter(open_exchange(tmp_path, "--speed", "60", "--hostile"))
        recording = enter(open_recording(tmp_path / "recorder", exchange))
        views = [
            open_overview(enter(open_visitor(chromium, size, scheme)).page, recording)
            for size, scheme in PEOPLE
        ]
        for view in views:
            view.expect_verdict("ok")
            expect(view.sentence).to_contain_text("All 6 series complete", timeout=20_000)
            expect(view.reasons).to_be_hidden()

        exchange.begin("Silence", stream="ethusdt@kline_1m")
        exchange.begin("RestFault", status=503)
        for view in views:
            view.expect_verdict("bad")
            expect(view.reasons).to_contain_text("spot ETHUSDT-1m")
            expect(view.reasons).to_contain_text(re.compile(r"absent for \d+ s"))
            expect(view.cells("ETHUSDT").first).to_have_attribute("aria-label", PENDING)
        _opens_the_day_by_keyboard(views[-1])
        for view in views:
            said = view.page.locator("#connections [title*='window.hurt']")
            expect(said.first).to_be_attached()
            assert view.page.evaluate("window.hurt") is None, HOSTILE

        exchange.end("Silence")
        exchange.end("RestFault")
        for view in views:
            view.expect_verdict("ok")
            expect(view.cells("ETHUSDT").first).to_have_attribute(
                "aria-label", re.compile("refilled.*not received")
            )
            expect(view.events).to_contain_text("ETHUSDT-1m")

        exchange.begin("Outage", symbol="BNBUSDT", for_ms=180_000)
        for view in views:
            expect(view.cells("BNBUSDT")).to_have_attribute(
                "aria-label", re.compile("absent.*the exchange had none"), timeout=40_000
            )


def _opens_the_day_by_keyboard(view: Overview) -> None:
    page = view.page
    view.focus_row("ETHUSDT 1m")
    assert re.search(r"\d+ pending, Why: not received", view.active_cell()), view.active_cell()
    page.keyboard.press("Enter")
    page.wait_for_url("**/?series=*")
    expect(page.get_by_role("heading", name="ETHUSDT").first).to_be_visible()
    page.go_back()
    expect(view.grid).to_be_visible()
    assert "series=" not in page.url
