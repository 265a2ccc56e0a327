"""The documentation site: it builds without a warning, and has what the code has."""

import html
import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

import kline_trio
from kline_trio.commands import cli
from kline_trio.config import Config

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    place = tmp_path_factory.mktemp("site")
    words = ["-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    folders = ["-d", str(place / "doctrees"), str(DOCS), str(place / "html")]
    done = subprocess.run(
        [sys.executable, *words, *folders],
        capture_output=True, text=True, check=False, timeout=300, cwd=DOCS.parent,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return place / "html"


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The extension that describes the keys."""
    monkeypatch.syspath_prepend(DOCS / "_ext")
    return importlib.import_module("keys_of_the_configuration")


def test_every_page_of_docs_is_in_the_site(site: Path) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        assert (site / f"{page.stem}.html").is_file()
        assert page.stem == "index" or f'href="{page.stem}.html"' in index


def test_every_key_of_the_configuration_is_described(site: Path) -> None:
    text = (site / "configuration.html").read_text(encoding="utf-8")
    expected = {"endpoints.archive"}
    fields: dict[str, Any] = attrs.fields_dict(Config)
    for name, field in fields.items():
        if attrs.has(type(field.default)) and name not in ("streams", "patterns", "endpoints"):
            expected |= {f"{name}.{one.name}" for one in attrs.fields(type(field.default))}
    for market in fields["endpoints"].default.factory():
        expected |= {f"endpoints.{market}.{key}" for key in ("websocket", "rest")}
    assert expected == set(re.findall(r'id="confval-([\w.]+)"', text))


def test_a_key_has_default_bounds_and_meaning(keys: ModuleType) -> None:
    found = {one.name: one for one in keys.keys_of("connection")}
    assert found["connection.max_age_hours"] == keys.Key(
        "connection.max_age_hours",
        "`23`",
        "a number of hours from 0.1 to below 24",
        "Replace a connection at this age. The exchange closes it after 24 hours.",
    )
    assert found["connection.proxy"].default == "not set"
    [archive] = keys.keys_of("endpoints")
    assert archive.default == '`"https://data.binance.vision"`'


def test_a_default_of_the_reference_is_the_one_of_the_loader(
    keys: ModuleType, tmp_path: Path
) -> None:
    """All that are set, written as the reference shows them, change nothing."""
    streams = '[streams.spot]\n1m = ["BTCUSDT"]\n'
    tables = []
    for table in [*keys.tables(), "endpoints"]:
        lines = [
            f"{one.name.removeprefix(f'{table}.')} = {one.default.strip('`')}"
            for one in keys.keys_of(table)
            if one.default != "not set"
        ]
        tables.append("\n".join([f"[{table}]", *lines]))
    written = Config.from_text(streams + "\n".join(tables), name="all", folder=tmp_path)
    assert written == Config.from_text(streams, name="none", folder=tmp_path)


def test_every_command_and_option_is_described(site: Path) -> None:
    text = html.unescape(re.sub(r"<[^>]+>", "", (site / "commands.html").read_text("utf-8")))
    for name in cli._COMMANDS:
        assert f"kline-trio {name}" in text
    for action in cli._parser()._actions:
        choices = action.choices if isinstance(action.choices, dict) else {}
        for name, parser in choices.items():
            for option in (one for each in parser._actions for one in each.option_strings):
                assert option in ("-h", "--help") or option in text, (name, option)


def test_every_public_name_is_described(site: Path) -> None:
    text = (site / "python.html").read_text(encoding="utf-8")
    for name in kline_trio.__all__:
        assert f'id="kline_trio.{name}"' in text, name


def test_a_test_that_a_guarantee_names_is_there() -> None:
    text = (DOCS / "guarantees.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/.]+)`", text))
    assert len(named) > 10
    for path in named:
        assert (DOCS.parent / path).exists(), path


def test_figures_of_other_tools_are_those_of_the_benchmarks() -> None:
    text = (DOCS / "comparison.md").read_text(encoding="utf-8")
    measured = text.partition("## Measured")[2].partition("## Limits")[0]
    table = "\n".join(line for line in measured.splitlines() if line.startswith("|"))
    figures = re.findall(r"\b[\d,.]*\d(?= [mµ]s\b)|\b\d{2,3},\d{3}\b", table)
    assert len(figures) > 20
    benchmarks = (DOCS.parent / "benchmarks" / "README.md").read_text(encoding="utf-8")
    known = set(re.findall(r"[\d,.]*\d", benchmarks))
    for figure in figures:
        assert figure in known, figure
