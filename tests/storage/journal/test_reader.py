"""A journal that changes while a reader copies it."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kline_trio.errors import DiskError
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.paths import journal_path
from tests.storage.support import BTC, child_environment, write_minutes

_RECORDER = """
import os, sys
from pathlib import Path
from tests.storage.support import *
store = open_store(Path(sys.argv[1]))
first = int(sys.argv[2])
store.journal.accept(minutes(first, first + 300))
# All into the database, and the log begins anew.
store.journal.fold_in()
store.journal.accept(minutes(first + 300, first + 305))
os._exit(0)
"""
"""Accepts 305 candles, and leaves the newest five in the write-ahead log, as a crash would."""


def record(store: Path, first: int) -> None:
    subprocess.run(
        [sys.executable, "-c", _RECORDER, store, str(first)],
        env=child_environment(),
        timeout=60,
        check=True,
    )


@pytest.mark.parametrize("changes", [1, 2])
def test_a_copy_in_which_database_and_log_do_not_belong_together_is_made_again(
    changes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two a recorder starts, empties the log into the database, and goes on."""
    write_minutes(tmp_path, 0, 10).close()
    copyfile = shutil.copyfile
    known = [10]

    def copy_and_record(source: Path, target: Path) -> Any:  # noqa: ANN401
        copied = copyfile(source, target)
        if source == journal_path(tmp_path) and len(known) <= changes:
            record(tmp_path, known[-1])
            known.append(known[-1] + 305)
        return copied

    monkeypatch.setattr(shutil, "copyfile", copy_and_record)
    with journal_view(tmp_path) as journal:
        candles = journal.candles(BTC, 0, 2**62)
        assert journal.faults() == []
    assert len(candles) == known[-1]
    times = [candle.open_time_ms for candle, _ in candles]
    assert times == [*range(times[0], times[0] + known[-1] * 60_000, 60_000)]


def test_a_journal_that_never_stands_still_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_minutes(tmp_path, 0, 10).close()
    copyfile = shutil.copyfile

    def copy_and_touch(source: Path, target: Path) -> Any:  # noqa: ANN401
        copied = copyfile(source, target)
        source.write_bytes(source.read_bytes() + bytes(4_096))
        return copied

    monkeypatch.setattr(shutil, "copyfile", copy_and_touch)
    with pytest.raises(DiskError, match="changes too fast to be copied"), journal_view(tmp_path):
        pass
