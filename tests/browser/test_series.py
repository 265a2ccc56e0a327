"""The page of a series: back through two years by bounded answers, its absences explained, live."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Locator, Page, Request, expect

from tests.browser.browsing import Visitor
from tests.browser.recording import Recording
from tests.browser.stores import DAY_MS, DAYS, END_MS
from tests.end_to_end.harness import wait_until

MOST_POINTS = 5_000
FROM_MS = (END_MS // DAY_MS - DAYS) * DAY_MS


class Answers:
    """The answers that hold candles, and how many were asked for."""

    def __init__(self, page: Page) -> None:
        self._finished: list[Request] = []
        self._newest: dict[str, Any] = {}
        # Requests that the page takes back do not finish.
        page.on("requestfinished", self._take)

    def _take(self, request: Request) -> None:
        if "/api/v1/candles?" in request.url and "format=" not in request.url:
            self._finished.append(request)

    def newest(self) -> dict[str, Any]:
        """Check the new answers; return the newest of all."""
        for request in self._finished:
            response = request.response()
            assert response is not None
            asked = int(parse_qs(urlsplit(request.url).query)["points"][0])
            self._newest = response.json()
            assert len(self._newest["open_time_ms"]) <= asked <= MOST_POINTS
        self._finished.clear()
        assert self._newest
        return self._newest


def open_series(page: Page, recording: Recording, query: str = "") -> None:
    page.goto(f"{recording.url}?series=spot/BTCUSDT/1m{query}")
    expect(page.get_by_role("heading", name="BTCUSDT").first).to_be_visible()
    expect(chart_of(page)).to_have_attribute("aria-label", re.compile("Candlestick chart, "))


def chart_of(page: Page) -> Locator:
    return page.locator("#series .chart")


def test_two_years_are_zoomed_through_by_keyboard_without_loading_them(
    two_years: Recording, visit: Callable[..., Visitor]
) -> None:
    page = visit("desktop", "dark").page
    answers = Answers(page)
    open_series(page, two_years)
    newest = answers.newest()
    assert not newest["is_coarse"]
    assert newest["step_ms"] == 60_000
    chart_of(page).focus()
    steps = [newest["step_ms"]]

    def is_all_in_view() -> bool:
        page.keyboard.press("-")
        page.wait_for_timeout(100)
        steps.append(answers.newest()["step_ms"])
        return int(answers.newest()["open_time_ms"][0]) <= FROM_MS

    wait_until(is_all_in_view, "two years should come into view")
    assert answers.newest()["is_coarse"]
    assert steps[-1] >= 6 * 3_600_000
    assert len(set(steps)) > 4, "the candles become coarser step by step"
    expect(page.locator("#series .step")).to_contain_text("One candle here stands for")
    # What is in view stands in the address.
    page.wait_for_url("**from=*")
    page.keyboard.press("PageUp")
    page.reload()
    expect(chart_of(page)).to_have_attribute("aria-label", re.compile("Candlestick chart, "))


def test_each_span_has_an_address_and_the_back_button_works(
    two_years: Recording, visit: Callable[..., Visitor]
) -> None:
    page = visit("phone", "light").page
    open_series(page, two_years)
    spans = page.get_by_role("group", name="Span in view")
    for name in ("1 w", "1 y"):
        spans.get_by_role("button", name=name, exact=True).click()
        expect(spans.get_by_role("button", name=name, exact=True)).to_have_attribute(
            "aria-pressed", "true"
        )
    page.go_back()
    expect(spans.get_by_role("button", name="1 w", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    page.go_back()
    page.get_by_role("link", name="All series").click()
    expect(page.get_by_role("treegrid")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="BTCUSDT").first).to_be_visible()


def test_an_absence_of_a_year_ago_is_reached_and_explained(
    two_years: Recording, visit: Callable[..., Visitor]
) -> None:
    page = visit("desktop", "light").page
    open_series(page, two_years)
    gaps = page.get_by_role("region", name="Gaps").first
    expect(gaps).to_contain_text("the exchange had none")
    expect(gaps).to_contain_text("the archive lacks it")
    gaps.get_by_role("row").filter(has_text="600").get_by_role("link").click()
    page.wait_for_url("**from=*")
    expect(chart_of(page)).to_have_attribute("aria-label", re.compile("2025"))
    box = chart_of(page).bounding_box()
    assert box is not None
    legend = page.locator("#series .candle-legend")

    def is_explained() -> bool:
        # In its middle the chart shows what was asked for.
        page.mouse.move(box["x"] + box["width"] * 0.45, box["y"] + box["height"] * 0.4)
        page.mouse.move(box["x"] + box["width"] * 0.46, box["y"] + box["height"] * 0.4)
        page.wait_for_timeout(100)
        return "the exchange had none" in str(legend.text_content())

    wait_until(is_explained, "the legend should say why candles are absent", 15)
    expect(legend).to_contain_text("600 candles")


def test_the_attribution_of_the_charts_stays_visible(
    two_years: Recording, visit: Callable[..., Visitor]
) -> None:
    page = visit("phone", "dark").page
    open_series(page, two_years)
    link = page.get_by_role("link", name="TradingView")
    link.scroll_into_view_if_needed()
    expect(link).to_be_visible()


def test_new_candles_appear_at_the_right_edge(
    recording: Recording, visit: Callable[..., Visitor]
) -> None:
    page = visit("desktop", "dark").page
    answers = Answers(page)
    open_series(page, recording)
    for _ in range(3):
        at = page.locator("#series .price-at").text_content()
        expect(page.locator("#series .price-at")).not_to_have_text(str(at))
    answers.newest()
