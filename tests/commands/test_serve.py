"""`serve`: a store on the page, without a recorder, for whom may see it."""

import http.client
import json
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from kline_trio.commands import cli, serve
from kline_trio.config.monitor import MonitorConfig
from kline_trio.monitor.credentials import Credentials
from kline_trio.storage.simulated import simulated_store
from tests.end_to_end.harness import Program
from tests.monitor.http import Answer, Client
from tests.storage.support import at, everything_under, merge_all, minutes, open_accounted

TOKEN = "a-token-of-32-characters-or-more"
STREAMS = '[streams.spot]\n1m = ["BTCUSDT"]\n'
LOCAL = ("--address", "127.0.0.1:0")


CANDLES = f"/api/v1/candles?series=spot/BTCUSDT/1m&from_ms={at(0)}&to_ms={at(100)}"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with thirty minutes in files, and three more in the journal."""
    ours = open_accounted(tmp_path / "data", 33)
    ours.journal.accept(minutes(0, 30))
    merge_all(ours)
    ours.journal.accept(minutes(30, 33))
    ours.close()
    return tmp_path / "data"


def count(body: bytes) -> int:
    """How many candles an answer has."""
    return len(json.loads(body)["open_time_ms"])


@contextmanager
def serving(folder: Path, *words: str) -> Iterator[tuple[Program, int]]:
    """Serve in a process of its own; give the program and its port."""
    program = Program(["-m", "kline_trio", "serve", *words, *LOCAL], folder, measured=True)
    try:
        line = program.wait_for("; Ctrl-C ends it")
        yield program, int(line.partition(" ")[0].rstrip("/").rpartition(":")[2])
    finally:
        program.close()


def get(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_store_is_shown_until_a_signal_and_nothing_is_changed(
    tmp_path: Path, store: Path, number: signal.Signals
) -> None:
    before = everything_under(store)
    with serving(tmp_path, "data") as (program, port):
        [line] = program.out
        assert line == f"http://127.0.0.1:{port}/ shows data; Ctrl-C ends it"
        status, body = get(port, "/api/v1/overview")
        assert status == 200
        overview = json.loads(body)
        assert overview["is_live"] is False
        assert overview["verdict"] == "stopped"
        status, body = get(port, CANDLES)
        assert (status, count(body)) == (200, 33)
        assert get(port, "/metrics")[0] == 404
        assert get(port, "/", Host="evil.test")[0] == 421
        # A stream that is open does not hold it up.
        with socket.create_connection(("127.0.0.1", port), timeout=20) as reader:
            reader.sendall(b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"text/event-stream" in reader.recv(65_536)
            assert program.end(number, seconds=20) == 0
    assert everything_under(store) == before
    assert not [line for line in program.err if "INFO" not in line]


def test_it_ends_by_itself_after_its_time(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", str(store), *LOCAL, "--for", "0.1s"]) == 0
    assert f"/ shows {store}; Ctrl-C ends it\n" in capsys.readouterr().out


def test_a_copy_without_a_journal_is_shown(tmp_path: Path, store: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(store, copy, ignore=shutil.ignore_patterns(".*"))
    with serving(tmp_path, "copy") as (program, port):
        status, body = get(port, CANDLES)
        assert (status, count(body)) == (200, 30)
        assert program.end(signal.SIGTERM, seconds=20) == 0
    assert not (copy / ".kline_trio").exists()


# What cannot be served


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("missing",), "there is no store missing"),
        (("empty",), "there is no store empty, and no candle file"),
        (("recorder.toml",), "there is no store {folder}/nowhere, nor a folder of that name"),
        (("missing.toml",), "missing.toml: "),
        (("data", "--address", "192.0.2.7:1"), "other machines can reach 192.0.2.7:1: add"),
        (("data", "--address", "0.0.0.0:0"), "--address: other machines can reach 0.0.0.0:0"),
        (("data", "--address", "[::]:0"), "FILE, which `python -m kline_trio token FILE` writes"),
        (("data", "--token-file", "missing"), "missing: cannot be read: No such file"),
        (("data", "--token-file", "short"), "short: a token has at least 16 characters"),
        (
            ("data", "--token-file", "token", "--address", "192.0.2.7:1"),
            "192.0.2.7:1: Cannot assign requested address; choose another --address",
        ),
        (
            ("data", "--token-file", "token", "--address", "no-such-host.invalid:1"),
            "no-such-host.invalid:1: ",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_said_in_a_line(
    tmp_path: Path,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    problem: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "recorder.toml").write_text(f'{STREAMS}[store]\npath = "nowhere"\n')
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    (tmp_path / "short").write_text("short")
    assert cli.main(["serve", *words]) == 2
    told = capsys.readouterr()
    lines = [line for line in told.err.splitlines() if "WARNING" not in line]
    assert len(lines) == 1
    assert problem.format(folder=tmp_path) in lines[0]
    assert TOKEN not in told.err
    assert not told.out


def test_a_port_that_is_taken_is_said_in_a_line(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert cli.main(["serve", str(store), "--address", address]) == 2
    wanted = f"{address}: Address already in use; choose another --address\n"
    assert capsys.readouterr().err == wanted


@pytest.mark.parametrize("address", ["8788", "127.0.0.1", "127.0.0.1:x", "http://127.0.0.1:1"])
def test_an_address_that_is_none_is_a_usage_error(
    store: Path, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["serve", str(store), "--address", address])
    assert "is no address such as 127.0.0.1:8787" in capsys.readouterr().err


# How it is served


@pytest.fixture
def chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[MonitorConfig, Credentials]]:
    """How the command would serve, each time."""
    found: list[tuple[MonitorConfig, Credentials]] = []
    real = Credentials.read

    def read(settings: MonitorConfig) -> Credentials:
        found.append((settings, real(settings)))
        return found[-1][1]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Credentials, "read", read)
    monkeypatch.setattr(serve, "run", lambda main, options: None)
    return found


def test_the_default_address_is_beside_that_of_the_monitor(
    store: Path, chosen: list[tuple[MonitorConfig, Credentials]]
) -> None:
    assert cli.main(["serve", str(store)]) == 0
    [(settings, credentials)] = chosen
    assert settings == MonitorConfig(address="127.0.0.1:8788")
    assert credentials.token is None


def test_the_table_of_the_monitor_holds_too(
    tmp_path: Path, store: Path, chosen: list[tuple[MonitorConfig, Credentials]]
) -> None:
    monitor = 'address = "127.0.0.1:8787"\nroot_path = "/r"\ntoken_file = "token"\n'
    text = f'{STREAMS}[monitor]\n{monitor}allowed_hosts = ["recorder"]\n'
    (tmp_path / "recorder.toml").write_text(text)
    for name in ("token", "other"):
        (tmp_path / name).write_text(TOKEN + name)
    assert cli.main(["serve"]) == 0
    assert (
        cli.main(["serve", "recorder.toml", "--address", "[::1]:1", "--token-file", "other"]) == 0
    )
    (settings, credentials), (others, other_credentials) = chosen
    assert settings.address == "127.0.0.1:8788"
    assert (settings.root_path, settings.allowed_hosts) == ("/r", ("recorder",))
    assert credentials.token == TOKEN + "token"
    assert (others.address, other_credentials.token) == ("[::1]:1", TOKEN + "other")


def test_the_store_of_simulate_is_shown_if_there_is_no_other(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "recorder.toml"
    config.write_text(STREAMS)
    store.rename(simulated_store(config))
    assert cli.main(["serve", str(config), *LOCAL, "--for", "0.1s"]) == 0
    assert f"shows {tmp_path}/data-simulated;" in capsys.readouterr().out


async def ask(url: str, target: str, *headers: str) -> Answer:
    host, _, port = url.split("/")[2].rpartition(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        return await Client(stream).ask("GET", target, *headers)


async def test_readers_need_the_token(tmp_path: Path, store: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    settings = MonitorConfig(address="127.0.0.1:0", token_file=tmp_path / "token")
    async with serve.open_page(store, settings, Credentials.read(settings)) as url:
        assert (await ask(url, "/api/v1/overview")).status == 401
        assert b"<form" in (await ask(url, "/", "Accept: text/html")).body
        bearer = f"Authorization: Bearer {TOKEN}"
        assert (await ask(url, "/api/v1/overview", bearer)).status == 200


async def test_two_pages_of_one_store_do_not_know_of_each_other(store: Path) -> None:
    settings = MonitorConfig(address="127.0.0.1:0")
    nothing = Credentials()
    async with (
        serve.open_page(store, settings, nothing) as one,
        serve.open_page(store, settings, nothing) as other,
    ):
        assert one != other
        for url in (one, other):
            assert (await ask(url, "/api/v1/overview")).status == 200


def move(path: Path, to: Path) -> None:
    path.rename(to)


async def test_a_store_that_goes_and_comes_back_ends_nothing(
    store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = MonitorConfig(address="127.0.0.1:0")
    async with serve.open_page(store, settings, Credentials()) as url:
        assert (await ask(url, "/api/v1/overview")).status == 200
        move(store, store.with_name("gone"))

        with trio.fail_after(60):
            while "the store cannot be read" not in caplog.text:
                assert (await ask(url, "/api/v1/overview")).status == 200
                await trio.sleep(0.1)
        move(store.with_name("gone"), store)
        with trio.fail_after(60):
            while (found := await ask(url, CANDLES)).status != 200:
                await ask(url, "/api/v1/overview")
                await trio.sleep(0.1)
        assert count(found.body) == 33
