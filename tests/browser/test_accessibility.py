"""axe-core finds nothing serious in either view, dark or light, on a screen and on a phone."""

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.browsing import Visitor
from tests.browser.recording import Recording
from tests.browser.views import open_overview

LOOKS = [("desktop", "dark"), ("desktop", "light"), ("phone", "dark"), ("phone", "light")]
GRAVE = ("serious", "critical")


def grave_findings(page: Page) -> list[str]:
    """Return what axe-core calls serious or critical, and where."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['impact']} {one['id']}: {one['help']}: {node['html'][:200]}"
        for one in found
        if one["impact"] in GRAVE
        for node in one["nodes"][:3]
    ]


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_the_overview_can_be_read_by_all(
    size: str, scheme: str, many_series: Recording, visit: Callable[..., Visitor]
) -> None:
    page = visit(size, scheme).page
    view = open_overview(page, many_series)
    assert grave_findings(page) == []
    view.focus_row("Spot")
    page.keyboard.press("Enter")
    expect(page.locator("#day-title")).to_be_visible()
    assert grave_findings(page) == []


@pytest.mark.parametrize(("size", "scheme"), LOOKS)
def test_a_series_can_be_read_by_all(
    size: str, scheme: str, two_years: Recording, visit: Callable[..., Visitor]
) -> None:
    page = visit(size, scheme).page
    page.goto(f"{two_years.url}?series=spot/BTCUSDT/1m")
    expect(page.get_by_role("heading", name="BTCUSDT").first).to_be_visible()
    expect(page.locator("#series canvas").first).to_be_visible()
    assert grave_findings(page) == []


def test_a_live_overview_can_be_read_by_all(
    recording: Recording, visit: Callable[..., Visitor]
) -> None:
    """It has lines, and a table of connections."""
    page = visit("desktop", "light").page
    open_overview(page, recording).expect_verdict("ok")
    expect(page.get_by_role("table").first).to_be_visible()
    assert grave_findings(page) == []
