"""An object store is proven before the first write; one that ignores conditions is refused."""

from collections.abc import Callable

import pytest

from kline_trio.lake import proof
from kline_trio.lake.errors import ForeignLakeError, LakeError
from kline_trio.lake.location import Location
from kline_trio.lake.objects import SCRATCH, Found, Objects
from kline_trio.lake.proof import prove, require_conditions
from kline_trio.lake.tables import made_table
from tests.lake.servers import ADMIN, Fault, LossyProxy, Server, location_of, nth


def test_a_store_that_keeps_conditions_is_accepted_and_left_clean(lake: Location) -> None:
    objects = Objects.of(lake)
    prove(objects)
    assert objects.list(SCRATCH) == []


def test_moto_is_accepted(moto_lake: Location) -> None:
    prove(Objects.of(moto_lake))


def test_a_store_that_ignores_conditions_is_refused_before_anything_is_made(
    careless_lake: Location,
) -> None:
    with pytest.raises(ForeignLakeError, match="ignores the header If-None-Match") as caught:
        made_table(careless_lake, "candles")
    assert "SeaweedFS" in str(caught.value)
    assert Objects.of(careless_lake).list("candles") == []
    assert Objects.of(careless_lake).list(SCRATCH) == []


class Altered(Objects):
    """The objects of a store with one method that behaves in another way."""


def altered(objects: Objects, **methods: Callable[..., object]) -> Objects:
    kind = type("Altered", (Objects,), methods)
    found: Objects = kind(objects.url, objects._store)
    return found


def test_a_store_that_ignores_if_match_alone_is_refused(memory_lake: Location) -> None:
    def replace(self: Objects, path: str, content: bytes, _: str | None) -> str:
        self.put(path, content)
        found = self.get(path)
        assert found is not None
        return str(found.meta.etag)

    with pytest.raises(ForeignLakeError, match=r"If-Match .*etag of an old content"):
        prove(altered(Objects.of(memory_lake), replace=replace))


def test_a_store_that_refuses_and_writes_all_the_same_is_refused(memory_lake: Location) -> None:
    def create(self: Objects, path: str, content: bytes) -> str | None:
        before = self.get(path)
        try:
            return Objects.create(self, path, content)
        finally:
            if before is not None:
                self.put(path, content)

    with pytest.raises(ForeignLakeError, match="done all the same"):
        prove(altered(Objects.of(memory_lake), create=create))


def test_a_store_that_fails_only_in_a_race_is_refused(memory_lake: Location) -> None:
    """A server that looks first and writes then, without a lock."""
    seen: dict[str, int] = {}

    def create(self: Objects, path: str, content: bytes) -> str | None:
        seen[path] = seen.get(path, 0) + 1
        if len(seen) > 1 and seen[path] == 2:
            self.put(path, content)
            return "etag"
        return Objects.create(self, path, content)

    with pytest.raises(ForeignLakeError, match="2 of 2 writers that began at once"):
        prove(altered(Objects.of(memory_lake), create=create))


def test_a_store_whose_etag_stays_the_same_is_refused(memory_lake: Location) -> None:
    def replace(self: Objects, path: str, content: bytes, etag: str | None) -> str | None:
        Objects.replace(self, path, content, etag)
        return etag

    with pytest.raises(ForeignLakeError, match="same etag"):
        prove(altered(Objects.of(memory_lake), replace=replace))


def test_an_object_that_vanishes_is_an_error_and_no_proof(memory_lake: Location) -> None:
    def get(self: Objects, path: str) -> Found | None:
        return None

    with pytest.raises(LakeError, match="is not there"):
        prove(altered(Objects.of(memory_lake), get=get))


def test_an_object_store_is_proven_once_in_a_process(
    memory: Server, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "_proven", set())
    proxy = LossyProxy(memory.endpoint)
    with proxy.running() as endpoint:
        there = location_of(memory.behind(endpoint), prefix, ADMIN)
        require_conditions(there)
        first = len(proxy.requests)
        require_conditions(there)
        assert len(proxy.requests) == first > 5
        require_conditions(location_of(memory.behind(endpoint), f"{prefix}/other", ADMIN))
        assert len(proxy.requests) > first


FAULTS = (Fault.LOST_REPLY, Fault.DONE_BUT_500, Fault.CUT_REPLY, Fault.ANSWER_409, Fault.ANSWER_412)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_answer_is_no_reason_to_refuse_a_store(
    memory: Server, prefix: str, fault: Fault
) -> None:
    """At each request of a proof, of which there are twenty or more."""
    is_there, number = True, 0
    proxy = LossyProxy(memory.endpoint)
    with proxy.running() as endpoint:
        objects = Objects.of(location_of(memory.behind(endpoint), prefix, ADMIN))
        while is_there:
            proxy.plan = nth(number, fault)
            before = len(proxy.requests)
            try:
                prove(objects)
            except ForeignLakeError:
                raise
            except LakeError:
                pass  # a retry may help
            is_there = any(one.fault for one in proxy.requests[before:])
            number += 1
    assert number > 20
