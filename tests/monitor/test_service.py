"""The whole monitor beside a recorder: what fails in it ends nothing but itself."""

import logging
import os
import re
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import trio
import trio.testing
import trustme

from kline_trio.candle import Series
from kline_trio.config import Config
from kline_trio.monitor import service
from kline_trio.monitor.alerts import ChangeCommand
from kline_trio.monitor.health import Verdict
from kline_trio.monitor.service import Monitor
from kline_trio.monitor.watch import Watch
from kline_trio.recorder.backfill import Backfill
from kline_trio.recorder.statistics import Statistics
from kline_trio.recorder.supervisor import Recorder, open_recorder
from kline_trio.simulator.exchange import Exchange
from tests.builders import START_MS
from tests.exchange.test_tls import AUTHORITY
from tests.monitor.http import WALL_SECONDS, Answer, Client, head_of, until
from tests.monitor.observations import market, statistics
from tests.proxies import FakeProxy, listening
from tests.virtual import joined

STREAMS = '[streams.spot]\n1m = ["BTCUSDT"]\n'
TOKEN = "a-token-of-32-characters-or-more"
SERVER_CERT = AUTHORITY.issue_cert("127.0.0.1")


@attrs.define
class FakeRecorder:
    """A recorder that only has statistics."""

    found: Statistics = attrs.field(factory=statistics)
    bug: Exception | None = None
    series: tuple[Series, ...] = ()
    publisher: None = None

    def statistics(self, *, series: bool = False) -> Statistics:
        if self.bug is not None:
            raise self.bug
        return self.found

    def backfill(self, since_ms: int | None = None) -> Backfill:
        raise AssertionError("nobody asks for it")


def config_of(folder: Path, monitor: str, more: str = "") -> Config:
    text = f"{STREAMS}{more}[monitor]\n{monitor}\n"
    return Config.from_text(text, name="recorder.toml", folder=folder)


@attrs.define
class Running:
    """A monitor, and what it logged about itself."""

    monitor: Monitor
    recorder: FakeRecorder
    log: pytest.LogCaptureFixture

    async def port(self, nth: int = 1) -> int:
        """The port of the server that was started as the n-th."""

        def ports() -> list[str]:
            lines = "\n".join(self.log.messages)
            return re.findall(r"^monitor: https?://\S+:(\d+)/$", lines, re.MULTILINE)

        await until(lambda: len(ports()) >= nth)
        return int(ports()[nth - 1])

    async def logged(self, text: str, times: int = 1) -> None:
        await until(lambda: sum(text in line for line in self.log.messages) >= times)


@pytest.fixture
def run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Callable[..., Any]:
    caplog.set_level(logging.INFO, "kline_trio")

    @asynccontextmanager
    async def running(monitor: str, more: str = "") -> AsyncIterator[Running]:
        recorder = FakeRecorder()
        config = config_of(tmp_path, monitor, more)
        (config.store.path / ".kline_trio").mkdir(parents=True)
        ours = Monitor(cast("Recorder", recorder), config, lambda: WALL_SECONDS)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.run)
            yield Running(ours, recorder, caplog)
            nursery.cancel_scope.cancel()

    return running


async def get(
    port: int, path: str = "/readyz", *headers: str, context: ssl.SSLContext | None = None
) -> Answer:
    stream: trio.abc.Stream = await trio.open_tcp_stream("127.0.0.1", port)
    if context is not None:
        stream = trio.SSLStream(stream, context, server_hostname="127.0.0.1", https_compatible=True)
    async with stream:
        return await Client(stream).ask("GET", path, *headers)


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


# A whole recorder


async def test_a_whole_recorder_is_served_and_its_records_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kline_trio")
    config = config_of(tmp_path, 'address = "127.0.0.1:0"\nper_symbol = true')
    exchange = Exchange(start_ms=START_MS, speed=60)
    with trio.fail_after(60):
        async with (
            joined(exchange) as environment,
            open_recorder(config, environment) as recorder,
            trio.open_nursery() as beside,
        ):
            monitor = Monitor(recorder, config, lambda: WALL_SECONDS, is_simulated=True)
            beside.start_soon(monitor.run)
            port = await Running(monitor, FakeRecorder(), caplog).port()
            await anext(recorder.candles())
            await trio.sleep(1.5)
            metrics = (await get(port, "/metrics")).body.decode()
            assert 'simulated="true"' in metrics
            assert re.search(r'candles_recorded_total\{market="spot"\} [1-9]', metrics)
            assert 'symbol="BTCUSDT"' in metrics
            assert (await get(port, "/healthz")).status == 200
            assert b'"simulated": true' in (await get(port, "/readyz")).body
            beside.cancel_scope.cancel()
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


# Addresses


async def test_without_anything_to_do_it_only_watches(
    autojump_clock: trio.testing.MockClock, run: Callable[..., Any]
) -> None:
    """`status` asks it by the control socket."""
    async with run("") as ours:
        await trio.sleep(100)
        assert ours.log.messages == []
        assert ours.monitor._watch is not None


async def test_a_port_in_use_is_one_line_and_is_tried_again(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_RETRY_SECONDS", 0.05)
    [taken] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = taken.socket.getsockname()[1]
    async with run(f'address = "127.0.0.1:{port}"') as ours:
        await ours.logged("Address already in use; recording goes on")
        await trio.sleep(0.3)
        errors = [one for one in ours.log.records if one.levelno >= logging.WARNING]
        assert len(errors) == 1
        assert errors[0].getMessage().startswith(f"monitor: 127.0.0.1:{port}: ")
        await taken.aclose()
        assert await ours.port() == port
        assert (await get(port)).status == 200


async def test_a_name_that_is_not_known_is_one_line(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    async with run(
        'address = "no-such-host.invalid:1"\ntoken_file = "token"\ninsecure_http = true'
    ) as ours:
        write(Path(ours.monitor.config.monitor.token_file), TOKEN)
        await ours.logged("no-such-host.invalid:1: ")
        assert not any(one.exc_info for one in ours.log.records)


# The token


async def test_readers_need_the_token_of_the_file(tmp_path: Path, run: Callable[..., Any]) -> None:
    write(tmp_path / "token", f"  {TOKEN}\n\n")
    async with run('address = "127.0.0.1:0"\ntoken_file = "token"') as ours:
        port = await ours.port()
        assert (await get(port)).status == 401
        assert (await get(port, "/metrics", f"Authorization: Bearer {TOKEN}")).status == 200
        assert TOKEN not in repr(ours.monitor)
    assert TOKEN not in ours.log.text
    assert not [one for one in ours.log.records if one.levelno >= logging.WARNING]


async def test_readers_need_the_token_of_the_environment(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", TOKEN)
    async with run('address = "127.0.0.1:0"\ntoken_variable = "MY_TOKEN"') as ours:
        port = await ours.port()
        assert (await get(port)).status == 401
        assert (await get(port, "/metrics", f"Authorization: Bearer {TOKEN}")).status == 200
    assert TOKEN not in ours.log.text


async def test_without_its_variable_nothing_is_served_to_anybody(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_TOKEN", raising=False)
    async with run('address = "127.0.0.1:0"\ntoken_variable = "MY_TOKEN"') as ours:
        await ours.logged("the environment variable MY_TOKEN: a token has at least 16 characters")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "token: cannot be read: No such file or directory"),
        ("", "token: a token has at least 16 characters"),
        (" fifteen-letters\n", "token: a token has at least 16 characters"),
        ("two words of a token", "token: a token is one word of ASCII"),
        (f"{TOKEN}\n{TOKEN}", "token: a token is one word of ASCII"),
        ("t\u00f6ken-t\u00f6ken-t\u00f6ken", "token: a token is one word of ASCII"),
    ],
)
async def test_a_token_that_cannot_be_used_is_one_line_and_nothing_is_served(
    tmp_path: Path,
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    problem: str,
) -> None:
    monkeypatch.setattr(service, "_RETRY_SECONDS", 0.05)
    if content is not None:
        write(tmp_path / "token", content)
    async with run('address = "127.0.0.1:0"\ntoken_file = "token"') as ours:
        await ours.logged(f"{tmp_path}/{problem}")
        await trio.sleep(0.2)
        assert len(ours.log.records) == 1
        if content is not None and content.strip():
            assert content.strip() not in ours.log.text
        write(tmp_path / "token", TOKEN)
        assert (await get(await ours.port())).status == 401


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "bytes"])
async def test_a_token_file_that_is_no_text_file_neither_blocks_nor_is_read(
    tmp_path: Path, run: Callable[..., Any], kind: str
) -> None:
    path = tmp_path / "token"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(b"\xff" * 40)
    with trio.fail_after(20):
        async with run('address = "127.0.0.1:0"\ntoken_file = "token"') as ours:
            await ours.logged(f"{path}: ")
            assert not any(one.exc_info for one in ours.log.records)


@pytest.mark.parametrize(("mode", "warns"), [(0o600, False), (0o640, False), (0o644, True)])
async def test_a_token_that_every_user_can_read_is_named(
    tmp_path: Path, run: Callable[..., Any], mode: int, *, warns: bool
) -> None:
    path = write(tmp_path / "token", TOKEN, mode)
    async with run('address = "127.0.0.1:0"\ntoken_file = "token"') as ours:
        assert (await get(await ours.port())).status == 401
        warnings = [one.getMessage() for one in ours.log.records if one.levelno > logging.INFO]
    wanted = f"monitor: {path}: every user of this machine can read it: chmod o= is wanted"
    assert warnings == ([wanted] if warns else [])


# TLS


def write_pair(folder: Path, certificate: trustme.LeafCert = SERVER_CERT) -> None:
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "key.pem").chmod(0o600)
    (folder / "cert.pem").write_bytes(b"".join(one.bytes() for one in certificate.cert_chain_pems))


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


TLS = 'address = "127.0.0.1:0"\ntls_cert = "cert.pem"\ntls_key = "key.pem"'


async def test_with_a_certificate_it_is_served_over_tls_only(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    write_pair(tmp_path)
    async with run(TLS) as ours:
        port = await ours.port()
        assert f"monitor: https://127.0.0.1:{port}/" in ours.log.messages
        for _ in range(2):
            # Who speaks no TLS is only gone.
            with suppress(AssertionError, trio.BrokenResourceError):
                assert (await get(port)).status == 400
            assert (await get(port, "/metrics", context=trusting())).status == 200
            with pytest.raises(trio.BrokenResourceError):
                await get(port, context=ssl.create_default_context())
    assert not [one for one in ours.log.records if one.levelno > logging.INFO]


def encrypt(folder: Path) -> None:
    subprocess.run(
        [
            "openssl",
            "pkey",
            "-in",
            "key.pem",
            "-out",
            "new.pem",
            "-aes256",
            "-passout",
            "pass:xyzw",
        ],
        cwd=folder,
        check=True,
    )
    (folder / "new.pem").rename(folder / "key.pem")


def pipe(folder: Path) -> None:
    (folder / "key.pem").unlink()
    os.mkfifo(folder / "key.pem")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda it: (it / "cert.pem").unlink(), "cert.pem: cannot be read: No such file"),
        (lambda it: (it / "key.pem").unlink(), "key.pem: cannot be read: No such file"),
        (lambda it: write(it / "cert.pem", "nothing"), "cert.pem: holds no certificate in PEM"),
        (lambda it: write(it / "key.pem", "nothing"), "key.pem: holds no key in PEM"),
        (
            lambda it: AUTHORITY.issue_cert("other").private_key_pem.write_to_path(it / "key.pem"),
            "key.pem: is not the key of the certificate in ",
        ),
        (encrypt, "key.pem: the key is encrypted: decrypt it"),
        (pipe, "key.pem: cannot be read: it is no file, but a pipe or a device"),
    ],
)
async def test_a_wrong_certificate_or_key_is_named_and_nothing_is_served_without(
    tmp_path: Path,
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], object],
    problem: str,
) -> None:
    monkeypatch.setattr(service, "_RETRY_SECONDS", 0.05)
    write_pair(tmp_path)
    spoil(tmp_path)
    with trio.fail_after(30):
        async with run(TLS) as ours:
            await ours.logged(f"{tmp_path}/{problem}")
            await trio.sleep(0.2)
            assert len(ours.log.records) == 1
            (tmp_path / "key.pem").unlink(missing_ok=True)
            write_pair(tmp_path)
            assert (await get(await ours.port(), context=trusting())).status == 200


# Other configurations


async def test_the_same_table_changes_nothing_not_even_a_connection(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    write(tmp_path / "token", TOKEN)
    settings = 'address = "127.0.0.1:0"\ntoken_file = "token"'
    async with run(settings) as ours:
        port = await ours.port()
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            client = Client(stream)
            assert (await client.ask()).status == 401
            for more in ("", "[completeness]\nattempts = 3\n"):
                ours.monitor.reconfigure(config_of(tmp_path, settings, more))
                await trio.sleep(0.1)
                assert (await client.ask()).status == 401
        assert await ours.port() == port
        assert sum("http://" in line for line in ours.log.messages) == 1


async def test_another_table_starts_another_server_and_none_ends_it(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    async with run('address = "127.0.0.1:0"') as ours:
        first = await ours.port()
        assert (await get(first)).status == 200
        other = config_of(tmp_path, 'address = "127.0.0.1:0"\nroot_path = "/other"')
        ours.monitor.reconfigure(other)
        second = await ours.port(2)
        assert (await get(second, "/other/readyz")).status == 200
        with pytest.raises(OSError, match="connect"):
            await get(first)
        ours.monitor.reconfigure(config_of(tmp_path, ""))
        await trio.sleep(0.1)
        with pytest.raises(OSError, match="connect"):
            await get(second)
        ours.monitor.reconfigure(other)
        assert (await get(await ours.port(3), "/other/readyz")).status == 200


async def test_the_same_port_can_be_used_at_once_by_another_table(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    async with run('address = "127.0.0.1:0"') as ours:
        port = await ours.port()
        for number in range(5):
            settings = f'address = "127.0.0.1:{port}"\nroot_path = "/{number}"'
            ours.monitor.reconfigure(config_of(tmp_path, settings))
            assert await ours.port(number + 2) == port
            assert (await get(port, f"/{number}/readyz")).status == 200
        assert not [one for one in ours.log.records if one.levelno > logging.INFO]


async def test_health_outlives_another_table(tmp_path: Path, run: Callable[..., Any]) -> None:
    """What has been bad for an hour is not new, and its command does not run again."""
    out = tmp_path / "out"
    command = f'on_change = ["sh", "-c", "cat >> {out}"]'
    async with run(f'{command}\naddress = "127.0.0.1:0"') as ours:
        port = await ours.port()
        ours.recorder.found = statistics(markets=(market(silent_seconds=60.0),))
        await until(lambda: ours.monitor._command.shown is Verdict.BAD)
        assert out.read_text().count('"was": "ok"') == 1
        since = ours.monitor._watch.latest.health.since
        ours.monitor.reconfigure(config_of(tmp_path, f'{command}\naddress = "127.0.0.1:{port}"'))
        await ours.port(2)
        await trio.sleep(1.5)
        assert ours.monitor._watch.latest.health.since == since
        assert out.read_text().count("\n") == 1


async def test_another_proxy_is_used_for_heartbeats(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    settings = 'heartbeat_url = "https://hc.invalid/x"'
    one, other = FakeProxy({}), FakeProxy({})
    async with listening(one.http) as first, listening(other.http) as second:
        tables = [f'[connection]\nproxy = "http://127.0.0.1:{port}"\n' for port in (first, second)]
        async with run(settings, tables[0]) as ours:
            await until(lambda: one.asked == ["hc.invalid:443"])
            await ours.logged("heartbeat_url: no answer (ConnectError)")
            ours.monitor.reconfigure(config_of(tmp_path, settings, tables[1]))
            await until(lambda: other.asked == ["hc.invalid:443"])


async def test_a_token_that_has_changed_is_read_at_a_reload(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    path, other = write(tmp_path / "token", TOKEN), TOKEN[::-1]
    settings = 'address = "127.0.0.1:0"\ntoken_file = "token"'
    async with run(settings) as ours:
        port = await ours.port()
        write(path, other)
        await trio.sleep(0.1)
        assert (await get(port, "/readyz", f"Authorization: Bearer {TOKEN}")).status == 200
        ours.monitor.reconfigure(config_of(tmp_path, settings))
        port = await ours.port(2)
        assert (await get(port, "/readyz", f"Authorization: Bearer {TOKEN}")).status == 401
        assert (await get(port, "/readyz", f"Authorization: Bearer {other}")).status == 200
        # A mistake changes nothing.
        for spoil in (lambda: write(path, "short"), path.unlink):
            spoil()
            count = sum("the credentials stay" in line for line in ours.log.messages)
            ours.monitor.reconfigure(config_of(tmp_path, settings))
            await ours.logged("the credentials stay as they were", count + 1)
            assert (await get(port, "/readyz", f"Authorization: Bearer {other}")).status == 200


async def test_another_token_ends_streams_and_logins(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    path = write(tmp_path / "token", TOKEN)
    settings = 'address = "127.0.0.1:0"\ntoken_file = "token"'
    async with run(settings) as ours:
        port = await ours.port()
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            client = Client(stream)
            answer = await client.post("/login", f"token={TOKEN}".encode())
            assert answer.status == 303
            cookie = f"Cookie: {answer.headers['set-cookie'].partition(';')[0]}"
            assert (await get(port, "/metrics", cookie)).status == 200
            await client.send(head_of("GET", "/api/v1/stream", cookie))
            assert (await client.head()).status == 200
            await client.chunk()
            # The same credentials end nothing.
            ours.monitor.reconfigure(config_of(tmp_path, settings))
            await client.chunk()
            write(path, TOKEN[::-1])
            ours.monitor.reconfigure(config_of(tmp_path, settings))
            with trio.fail_after(10):
                await client.rest()
        port = await ours.port(2)
        assert (await get(port, "/metrics", cookie)).status == 401
    assert TOKEN not in ours.log.text


async def test_streams_do_not_hold_up_the_stop(tmp_path: Path, run: Callable[..., Any]) -> None:
    async with run('address = "127.0.0.1:0"') as ours:
        port = await ours.port()
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        client = Client(stream)
        await client.send(head_of("GET", "/api/v1/stream"))
        assert (await client.head()).status == 200
        began = trio.current_time()
    assert trio.current_time() < began + 2
    async with stream:
        await client.rest()


async def test_a_renewed_certificate_is_served_after_a_reload(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    write_pair(tmp_path)
    async with run(TLS) as ours:
        await ours.port()
        renewed = trustme.CA()
        write_pair(tmp_path, renewed.issue_cert("127.0.0.1"))
        ours.monitor.reconfigure(config_of(tmp_path, TLS))
        port = await ours.port(2)
        context = ssl.create_default_context()
        renewed.configure_trust(context)
        assert (await get(port, context=context)).status == 200


async def test_a_reload_tries_an_address_that_waits_at_once(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    settings = 'address = "127.0.0.1:0"\ntoken_file = "token"'
    async with run(settings) as ours:
        await ours.logged("token: cannot be read")
        write(tmp_path / "token", TOKEN)
        ours.monitor.reconfigure(config_of(tmp_path, settings))
        assert (await get(await ours.port())).status == 401


# Bugs


async def test_a_recorder_that_cannot_be_observed_is_bad_and_recovers(
    run: Callable[..., Any],
) -> None:
    """The last snapshot would say for ever that all is well."""
    async with run('address = "127.0.0.1:0"\nrecover_seconds = 0') as ours:
        port = await ours.port()
        assert (await get(port)).status == 200
        ours.recorder.bug = ZeroDivisionError("in statistics")
        await ours.logged("monitor: the recorder cannot be observed")
        answer = await get(port)
        assert answer.status == 503
        assert b'"code": "unobserved"' in answer.body
        assert (await get(port, "/healthz")).status == 200
        assert b"kline_trio_verdict 2.0" in (await get(port, "/metrics")).body
        await trio.sleep(1.2)
        assert sum(bool(one.exc_info) for one in ours.log.records) == 1, "logged once"
        ours.recorder.bug = None
        await trio.sleep(1.2)
        assert (await get(port)).status == 200


async def test_a_bug_in_the_first_look_ends_only_the_monitor(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = FakeRecorder(bug=ZeroDivisionError("in statistics"))
    config = config_of(tmp_path, 'address = "127.0.0.1:0"')
    (config.store.path / ".kline_trio").mkdir(parents=True)
    monitor = Monitor(cast("Recorder", recorder), config, lambda: WALL_SECONDS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(monitor.run)
        await trio.sleep(0.5)
        assert len(nursery.child_tasks) == 1
        # Not again and again: it would only fill the log.
        assert caplog.messages == ["monitor: the monitor has ended; recording goes on"]
        recorder.bug = None
        monitor.reconfigure(config_of(tmp_path, 'address = "127.0.0.1:0"\nroot_path = "/a"'))
        caplog.set_level(logging.INFO, "kline_trio")
        assert (await get(await Running(monitor, recorder, caplog).port())).status == 200
        nursery.cancel_scope.cancel()


async def test_a_page_that_cannot_follow_leaves_health_as_it_is(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run('address = "127.0.0.1:0"') as ours:
        port = await ours.port()

        def fail(_: object) -> None:
            raise ZeroDivisionError("in the page")

        ours.monitor._watch.follower = fail
        ours.recorder.found = statistics(markets=(market(silent_seconds=60.0),))
        await ours.logged("monitor: the page cannot follow the recorder")
        assert (await get(port)).status == 503
        await trio.sleep(2.2)
        assert sum(bool(one.exc_info) for one in ours.log.records) == 1, "logged once"


@pytest.mark.parametrize("other", [ValueError("a bug"), ExceptionGroup("bugs", [OSError("one")])])
async def test_a_bug_in_one_job_ends_only_that_job(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, other: Exception
) -> None:
    async def fail(_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise other

    monkeypatch.setattr(ChangeCommand, "run", fail)
    async with run('address = "127.0.0.1:0"\non_change = ["true"]') as ours:
        await ours.logged("monitor: on_change has ended; recording goes on")
        port = await ours.port()
        assert (await get(port)).status == 200
        ours.recorder.found = statistics(markets=(market(silent_seconds=60.0),))
        await trio.sleep(1.2)
        assert (await get(port)).status == 503
        assert sum("has ended" in line for line in ours.log.messages) == 1


async def test_a_bug_that_comes_with_the_stop_does_not_get_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail_at_the_stop(_: object) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("a bug")

    monkeypatch.setattr(Watch, "run", fail_at_the_stop)
    config = config_of(tmp_path, 'on_change = ["true"]')
    monitor = Monitor(cast("Recorder", FakeRecorder()), config, lambda: WALL_SECONDS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(monitor.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
