"""The lake's small objects, on each kind of object store."""

import os
import time
from pathlib import Path

import pytest

from kline_trio.errors import DiskError
from kline_trio.lake import location as location_module
from kline_trio.lake.errors import ConflictError, LakeDeniedError
from kline_trio.lake.location import Location
from kline_trio.lake.objects import SCRATCH, Objects
from tests.lake.servers import READER, Server, location_of

PATH = "_kline_trio/x.json"


@pytest.fixture
def objects(lake: Location) -> Objects:
    return Objects.of(lake)


@pytest.fixture
def remote(memory_lake: Location) -> Objects:
    return Objects.of(memory_lake)


def test_an_object_is_as_it_was_written_last(objects: Objects) -> None:
    assert objects.get(PATH) is None
    objects.put(PATH, b"one")
    objects.put(PATH, b"two")
    found = objects.get(PATH)
    assert found is not None
    assert (found.content, found.meta.size, found.meta.path) == (b"two", 3, PATH)
    assert abs(found.meta.modified - time.time()) < 60


def test_an_object_is_made_once(objects: Objects) -> None:
    objects.create(PATH, b"mine")
    with pytest.raises(ConflictError):
        objects.create(PATH, b"theirs")
    found = objects.get(PATH)
    assert found is not None
    assert found.content == b"mine"


def test_whoever_makes_an_object_again_with_the_same_content_lost_an_answer(
    objects: Objects,
) -> None:
    assert objects.create(PATH, b"nonce") == objects.create(PATH, b"nonce")


def test_an_object_is_replaced_only_as_it_was_read(remote: Objects) -> None:
    first = remote.create(PATH, b"one")
    second = remote.replace(PATH, b"two", first)
    assert second != first
    with pytest.raises(ConflictError):
        remote.replace(PATH, b"three", first)
    assert remote.replace(PATH, b"two", first) == second
    with pytest.raises(ConflictError):
        remote.replace("_kline_trio/absent.json", b"four", first)


def test_all_objects_of_a_folder_are_listed_in_order_and_no_others(objects: Objects) -> None:
    for path in ("_kline_trio/b/2", "_kline_trio/b/1", "_kline_trio/bc", "candles/x"):
        objects.put(path, b"x")
    assert [one.path for one in objects.list("_kline_trio/b")] == [
        "_kline_trio/b/1",
        "_kline_trio/b/2",
    ]
    assert objects.list("nothing") == []


def test_what_is_deleted_is_gone_and_may_be_deleted_again(objects: Objects) -> None:
    objects.put(PATH, b"x")
    objects.delete([PATH])
    objects.delete([PATH])
    assert objects.get(PATH) is None


def test_the_time_is_that_of_the_object_store_and_nothing_is_left(objects: Objects) -> None:
    assert -2 < time.time() - objects.now() < 60
    assert objects.list(SCRATCH) == []


def test_scratch_objects_are_swept_when_they_are_old(objects: Objects) -> None:
    objects.put(f"{SCRATCH}/old", b"x")
    now = objects.now()
    assert objects.sweep(now - 60) == 0
    assert objects.sweep(now + 60) == 1
    assert objects.list(SCRATCH) == []


def test_a_large_file_arrives_whole_and_is_read_at_any_place(
    objects: Objects, tmp_path: Path
) -> None:
    content = os.urandom(11 << 20)
    (tmp_path / "file").write_bytes(content)
    assert objects.upload("candles/file", tmp_path / "file") == len(content)
    for whole in (True, False):
        with objects.open("candles/file", whole=whole) as file:
            assert file.size() == len(content)
            file.seek(6 << 20)
            assert file.read(100) == content[6 << 20 :][:100]


def test_whoever_may_only_read_is_denied_by_name(seaweed: Server, prefix: str) -> None:
    objects = Objects.of(location_of(seaweed, prefix, READER))
    assert objects.get(PATH) is None
    with pytest.raises(LakeDeniedError, match=rf"^s3://.*{PATH}: cannot be written"):
        objects.put(PATH, b"x")
    with pytest.raises(LakeDeniedError):
        objects.now()


def test_a_folder_on_a_network_file_system_is_refused(
    folder_lake: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise DiskError(f"{folder} is on a network file system")

    monkeypatch.setattr(location_module, "refuse_network_disk", refuse)
    with pytest.raises(DiskError, match="network file system"):
        Objects.of(folder_lake)
