"""A recorder whose files are taken away ends, says so, and keeps what it recorded."""

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from kline_trio.errors import DiskError, DiskFullError, KlineTrioError, StoreInUseError
from kline_trio.recorder.environment import Environment
from kline_trio.recorder.lifetimes import open_store
from kline_trio.recorder.supervisor import open_recorder
from kline_trio.simulator.exchange import Exchange
from kline_trio.storage.paths import journal_path, lock_path
from kline_trio.storage.store import Store
from tests.builders import SPOT, START_MS
from tests.recorder.test_supervisor import config_in, stored
from tests.virtual import joined


@pytest.mark.parametrize(
    ("place", "kind"), [(journal_path, DiskError), (lock_path, StoreInUseError)]
)
@pytest.mark.parametrize("is_busy", [True, False])
async def test_it_ends_as_soon_as_it_looks(
    place: Callable[[Path], Path],
    kind: type[KlineTrioError],
    *,
    is_busy: bool,
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
) -> None:
    """At the next commit, or within ten seconds; and what was recorded is there."""
    exchange = Exchange(start_ms=START_MS)
    config = config_in(tmp_path, SPOT if is_busy else attrs.evolve(SPOT, time_interval="1M"))
    recorded = 0

    async def record(environment: Environment) -> None:
        nonlocal recorded
        async with open_recorder(config, environment):
            await trio.sleep(20)
            recorded = len(stored(tmp_path, SPOT)) if is_busy else 0
            place(tmp_path / "data").unlink()
            await trio.sleep_forever()

    async with joined(exchange) as environment:
        with trio.fail_after(40), pytest.raises(kind, match="while the recorder h"):
            await record(environment)
    if is_busy:
        assert recorded > 5
        assert len(stored(tmp_path, SPOT)) >= recorded


def _full(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Store.open
    left = [times]

    def open_later(path: Path, layout: object) -> Store:
        if left[0]:
            left[0] -= 1
            raise DiskFullError(f"{path}: No space left on device")
        return opened(path, layout)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "open", open_later)


async def test_a_disk_that_is_full_at_the_start_is_waited_for(
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _full(3, monkeypatch)
    caplog.set_level("INFO")
    async with joined(Exchange(start_ms=START_MS)) as environment:
        async with open_store(config_in(tmp_path, SPOT), environment):
            assert 15 <= trio.current_time() <= 16
    assert "nothing is recorded until the store can be opened" in caplog.text
    assert "there is room again; the store is open" in caplog.text


async def test_a_stop_ends_the_wait_for_room(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the disk's own words: nothing was recorded, and that is no success."""
    _full(1_000, monkeypatch)

    async def stop_asked() -> None:
        await trio.sleep_until(23)

    async with joined(Exchange(start_ms=START_MS)) as environment:
        with pytest.raises(DiskFullError, match="No space left"):
            async with open_recorder(config_in(tmp_path, SPOT), environment, stop_asked):
                pytest.fail("there is no room")
    assert trio.current_time() < 24
