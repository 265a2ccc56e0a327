"""How long the space on the disk lasts."""

import math
from pathlib import Path

import pytest

from kline_trio.errors import DiskError
from kline_trio.storage import store as storage
from kline_trio.storage.disk_space import DiskSpace
from kline_trio.storage.file_list import Totals
from tests.storage.support import BTC, MONTHLY, open_store, write_minutes


def test_days_follow_from_rows_a_day() -> None:
    assert DiskSpace(1_440 * 40, 40).days_left([BTC]) == pytest.approx(1)
    assert DiskSpace(1_440 * 40 * 10, 40).days_left([BTC, BTC]) == pytest.approx(5)
    assert DiskSpace(400, 40).days_left([MONTHLY]) == pytest.approx(10 * 30.44, rel=0.01)
    assert DiskSpace(400, 40).days_left([]) == math.inf


def test_a_row_takes_what_rows_in_long_files_take() -> None:
    """Short files are mostly footers: then 48 bytes are taken for granted."""
    assert DiskSpace.beside(Totals(2, 2_000, 60_000), 7) == DiskSpace(7, 30)
    assert DiskSpace.beside(Totals(2, 1_999, 60_000), 7) == DiskSpace(7, 48)
    assert DiskSpace.beside(Totals(0, 0, 0), 7) == DiskSpace(7, 48)


def test_a_store_tells_its_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "free_bytes", lambda _: 10**9)
    store = write_minutes(tmp_path, 1_500, 3)
    [file] = store.files()
    assert store.room() == DiskSpace(10**9, file.size_bytes / 1_500)
    store.close()


def test_a_disk_that_does_not_say_its_room_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> int:
        raise OSError(5, "Input/output error")

    store = open_store(tmp_path)
    monkeypatch.setattr(storage, "free_bytes", refuse)
    with pytest.raises(DiskError, match="Input/output error"):
        store.room()
    store.close()
