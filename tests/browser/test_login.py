"""A browser logs in with the token, also below the path of a proxy."""

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.accessibility import grave_findings
from tests.browser.browsing import Visitor
from tests.browser.recording import QUICK, OrderedExchange, Recording, open_recording
from tests.browser.views import open_overview

TOKEN = "correct-horse-battery-staple-1234567890"


def test_a_token_opens_the_page_below_a_path(
    exchange: OrderedExchange, visit: Callable[..., Visitor], tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    access = f'root_path = "/recorder"\ntoken_file = "{token}"\n'
    with open_recording(tmp_path / "recorder", exchange, tables=QUICK + access) as recording:
        visitor = visit("phone", "light")
        page = visitor.page
        below = Recording(recording.program, f"{recording.url}recorder/", recording.store)
        page.goto(f"{below.url}?zoom=hour")
        assert grave_findings(page) == []
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_be_visible()
        page.get_by_label("Token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.get_by_role("treegrid")).to_be_visible()
        # The address that was asked for is not lost.
        expect(page.get_by_role("button", name="Hours")).to_have_attribute("aria-pressed", "true")
        open_overview(page, below).expect_verdict("ok")
        page.reload()
        expect(page.get_by_role("treegrid")).to_be_visible()
        # That the token is wanted is an error in the console, too.
        visitor.problems = [one for one in visitor.problems if "status of 401" not in one]
