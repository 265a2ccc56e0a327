"""The control socket of a running recorder: its protocol, its place, and who may use it.

PROTOCOL. A client connects, sends one request, and reads lines until the recorder closes the
connection. A request is one line of JSON in UTF-8, at most 4,096 bytes long. Each line of the
answer is an object:

    request                                          lines of the answer
    -----------------------------------------------  -------------------------------------------
    {"request": "statistics", "series": false}       {"answer": {"verdict": ..., "pid": ...}}
    {"request": "reload", "dry_run": false}          {"answer": {"changes": [...], ...}}
    {"request": "fetch", "since_ms": null}           {"progress": {...}} each few seconds, and
                                                     at the end {"answer": {...}}
    anything else, or a failure                      {"error": "text", "problems": ["text", ...]}

Later versions may add requests and keys. A key that a program does not know is to be passed over.

PLACE. The socket is `.kline_trio/control/socket` in the store; only the recorder's user may enter
that folder. If the path is longer than a socket's may be (108 bytes), or the disk has no sockets,
the recorder makes a folder of its own in a folder of temporary files instead, and writes the
socket's path into `.kline_trio/control.path`, beside the lock. Whoever holds the lock is the only
recorder of the store, so a socket that is there at the start is left over, and is replaced.

WHO. The kernel names the user at the other end. The recorder answers its own user and root. A
client asks only the user who owns the store's lock, root, or itself.

This module loads neither Trio nor attrs: a health check of a container runs each few seconds.
"""

import json
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from kline_trio.storage.paths import control_note_path, control_socket_path, lock_path

MOST_REQUEST_BYTES = 4_096
_MOST_NOTE_BYTES = 4_096
_ROOT = 0
_UCRED = struct.Struct("3i")
"""Linux: pid, uid and gid (unix(7), SO_PEERCRED)."""
_XUCRED = struct.Struct("2I")
"""macOS and BSD: version and uid, of a longer struct (unix(4), LOCAL_PEERCRED)."""
_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1


def line_of(values: Mapping[str, object]) -> bytes:
    """Return an object as one line of JSON."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False)
    # A path that is no UTF-8 has lone surrogates. Their backslash escape is JSON's, too.
    return text.encode(errors="backslashreplace") + b"\n"


def socket_of(store_path: Path) -> Path:
    """Return where the socket of a store's recorder is, or would be.

    Raises:
      OSError: another user's recorder keeps the place secret.
    """
    store_path = store_path.absolute()
    try:
        with control_note_path(store_path).open("rb") as note:
            return Path(os.fsdecode(note.read(_MOST_NOTE_BYTES).removesuffix(b"\n")))
    except FileNotFoundError:
        return control_socket_path(store_path)


class _Socket(Protocol):
    """A socket, of Python or of Trio."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


def peer_uid(connection: _Socket) -> int | None:
    """Return the user at the other end of a Unix socket; None if this system does not tell."""
    linux = getattr(socket, "SO_PEERCRED", None)
    try:
        if linux is not None:
            credentials = connection.getsockopt(socket.SOL_SOCKET, linux, _UCRED.size)
            _, uid, _ = _UCRED.unpack(credentials)
        else:
            credentials = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, 128)
            _, uid = _XUCRED.unpack_from(credentials)
    except (OSError, struct.error):
        return None
    return int(uid)


def may_ask(uid: int | None) -> bool:
    """Return whether the recorder answers this user. The folder keeps others out, too."""
    return uid in (None, os.geteuid(), _ROOT)


def may_answer(uid: int | None, store_path: Path) -> bool:
    """Return whether a client takes this user for the store's recorder."""
    try:
        owner = lock_path(store_path).stat().st_uid
    except OSError:
        owner = os.geteuid()
    return uid in (None, os.geteuid(), _ROOT, owner)
