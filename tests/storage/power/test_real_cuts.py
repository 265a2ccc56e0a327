"""Power cuts of a real file system: ext4 on a loop device, shut down without its log being flushed.

Only root on a Linux that lets it mount may try this; `test_power_loss.py` runs everywhere.
"""

import contextlib
import fcntl
import os
import random
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kline_trio.errors import DiskError
from kline_trio.storage.layout import DEFAULT_LAYOUT
from tests.storage.faults.scenario import Scenario, wrong_with
from tests.storage.power.traced import MUTANTS
from tests.storage.support import child_environment, merge_all, minutes, open_store

_ROUNDS = int(os.environ.get("KLINE_TRIO_REAL_CUTS", "12"))

_SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN, of Linux's fs/ext4/ext4.h."""
_NO_LOG_FLUSH = struct.pack("I", 2)

# Revisions of the batch before, so that merges find rows in the middle of the file.
_BATCHES = [minutes(max(0, 3 * n - 2), 3 * n + 3, float(n + 1)) for n in range(300)]
_SCENARIO = Scenario("real cuts", lambda _: None, _BATCHES, 0, lambda _path, _accept: None)


def write_until_cut(path: Path) -> None:
    """What the other process does: a dot for each batch that is accepted."""
    try:
        store = open_store(path, DEFAULT_LAYOUT)
        for number, batch in enumerate(_BATCHES):
            store.journal.accept(batch)
            os.write(1, b".")
            if number % 3 == 2:
                merge_all(store)
    except DiskError:
        os._exit(0)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    if sys.platform != "linux" or os.geteuid() or not shutil.which("mkfs.ext4"):
        pytest.skip("NO REAL POWER CUT IS TRIED: this needs Linux, root and mkfs.ext4")
    return tmp_path


@contextlib.contextmanager
def mounted(image: Path, folder: Path) -> Iterator[None]:
    done = subprocess.run(
        ["mount", "-o", "loop", image, folder],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"NO REAL POWER CUT IS TRIED: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True, timeout=60)


def cut(disk: Path) -> None:
    folder = os.open(disk, os.O_RDONLY)
    try:
        fcntl.ioctl(folder, _SHUTDOWN, _NO_LOG_FLUSH)
    except OSError as error:
        pytest.skip(f"NO REAL POWER CUT IS TRIED: {error}")
    finally:
        os.close(folder)


def cut_amid_writing(disk: Path, chance: random.Random, mutant: str) -> tuple[int, int]:
    """Starts a writer and cuts at some moment after some batch.

    Returns:
      how many batches it had acknowledged before the cut, and before it gave up. Calls that the
      shutdown overtakes may still succeed, though what they wrote is gone: with a real power cut
      there would be nobody to hear of it.
    """
    with subprocess.Popen(
        [sys.executable, "-m", __name__, str(disk / "store"), mutant],
        stdout=subprocess.PIPE, bufsize=0, env=child_environment(),
    ) as writer:  # fmt: skip
        assert writer.stdout is not None
        wanted = chance.randrange(1, 60)
        before = 0
        while before < wanted:
            before += len(writer.stdout.read(wanted - before))
        time.sleep(chance.random() * 0.01)
        os.set_blocking(writer.stdout.fileno(), False)
        before += len(writer.stdout.read() or b"")
        cut(disk)
        os.set_blocking(writer.stdout.fileno(), True)
        after = before
        while more := writer.stdout.read():
            after += len(more)
    assert not writer.returncode
    return before, after


def wrong_after_a_cut(place: Path, seed: int, mutant: str = "none") -> str | None:
    image, disk = place / "disk.ext4", place / "disk"
    disk.mkdir(exist_ok=True)
    image.write_bytes(b"")
    os.truncate(image, 64 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True, timeout=60)
    with mounted(image, disk):
        before, after = cut_amid_writing(disk, random.Random(seed), mutant)
    assert after < len(_BATCHES)
    with mounted(image, disk):
        return wrong_with(_SCENARIO, disk / "store", before, after - before + 1)


@pytest.mark.parametrize("seed", range(_ROUNDS))
def test_what_was_acknowledged_survives_a_real_cut(seed: int, place: Path) -> None:
    assert wrong_after_a_cut(place, seed) is None


def test_the_same_test_finds_a_journal_that_is_not_synced(place: Path) -> None:
    assert any(wrong_after_a_cut(place, seed, "synchronous=NORMAL") for seed in range(20))


if __name__ == "__main__":
    if sys.argv[2] in MUTANTS:
        MUTANTS[sys.argv[2]]()
    write_until_cut(Path(sys.argv[1]))
