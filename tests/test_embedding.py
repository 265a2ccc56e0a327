"""kline_trio within another program: wrong values are named, its log is not flooded."""

import asyncio
import logging
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import kline_trio
from kline_trio.config import (
    CompletenessConfig,
    Config,
    ConnectionConfig,
    EndpointConfig,
    HistoryConfig,
    RestConfig,
    StoreConfig,
    UniverseConfig,
)
from kline_trio.exchange.http import http_client
from kline_trio.recorder.broadcast import Broadcast
from kline_trio.selection import Rule, Selection
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.symbols import series_of
from tests.builders import SPOT

ROOT = Path(__file__).parents[1]
COIN = kline_trio.Series("coin_futures", "BTCUSD_PERP", "1s")
ALL = Selection("usdt_futures", "1s", (Rule(pattern="*"),))
LONG = Layout("x" * 300 + "_" + DEFAULT_LAYOUT)
HOSTS = ("https://a",)
URLS = ("wss://a/stream",)
NAIVE = datetime(2024, 1, 1)  # noqa: DTZ001 - what is refused


@pytest.mark.parametrize(
    ("kind", "values", "place"),
    [
        (Config, {"streams": ("BTCUSDT",)}, "Config.streams"),
        (Config, {"streams": "BTCUSDT"}, "Config.streams"),
        (Config, {"streams": SPOT}, "Config.streams"),
        (Config, {"streams": [SPOT]}, "Config.streams"),
        (Config, {"streams": (SPOT,), "patterns": ("*USDT",)}, "Config.patterns"),
        (Config, {"streams": (SPOT,), "store": "data"}, "Config.store"),
        (Config, {"streams": (SPOT,), "store": StoreConfig}, "Config.store"),
        (Config, {"streams": (SPOT,), "connection": {"redundancy": 2}}, "Config.connection"),
        (Config, {"streams": (SPOT,), "endpoints": {}}, "Config.endpoints"),
        (Config, {"streams": (SPOT,), "history": NAIVE}, "Config.history"),
        (Config, {"streams": (SPOT,), "archive": ("https://a",)}, "Config.archive"),
        (StoreConfig, {"path": 7}, "StoreConfig.path"),
        (StoreConfig, {"layout": "{symbol}.parquet"}, "StoreConfig.layout"),
        (StoreConfig, {"merge_seconds": "60"}, "StoreConfig.merge_seconds"),
        (StoreConfig, {"drain_seconds": -1}, "StoreConfig.drain_seconds"),
        (StoreConfig, {"max_merge_seconds": math.nan}, "StoreConfig.max_merge_seconds"),
        (StoreConfig, {"journal_rows_in_memory": 0}, "StoreConfig.journal_rows_in_memory"),
        (EndpointConfig, {"websocket": "wss://a", "rest": URLS}, "EndpointConfig.websocket"),
        (EndpointConfig, {"websocket": URLS, "rest": ()}, "EndpointConfig.rest"),
        (ConnectionConfig, {"redundancy": 1.5}, "ConnectionConfig.redundancy"),
        (ConnectionConfig, {"redundancy": True}, "ConnectionConfig.redundancy"),
        (ConnectionConfig, {"stall_seconds": None}, "ConnectionConfig.stall_seconds"),
        (ConnectionConfig, {"ca_file": 7}, "ConnectionConfig.ca_file"),
        (ConnectionConfig, {"proxy": b"http://me:secret@a"}, "ConnectionConfig.proxy"),
        (UniverseConfig, {"refresh_seconds": "10m"}, "UniverseConfig.refresh_seconds"),
        (CompletenessConfig, {"attempts": "4"}, "CompletenessConfig.attempts"),
        (RestConfig, {"weight_share": 50}, "RestConfig.weight_share"),
        (HistoryConfig, {"since": "2024-01-01"}, "HistoryConfig.since"),
        (HistoryConfig, {"since": NAIVE}, "HistoryConfig.since"),
    ],
)
def test_a_value_of_a_wrong_type_is_named_where_it_is_given(
    kind: Callable[..., object], values: dict[str, Any], place: str
) -> None:
    with pytest.raises(kline_trio.ConfigError) as caught:
        kind(**values)
    assert str(caught.value).startswith(f"{place}: ")
    assert "is wanted, not " in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "values", "text"),
    [
        (EndpointConfig, {"websocket": ("nonsense",), "rest": HOSTS}, "'nonsense' is no wss://"),
        (EndpointConfig, {"websocket": ("http://x/",), "rest": HOSTS}, "'http://x' is no wss://"),
        (EndpointConfig, {"websocket": URLS, "rest": ("nonsense",)}, "'nonsense' is no https://"),
        (EndpointConfig, {"websocket": URLS, "rest": ("",)}, "'' is no https://"),
        (Config, {"streams": (SPOT,), "archive": "nonsense"}, "Config.archive: 'nonsense' is no"),
        (Config, {"streams": ()}, "Config.streams: nothing to record"),
        (Config, {"streams": (COIN,)}, "intervals that the markets have is wanted, not (Series("),
        (Config, {"streams": (), "patterns": (ALL,)}, "intervals that the markets have is wanted"),
        (ConnectionConfig, {"proxy": "gopher://me:secret@a"}, "an http:// or socks5:// address"),
        (CompletenessConfig, {"grace_seconds": math.inf}, "a number of seconds from 0 to 31,"),
        (CompletenessConfig, {"attempt_seconds": 0}, "a number of seconds above 0, up to 31,"),
        (ConnectionConfig, {"max_age_hours": math.inf}, "a number of hours from 0 to 8,760"),
        (HistoryConfig, {"since": datetime(1, 1, 1, tzinfo=UTC)}, "HistoryConfig.since: 0001-"),
        (StoreConfig, {"layout": LONG}, "StoreConfig.layout: layout 'xxx"),
        (StoreConfig, {"merge_seconds": 10**400}, "a number of seconds from 0 to 31,536,000"),
    ],
)
def test_what_could_never_work_is_named(
    kind: Callable[..., object], values: dict[str, Any], text: str
) -> None:
    with pytest.raises(kline_trio.ConfigError, match=re.escape(text)) as caught:
        kind(**values)
    assert str(caught.value).startswith(f"{kind.__name__}.")
    assert "secret" not in str(caught.value)


def test_addresses_may_end_in_a_slash_as_in_recorder_toml() -> None:
    endpoints = EndpointConfig(websocket=("wss://a/stream/",), rest=("https://a/",))
    assert endpoints == EndpointConfig(websocket=URLS, rest=HOSTS)
    assert Config(streams=(SPOT,), archive="https://a/").archive == "https://a"


def test_a_program_may_still_use_the_former_name_of_a_value() -> None:
    former: Callable[..., ConnectionConfig] = ConnectionConfig
    patience = former(read_rest_seconds=0.5, redundancy=2)
    assert patience == ConnectionConfig(read_pause_seconds=0.5, redundancy=2)
    assert attrs.evolve(patience, read_pause_seconds=0.1).read_pause_seconds == 0.1
    with pytest.raises(kline_trio.ConfigError, match=r"ConnectionConfig\.read_pause_seconds: "):
        former(read_rest_seconds="0.5")
    with pytest.raises(TypeError, match="read_pose_seconds"):
        former(read_pose_seconds=0.5)


def test_a_right_configuration_can_be_made_and_changed() -> None:
    config = Config(streams=(SPOT,), store=StoreConfig(path=Path("there"), merge_seconds=1))
    ways = attrs.evolve(config.connection, proxy="direct", ca_file=Path("ca.pem"), redundancy=2)
    assert attrs.evolve(config, connection=ways).connection.redundancy == 2


@pytest.mark.parametrize(
    "symbols",
    [(), (["ETHUSDT"],), (("ETHUSDT", "BTCUSDT"),), (None,), (b"ETHUSDT",), ("ETHUSDT", 5)],
)
def test_symbols_are_texts_each_by_itself(symbols: tuple[Any, ...]) -> None:
    with pytest.raises(kline_trio.ConfigError, match=r"each symbol by itself|at least one symbol"):
        series_of("spot", "1m", symbols)


def test_a_series_of_a_symbol_that_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="a symbol is a text, not 5"):
        kline_trio.Series("spot", 5, "1m")  # type: ignore[arg-type]


@pytest.mark.parametrize("waiting", [0, -1, True, 1.5, "10", None])
async def test_a_reader_has_room_for_one_copy_at_least(waiting: Any) -> None:  # noqa: ANN401
    for subscribe in (Broadcast().subscribe, Broadcast().subscribe_fills):
        with pytest.raises(ValueError, match="waiting is at least 1, not"):
            subscribe(waiting)


async def test_what_is_no_configuration_is_refused_before_anything_is_made() -> None:
    with pytest.raises(kline_trio.ConfigError, match=r"Config\.from_toml\(.*, not 'recorder.toml'"):
        async with kline_trio.open_recorder("recorder.toml"):  # type: ignore[arg-type]
            pass


def test_under_asyncio_it_says_what_to_do_instead(tmp_path: Path) -> None:
    config = Config(streams=(SPOT,), store=StoreConfig(path=tmp_path / "data"))

    async def main() -> None:
        async with kline_trio.open_recorder(config):
            pass

    with pytest.raises(RuntimeError, match=r"trio\.run\(main\).*asyncio\.to_thread\(trio\.run"):
        asyncio.run(main())
    assert not (tmp_path / "data").exists()


@pytest.fixture
def levels() -> Iterator[None]:
    names = ("httpx2", "httpcore2", "trio-websocket")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.NOTSET)
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.usefixtures("levels")
async def test_the_libraries_below_are_quiet_unless_the_program_wants_to_hear_them() -> None:
    logging.getLogger("httpcore2").setLevel(logging.DEBUG)
    async with http_client(None, "direct", None, 10):
        await trio.lowlevel.checkpoint()
    assert not logging.getLogger("httpx2").isEnabledFor(logging.INFO)
    assert not logging.getLogger("trio-websocket").isEnabledFor(logging.DEBUG)
    assert logging.getLogger("httpx2").isEnabledFor(logging.WARNING)
    assert logging.getLogger("httpcore2.connection").isEnabledFor(logging.DEBUG)


def start_the_program_of(
    page: str, folder: Path, shown: str = "", changed: str = ""
) -> subprocess.Popen[str]:
    """Run the program that a page shows, with one change, and with an exchange that is nowhere."""
    text = (ROOT / page).read_text(encoding="utf-8")
    [program] = [
        block
        for block in re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        if "trio.run(main)" in block
    ]
    assert shown in program
    nowhere = '= "ws://127.0.0.1:1/stream"\nrest = "http://127.0.0.1:1"\n'
    (folder / "recorder.toml").write_text(
        f'[streams.spot]\n1m = ["BTCUSDT"]\n[endpoints.spot]\nwebsocket {nowhere}'
    )
    (folder / "program.py").write_text(program.replace(shown, changed or shown), encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "program.py"], cwd=folder, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def test_the_readmes_program_ends_cleanly(tmp_path: Path) -> None:
    change = ("move_on_after(600)", "move_on_after(2)")
    with start_the_program_of("README.md", tmp_path, *change) as process:
        try:
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    # Warnings of the exchange that is nowhere may have come.
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert (tmp_path / "data" / ".kline_trio" / "journal.sqlite").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_program_of_the_docs_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    process = start_the_program_of("docs/python.md", tmp_path)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "data" / ".kline_trio" / "journal.sqlite").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    # Warnings of the exchange that is nowhere may have come.
    assert process.returncode == 0, err
    assert "Traceback" not in err
