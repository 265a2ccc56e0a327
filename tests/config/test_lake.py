"""The table `[lake]`: each key, and each wrong value with its line and what to write instead."""

from contextlib import suppress
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.config import Config
from kline_trio.config.lake import LakeConfig, read_url
from kline_trio.errors import ConfigError
from kline_trio.sharding import Shard

STREAMS = '[streams.spot]\n1m = ["BTCUSDT"]\n'
URL = 'url = "s3://bucket/klines"\n'


def lake(text: str) -> LakeConfig:
    text = f"{STREAMS}[lake]\n{text}\n"
    return Config.from_text(text, name="recorder.toml", folder=Path("/there")).lake


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        lake(text)
    return caught.value.problems


def test_by_default_nothing_is_published() -> None:
    assert lake("") == LakeConfig()
    assert LakeConfig().url is None


def test_all_that_can_be_set_is_set() -> None:
    found = lake(
        'url = "s3://bucket/a/klines/"\nendpoint = "https://s3.example.org/"\n'
        'region = "eu-central-1"\nprofile = "lake"\npath_style = false\nallow_http = true\n'
        "publish_seconds = 60\npublish_at_stop = true\nlate_seconds = 120.5\nmemory_mb = 1024\n"
        'shard = "2/4"\ncopies = 2\naddress_group = "office"\nhandover_seconds = 60\n'
        'upkeep_seconds = 600\ncompact = false\nprune_after = "90d"\n'
    )
    assert found == LakeConfig(
        url="s3://bucket/a/klines",
        endpoint="https://s3.example.org",
        region="eu-central-1",
        profile="lake",
        path_style=False,
        allow_http=True,
        publish_seconds=60,
        publish_at_stop=True,
        late_seconds=120.5,
        memory_mb=1_024,
        shard=Shard(2, 4),
        copies=2,
        address_group="office",
        handover_seconds=60,
        upkeep_seconds=600,
        compact=False,
        prune_after=90 * 86_400.0,
    )
    changed = [
        one.name for one in attrs.fields(LakeConfig) if one.default != getattr(found, one.name)
    ]
    assert changed == [one.name for one in attrs.fields(LakeConfig)]


def test_a_folder_of_the_file_stands_beside_it() -> None:
    assert lake('url = "lake"\n').url == Path("/there/lake")
    assert lake('url = "/lake"\n').url == Path("/lake")


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("data", "is in the folder of the store"),
        ("data/lake", "is in the folder of the store"),
        (".", "holds the folder of the store"),
        ("/", "holds the folder of the store"),
    ],
)
def test_a_lake_and_a_store_are_not_in_each_other(folder: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        lake(f'url = "{folder}"\n')
    assert lake('url = "data-lake"\n').url == Path("/there/data-lake")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('url = "https://bucket/x"', "only s3:// addresses and folders"),
        ('url = "s3://"', "names no bucket"),
        ('url = "s3://B_ucket/x"', "names no bucket"),
        ('url = "s3://bucket//x"', "plain names"),
        ('url = "s3://bucket/../x"', "plain names"),
        ('url = "s3://bucket/a b"', "plain names"),
        ('url = ""', "s3://bucket/klines"),
        ("url = 3", "url"),
        (f'{URL}endpoint = "s3.example.org"', "https://s3.example.org"),
        (f'{URL}endpoint = "https://user:secret@host"', "without a user or a password"),
        (f'{URL}endpoint = "https://host:99999"', "endpoint"),
        (f'{URL}endpoint = "http://192.0.2.7:9000"', "allow_http = true"),
        (f'{URL}region = "a b"', "plain characters"),
        (f'{URL}profile = ""', "plain characters"),
        (f'{URL}path_style = "yes"', "true or false"),
        (f"{URL}publish_seconds = 0", "publish_seconds"),
        (f"{URL}late_seconds = -1", "late_seconds"),
        (f"{URL}memory_mb = 255", "256"),
        (f"{URL}memory_mb = true", "256"),
        (f'{URL}shard = "5/4"', "shard"),
        (f"{URL}copies = 0", "copies"),
        ('region = "eu"', 'url = "s3://bucket/klines"'),
        ('url = "lake"\nregion = "eu"', "is a folder"),
        (f"{URL}prune = 3", "prune"),
    ],
)
def test_a_wrong_value_is_named_with_its_line(line: str, words: str) -> None:
    [problem] = problems(line)
    assert words in problem
    assert "lake" in problem
    assert "\n" not in problem


def test_no_secret_of_an_endpoint_is_shown() -> None:
    found = problems(f'{URL}endpoint = "https://user:my-secret@host"')
    assert "my-secret" not in "".join(found)


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:9000", "http://localhost", "http://[::1]:1"]
)
def test_a_loopback_endpoint_needs_no_tls(endpoint: str) -> None:
    assert lake(f'{URL}endpoint = "{endpoint}"').endpoint == endpoint


def test_a_program_is_refused_too() -> None:
    for wrong in (
        {"url": 3},
        {"copies": 0},
        {"memory_mb": 1},
        {"shard": "2/4"},
        {"url": "ftp://x"},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            LakeConfig(**wrong)


@given(st.text(max_size=40))
def test_any_text_is_an_address_a_folder_or_refused(text: str) -> None:
    for shown in (text, f"s3://{text}", f"s3://bucket/{text}"):
        with suppress(ValueError):
            found = read_url(shown)
            assert isinstance(found, Path) or found.startswith("s3://")
