"""Which lake a user means by an address, a folder or a recorder.toml."""

from pathlib import Path

import pytest

from kline_trio.commands.lake_place import lake_of
from kline_trio.config.lake import LakeConfig
from kline_trio.errors import ConfigError
from kline_trio.reading.address import lake_packages

STREAMS = '[streams.spot]\n1m = ["BTCUSDT"]\n'


def test_an_address_is_checked() -> None:
    assert lake_of("s3://bucket/klines/") == (LakeConfig(url="s3://bucket/klines"), None)
    with pytest.raises(ConfigError, match="names no bucket"):
        lake_of("s3://?")


def test_a_recorder_toml_names_its_lake_and_its_store(tmp_path: Path) -> None:
    file = tmp_path / "recorder.toml"
    file.write_text(f'{STREAMS}[lake]\nurl = "s3://bucket/klines"\nregion = "eu-1"\n')
    lake, store = lake_of(file)
    assert (lake.url, lake.region) == ("s3://bucket/klines", "eu-1")
    assert store == tmp_path / "data"


def test_a_recorder_toml_without_a_lake_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "recorder.toml"
    file.write_text(STREAMS)
    with pytest.raises(ConfigError, match=r"names no lake: set url in \[lake\]"):
        lake_of(file)


def test_a_folder_must_be_there(tmp_path: Path) -> None:
    assert lake_of(tmp_path) == (LakeConfig(url=tmp_path), None)
    with pytest.raises(ConfigError, match="there is no lake"):
        lake_of(tmp_path / "absent")


@pytest.mark.parametrize("name", ["deltalake", "obstore.store", "botocore"])
def test_a_missing_package_is_named_with_its_extra(name: str) -> None:
    with pytest.raises(ConfigError, match=r"pip install 'kline-trio\[lake\]'"), lake_packages():
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    with pytest.raises(ModuleNotFoundError), lake_packages():
        raise ModuleNotFoundError("No module named 'x'", name="x")
