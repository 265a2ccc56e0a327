"""What is written survives a power cut: in which order files, names and folders are synced."""

import errno
import os
from pathlib import Path

import pytest

from kline_trio.errors import DiskError, NoRoomError
from kline_trio.listing import Listing
from kline_trio.storage.disk import disk_errors, make_folders, move_durably
from kline_trio.storage.places import journal_path, scratch, universe_path
from kline_trio.storage.universe import UniverseFile, changes
from tests.storage.support import open_store, write_minutes


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls that change names or sync, each with the name of its file or folder, in order."""
    done: list[str] = []
    fsync, replace, mkdir = os.fsync, os.replace, os.mkdir
    link, unlink = os.link, os.unlink

    def note_fsync(descriptor: int) -> None:
        fsync(descriptor)
        done.append(f"fsync {Path(f'/dev/fd/{descriptor}').resolve().name}")

    def note_replace(old: Path, new: Path) -> None:
        replace(old, new)
        done.append(f"replace {Path(new).name}")

    def note_mkdir(folder: Path, mode: int = 0o777) -> None:
        mkdir(folder, mode)
        done.append(f"mkdir {Path(folder).name}")

    def note_link(old: Path, new: Path, **options: bool) -> None:
        link(old, new, **options)
        done.append(f"link {Path(new).name}")

    def note_unlink(path: Path) -> None:
        unlink(path)
        done.append(f"unlink {Path(path).name}")

    for name, noting in (
        ("fsync", note_fsync),
        ("replace", note_replace),
        ("mkdir", note_mkdir),
        ("link", note_link),
        ("unlink", note_unlink),
    ):
        monkeypatch.setattr(os, name, noting)
    return done


def test_each_folder_that_is_made_is_synced_in_the_one_above(
    tmp_path: Path, calls: list[str]
) -> None:
    make_folders(tmp_path / "one" / "two")
    make_folders(tmp_path / "one" / "two")
    assert calls == ["mkdir one", f"fsync {tmp_path.name}", "mkdir two", "fsync one"]


def test_a_file_that_is_moved_has_a_durable_name_at_every_moment(
    tmp_path: Path, calls: list[str]
) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").write_bytes(b"content")
    calls.clear()
    move_durably(tmp_path / "old" / "file", tmp_path / "new" / "file")
    assert calls == ["link file", "fsync new", "unlink file", "fsync old"]


def test_a_small_file_is_durable_before_it_has_its_name(tmp_path: Path, calls: list[str]) -> None:
    scratch(tmp_path).mkdir(parents=True)
    calls.clear()
    listing = Listing(symbol="BTCUSDT", status="TRADING")
    UniverseFile.open(tmp_path).append(changes("spot", {}, {"BTCUSDT": listing}, 1))
    house = universe_path(tmp_path).parent.name
    assert calls == ["fsync universe.tmp", "replace universe.parquet", f"fsync {house}"]


def test_a_salvaged_journal_is_durable_before_the_damaged_one_is_moved(
    tmp_path: Path, calls: list[str]
) -> None:
    write_minutes(tmp_path, 0, 2_000).close()
    journal = journal_path(tmp_path)
    content = bytearray(journal.read_bytes())
    content[-4_096:] = b"\x5a" * 4_096
    journal.write_bytes(content)
    calls.clear()
    open_store(tmp_path).close()
    at = calls.index("replace recovered.sqlite")
    house = journal.parent.name
    assert calls[at + 1 : calls.index("link journal.sqlite")] == [
        f"fsync {house}",
        "mkdir quarantine",
        f"fsync {house}",
        "mkdir 0001",
        "fsync quarantine",
    ]
    at = calls.index("replace journal.sqlite")
    assert calls[at - 2 : at + 2] == [
        "unlink journal.sqlite",
        f"fsync {house}",
        "replace journal.sqlite",
        f"fsync {house}",
    ]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, NoRoomError),
        (errno.EDQUOT, NoRoomError),
        (errno.EROFS, NoRoomError),
        (errno.EIO, DiskError),
    ],
)
def test_want_of_room_is_told_from_other_errors(
    number: int, kind: type[DiskError], tmp_path: Path
) -> None:
    with pytest.raises(DiskError, match="place: ") as caught, disk_errors(tmp_path / "place"):
        raise OSError(number, os.strerror(number))
    assert type(caught.value) is kind
