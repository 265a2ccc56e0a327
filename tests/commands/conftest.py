"""What several tests of commands need."""

from pathlib import Path

import pytest

from kline_trio.config import Config, StoreConfig
from tests.builders import SPOT
from tests.commands.examined import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(Config(streams=(SPOT,), store=StoreConfig(path=tmp_path / "data")))
