"""`serve` shows a store without a recorder: people need the page most when it is down."""

import re
from collections.abc import Callable

from playwright.sync_api import expect

from tests.browser.browsing import Visitor
from tests.browser.recording import Recording
from tests.browser.views import open_overview


def test_a_stopped_store_says_so_and_shows_what_it_has(
    many_series: Recording, visit: Callable[..., Visitor]
) -> None:
    view = open_overview(visit("desktop", "dark").page, many_series)
    view.expect_verdict("stopped")
    expect(view.sentence).to_contain_text("No recorder runs")
    expect(view.sentence).to_contain_text("106,323 candles are missing and not fetched yet")
    expect(view.page.locator("#figures")).to_contain_text("of 2,500")
    expect(view.cells("Spot").first).to_have_attribute("aria-label", re.compile("absent"))
    assert view.grid.get_attribute("aria-rowcount") == "2503"


def test_the_calendar_of_thousands_of_series_is_searched_and_folded(
    many_series: Recording, visit: Callable[..., Visitor]
) -> None:
    page = visit("desktop", "light").page
    view = open_overview(page, many_series)
    assert view.grid.get_by_role("row").count() < 100, "rows out of sight do not exist"
    page.keyboard.press("/")
    page.keyboard.type("btc usdt spot")
    page.wait_for_url("**q=btc*")
    expect(view.row("BTCUSDT").first).to_be_visible()
    expect(view.row("ETHUSDT")).to_have_count(0)
    page.reload()
    expect(view.row("BTCUSDT").first).to_be_visible()
    page.get_by_role("searchbox").fill("")
    page.wait_for_url(lambda url: "q=" not in url)
    view.focus_row("Spot")
    page.keyboard.press(" ")
    expect(view.row("Spot")).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("Control+End")
    expect(view.row("USD_PERP").last).to_be_visible()


def test_the_zooms_go_from_hours_to_months(
    many_series: Recording, visit: Callable[..., Visitor]
) -> None:
    page = visit("desktop", "dark").page
    view = open_overview(page, many_series)
    for zoom in ("Hours", "Weeks", "Months", "Days"):
        page.get_by_role("button", name=zoom, exact=True).click()
        expect(view.cells("Spot").first).to_have_attribute(
            "aria-label", re.compile(rf"\d {zoom.lower().removesuffix('s')}s? ")
        )
    page.go_back()
    expect(page.get_by_role("button", name="Months", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
