"""What a program names to the readers: a wrong one is refused, and never an empty frame."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kline_trio
from kline_trio.config import Config, StoreConfig
from kline_trio.errors import ConfigError, KlineTrioError
from tests.storage.support import write_minutes

READERS: list[Callable[[Any], object]] = [
    lambda path: kline_trio.read(path, "spot", "BTCUSDT"),
    kline_trio.series,
    kline_trio.coverage,
    kline_trio.revisions,
    kline_trio.universe,
]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    write_minutes(tmp_path / "data", 3, 1).close()
    return tmp_path / "data"


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_a_path_that_is_no_folder(
    reader: Callable[[Any], object], tmp_path: Path
) -> None:
    (tmp_path / "recorder.toml").touch()
    for name in ("nowhere", "recorder.toml", "recorder.toml/data"):
        with pytest.raises(KlineTrioError, match="there is no folder"):
            reader(tmp_path / name)


@pytest.mark.parametrize("path", [b"data", "da\0ta", 5, None, ["data"]])
def test_what_can_be_no_path_is_refused(path: Any) -> None:  # noqa: ANN401
    takers: list[Callable[[Any], object]]
    takers = [*READERS, Config.from_toml, lambda one: StoreConfig(path=one)]
    for reader in takers:
        with pytest.raises(ConfigError, match=r"path.* is wanted"):
            reader(path)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"trade_type": "x"}, "trade_type is one of"),
        ({"trade_type": ["spot"]}, "trade_type is one of"),
        ({"symbol": ["BTCUSDT"]}, "a symbol is a text"),
        ({"symbol": "BTC/USDT"}, "a symbol holds only"),
        ({"symbol": ""}, "a symbol has 1 to"),
        ({"time_interval": "2m"}, "unknown interval"),
        ({"time_interval": ["1m"]}, "unknown interval"),
    ],
)
def test_readers_refuse_a_name_that_can_be_none(
    arguments: dict[str, Any], text: str, store: Path
) -> None:
    with pytest.raises(ValueError, match=text):
        kline_trio.coverage(store, **arguments)
    with pytest.raises(ValueError, match=text):
        kline_trio.read(store, **{"trade_type": "spot", "symbol": "BTCUSDT", **arguments})
    if "trade_type" in arguments:
        with pytest.raises(ValueError, match=text):
            kline_trio.universe(store, **arguments)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"symbols": []}, "name at least one symbol"),
        ({"symbols": [1]}, "symbols are texts"),
        ({"symbols": 5}, "symbols are texts"),
        ({"symbols": b"BTCUSDT"}, "symbols are texts"),
        ({"symbols": "BTCUSDT", "columns": 5}, "columns are texts"),
        ({"symbols": "BTCUSDT", "columns": [None]}, "columns are texts"),
    ],
)
def test_symbols_and_columns_are_texts(arguments: dict[str, Any], text: str, store: Path) -> None:
    with pytest.raises(ValueError, match=text):
        kline_trio.read(store, "spot", **arguments)


def test_one_text_is_one_symbol_or_one_column(store: Path) -> None:
    one = kline_trio.read(store, "spot", symbols="btcusdt", columns="close")
    assert one.equals(kline_trio.read(store, "spot", symbols=["BTCUSDT"], columns=["close"]))
    assert len(one) == 4
