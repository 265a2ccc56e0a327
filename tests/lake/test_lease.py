"""One program holds the lease of a lake; it expires by the object store's clock."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.lake.errors import LakeUnreachableError
from kline_trio.lake.lease import Lease, LeaseLostError, LeaseState, holder_of, lease, take
from kline_trio.lake.location import Location
from kline_trio.lake.objects import Objects

PATH = "_kline_trio/lease.json"
SECONDS = 900.0


@attrs.define
class Clock:
    """This machine's clock, which a test moves."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@attrs.frozen(eq=False)
class Skewed(Objects):
    """Objects of a store whose clock is ahead."""

    ahead: Clock = attrs.field(factory=lambda: Clock(0.0))
    is_down: list[bool] = attrs.field(factory=list)

    def now(self) -> float:
        return super().now() + self.ahead.now

    def replace(self, path: str, content: bytes, etag: str | None) -> str | None:
        if self.is_down:
            raise LakeUnreachableError("no answer")
        return super().replace(path, content, etag)


@pytest.fixture
def objects(memory_lake: Location) -> Skewed:
    plain = Objects.of(memory_lake)
    return Skewed(plain.url, plain._store)


def test_a_lease_is_held_by_one_program_until_it_gives_it_back(lake: Location) -> None:
    objects = Objects.of(lake)
    first = take(objects, "a")
    assert first is not None
    assert take(Objects.of(lake), "b") is None
    first.give_back()
    second = take(Objects.of(lake), "b")
    assert second is not None
    second.give_back()


def test_the_holder_can_be_seen(objects: Skewed) -> None:
    assert holder_of(objects) is None
    with lease(objects, "a") as held:
        assert held is not None
        assert holder_of(objects) == "a"
        with lease(objects, "b") as other:
            assert other is None
        assert holder_of(objects) == "a"
    assert holder_of(objects) is None


def test_a_lease_is_given_back_after_an_error(objects: Skewed) -> None:
    with pytest.raises(ZeroDivisionError), lease(objects, "a"):
        _ = 1 / 0
    assert take(objects, "b") is not None


def test_a_lease_whose_holder_has_died_expires_by_the_clock_of_the_store(objects: Skewed) -> None:
    assert take(objects, "a", SECONDS) is not None
    objects.ahead.now = SECONDS - 10
    assert take(objects, "b", SECONDS) is None
    objects.ahead.now = SECONDS + 10
    assert take(objects, "b", SECONDS) is not None


def test_a_holder_that_keeps_its_lease_stays_the_holder(objects: Skewed) -> None:
    clock = Clock()
    held = take(objects, "a", SECONDS, clock)
    assert held is not None
    written = objects.list("_kline_trio")
    clock.now += SECONDS / 4
    held.keep()
    assert objects.list("_kline_trio") == written  # it is young
    clock.now += SECONDS / 4
    held.keep()
    found = objects.get(PATH)
    assert found is not None
    assert found.meta.etag != written[0].etag
    assert LeaseState.from_content(found.content).holder == "a"
    clock.now += SECONDS / 2
    held.keep()
    held.give_back()
    assert holder_of(objects) is None


def test_a_holder_that_was_paused_notices_that_another_one_took_over(objects: Skewed) -> None:
    clock = Clock()
    held = take(objects, "a", SECONDS, clock)
    assert held is not None
    objects.ahead.now = SECONDS + 10
    other = take(objects, "b", SECONDS, clock)
    assert other is not None
    clock.now += SECONDS + 10
    with pytest.raises(LeaseLostError, match="lease of a expired"):
        held.keep()
    held.give_back()
    assert holder_of(objects) == "b"


def test_a_holder_that_was_paused_goes_on_if_nobody_took_over(objects: Skewed) -> None:
    clock = Clock()
    held = take(objects, "a", SECONDS, clock)
    assert held is not None
    clock.now += 10 * SECONDS
    held.keep()
    assert take(objects, "b", SECONDS) is None


def test_a_holder_that_cannot_renew_goes_on_only_until_its_lease_expires(objects: Skewed) -> None:
    clock = Clock()
    held = take(objects, "a", SECONDS, clock)
    assert held is not None
    objects.is_down.append(True)
    clock.now += SECONDS / 2
    held.keep()
    clock.now += SECONDS / 2
    with pytest.raises(LeaseLostError, match="no answer"):
        held.keep()


@pytest.mark.parametrize("is_there", [False, True])
def test_of_many_that_begin_at_once_one_gets_the_lease(objects: Skewed, *, is_there: bool) -> None:
    if is_there:
        first = take(objects, "before", 1.0)
        assert first is not None
        objects.ahead.now = 100.0
    begin, won = threading.Barrier(8), list[Lease]()

    def run(name: str) -> None:
        begin.wait()
        held = take(objects, name)
        if isinstance(held, Lease):
            won.append(held)

    threads = [threading.Thread(target=run, args=[f"r{n}"]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.holder for one in won] == [holder_of(objects)]


@pytest.mark.parametrize("content", [b"", b"no json", b"[]", b"{}", b'{"holder": 3, "seconds": 1}'])
def test_a_damaged_lease_can_be_taken(objects: Skewed, content: bytes) -> None:
    objects.put(PATH, content)
    assert take(objects, "a") is not None


@pytest.fixture
def child(folder_lake: Location) -> Iterator["subprocess.Popen[str]"]:
    """Run another process that holds the lease of the folder."""
    code = (
        "import sys, time\n"
        "from kline_trio.lake.lease import take\n"
        "from kline_trio.lake.location import Location\n"
        "from kline_trio.lake.objects import Objects\n"
        "held = take(Objects.of(Location(sys.argv[1])), 'child')\n"
        "print(held is not None, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, folder_lake.url],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_the_lease_of_a_folder_ends_with_its_process(
    folder_lake: Location, child: "subprocess.Popen[str]"
) -> None:
    objects = Objects.of(folder_lake)
    assert take(objects, "me") is None
    child.kill()
    child.wait()
    assert take(objects, "me") is not None


@given(st.floats(0, 2e9), st.floats(0, 2e9), st.floats(1, 1e5), st.one_of(st.none(), st.just("a")))
def test_nobody_holds_a_lease_longer_than_it_is_valid(
    now: float, modified: float, seconds: float, holder: str | None
) -> None:
    state = LeaseState(holder, seconds)
    assert LeaseState.from_content(state.content("nonce")) == state
    if now <= modified + seconds:
        assert state.holder_at(now, modified) == holder
    if now > modified + seconds + 5:
        assert state.holder_at(now, modified) is None
