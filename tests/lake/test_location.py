"""Which folders and addresses can be a lake, and how its libraries reach it."""

from pathlib import Path

import pytest

from kline_trio.config.lake import LakeConfig
from kline_trio.errors import ConfigError
from kline_trio.lake.location import Location
from kline_trio.lake.merge import merge_rows
from tests.lake.servers import ADMIN, Server, location_of
from tests.lake.support import by_key, lake_candles, no_pause
from tests.lake.test_merge import row, table


def from_folder(path: Path) -> Location:
    return Location.from_config(LakeConfig(url=path), {})


@pytest.mark.parametrize(
    "name",
    ["my lake", "50%", "a#b", "a?b", "kérzen", "币安", "a'b", "a=b", "c++", "-x", 'q"x', "a:b"],
)
def test_a_folder_may_have_most_names(tmp_path: Path, name: str) -> None:
    location = from_folder(tmp_path / name)
    merge_rows(location, table([row(0)]), no_pause)
    assert lake_candles(location) == by_key(table([row(0)]))
    assert (tmp_path / name / "candles" / "_delta_log").is_dir()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a%20b", "a[b]", "a\\b"])
def test_a_folder_that_deltalake_would_take_for_another_is_refused(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match="in its path"):
        from_folder(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("prefix", ["a!_.*'()-b", "A.B/c", "x/y/z", "_kline_trio", "a..b"])
def test_a_prefix_in_a_bucket_may_have_each_plain_character(seaweed: Server, prefix: str) -> None:
    location = location_of(seaweed, f"names/{prefix}")
    merge_rows(location, table([row(0)]), no_pause)
    assert lake_candles(location) == by_key(table([row(0)]))


def test_no_secret_is_shown(seaweed: Server) -> None:
    location = location_of(seaweed, "x")
    for shown in (repr(location), str(location), location.url, location.table_url("candles")):
        assert ADMIN.secret not in shown
        assert ADMIN.key not in shown
