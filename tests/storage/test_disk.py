"""What is written survives a power cut: in which order files, names and folders are synced."""

import contextlib
import errno
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kline_trio.errors import DiskError, DiskFullError
from kline_trio.listing import Listing
from kline_trio.reading.candles import read
from kline_trio.storage.check import check
from kline_trio.storage.disk import disk_errors, make_folders, move_durably
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.paths import journal_path, scratch, universe_path
from kline_trio.storage.status import status
from kline_trio.storage.store import Store
from kline_trio.storage.universe import UniverseFile, changes
from tests.storage.support import merge_all, minutes, open_store, write_minutes


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
        (errno.ENOSPC, DiskFullError),
        (errno.EDQUOT, DiskFullError),
        (errno.EROFS, DiskFullError),
        (errno.EIO, DiskError),
    ],
)
def test_want_of_room_is_told_from_other_errors(
    number: int, kind: type[DiskError], tmp_path: Path
) -> None:
    with pytest.raises(DiskError, match="place: ") as caught, disk_errors(tmp_path / "place"):
        raise OSError(number, os.strerror(number))
    assert type(caught.value) is kind


@contextlib.contextmanager
def descriptors(left: int) -> Iterator[None]:
    """Let the process open so many more files, and no others."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as taken:
        taken.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
        fillers: list[int] = []
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.open(os.devnull, os.O_RDONLY))
        for number, filler in enumerate(fillers):
            if number < left:
                os.close(filler)
            else:
                taken.callback(os.close, filler)
        yield


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_want_of_descriptors_or_memory_is_not_the_disk_s(number: int, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(number)), disk_errors(tmp_path / "place"):
        raise OSError(number, os.strerror(number))


def view(folder: Path) -> None:
    with journal_view(folder) as journal:
        journal.files()


def merge_one(folder: Path) -> None:
    store = Store.open(folder, None)
    try:
        store.journal.accept(minutes(5, 9))
        merge_all(store)
    finally:
        store.close()


def look_over(folder: Path) -> None:
    assert not any(file.faults for file in check(folder) if file.path.suffix == ".pqt")


@pytest.mark.parametrize(
    ("job", "is_open"),
    [(merge_one, False), (view, False), (view, True), (status, False), (look_over, False)],
)
def test_too_few_descriptors_are_called_so_wherever_they_lack(
    job: Callable[[Path], object], *, is_open: bool, tmp_path: Path
) -> None:
    """SQLite calls it a file that it cannot open, and Arrow has an error of its own."""
    store = write_minutes(tmp_path, 5, 2)
    if not is_open:
        store.close()
    failures = []
    for left in range(12):
        try:
            with descriptors(left):
                job(tmp_path)
        except OSError as error:
            failures.append(error.errno)
    assert set(failures) == {errno.EMFILE}
    job(tmp_path)
    if is_open:
        store.close()


NO_LINKS = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


def refuse(number: int) -> Callable[..., None]:
    """In the place of a call of the system: it fails."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", NO_LINKS)
def test_without_hard_links_a_file_is_moved_as_a_copy(
    number: int, tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").write_bytes(b"content")
    os.utime(tmp_path / "old" / "file", ns=(7, 7))
    monkeypatch.setattr(os, "link", refuse(number))
    move_durably(tmp_path / "old" / "file", tmp_path / "new" / "file")
    assert calls[-5:] == [
        "fsync .file.tmp",
        "replace file",
        "fsync new",
        "unlink file",
        "fsync old",
    ]
    assert (tmp_path / "new" / "file").read_bytes() == b"content"
    assert (tmp_path / "new" / "file").stat().st_mtime_ns == 7
    assert list((tmp_path / "old").iterdir()) == []


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_what_can_be_neither_linked_nor_copied_is_renamed(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    monkeypatch.setattr(shutil, "copyfile", refuse(number))
    move_durably(tmp_path / "file", tmp_path / "new" / "file")
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "file"]
    monkeypatch.setattr(os, "replace", refuse(errno.EXDEV))
    with pytest.raises(OSError, match=os.strerror(number)):
        move_durably(tmp_path / "new" / "file", tmp_path / "file")
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "file"]


def test_a_name_that_is_taken_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "other"):
        (tmp_path / name).write_text(name)
    for _ in range(2):
        with pytest.raises(FileExistsError):
            move_durably(tmp_path / "one", tmp_path / "other")
        monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    assert [(tmp_path / name).read_text() for name in ("one", "other")] == ["one", "other"]


def test_a_damaged_file_goes_to_the_quarantine_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_minutes(tmp_path, 5, 2).close()
    (tmp_path / "spot_BTCUSDT_1m.pqt").write_bytes(b"nonsense")
    monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    store = open_store(tmp_path)
    merge_all(store)
    store.close()
    [aside] = (tmp_path / ".kline_trio" / "quarantine").rglob("*.pqt")
    assert aside.read_bytes() == b"nonsense"
    assert len(read(tmp_path, "spot", "BTCUSDT")) == 2
