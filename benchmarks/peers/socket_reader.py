"""The limit of a socket in Python: `recv_into`, over and over; no frame is looked at."""

import base64
import os
import socket
import ssl
from urllib.parse import urlsplit

from benchmarks.peers.counting import Asked, Counter, quiet

_BUFFER_BYTES = 1 << 20


class _Reader:
    """Counts bytes, up to as many as were announced."""

    def __init__(self) -> None:
        self._counter = Counter(self._expect)
        self._received = 0
        self._target = -1

    def read(self, connection: socket.socket) -> None:
        buffer = bytearray(_BUFFER_BYTES)
        while count := connection.recv_into(buffer):
            self._received += count
            if self._received == self._target:
                self._counter.all()

    def _expect(self, _frames: int, size: int) -> None:
        self._target = quiet(lambda: self._received) + size


def _connected(asked: Asked) -> socket.socket:
    url = urlsplit(asked.websocket)
    assert url.hostname is not None
    connection = socket.create_connection((url.hostname, url.port))
    if asked.ca:
        context = ssl.create_default_context(cafile=asked.ca)
        connection = context.wrap_socket(connection, server_hostname=url.hostname)
    [streams] = asked.streams
    lines = (
        f"GET /stream?streams={'/'.join(streams)} HTTP/1.1",
        f"Host: {url.netloc}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        "Sec-WebSocket-Version: 13",
    )
    connection.sendall("".join(line + "\r\n" for line in (*lines, "")).encode())
    return connection


if __name__ == "__main__":
    _Reader().read(_connected(Asked()))
