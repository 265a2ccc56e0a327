"""Whatever an exchange sends is text on the page, also if it is markup."""

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import Route, expect

from tests.browser.browsing import Visitor
from tests.browser.exchange import HOSTILE
from tests.browser.recording import Recording
from tests.browser.views import open_overview

_IN_JSON = json.dumps(HOSTILE)[1:-1]


def _with_markup(route: Route) -> None:
    """Answer as the server, but with markup as the name of a symbol.

    The recorder itself refuses such a name.
    """
    answer = route.fetch()
    route.fulfill(response=answer, body=answer.text().replace("BNBUSDT", _IN_JSON))


def test_markup_as_a_symbol_is_text(recording: Recording, visit: Callable[..., Visitor]) -> None:
    page = visit("desktop", "dark").page
    page.route("**/api/v1/**", _with_markup)
    view = open_overview(page, recording)
    expect(view.grid.get_by_text("<script>window.hurt=1</script>").first).to_be_visible()
    view.row("<script>").first.locator(".cells").hover()
    page.wait_for_timeout(300)
    assert page.evaluate("window.hurt") is None
    assert page.locator("img[src=x]").count() == 0
    # An answer may be under way when the page is closed.
    page.unroute_all(behavior="ignoreErrors")


def test_markup_in_the_address_is_text(two_years: Recording, visit: Callable[..., Visitor]) -> None:
    visitor = visit("desktop", "light")
    page = visitor.page
    page.goto(f"{two_years.url}?series=spot/<script>window.hurt=1</script>/1m&from=x&to=<b>")
    expect(page.locator("#series")).to_contain_text("<script>", ignore_case=True)
    page.goto(
        f"{two_years.url}?q=<img src=x onerror=window.hurt=1>&zoom=<b>&day=<b>&until=1&of=<b>"
    )
    expect(page.get_by_text("No series matches")).to_be_visible()
    assert page.evaluate("window.hurt") is None
    assert page.locator("img[src=x]").count() == 0
    # That the server does not know the series is an error in the console too.
    visitor.problems = [one for one in visitor.problems if "status of 40" not in one]


@pytest.mark.parametrize("kind", ["script", "style"])
def test_inline_code_is_refused_and_noted(
    kind: str, two_years: Recording, visit: Callable[..., Visitor]
) -> None:
    """Each test of this folder fails if a library adds some."""
    visitor = visit("desktop", "dark")
    open_overview(visitor.page, two_years)
    assert not visitor.problems
    visitor.page.evaluate(
        "(kind) => document.head.append("
        "Object.assign(document.createElement(kind), {textContent: 'window.hurt=1'}))",
        kind,
    )
    visitor.page.wait_for_timeout(100)
    assert any("CSP: " in one for one in visitor.problems)
    assert visitor.page.evaluate("window.hurt") is None
    visitor.problems.clear()
