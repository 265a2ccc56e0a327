"""A store is opened as soon as its disk has space; a stop ends the wait."""

from pathlib import Path

import pytest
import trio
import trio.testing

from kline_trio.errors import DiskFullError
from kline_trio.recorder.resources import open_store
from kline_trio.recorder.supervisor import open_recorder
from kline_trio.simulator.exchange import Exchange
from kline_trio.storage.store import Store
from tests.builders import SPOT, START_MS
from tests.recorder.test_supervisor import config_in
from tests.virtual import joined


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
    assert "there is disk space again; the store is open" in caplog.text


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
