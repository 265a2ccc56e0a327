"""What the page's own files promise: no inline script or style, nothing from elsewhere."""

import re
from pathlib import Path

import pytest

import kline_trio

STATIC = Path(kline_trio.__file__).parent / "monitor" / "page" / "static"
MODULES = sorted(STATIC.glob("*.js"))
INDEX = (STATIC / "index.html").read_text(encoding="utf-8")
IMPORTS = re.compile(r"""(?:from|import\()\s*["'](\./[^"']+)["']""")


def test_the_page_has_no_inline_script_and_no_inline_style() -> None:
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", INDEX)
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", INDEX, re.DOTALL)
    assert scripts
    assert all("src=" in attributes and not body.strip() for attributes, body in scripts)


def test_what_the_page_names_is_there() -> None:
    named = re.findall(r'(?:href|src)="([^"#?]+\.[a-z]+)"', INDEX)
    assert "main.js" in named
    missing = [one for one in named if not (STATIC / one).is_file()]
    assert not missing


def test_addresses_are_relative_because_a_proxy_may_serve_the_page_below_a_path() -> None:
    assert not re.findall(r'(?:href|src)="(?:/|https?:)[^"]*"', INDEX)


@pytest.mark.parametrize("module", MODULES, ids=lambda one: one.name)
def test_a_module_imports_what_is_there_and_sets_no_html(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    for name in IMPORTS.findall(text):
        assert (STATIC / name).is_file(), name
    # Any text may hold "<script>": an exchange can send it as a symbol.
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    assert len(text.splitlines()) <= 500


def test_modules_that_the_first_view_needs_are_loaded_at_once() -> None:
    preloaded = set(re.findall(r'modulepreload" href="([^"]+)"', INDEX))
    needed, waiting = set(), ["main.js"]
    while waiting:
        name = waiting.pop()
        text = (STATIC / name).read_text(encoding="utf-8")
        for other in re.findall(r"""from\s*["']\./([^"']+)["']""", text):
            if other not in needed:
                needed.add(other)
                waiting.append(other)
    assert preloaded == needed


@pytest.mark.parametrize("name", ["lightweight-charts", "uplot"])
def test_a_library_comes_with_its_licence(name: str) -> None:
    assert (STATIC / "vendor" / f"{name}.js").is_file()
    assert (STATIC / "vendor" / f"{name}.LICENSE.txt").stat().st_size > 500


def test_the_attribution_is_our_own_link_because_the_librarys_needs_an_inline_style() -> None:
    assert "attributionLogo: false" in (STATIC / "series-chart.js").read_text(encoding="utf-8")
    assert "https://www.tradingview.com/" in (STATIC / "status.js").read_text(encoding="utf-8")
