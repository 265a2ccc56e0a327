"""One event stream for each browser, and none while nobody looks; a recorder that is gone."""

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.browser.browsing import Visitor, open_context, open_visitor
from tests.browser.counting_proxy import CountingProxy
from tests.browser.recording import OrderedExchange, Recording, open_recording
from tests.browser.views import Overview, open_overview
from tests.end_to_end.harness import wait_until

TABS = 10
HIDE = """
(isHidden) => {
  Object.defineProperty(document, "visibilityState", {
    get: () => (isHidden ? "hidden" : "visible"), configurable: true,
  });
  Object.defineProperty(document, "hidden", { get: () => isHidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}
"""
"""Chromium without a screen shows every tab at once, and hides none."""


def test_ten_tabs_of_a_browser_share_a_stream_and_close_it_when_all_are_hidden(
    chromium: Browser, recording: Recording
) -> None:
    with CountingProxy.running(recording.port) as proxy, ExitStack() as tabs:
        context = open_context(chromium, "desktop", "dark")
        tabs.callback(context.close)
        pages = [
            tabs.enter_context(open_visitor(chromium, context=context)).page for _ in range(TABS)
        ]
        for page in pages:
            open_overview(page, recording.through(proxy.port)).expect_verdict("ok")
        assert proxy.streams == 1
        for page in pages[1:]:
            page.evaluate(HIDE, True)
        pages[0].wait_for_timeout(300)
        assert proxy.streams == 1
        pages[0].evaluate(HIDE, True)
        wait_until(lambda: _after(pages[0], proxy) == 0, "the stream should be closed")
        pages[3].evaluate(HIDE, False)
        wait_until(lambda: _after(pages[3], proxy) == 1, "the stream should be open")
        before = pages[3].locator("#clock").text_content()
        expect(pages[3].locator("#clock")).not_to_have_text(str(before))


def _after(page: Page, proxy: CountingProxy) -> int:
    page.wait_for_timeout(50)
    return proxy.streams


def test_ten_browsers_have_a_stream_each(chromium: Browser, recording: Recording) -> None:
    with CountingProxy.running(recording.port) as proxy, ExitStack() as browsers:
        views = []
        for number in range(TABS):
            size = "phone" if number % 2 else "desktop"
            visitor = browsers.enter_context(open_visitor(chromium, size))
            views.append(open_overview(visitor.page, recording.through(proxy.port)))
        for view in views:
            view.expect_verdict("ok")
            before = view.page.locator("#clock").text_content()
            expect(view.page.locator("#clock")).not_to_have_text(str(before))
        assert proxy.streams == TABS


def test_the_page_says_at_once_that_the_recorder_is_gone_and_finds_it_again(
    exchange: OrderedExchange, visit: Callable[..., Visitor], tmp_path: Path
) -> None:
    visitor = visit("desktop", "light")
    visitor.may_lose_the_server = True
    with open_recording(tmp_path, exchange) as recording:
        view = open_overview(visitor.page, recording)
        view.expect_verdict("ok")
        recording.program.process.kill()
        _says_that_it_is_gone(view, seconds=2)
    with open_recording(tmp_path, exchange, port=recording.port):
        # The page waits longer after each attempt, up to ten seconds.
        view.expect_verdict("ok", 45)
        expect(view.page.get_by_role("alert")).to_be_hidden()
        expect(view.sentence).to_contain_text("series complete")


def test_a_connection_that_is_silent_counts_as_gone(
    recording: Recording, visit: Callable[..., Visitor]
) -> None:
    """Half-open: no end ever comes, and neither does a heartbeat."""
    visitor = visit("phone", "dark")
    visitor.may_lose_the_server = True
    with CountingProxy.running(recording.port) as proxy:
        view = open_overview(visitor.page, recording.through(proxy.port))
        view.expect_verdict("ok")
        proxy.silence()
        _says_that_it_is_gone(view, seconds=20)
        proxy.heal()
        view.expect_verdict("ok", 30)


def _says_that_it_is_gone(view: Overview, seconds: float) -> None:
    view.expect_verdict("gone", seconds)
    expect(view.page.get_by_role("alert")).to_contain_text(
        re.compile("[Nn]o answer|does not answer")
    )
    expect(view.sentence).to_contain_text(re.compile("[Nn]o answer|does not answer"))
    faded = view.page.locator("#overview").evaluate(
        "(one) => getComputedStyle(one).opacity + getComputedStyle(one).filter"
    )
    assert faded != "1none", "what is old should be greyed out"
