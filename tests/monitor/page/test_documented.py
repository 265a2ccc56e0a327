"""docs/api.md names each endpoint, parameter, key and limit."""

import re
from pathlib import Path
from typing import Any

import attrs
import pytest

from kline_trio.monitor.page import calendar_rows, candles, event_stream, series_rows, zoom
from kline_trio.monitor.page.api import Api
from kline_trio.monitor.page.event_log import MOST_EVENTS, Kind, Tone
from kline_trio.monitor.page.ledger_rows import MOST_GAPS
from kline_trio.monitor.page.parameters import GapState
from kline_trio.monitor.page.sources import StoredSource
from kline_trio.monitor.page.store_answers import MOST_TABLE_ROWS
from kline_trio.storage.calendar import CellState
from tests.monitor.observations import connection, listener, market, statistics
from tests.monitor.page.test_sources import live

TEXT = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    """The part of the page about an endpoint."""
    [found] = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    return str(found)


def words(text: str) -> set[str]:
    return {one for code in re.findall(r"`([^`]+)`", text) for one in re.findall(r"\w+", code)}


async def test_each_endpoint_and_its_parameters_are_described(tmp_path: Path) -> None:
    routes = Api(StoredSource(tmp_path))._routes
    headings = set(re.findall(r"^## (\w+)$", TEXT, re.MULTILINE))
    assert headings == {name.partition("/")[0] for name in routes}
    for name, route in routes.items():
        assert set(route.parameters) <= words(section(name.partition("/")[0])), name


async def test_each_key_of_the_overview_is_described() -> None:
    found = statistics(markets=(market(listener=listener(connection())),))
    values = live(found).moment(None).values(None, None)
    known = words(section("overview"))
    assert set(values) | {"calendar", "events"} <= known
    told: Any = values
    parts = (told["markets"][0], told["connections"][0], told["process"], told["disk"])
    for part in parts:
        assert set(part) <= known


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("series", series_rows.SERIES_COLUMNS),
        ("candles", candles.CANDLE_COLUMNS),
        ("gaps", series_rows.GAP_COLUMNS),
        ("revisions", series_rows.REVISION_COLUMNS),
        ("files", series_rows.FILE_COLUMNS),
        ("events", [*map(str, Kind), *map(str, Tone)]),
        ("gaps", [str(one) for one in GapState]),
        ("series", [one.name.lower() for one in CellState]),
        ("calendar", [str(one) for one in zoom.Zoom]),
        ("calendar", list(attrs.fields_dict(calendar_rows.Row).keys() - {"label", "kind"})),
    ],
)
def test_each_column_and_word_is_described(name: str, columns: list[str]) -> None:
    assert set(columns) <= words(section(name))


def test_the_states_of_cells_are_in_their_order() -> None:
    told = re.findall(r"^\| (\d) \| (.*) \|$", section("calendar"), re.MULTILINE)
    assert [int(number) for number, _ in told] == [int(one) for one in CellState]
    first_words = ["not due", "complete, by", "complete, and", "some are not accounted",
                   "some are absent", "some are pending"]  # fmt: skip
    for (_, text), begin in zip(told, first_words, strict=True):
        assert text.startswith(begin)


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("events", MOST_EVENTS),
        ("events", MOST_GAPS),
        ("calendar", zoom.MOST_CELLS),
        ("calendar", calendar_rows.MOST_ROWS),
        ("candles", candles.MOST_POINTS),
        ("gaps", MOST_TABLE_ROWS),
        ("series", MOST_TABLE_ROWS),
        ("stream", event_stream.MOST_SERIES),
    ],
)
def test_each_limit_is_described(name: str, limit: int) -> None:
    assert f"{limit:,}" in section(name)
