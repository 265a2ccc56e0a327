"""Object stores for the tests of the lake, and a lake on each."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from kline_trio.lake.location import Location
from tests.lake.servers import (
    LossyProxy,
    MemoryS3,
    Server,
    location_of,
    moto_server,
    seaweed_server,
    why_no_moto,
    why_no_seaweed,
)


@pytest.fixture(scope="session", autouse=True)
def no_credentials_of_this_machine() -> Iterator[None]:
    """Hide the settings of AWS that this machine may have, and its metadata service."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        yield


@pytest.fixture(scope="session")
def servers_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all test processes of this run share."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "servers"


@pytest.fixture(scope="session")
def seaweed(servers_folder: Path) -> Iterator[Server]:
    """Run SeaweedFS, one for all test processes. It knows ADMIN and READER."""
    if reason := why_no_seaweed():
        pytest.skip(reason)
    with seaweed_server(servers_folder) as server:
        yield server


@pytest.fixture(scope="session")
def moto(servers_folder: Path) -> Iterator[Server]:
    """Run moto, one for all test processes. It lets everybody in."""
    if reason := why_no_moto():
        pytest.skip(reason)
    with moto_server(servers_folder) as server:
        yield server


@pytest.fixture
def memory() -> Iterator[Server]:
    """Run our own S3 server, which honours conditional puts. It lets everybody in."""
    with MemoryS3().running() as endpoint:
        yield Server(endpoint)


@pytest.fixture
def careless() -> Iterator[Server]:
    """Run our own S3 server, which ignores the conditions of puts. It lets everybody in."""
    with MemoryS3(honours_conditions=False).running() as endpoint:
        yield Server(endpoint)


@pytest.fixture
def prefix() -> str:
    """Return a prefix in a bucket that no other test has."""
    return f"test-{uuid4().hex}/klines"


@pytest.fixture
def seaweed_lake(seaweed: Server, prefix: str) -> Location:
    """Return an empty lake on SeaweedFS."""
    return location_of(seaweed, prefix)


@pytest.fixture
def moto_lake(moto: Server, prefix: str) -> Location:
    """Return an empty lake on moto."""
    return location_of(moto, prefix)


@pytest.fixture
def memory_lake(memory: Server, prefix: str) -> Location:
    """Return an empty lake on our own server."""
    return location_of(memory, prefix)


@pytest.fixture
def careless_lake(careless: Server, prefix: str) -> Location:
    """Return an empty lake on a server that ignores the conditions of puts."""
    return location_of(careless, prefix)


@pytest.fixture
def folder_lake(tmp_path: Path) -> Location:
    """Return an empty lake in a folder."""
    return Location(str(tmp_path / "lake"))


@pytest.fixture(params=["folder", "memory", "seaweed"])
def lake(request: pytest.FixtureRequest) -> Location:
    """Return an empty lake, once on each kind of store."""
    found = request.getfixturevalue(f"{request.param}_lake")
    assert isinstance(found, Location)
    return found


@pytest.fixture
def lossy(memory: Server) -> Iterator[tuple[LossyProxy, Server]]:
    """Run a proxy before our own server; give it with the server at the proxy's endpoint."""
    proxy = LossyProxy(memory.endpoint)
    with proxy.running() as endpoint:
        yield proxy, memory.behind(endpoint)
