"""Where the control socket is made, who may enter, and what a killed recorder leaves."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from kline_trio.monitor import control_place
from kline_trio.monitor.control_place import bind_control_socket, short_folders
from kline_trio.monitor.control_socket import may_answer, may_ask, peer_uid, socket_of


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder with a short path: pytest's own can be too long for a socket."""
    with TemporaryDirectory(prefix="k-") as name:
        yield Path(name)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / ".kline_trio").mkdir()
    return tmp_path


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """A store whose path leaves no room for a socket's."""
    store = tmp_path / ("d" * 80) / ("e" * 80)
    (store / ".kline_trio").mkdir(parents=True)
    return store


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s")


def can_connect(store: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(socket_of(store)))
        except OSError:
            return False
    return True


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_only_the_user_can_enter_whatever_the_umask_is(store: Path) -> None:
    before = os.umask(0)
    try:
        bound = bind_control_socket(store, ())
    finally:
        os.umask(before)
    assert bound.path == socket_of(store) == store / ".kline_trio" / "control" / "socket"
    assert (mode(bound.path.parent), mode(bound.path)) == (0o700, 0o600)
    assert can_connect(store)
    bound.close()
    assert not can_connect(store)
    assert not bound.path.exists()


def test_a_deep_store_has_its_socket_in_a_short_place_that_a_note_names(
    deep: Path, short: Path
) -> None:
    bound = bind_control_socket(deep, (short / "missing", short))
    assert socket_of(deep) == bound.path
    assert bound.path.parent.parent == short
    assert (mode(bound.path.parent), mode(bound.path)) == (0o700, 0o600)
    assert can_connect(deep)
    bound.close()
    assert [*short.iterdir()] == []
    assert [*(deep / ".kline_trio").glob("control.path*")] == []
    assert not can_connect(deep)


@pytest.mark.parametrize("which", ["store", "deep"])
def test_what_a_killed_recorder_left_is_replaced(
    which: str, short: Path, request: pytest.FixtureRequest
) -> None:
    store: Path = request.getfixturevalue(which)
    killed = bind_control_socket(store, (short,))
    killed.socket.close()
    assert killed.path.exists()
    assert not can_connect(store)
    bound = bind_control_socket(store, (short,))
    assert can_connect(store)
    assert len([*short.iterdir()]) == (which == "deep")
    bound.close()
    assert [*short.iterdir()] == []


def test_a_note_of_another_place_is_removed_and_nothing_that_it_names(
    store: Path, short: Path
) -> None:
    """A store may come from another machine, or from someone who writes notes."""
    (short / "socket").write_text("mine")
    (store / ".kline_trio" / "control.path").write_text(f"{short}/socket\n")
    bound = bind_control_socket(store, ())
    assert can_connect(store)
    assert (short / "socket").read_text() == "mine"
    bound.close()


def test_a_disk_without_sockets_has_them_elsewhere(
    store: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = control_place._listening

    def listening(path: Path) -> socket.socket:
        if path.is_relative_to(store):
            raise PermissionError("Operation not permitted")
        return make(path)

    monkeypatch.setattr(control_place, "_listening", listening)
    bound = bind_control_socket(store, (short,))
    assert can_connect(store)
    bound.close()


def test_a_folder_that_is_a_link_is_not_entered(store: Path, short: Path) -> None:
    (store / ".kline_trio" / "control").symlink_to(short)
    with pytest.raises(PermissionError, match="no folder of this user"):
        bind_control_socket(store, ())
    assert [*short.iterdir()] == []


def test_if_there_is_no_place_nothing_is_left(deep: Path, short: Path) -> None:
    with pytest.raises(OSError, match="AF_UNIX path too long"):
        bind_control_socket(deep, ())
    (deep / ".kline_trio" / "control.path.new").mkdir()  # the note cannot be written
    with pytest.raises(OSError, match="Is a directory"):
        bind_control_socket(deep, (short,))
    assert [*short.iterdir()] == []


def test_a_services_own_folder_is_taken_first() -> None:
    environment = {"RUNTIME_DIRECTORY": "/run/a:/run/b", "XDG_RUNTIME_DIR": "/run/user/7"}
    assert short_folders(environment)[:2] == (Path("/run/a"), Path("/run/user/7"))
    assert len(short_folders({})) == 1


def test_the_kernel_names_the_user_at_the_other_end(store: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert peer_uid(ours) == os.geteuid()
    assert may_ask(os.geteuid())
    assert may_ask(0)
    assert not may_ask(os.geteuid() + 1)
    (store / ".kline_trio" / "lock").touch()
    assert may_answer(os.geteuid(), store)
    assert not may_answer(os.geteuid() + 1, store)
