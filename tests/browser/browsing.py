"""Chromium, and pages of it that note whatever goes wrong in them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import attrs
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

__all__ = ["SIZES", "Scheme", "Visitor", "chromium_path", "open_chromium", "open_visitor"]

SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
Scheme = Literal["dark", "light"]
_REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => console.error(
  `CSP: ${event.violatedDirective} forbids ${event.blockedURI || "inline"} of ${event.sourceFile}`
));
"""
"""Chromium logs violations too, but not those that a script of the page is told of first."""
_UNREACHABLE = ("net::ERR_CONNECTION_", "net::ERR_EMPTY_RESPONSE", "net::ERR_INCOMPLETE_CHUNKED")
_WAIT_MS = 30_000.0


def chromium_path() -> str | None:
    """Return where Debian's Chromium is; None: it is not installed."""
    return shutil.which("chromium")


@contextmanager
def open_chromium(path: str) -> Iterator[Browser]:
    """Run Chromium without a screen while the body runs."""
    expect.set_options(timeout=_WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--hide-scrollbars"])
        try:
            yield browser
        finally:
            browser.close()


@attrs.define(eq=False)
class Visitor:
    """One tab, and what its console says."""

    page: Page
    problems: list[str] = attrs.field(factory=list)
    """Errors and warnings, violations of the content security policy among them."""
    may_lose_the_server: bool = False
    """Whether it is no problem that nobody answers."""

    def __attrs_post_init__(self) -> None:
        self.page.set_default_timeout(_WAIT_MS)
        # A lambda: Playwright keeps notes in the object that has a bound method, which has slots.
        self.page.on("console", lambda message: self._hear(message))
        self.page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        if self.may_lose_the_server and any(code in message.text for code in _UNREACHABLE):
            return
        self.problems.append(f"{message.type}: {message.text} ({message.location.get('url')})")


@contextmanager
def open_visitor(
    browser: Browser,
    size: str = "desktop",
    scheme: Scheme = "dark",
    context: BrowserContext | None = None,
) -> Iterator[Visitor]:
    """Open a tab while the body runs.

    Args:
      browser: where.
      size: a key of `SIZES`. A phone has a touch screen, and two pixels for each of its points.
      scheme: what the system prefers.
      context: the cookies and workers to share with other tabs; None: those of a new browser.

    Raises:
      AssertionError: the page wrote an error or a warning to its console.
    """
    owned = None if context is not None else open_context(browser, size, scheme)
    found = context or owned
    assert found is not None
    try:
        visitor = Visitor(found.new_page())
        yield visitor
        assert not visitor.problems, "\n".join(visitor.problems)
    finally:
        if owned is not None:
            owned.close()


def open_context(browser: Browser, size: str, scheme: Scheme) -> BrowserContext:
    """Return what is a browser of its own to the server."""
    width, height = SIZES[size]
    is_phone = size == "phone"
    context = browser.new_context(
        viewport={"width": width, "height": height},
        device_scale_factor=2 if is_phone else 1,
        is_mobile=is_phone,
        has_touch=is_phone,
        color_scheme=scheme,
        locale="en-GB",
        timezone_id="UTC",
    )
    context.add_init_script(_REPORT_VIOLATIONS)
    return context
