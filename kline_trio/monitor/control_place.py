"""Make the control socket, in the store or in a shorter place, and remove it."""

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

import attrs

from kline_trio.monitor.control_socket import socket_of
from kline_trio.storage.disk import replace
from kline_trio.storage.paths import control_note_path, control_socket_path

_PREFIX = "kline_trio-"
_FOLDERS = ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR")
"""Environment variables that name a folder for sockets: of systemd, for a service and a user."""
_WAITING = 16
_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600


@attrs.frozen
class BoundSocket:
    """A socket that listens, with what has to be removed after it."""

    socket: socket.socket
    path: Path
    _note: Path | None

    def close(self) -> None:
        """Close the socket and remove it. Whatever cannot be removed stays: the next start does."""
        self.socket.close()
        with suppress(OSError):
            self.path.unlink()
        if self._note is not None:
            with suppress(OSError):
                self.path.parent.rmdir()
            with suppress(OSError):
                self._note.unlink()


def short_folders(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the folders for a socket that cannot be in its store, the best first."""
    named = [environment.get(name, "").split(":")[0] for name in _FOLDERS]
    return tuple(Path(one) for one in (*named, tempfile.gettempdir()) if one)


def bind_control_socket(store_path: Path, folders: Iterable[Path]) -> BoundSocket:
    """Make the control socket of a store, and listen. The caller holds the store's lock.

    Args:
      store_path: the store's folder.
      folders: where to make the socket if it cannot be in the store; the first that can be used.

    Raises:
      OSError: it can be made nowhere.
    """
    store_path = store_path.absolute()
    _remove_left_over(store_path)
    path = control_socket_path(store_path)
    try:
        _make_private(path.parent)
        return BoundSocket(_listening(path), path, None)
    except OSError as error:
        problem = error
    for folder in folders:
        try:
            return _elsewhere(store_path, folder)
        except OSError as error:
            problem = error
    raise problem


def _elsewhere(store_path: Path, folder: Path) -> BoundSocket:
    note = control_note_path(store_path)
    with ExitStack() as undo:
        own = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))  # only its owner may enter it
        undo.callback(shutil.rmtree, own, ignore_errors=True)
        path = own / "socket"
        bound = _listening(path)
        undo.callback(bound.close)
        new = note.with_name(f"{note.name}.new")
        new.write_bytes(os.fsencode(path) + b"\n")
        replace(new, note)
        undo.pop_all()
    return BoundSocket(bound, path, note)


def _listening(path: Path) -> socket.socket:
    """Return a socket that listens at a path, in place of one that is left over there.

    Raises:
      OSError: the path is too long, or the disk has no sockets.
    """
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(str(path))
        # Before it listens, nobody can connect.
        path.chmod(_PRIVATE_FILE)
        bound.listen(_WAITING)
    except BaseException:
        bound.close()
        raise
    return bound


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{folder} is no folder of this user")
    folder.chmod(_PRIVATE_FOLDER)


def _remove_left_over(store_path: Path) -> None:
    """Remove the note of a recorder that was killed, and its folder, if it is this user's."""
    note = control_note_path(store_path)
    with suppress(OSError):
        if note.exists():
            folder = socket_of(store_path).parent
            is_ours = folder.name.startswith(_PREFIX) and folder.lstat().st_uid == os.geteuid()
            if is_ours and stat.S_ISDIR(folder.lstat().st_mode):
                (folder / "socket").unlink(missing_ok=True)
                folder.rmdir()
    with suppress(OSError):
        note.unlink(missing_ok=True)
