"""What axe-core finds on a page."""

from typing import Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

__all__ = ["grave_findings"]

_GRAVE = ("serious", "critical")
_SCHEMES: tuple[Literal["dark", "light"], ...] = ("dark", "light")


def grave_findings(page: Page) -> list[str]:
    """Return what axe-core calls serious or critical, in the dark and in the light."""
    found = []
    for scheme in _SCHEMES:
        page.emulate_media(color_scheme=scheme)
        for one in Axe().run(page).response["violations"]:
            if one["impact"] in _GRAVE:
                nodes = [node["html"][:200] for node in one["nodes"][:3]]
                found.append(f"{scheme}: {one['impact']} {one['id']}: {one['help']}: {nodes}")
    return found
