"""axe-core finds nothing serious in either view, dark or light, on a screen and on a phone."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.accessibility import grave_findings
from tests.browser.browsing import SIZES, Visitor
from tests.browser.recording import Recording
from tests.browser.views import open_overview


@pytest.mark.parametrize("size", SIZES)
def test_the_overview_can_be_read_by_all(
    size: str, many_series: Recording, visit: Callable[..., Visitor]
) -> None:
    page = visit(size).page
    view = open_overview(page, many_series)
    assert grave_findings(page) == []
    view.focus_row("Spot")
    page.keyboard.press("Enter")
    expect(page.locator("#day-title")).to_be_visible()
    assert grave_findings(page) == []


@pytest.mark.parametrize("size", SIZES)
def test_a_series_can_be_read_by_all(
    size: str, two_years: Recording, visit: Callable[..., Visitor]
) -> None:
    page = visit(size).page
    page.goto(f"{two_years.url}?series=spot/BTCUSDT/1m")
    expect(page.get_by_role("heading", name="BTCUSDT").first).to_be_visible()
    expect(page.locator("#series canvas").first).to_be_visible()
    assert grave_findings(page) == []


def test_a_live_overview_can_be_read_by_all(
    recording: Recording, visit: Callable[..., Visitor]
) -> None:
    """It has lines, and a table of connections."""
    page = visit("desktop").page
    open_overview(page, recording).expect_verdict("ok")
    expect(page.get_by_role("table").first).to_be_visible()
    assert grave_findings(page) == []
