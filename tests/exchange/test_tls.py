"""TLS against trio.SSLStream and OpenSSL's own server: their promises, and records by the read."""

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from kline_trio.errors import ConfigError
from kline_trio.exchange.tls import TlsStream, open_tls, tls_context

NAME = "exchange.test"
AUTHORITY = trustme.CA()
CERTIFICATE = AUTHORITY.issue_cert(NAME, "127.0.0.1")


def client_context() -> ssl.SSLContext:
    context = tls_context(None)
    AUTHORITY.configure_trust(context)
    return context


def server_context(certificate: trustme.LeafCert = CERTIFICATE) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


Server = trio.SSLStream[trio.abc.Stream]


def serving(transport: trio.abc.Stream, context: ssl.SSLContext | None = None) -> Server:
    return trio.SSLStream(
        transport, context or server_context(), server_side=True, https_compatible=True
    )


@asynccontextmanager
async def connected(
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[tuple[TlsStream, Server]]:
    """Both ends, hands shaken, over memory."""
    near, far = trio.testing.memory_stream_pair()
    server = serving(far, context)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        client = await open_tls(near, client_context(), NAME)
    async with client, server:
        yield client, server


async def failure(
    server: Server, near: trio.abc.Stream, name: str = NAME, context: ssl.SSLContext | None = None
) -> str:
    """What the client says of a handshake that must fail."""

    async def try_handshake() -> None:
        # Trio's server hangs up where it should say what it dislikes.
        with suppress(trio.BrokenResourceError):
            await server.do_handshake()
        await trio.aclose_forcefully(server)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(try_handshake)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await open_tls(near, context or client_context(), name)
        await trio.aclose_forcefully(near)
    return str(caught.value)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_both_ways(newest: ssl.TLSVersion) -> None:
    context = server_context()
    context.maximum_version = newest
    async with connected(context) as (client, server):
        await client.send_all(b"a question")
        assert await server.receive_some() == b"a question"
        await server.send_all(b"an answer")
        assert await client.receive_some() == b"an answer"
        assert server.version() == newest.name.replace("_", ".")


async def test_it_is_a_stream_as_trio_means_it() -> None:
    """Trio's own examination of streams: conflicts, closing, cancellation, being clogged."""

    async def pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        near, far = trio.testing.memory_stream_pair()
        server = serving(far)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.do_handshake)
            client = await open_tls(near, client_context(), NAME)
        return client, server

    async def clogged_pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
        near, far = trio.testing.lockstep_stream_pair()
        server = serving(far)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.do_handshake)
            client = await open_tls(near, client_context(), NAME)
        return client, server

    await trio.testing.check_two_way_stream(pair, clogged_pair)


@pytest.mark.parametrize("name", ["", "gone/log", "file/log"])
def test_a_key_log_that_cannot_be_opened_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / name))
    with pytest.raises(ConfigError, match=r"environment's SSLKEYLOGFILE, .*; mend it, or unset"):
        tls_context(None)
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "log"))
    assert tls_context(None).keylog_filename == str(tmp_path / "log")


async def test_all_records_of_a_read_come_at_once() -> None:
    async with connected() as (client, server):
        for number in range(200):
            await server.send_all(b"%03d" % number)
        with trio.testing.assert_checkpoints():
            received = await client.receive_some()
        assert received == b"".join(b"%03d" % number for number in range(200))


async def test_max_bytes_is_kept_to() -> None:
    async with connected() as (client, server):
        await server.send_all(b"12345")
        await server.send_all(b"678")
        received = []
        for _ in range(3):
            with trio.testing.assert_checkpoints():
                received.append(await client.receive_some(3))
        assert received == [b"123", b"456", b"78"]
        with pytest.raises(ValueError, match="max_bytes"):
            await client.receive_some(0)
        with trio.testing.assert_checkpoints():
            await client.send_all(b"")


class Split(trio.abc.Stream):
    """Gives what it receives in pieces of these sizes, over and over."""

    def __init__(self, stream: trio.abc.Stream, sizes: list[int]) -> None:
        self.stream = stream
        self.sizes = sizes
        self.turn = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        self.turn += 1
        return bytes(await self.stream.receive_some(self.sizes[self.turn % len(self.sizes)]))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self.stream.aclose()


@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    st.lists(st.integers(1, 2_000), min_size=1, max_size=5),
    st.lists(st.sampled_from([None, 1, 7, 100]), min_size=1, max_size=3),
)
@settings(max_examples=40, deadline=None)
async def test_however_the_bytes_are_split_the_text_is_the_same(
    said: list[bytes], sizes: list[int], asked: list[int | None]
) -> None:
    near, far = trio.testing.memory_stream_pair()
    server = serving(far)

    async def speak() -> None:
        await server.do_handshake()
        for text in said:
            await server.send_all(text)
        await server.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(speak)
        client = await open_tls(Split(near, sizes), client_context(), NAME)
        received, turn = [], 0
        while piece := await client.receive_some(asked[turn % len(asked)]):
            received.append(piece)
            turn += 1
    assert b"".join(received) == b"".join(said)


async def test_much_goes_both_ways_at_the_same_time() -> None:
    """Over sockets, whose buffers are smaller than what is on its way."""
    much = bytes(range(256)) * 20_000

    async def receive_all(stream: trio.abc.Stream) -> None:
        received = bytearray()
        while len(received) < len(much):
            received += await stream.receive_some()
        assert received == much

    async def serve(transport: trio.SocketStream) -> None:
        server = serving(transport)
        async with trio.open_nursery() as both:
            both.start_soon(server.send_all, much)
            both.start_soon(receive_all, server)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        transport = await trio.testing.open_stream_to_socket_listener(listeners[0])
        async with await open_tls(transport, client_context(), "127.0.0.1") as client:
            with trio.fail_after(60):
                async with trio.open_nursery() as both:
                    both.start_soon(client.send_all, much)
                    both.start_soon(receive_all, client)
        nursery.cancel_scope.cancel()


async def test_a_good_bye_ends_only_the_one_direction() -> None:
    """close_notify from the server; we may still speak (RFC 8446, section 6.1)."""
    near, far = trio.testing.memory_stream_pair()
    server = trio.SSLStream(far, server_context(), server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        client = await open_tls(near, client_context(), NAME)

    async def say_good_bye() -> None:
        await server.send_all(b"the last words")
        # Sends close_notify and waits for ours; what comes in its place shows that we can speak.
        with pytest.raises(trio.BrokenResourceError) as caught:
            await server.unwrap()
        assert "application data after close notify" in str(caught.value.__cause__)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(say_good_bye)
        await trio.testing.wait_all_tasks_blocked()
        assert await client.receive_some() == b"the last words"
        for _ in range(2):
            with trio.testing.assert_checkpoints():
                assert await client.receive_some() == b""
        await client.send_all(b"still there?")


@pytest.mark.parametrize("inside_a_record", [False, True])
async def test_an_end_without_a_good_bye_is_an_end(inside_a_record: bool) -> None:
    """Many servers say none; what is cut short is told by the protocol above."""
    async with connected() as (client, server):
        await server.send_all(b"whole")
        if inside_a_record:
            await server.transport_stream.send_all(b"\x17\x03\x03\x00\x50half a record")
        await server.aclose()
        assert await client.receive_some() == b"whole"
        for _ in range(2):
            with trio.testing.assert_checkpoints():
                assert await client.receive_some() == b""


async def test_a_record_tampered_with_breaks_it_after_those_before() -> None:
    async with connected() as (client, server):
        await server.send_all(b"sound")
        await server.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert await client.receive_some() == b"sound"
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError, match="TLS: decryption failed or bad"):
                await client.receive_some()
        with pytest.raises(trio.BrokenResourceError, match="TLS: decryption failed or bad"):
            await client.send_all(b"?")


async def test_a_record_tampered_with_alone() -> None:
    async with connected() as (client, server):
        await server.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(trio.BrokenResourceError, match="bad record mac") as caught:
            await client.receive_some()
        assert isinstance(caught.value.__cause__, ssl.SSLError)


async def test_whoever_is_cut_off_while_receiving_loses_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected() as (client, server):
        for text in (b"one", b"two"):
            with trio.move_on_after(1) as scope:
                await client.receive_some()
            assert scope.cancelled_caught
            await server.send_all(text)
            with trio.CancelScope() as scope:
                scope.cancel()
                await client.receive_some()
            assert scope.cancelled_caught
            assert await client.receive_some() == text


async def test_after_a_record_sent_in_part_nothing_more_is_sent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What came next would be nonsense to the peer; what comes from it still makes sense."""
    near, far = trio.testing.lockstep_stream_pair()
    server = serving(far)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        client = await open_tls(near, client_context(), NAME)
    with trio.move_on_after(1) as scope:
        await client.send_all(b"x" * 100)
    assert scope.cancelled_caught
    with pytest.raises(trio.BrokenResourceError, match="cut off"):
        await client.send_all(b"y")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, b"news")
        assert await client.receive_some() == b"news"


async def test_a_wrong_name_is_refused() -> None:
    near, far = trio.testing.memory_stream_pair()
    said = await failure(serving(far), near, "elsewhere.test")
    assert said.startswith("TLS: the certificate is refused: Hostname mismatch")


async def test_an_unknown_authority_is_refused() -> None:
    near, far = trio.testing.memory_stream_pair()
    said = await failure(serving(far), near, context=tls_context(None))
    assert said.startswith("TLS: the certificate is refused: ")
    assert "certificate" in said.removeprefix("TLS: the certificate is refused: ")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_an_old_protocol_is_refused() -> None:
    """Though the server could, as a client shows that can."""
    old = server_context()
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    near, far = trio.testing.memory_stream_pair()
    assert await failure(serving(far, old), near) == "TLS: unexpected eof while reading"

    lax = client_context()
    lax.minimum_version = ssl.TLSVersion.TLSv1_1
    lax.set_ciphers("ALL:@SECLEVEL=0")
    async with trio.open_nursery() as nursery:
        near, far = trio.testing.memory_stream_pair()
        nursery.start_soon(serving(far, old).do_handshake)
        await open_tls(near, lax, NAME)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "TLS: wrong version number: no TLS server"),
        (b"SSH-2.0-OpenSSH_9.6p1\r\n", "no TLS server"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "handshake failure"),
        (b"", "TLS: unexpected eof"),
        (b"\x16\x03\x03\x40\x00", "TLS: unexpected eof"),
    ],
)
async def test_what_is_no_tls_is_refused(answer: bytes, words: str) -> None:
    near, far = trio.testing.memory_stream_pair()
    if answer:
        await far.send_all(answer)
    await far.send_eof()
    with pytest.raises(trio.BrokenResourceError, match=words):
        await open_tls(near, client_context(), NAME)


async def test_a_handshake_without_an_end_can_be_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    near, _far = trio.testing.memory_stream_pair()
    with trio.move_on_after(5) as scope:
        await open_tls(near, client_context(), NAME)
    assert scope.cancelled_caught


async def test_what_is_closed_is_closed() -> None:
    async with connected() as (client, server):
        await server.send_all(b"too late")
        await client.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await client.receive_some()
        with pytest.raises(trio.ClosedResourceError):
            await client.send_all(b"?")
        with pytest.raises(trio.ClosedResourceError):
            await client.wait_send_all_might_not_block()


def test_names_are_always_checked() -> None:
    context = tls_context(None)
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_ca_file_is_trusted_besides_the_systems(tmp_path: Path) -> None:
    before = len(tls_context(None).get_ca_certs())
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    assert len(tls_context(tmp_path / "ca.pem").get_ca_certs()) == before + 1


def test_a_ca_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"connection.ca_file: .*none.pem cannot be read: No"):
        tls_context(tmp_path / "none.pem")
    for content in (b"", b"-----BEGIN CERTIFICATE-----\nnonsense\n", b"\0" * 999):
        (tmp_path / "ca.pem").write_bytes(content)
        with pytest.raises(ConfigError, match=r"ca.pem holds no certificate in PEM"):
            tls_context(tmp_path / "ca.pem")
    CERTIFICATE.private_key_pem.write_to_path(tmp_path / "key.pem")
    with pytest.raises(ConfigError, match=r"key.pem holds no certificate in PEM"):
        tls_context(tmp_path / "key.pem")


@pytest.fixture
def openssl_server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """OpenSSL's own server, which renews its keys when it is told to."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl program: KeyUpdate is not tried")
    CERTIFICATE.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [program, "s_server", "-accept", f"127.0.0.1:{port}", "-tls1_3"]
    command += ["-cert", str(tmp_path / "server.pem")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout is not None
        while b"ACCEPT" not in process.stdout.readline():
            assert process.poll() is None
        yield process, port
        process.kill()


async def test_keys_are_renewed_when_the_server_asks(
    openssl_server: tuple[subprocess.Popen[bytes], int],
) -> None:
    """The answer to a KeyUpdate leaves with our next data, and both directions go on."""
    process, port = openssl_server
    assert process.stdin is not None
    assert process.stdout is not None
    transport = await trio.open_tcp_stream("127.0.0.1", port)
    async with await open_tls(transport, client_context(), "127.0.0.1") as client:
        with trio.fail_after(30):
            for turn in range(3):
                process.stdin.write(b"K\n")  # renew yours, and ask for the same
                process.stdin.flush()
                await trio.sleep(0.2)  # it takes each read of its input for one command
                process.stdin.write(b"news %d\n" % turn)
                process.stdin.flush()
                assert await client.receive_some() == b"news %d\n" % turn
                await client.send_all(b"said %d\n" % turn)
                while True:
                    line = await trio.to_thread.run_sync(process.stdout.readline)
                    if line == b"said %d\n" % turn:
                        break
                    assert line


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"])
def test_a_pipe_that_the_environment_names_is_refused_at_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setenv(name, str(tmp_path / "pipe"))
    with pytest.raises(ConfigError, match=rf"environment's {name}, .*: it is no file, but a pipe"):
        tls_context(None)


def test_a_ca_file_that_is_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ca.pem")
    with pytest.raises(ConfigError, match=r"ca_file: .*ca\.pem is no file, but a pipe"):
        tls_context(tmp_path / "ca.pem")
