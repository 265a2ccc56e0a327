"""The page as its users find their way in it: by roles, names and texts."""

import attrs
from playwright.sync_api import Locator, Page, expect

from tests.browser.recording import Recording

__all__ = ["Overview", "open_overview"]

_MOST_ROWS = 60


@attrs.frozen
class Overview:
    """The first view."""

    page: Page

    @property
    def sentence(self) -> Locator:
        """What says whether all is well."""
        return self.page.locator("#sentence")

    @property
    def reasons(self) -> Locator:
        """Why not."""
        return self.page.locator("#reasons")

    @property
    def grid(self) -> Locator:
        """The calendar."""
        return self.page.get_by_role("treegrid")

    @property
    def events(self) -> Locator:
        """The log."""
        return self.page.get_by_role("list", name="Events")

    def row(self, name: str) -> Locator:
        """The row of the calendar whose label has a name."""
        label = self.page.get_by_role("rowheader").filter(has_text=name)
        return self.grid.get_by_role("row").filter(has=label)

    def cells(self, name: str) -> Locator:
        """What says in words what the cells of a row hold."""
        return self.row(name).locator("[aria-label*='of all time']")

    def expect_verdict(self, verdict: str, seconds: float = 60) -> None:
        """Wait until the page has come to a verdict."""
        body = self.page.locator("body")
        expect(body).to_have_attribute("data-verdict", verdict, timeout=seconds * 1e3)

    def active_cell(self) -> str:
        """Return what a screen reader reads of the cell that has the focus."""
        text: str | None = self.page.evaluate(
            "() => document.getElementById(document.activeElement"
            ".getAttribute('aria-activedescendant'))?.getAttribute('aria-label')"
        )
        return text or ""

    def focus_row(self, name: str) -> None:
        """Go to the newest cell of a row by the keyboard alone."""
        self.page.keyboard.press("Tab")
        for _ in range(_MOST_ROWS):
            if self.page.evaluate("document.activeElement.getAttribute('role')") == "treegrid":
                break
            self.page.keyboard.press("Tab")
        else:
            raise AssertionError("the calendar cannot be reached by Tab")
        self.page.keyboard.press("Control+Home")
        self.page.keyboard.press("End")
        for _ in range(_MOST_ROWS):
            if self.active_cell().startswith(name):
                return
            self.page.keyboard.press("ArrowDown")
        raise AssertionError(f"no row {name!r} can be reached by arrows: {self.active_cell()!r}")


def open_overview(page: Page, recording: Recording) -> Overview:
    """Open the page, and wait for the calendar."""
    page.goto(recording.url)
    overview = Overview(page)
    overview.grid.get_by_role("row").first.wait_for(timeout=60_000)
    return overview
