"""What `doctor` finds out about a lake, with each kind of fault."""

import time
from pathlib import Path

import attrs
import pytest

from kline_trio.config.lake import LakeConfig
from kline_trio.lake.inspection import LakeReport, inspect_lake
from kline_trio.lake.location import Location
from kline_trio.lake.objects import SCRATCH, Objects
from kline_trio.lake.tables import made_table
from tests.lake.servers import (
    ADMIN,
    READER,
    STRANGER,
    Credentials,
    Server,
    environment_of,
    free_port,
    location_of,
)


def config_of(
    monkeypatch: pytest.MonkeyPatch,
    server: Server,
    prefix: str,
    credentials: Credentials = ADMIN,
) -> LakeConfig:
    for name, value in environment_of(server, credentials).items():
        monkeypatch.setenv(name, value)
    return LakeConfig(url=f"s3://{server.bucket}/{prefix}")


def only(report: LakeReport) -> dict[str, object]:
    """Return what a report says beside its address."""
    values = attrs.asdict(report, filter=lambda one, value: value != one.default)
    del values["url"]
    return values


def test_a_good_lake_is_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch, seaweed: Server, prefix: str
) -> None:
    config = config_of(monkeypatch, seaweed, prefix)
    empty = inspect_lake(config)
    assert empty.clock_error_seconds == pytest.approx(0, abs=5)
    assert only(attrs.evolve(empty, clock_error_seconds=None)) == {}
    location = location_of(seaweed, prefix)
    made_table(location, "candles")
    report = inspect_lake(config)
    assert only(attrs.evolve(report, clock_error_seconds=None)) == {"tables": ("candles",)}
    assert Objects.of(location).list(SCRATCH) == []


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    report = inspect_lake(LakeConfig(url=tmp_path / "lake"))
    assert only(report) == {"is_new_folder": True}
    assert list(tmp_path.iterdir()) == []


def test_what_else_is_there_is_named(folder_lake: Location) -> None:
    made_table(folder_lake, "candles")
    root = Path(folder_lake.url)
    (root / "photos").mkdir()
    (root / "photos" / "1.jpg").write_bytes(b"x")
    (root / "readme.txt").write_bytes(b"x")
    (root / "coverage").mkdir()
    (root / "coverage" / "x.parquet").write_bytes(b"x")
    report = inspect_lake(LakeConfig(url=root))
    assert report.foreign == ("photos", "readme.txt")
    assert report.tables == ("candles",)
    [wrong] = report.wrong_tables
    assert wrong.endswith("coverage: holds files, and is no table")


def test_a_table_of_others_is_named(folder_lake: Location) -> None:
    import pyarrow as pa
    from deltalake import write_deltalake

    Path(folder_lake.url).mkdir()
    write_deltalake(folder_lake.table_url("candles"), pa.table({"a": [1]}))
    report = inspect_lake(LakeConfig(url=Path(folder_lake.url)))
    [wrong] = report.wrong_tables
    assert "kline_trio did not make" in wrong
    assert set(only(report)) == {"wrong_tables"}
    assert [one.name for one in Path(folder_lake.url).iterdir()] == ["candles"]


def test_a_server_that_ignores_conditions_is_named(
    monkeypatch: pytest.MonkeyPatch, careless: Server, prefix: str
) -> None:
    report = inspect_lake(config_of(monkeypatch, careless, prefix))
    assert report.unsafe is not None
    assert "If-None-Match" in report.unsafe


def test_whoever_may_only_read_cannot_publish(
    monkeypatch: pytest.MonkeyPatch, seaweed: Server, prefix: str
) -> None:
    report = inspect_lake(config_of(monkeypatch, seaweed, prefix, READER))
    assert report.unwritable is not None
    assert set(only(report)) == {"unwritable"}


def test_strangers_are_refused(
    monkeypatch: pytest.MonkeyPatch, seaweed: Server, prefix: str
) -> None:
    report = inspect_lake(config_of(monkeypatch, seaweed, prefix, STRANGER))
    assert set(only(report)) == {"no_credentials"}
    assert STRANGER.secret not in str(report)


def test_without_credentials_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    report = inspect_lake(LakeConfig(url="s3://bucket/klines"))
    assert report.no_credentials is not None
    assert "AWS_ACCESS_KEY_ID" in report.no_credentials


def test_a_server_that_is_not_there_is_unreachable(
    monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    gone = Server(f"http://127.0.0.1:{free_port()}")
    report = inspect_lake(config_of(monkeypatch, gone, prefix))
    assert set(only(report)) == {"unreachable"}


def test_a_wrong_profile_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    report = inspect_lake(LakeConfig(url="s3://bucket/klines", profile="nobody"))
    assert set(only(report)) == {"unconfigured"}


def test_a_wrong_clock_is_measured(folder_lake: Location) -> None:
    made_table(folder_lake, "candles")
    config = LakeConfig(url=Path(folder_lake.url))
    report = inspect_lake(config, lambda: time.time() + 100)
    assert report.clock_error_seconds == pytest.approx(99, abs=2)
