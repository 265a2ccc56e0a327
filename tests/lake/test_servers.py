"""The test servers do what the tests of the lake take for granted."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import botocore.exceptions  # type: ignore[import-untyped]
import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, PreconditionError

from kline_trio.lake.location import Location
from tests.lake.servers import (
    READER,
    STRANGER,
    Fault,
    LossyProxy,
    MemoryS3,
    Server,
    client_of,
    location_of,
    nth,
    seeded,
)
from tests.storage.support import child_environment

HONEST = ["memory_lake", "seaweed_lake", "moto_lake"]


@pytest.fixture(params=HONEST)
def honest(request: pytest.FixtureRequest) -> Location:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Location)
    return found


def test_honours_put_if_absent_and_put_if_match(honest: Location) -> None:
    store = honest.objects()
    first = obstore.put(store, "scratch/a", b"one", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "scratch/a", b"two", mode="create")
    second = obstore.put(store, "scratch/a", b"two", mode={"e_tag": first["e_tag"]})
    assert second["e_tag"] != first["e_tag"]
    with pytest.raises(PreconditionError):
        obstore.put(store, "scratch/a", b"three", mode={"e_tag": first["e_tag"]})
    assert bytes(obstore.get(store, "scratch/a").bytes()) == b"two"


def test_lists_gets_ranges_and_deletes(honest: Location) -> None:
    store = honest.objects()
    names = [f"folder/name {n}=ü&<.bin" for n in range(12)]
    for name in names:
        obstore.put(store, name, name.encode())
    found = obstore.list(store, "folder/", chunk_size=5).collect()
    assert sorted(one["path"] for one in found) == sorted(names)
    assert obstore.list_with_delimiter(store)["common_prefixes"] == ["folder"]
    assert bytes(obstore.get_range(store, names[0], start=2, end=6)) == names[0].encode()[2:6]
    obstore.delete(store, names)
    assert obstore.list(store, "folder/").collect() == []


def test_takes_uploads_in_parts(honest: Location) -> None:
    store = honest.objects()
    content = os.urandom(11_000_000)
    obstore.put(store, "large", content, use_multipart=True, chunk_size=5_500_000)
    assert bytes(obstore.get(store, "large").bytes()) == content


def test_the_careless_server_ignores_conditions(careless_lake: Location) -> None:
    store = careless_lake.objects()
    obstore.put(store, "a", b"one", mode="create")
    obstore.put(store, "a", b"two", mode="create")
    obstore.put(store, "a", b"three", mode={"e_tag": '"0"'})
    assert bytes(obstore.get(store, "a").bytes()) == b"three"


def test_a_full_server_refuses_each_put(prefix: str) -> None:
    with MemoryS3(is_full=True).running() as endpoint:
        client = client_of(Server(endpoint))
        with pytest.raises(botocore.exceptions.ClientError, match=r"507|InsufficientStorage"):
            client.put_object(Bucket="lakes", Key=prefix, Body=b"")
        client.close()


def test_seaweed_knows_who_may_write(seaweed: Server, prefix: str) -> None:
    obstore.put(location_of(seaweed, prefix).objects(), "a", b"one")
    reader = location_of(seaweed, prefix, READER).objects()
    assert bytes(obstore.get(reader, "a").bytes()) == b"one"
    with pytest.raises(Exception, match=r"403|Denied"):
        obstore.put(reader, "a", b"two")
    with pytest.raises(Exception, match=r"403|Denied"):
        obstore.get(location_of(seaweed, prefix, STRANGER).objects(), "a")


_JOIN = """
import sys
from pathlib import Path
from tests.lake.servers import moto_server
with moto_server(Path(sys.argv[1])) as server:
    print(server.endpoint, flush=True)
    sys.stdin.read()
"""


def joined(folder: Path) -> tuple["subprocess.Popen[str]", str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _JOIN, str(folder)],
        env=child_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def is_up(endpoint: str) -> bool:
    client = client_of(Server(endpoint))
    try:
        client.list_buckets()
    except botocore.exceptions.BotoCoreError:
        return False
    finally:
        client.close()
    return True


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


@pytest.mark.usefixtures("moto")
def test_processes_share_a_server_which_ends_with_the_last_also_by_sigkill(
    tmp_path: Path,
) -> None:
    one, endpoint = joined(tmp_path)
    two, other = joined(tmp_path)
    try:
        assert endpoint == other
        end(one)
        assert is_up(endpoint)
        end(two)
        deadline = time.monotonic() + 10
        while is_up(endpoint):
            assert time.monotonic() < deadline
        # A later one starts a server of its own.
        three, third = joined(tmp_path)
        assert is_up(third)
        end(three)
    finally:
        for process in (one, two):
            process.send_signal(signal.SIGKILL)


def put(client: Any, key: str, content: bytes = b"content") -> int | None:  # noqa: ANN401
    """Put an object; return the status of the answer, or None if there was no whole one."""
    try:
        answer = client.put_object(Bucket="lakes", Key=key, Body=content)
    except botocore.exceptions.ClientError as error:
        return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.HTTPClientError):
        return None
    return int(answer["ResponseMetadata"]["HTTPStatusCode"])


@pytest.mark.parametrize("fault", Fault)
def test_the_proxy_plays_each_fault_once(
    lossy: tuple[LossyProxy, Server], memory: Server, fault: Fault
) -> None:
    proxy, server = lossy
    client, behind = client_of(server), client_of(memory)
    proxy.late_seconds = 0.01
    proxy.start_anew(nth(1, fault))
    assert put(client, "first") == 200
    answered = put(client, "second")
    match fault:
        case Fault.LATE:
            assert answered == 200
        case Fault.DONE_BUT_500:
            assert answered == 500
        case _:
            assert answered == fault.status
    keys = [one["Key"] for one in behind.list_objects_v2(Bucket="lakes").get("Contents", [])]
    assert keys == (["first", "second"] if fault.is_done else ["first"])
    assert put(client, "third") == 200
    assert [one.fault for one in proxy.requests] == [None, fault, None]
    assert [one.method for one in proxy.requests] == ["PUT"] * 3
    assert proxy.requests[1].path == "/lakes/second"
    client.close()
    behind.close()


def test_a_fault_can_outlive_retries_of_the_same_request(
    lossy: tuple[LossyProxy, Server],
) -> None:
    proxy, server = lossy
    client = client_of(server)
    proxy.start_anew(nth(0, Fault.ANSWER_503, times=3))
    answers = [put(client, key) for key in ("a", "b", "a", "a", "a")]
    assert answers == [503, 200, 503, 503, 200]
    client.close()


def test_a_cut_reply_is_cut_within_its_body(lossy: tuple[LossyProxy, Server]) -> None:
    proxy, server = lossy
    client = client_of(server)
    put(client, "a", b"0123456789")
    proxy.start_anew(nth(0, Fault.CUT_REPLY))
    answer = client.get_object(Bucket="lakes", Key="a")
    assert answer["ContentLength"] == 10
    with pytest.raises(Exception, match=r"(?i)incomplete|broken|ended"):
        answer["Body"].read()
    client.close()


def test_the_proxy_shifts_the_servers_clock(lossy: tuple[LossyProxy, Server]) -> None:
    proxy, server = lossy
    proxy.clock_shift_seconds = 3_600
    client = client_of(server)
    answer = client.put_object(Bucket="lakes", Key="a", Body=b"")
    shown = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    ahead = shown - datetime.now(UTC)
    assert timedelta(minutes=59) < ahead < timedelta(minutes=61)
    client.close()


def test_a_seed_gives_the_same_faults_again(lossy: tuple[LossyProxy, Server]) -> None:
    proxy, server = lossy
    client = client_of(server)
    faults = (Fault.ANSWER_500, Fault.ANSWER_503)
    seen = []
    for _ in range(2):
        proxy.start_anew(seeded(7, 0.5, faults))
        seen.append([put(client, f"{n}") for n in range(40)])
    assert seen[0] == seen[1]
    assert set(seen[0]) == {200, 500, 503}
    assert proxy.faults == 40 - seen[0].count(200)
    client.close()
