"""The commands compact, vacuum and status, as a user types them."""

import json
import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from kline_trio.commands.cli import main
from kline_trio.lake.lease import take
from kline_trio.lake.location import Location
from kline_trio.lake.merge import merge_rows
from kline_trio.lake.objects import Objects
from kline_trio.lake.presence import Presence, write_presence
from kline_trio.sharding import Shard
from tests.lake.rows import START, minutes
from tests.lake.servers import (
    ADMIN,
    Credentials,
    Server,
    environment_of,
    free_port,
    location_of,
)
from tests.storage.support import BTC, write_minutes


def no_pause(_: int) -> None:
    pass


def publish_hours(location: Location) -> None:
    for hour in range(3):
        merge_rows(location, minutes(["A", "B"], START + timedelta(hours=hour), 60), no_pause)


@pytest.fixture
def folder(folder_lake: Location) -> str:
    publish_hours(folder_lake)
    return folder_lake.url


Captured = pytest.CaptureFixture[str]


def test_compact_says_what_became_of_the_files(folder: str, capsys: Captured) -> None:
    assert main(["compact", folder]) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"{folder}: 3 files became 1 file, ")
    assert line.endswith(" bytes, 360 rows\n")
    assert main(["compact", folder]) == 0
    assert capsys.readouterr().out == f"{folder}: is compact already\n"


def test_compact_leaves_a_lake_alone_that_another_program_compacts(
    folder: str, capsys: Captured
) -> None:
    held = take(Objects.of(Location(folder)), "other")
    assert held is not None
    assert main(["compact", folder]) == 0
    assert "compacts it now: nothing was done" in capsys.readouterr().out
    held.give_back()


def test_vacuum_removes_nothing_young_and_says_so(folder: str, capsys: Captured) -> None:
    main(["compact", folder])
    capsys.readouterr()
    assert main(["vacuum", folder, "--dry-run"]) == 0
    assert capsys.readouterr().out == f"{folder}: 0 files older than 7 d would be removed\n"
    assert main(["vacuum", folder, "--retention", "24h"]) == 0
    assert capsys.readouterr().out == f"{folder}: 0 files older than 24 h removed\n"
    assert main(["vacuum", folder, "--retention", "23h"]) == 2
    assert "24 h are the least" in capsys.readouterr().err


def test_status_shows_tables_candles_and_recorders(folder: str, capsys: Captured) -> None:
    shard, published = Shard(1, 2), START.timestamp()
    presence = Presence(
        recorder="rec-a", host="tokyo-1", version="1", shard=shard, copies=2, series=3,
        unpublished=1_200, published=published, address_group="office", clock_error_seconds=2.0,
    )  # fmt: skip
    write_presence(Objects.of(Location(folder)), presence)
    assert main(["status", folder]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{folder}: 360 candles"
    assert lines[1].startswith("table candles: version 3, 3 files, ")
    assert lines[2].startswith("spot 1m: 3 files, ")
    assert "360 rows, the last candle began 2026-10-01 02:59:00, " in lines[2]
    assert lines[3].startswith("recorder rec-a on tokyo-1: shard 1/2, seen 0 s ago, published ")
    assert lines[3].endswith("1,200 candles behind, 3 series, address group office, its clock +2 s")
    assert len(lines) == 4


def test_status_speaks_json_to_programs(folder: str, capsys: Captured) -> None:
    assert main(["status", folder, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["tables"][0]["rows"] == 360


def test_status_counts_what_a_store_has_not_published(
    folder: str, tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "data"
    store = write_minutes(path, 30, 5)
    store.journal.begin_lake("rec-a", "id", [BTC])
    store.close()
    assert main(["status", folder, "--local", str(path)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"store {path}: recorder rec-a, 35 candles are unpublished"


@pytest.mark.parametrize("option", [["--live"], ["--all"], ["--max-age", "5m"]])
def test_options_about_a_store_are_refused_for_a_lake(
    folder: str, option: Sequence[str], capsys: Captured
) -> None:
    assert main(["status", folder, *option]) == 2
    assert "is about a store" in capsys.readouterr().err


def test_a_recorder_toml_names_the_lake(folder: str, tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "recorder.toml"
    file.write_text(f'[streams.spot]\n1m = ["BTCUSDT"]\n[lake]\nurl = "{folder}"\n')
    assert main(["compact", str(file)]) == 0
    assert "3 files became 1 file" in capsys.readouterr().out


def test_a_place_without_a_lake_is_an_error(tmp_path: Path, capsys: Captured) -> None:
    for command in ("compact", "vacuum"):
        assert main([command, str(tmp_path)]) == 2
        assert "there is no lake" in capsys.readouterr().err


def test_commands_reach_an_object_store_by_the_environment(
    seaweed: Server, prefix: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    for name, value in environment_of(seaweed).items():
        monkeypatch.setenv(name, value)
    location = location_of(seaweed, prefix)
    assert main(["status", location.url]) == 2
    assert "publish first" in capsys.readouterr().err
    publish_hours(location)
    assert main(["status", location.url]) == 0
    assert main(["compact", location.url]) == 0
    assert main(["vacuum", location.url]) == 0
    assert "3 files became 1 file" in capsys.readouterr().out


PLANTED = Credentials("PLANTEDKEYOFATEST", "planted/secret+of/a/test")


@pytest.mark.parametrize("fault", ["refused", "gone", "no name", "careless", "none"])
def test_credentials_are_in_no_output_error_or_traceback(
    fault: str,
    request: pytest.FixtureRequest,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Also with --debug, and if the object store quotes what it was sent."""
    caplog.set_level(logging.DEBUG)
    servers: dict[str, Callable[[], Server]] = {
        "refused": lambda: request.getfixturevalue("seaweed"),
        "gone": lambda: Server(f"http://127.0.0.1:{free_port()}"),
        "no name": lambda: Server("https://no-such-host.invalid"),
        "careless": lambda: request.getfixturevalue("careless"),
        "none": lambda: request.getfixturevalue("memory"),
    }
    server = servers[fault]()
    for name, value in environment_of(server, PLANTED).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "planted-token-of-a-test")
    url = f"s3://{server.bucket}/{prefix}"
    if fault == "none":
        publish_hours(location_of(server, prefix, ADMIN))
    for command in (["status"], ["compact", "--debug"], ["vacuum", "--debug"]):
        main([*command, url])
    printed = capfd.readouterr()
    shown = printed.out + printed.err + caplog.text
    assert shown
    for secret in (PLANTED.key, PLANTED.secret, "planted-token-of-a-test"):
        assert secret not in shown
