"""Each failure of a real server or disk is of the right class, one line, and says what to do."""

import os
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import HTTPServer
from pathlib import Path

import attrs
import obstore
import pytest
import trustme
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from kline_trio.errors import ConfigError
from kline_trio.lake import location as location_module
from kline_trio.lake.errors import (
    ConflictError,
    ForeignLakeError,
    LakeDeniedError,
    LakeError,
    LakeUnreachableError,
    lake_errors,
)
from kline_trio.lake.location import Location
from kline_trio.lake.merge import _merged, match, merge_rows
from kline_trio.lake.tables import made_table, open_table
from tests.lake.faults import check_message
from tests.lake.servers import (
    ADMIN,
    READER,
    STRANGER,
    Credentials,
    Fault,
    LossyProxy,
    MemoryS3,
    Server,
    free_port,
    location_of,
)
from tests.lake.support import no_pause
from tests.lake.test_merge import row, table

ROWS = table([row(0)])
WRONG_SECRET = Credentials(ADMIN.key, "not-the-secret")


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up soon."""
    monkeypatch.setattr(location_module, "_RETRIES", 1)
    monkeypatch.setattr(location_module, "_RETRY_SECONDS", 2)
    monkeypatch.setattr(location_module, "_CONNECT_SECONDS", 1)
    monkeypatch.setattr(location_module, "_REQUEST_SECONDS", 2)


def put(location: Location) -> None:
    with lake_errors(f"{location.url}: cannot be written"):
        obstore.put(location.objects(), "scratch/a", b"1", mode="create")


def listed(location: Location) -> None:
    with lake_errors(f"{location.url}: cannot be listed"):
        obstore.list(location.objects()).collect()


def merge(location: Location) -> None:
    with lake_errors(f"{location.url}: cannot be written"):
        delta = DeltaTable(location.table_url("candles"), storage_options=location.table_options())
        _merged(delta, ROWS, match(ROWS))


def read(location: Location) -> None:
    with lake_errors(f"{location.url}: cannot be read"):
        url, options = location.table_url("candles"), location.table_options()
        DeltaTable(url, storage_options=options).to_pyarrow_table()


def opened(location: Location) -> None:
    open_table(location, "candles")


def made(location: Location) -> None:
    made_table(location, "candles")


def failure(use: Callable[[Location], None], location: Location) -> LakeError:
    """Return the error of a use, whose text can be shown."""
    with pytest.raises(LakeError) as caught:
        use(location)
    error = caught.value
    check_message(error)
    text = str(error)
    assert text.startswith(location.url), text
    for noise in ("\x1b", "↳", "Kernel", "Generic", "RetryError", "retries", "<"):
        assert noise not in text, text
    # No durations: equal errors have equal texts, so that a log can be silent about the second.
    assert not re.search(r"[0-9]m?s\b", text), text
    return error


USES = [opened, made, put, listed]


@pytest.mark.parametrize("use", [*USES, merge, read])
@pytest.mark.parametrize(
    ("credentials", "words"),
    [(STRANGER, "check AWS_ACCESS_KEY_ID"), (WRONG_SECRET, "check AWS_SECRET_ACCESS_KEY")],
    ids=["key", "secret"],
)
def test_wrong_credentials(
    seaweed: Server,
    prefix: str,
    use: Callable[[Location], None],
    credentials: Credentials,
    words: str,
) -> None:
    made(location_of(seaweed, prefix))
    error = failure(use, location_of(seaweed, prefix, credentials))
    assert isinstance(error, LakeDeniedError)
    assert words in str(error)
    assert credentials.secret not in str(error)


@pytest.mark.parametrize("use", [made, put, merge])
def test_a_user_who_may_only_read(
    seaweed: Server, prefix: str, use: Callable[[Location], None]
) -> None:
    if use is merge:
        merge_rows(location_of(seaweed, prefix), table([row(5)]), no_pause)
    error = failure(use, location_of(seaweed, prefix, READER))
    assert isinstance(error, LakeDeniedError)
    assert "allow these credentials to list, read and write" in str(error)


@pytest.mark.parametrize("server", ["seaweed", "moto"])
@pytest.mark.parametrize("use", [opened, made, listed])
def test_no_such_bucket(
    request: pytest.FixtureRequest, server: str, use: Callable[[Location], None]
) -> None:
    there = attrs.evolve(request.getfixturevalue(server), bucket="no-such-bucket")
    error = failure(use, location_of(there, "x"))
    assert isinstance(error, LakeDeniedError)
    assert "there is no such bucket" in str(error)


@pytest.mark.parametrize("use", USES)
def test_nothing_listens(use: Callable[[Location], None]) -> None:
    error = failure(use, location_of(Server(f"http://127.0.0.1:{free_port()}"), "x"))
    assert isinstance(error, LakeUnreachableError)
    assert "nothing listens at the endpoint" in str(error)


@pytest.mark.parametrize("use", USES)
def test_an_unknown_host(use: Callable[[Location], None]) -> None:
    error = failure(use, location_of(Server("http://s3.invalid"), "x"))
    assert isinstance(error, LakeUnreachableError)
    assert "the host is unknown" in str(error)


@pytest.mark.parametrize("use", [opened, put])
def test_a_server_that_never_answers(use: Callable[[Location], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        error = failure(use, location_of(Server(f"http://127.0.0.1:{mute.getsockname()[1]}"), "x"))
    assert isinstance(error, LakeUnreachableError)
    assert "no answer in time" in str(error)


class _Quiet(HTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """The client does not accept the certificate."""


@pytest.fixture
def untrusted() -> Iterator[Server]:
    """Speak TLS with a certificate that nobody has signed who is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    server = _Quiet(("127.0.0.1", 0), None)  # type: ignore[arg-type]
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    yield Server(f"https://localhost:{server.server_address[1]}")
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("use", [opened, put])
def test_a_certificate_that_is_not_trusted(
    untrusted: Server, use: Callable[[Location], None]
) -> None:
    error = failure(use, location_of(untrusted, "x"))
    assert isinstance(error, LakeUnreachableError)
    assert "TLS failed" in str(error)


@pytest.mark.parametrize("use", [opened, put])
def test_an_endpoint_without_tls(memory: Server, use: Callable[[Location], None]) -> None:
    there = Server(memory.endpoint.replace("http:", "https:"))
    error = failure(use, location_of(there, "x"))
    assert isinstance(error, LakeUnreachableError)
    assert "TLS failed" in str(error)


@pytest.mark.parametrize("use", [*USES, merge, read])
@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (Fault.ANSWER_503, LakeUnreachableError, "too many requests (503 SlowDown)"),
        (Fault.ANSWER_429, LakeUnreachableError, "too many requests (429"),
        (Fault.ANSWER_500, LakeUnreachableError, "(500 InternalError)"),
        (Fault.ANSWER_409, ConflictError, "another program wrote there"),
        (Fault.ANSWER_412, ConflictError, "another program wrote there"),
        (Fault.LOST_REPLY, LakeUnreachableError, "the connection ended within an answer"),
        (Fault.NO_UPLOAD, LakeUnreachableError, "the connection ended within an answer"),
    ],
)
def test_answers_that_are_errors_or_lost(
    lossy: tuple[LossyProxy, Server],
    prefix: str,
    use: Callable[[Location], None],
    fault: Fault,
    kind: type[LakeError],
    words: str,
) -> None:
    proxy, server = lossy
    location = location_of(server, prefix)
    merge_rows(location, table([row(5)]), no_pause)
    proxy.start_anew(lambda _: fault)
    error = failure(use, location)
    assert type(error) is kind
    assert words in str(error)


@pytest.mark.parametrize("fault", [Fault.CUT_REPLY, Fault.CUT_UPLOAD, Fault.DONE_BUT_500])
@pytest.mark.parametrize("use", [*USES, merge, read])
def test_all_that_is_cut_can_be_retried(
    lossy: tuple[LossyProxy, Server],
    prefix: str,
    use: Callable[[Location], None],
    fault: Fault,
) -> None:
    proxy, server = lossy
    location = location_of(server, prefix)
    merge_rows(location, table([row(5)]), no_pause)
    proxy.start_anew(lambda _: fault)
    assert isinstance(failure(use, location), LakeUnreachableError)


@pytest.mark.parametrize("use", [made, put])
def test_a_full_server(use: Callable[[Location], None]) -> None:
    with MemoryS3(is_full=True).running() as endpoint:
        error = failure(use, location_of(Server(endpoint), "x"))
    assert isinstance(error, LakeUnreachableError)
    assert "is full: make room" in str(error)


def test_a_write_to_a_server_that_is_full_by_now(memory: Server, prefix: str) -> None:
    full = MemoryS3()
    with full.running() as endpoint:
        location = location_of(Server(endpoint), prefix)
        merge_rows(location, table([row(5)]), no_pause)
        full.is_full = True
        error = failure(merge, location)
        assert isinstance(error, LakeUnreachableError)
        assert "is full: make room" in str(error)
        full.is_full = False
        merge(location)


def first_file(location: Location, part: str) -> str:
    names = [one["path"] for one in obstore.list(location.objects(), "candles/").collect()]
    return next(name for name in sorted(names) if part in name)


@pytest.mark.parametrize("kind", ["folder_lake", "memory_lake"])
@pytest.mark.parametrize("use", [merge, read])
def test_a_file_that_another_program_has_deleted(
    request: pytest.FixtureRequest, kind: str, use: Callable[[Location], None]
) -> None:
    location = request.getfixturevalue(kind)
    merge_rows(location, table([row(-1), row(0), row(1)]), no_pause)
    gone = first_file(location, "month=2026-11")
    obstore.delete(location.objects(), gone)
    error = failure(use, location)
    assert isinstance(error, LakeUnreachableError)
    assert "another program has deleted" in str(error)
    assert gone.rpartition("/")[2] in str(error)


@pytest.mark.parametrize("kind", ["folder_lake", "memory_lake"])
@pytest.mark.parametrize("use", [opened, merge, read])
def test_a_commit_that_another_program_has_deleted(
    request: pytest.FixtureRequest, kind: str, use: Callable[[Location], None]
) -> None:
    location = request.getfixturevalue(kind)
    for minute in range(3):
        merge_rows(location, table([row(minute)]), no_pause)
    obstore.delete(location.objects(), first_file(location, "00002.json"))
    error = failure(use, location)
    assert isinstance(error, LakeUnreachableError)
    assert "found gap" in str(error)
    assert "{" not in str(error)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a tmpfs")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of a megabyte, or skip."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@needs_root
@pytest.mark.parametrize("use", [made, put, merge])
def test_a_full_disk(small_disk: Path, use: Callable[[Location], None]) -> None:
    location = Location(str(small_disk / "lake"))
    if use is merge:
        merge_rows(location, table([row(5)]), no_pause)
    else:
        (small_disk / "lake").mkdir()
    with (small_disk / "large").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"0" * 4_096)
    error = failure(use, location)
    assert isinstance(error, LakeUnreachableError)
    assert "the disk is full" in str(error)


@needs_root
@pytest.mark.parametrize("use", [made, put, merge])
def test_a_read_only_disk(small_disk: Path, use: Callable[[Location], None]) -> None:
    location = Location(str(small_disk / "lake"))
    if use is merge:
        merge_rows(location, table([row(5)]), no_pause)
    else:
        (small_disk / "lake").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    error = failure(use, location)
    assert isinstance(error, LakeDeniedError)
    assert "read-only" in str(error)


@pytest.mark.parametrize(
    ("problem", "kind", "words"),
    [
        (OSError(13, "Permission denied"), LakeDeniedError, "this user may not write there"),
        (OSError("x: Permission denied (os error 13)"), LakeDeniedError, "may not write there"),
        (OSError("x: No space left on device (os error 28)"), LakeUnreachableError, "is full"),
        (CommitFailedError("Metadata changed"), ConflictError, "another program wrote"),
        (DeltaError("a concurrent transaction deleted it"), ConflictError, "another program"),
        # Numbers and words of paths, sizes and durations mean nothing.
        (OSError("GET s3://b/part-403-409-412.parquet in 507.2ms"), LakeUnreachableError, "GET"),
        (OSError("GET http://quota.credential.forbidden/x"), LakeUnreachableError, "GET"),
        (
            OSError("non-2xx status code: 503 in 403ms: <Code>SlowDown</Code>"),
            LakeUnreachableError,
            "too many requests",
        ),
        (
            OSError("non-2xx status code: 403 Forbidden: <Code>RequestTimeTooSkewed</Code>"),
            LakeUnreachableError,
            "set the clock",
        ),
        (
            OSError("non-2xx status code: 400 Bad Request: <Code>ExpiredToken</Code>"),
            LakeDeniedError,
            "get new ones",
        ),
        (OSError("non-2xx status code: 401 Unauthorized"), LakeDeniedError, "refused"),
        (
            OSError("non-2xx status code: 418 x: <Code>Tea</Code><Message>a\x1b[2Jpot</Message>"),
            LakeUnreachableError,
            r"a\x1b[2Jpot (418 Tea)",
        ),
        (ValueError("a\nb\x1b[31mc"), LakeUnreachableError, "a bc"),
    ],
    ids=lambda one: str(one)[:30],
)
def test_the_class_is_by_type_status_and_number(
    problem: Exception, kind: type[LakeError], words: str
) -> None:
    with pytest.raises(LakeError) as caught, lake_errors("s3://b/x: cannot be read"):
        raise problem
    assert type(caught.value) is kind
    assert words in str(caught.value)
    assert str(caught.value).startswith("s3://b/x: cannot be read: ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "problem",
    [TypeError("x"), AssertionError(), KeyboardInterrupt(), ForeignLakeError("x")],
    ids=repr,
)
def test_bugs_and_our_own_errors_pass(problem: BaseException) -> None:
    with pytest.raises(type(problem)) as caught, lake_errors("s3://b/x"):
        raise problem
    assert caught.value is problem


def test_a_panic_of_rust_is_an_error_of_the_lake() -> None:
    class PanicException(BaseException):
        pass

    with pytest.raises(LakeUnreachableError, match="index out of bounds"), lake_errors("x"):
        raise PanicException("index out of bounds")


def test_a_foreign_lake_is_a_wrong_configuration() -> None:
    assert isinstance(ForeignLakeError("x: is not ours"), ConfigError)
    assert ForeignLakeError("x: is not ours").problems == ["x: is not ours"]
