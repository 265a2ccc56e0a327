"""Send a streamed answer chunk by chunk, as long as the reader is there and reads."""

import socket
from contextlib import suppress

import attrs
import h11
import trio

from kline_trio.monitor.http_message import Stream

_WRITE_SECONDS = 10.0
"""For each chunk."""
_UNHEARD_MS = 20_000
"""A reader whose network has gone confirms nothing: then the connection ends after this time."""
_LOST = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


@attrs.define(eq=False)
class StreamSender:
    """Sends one streamed answer."""

    stream: trio.abc.Stream
    connection: h11.Connection
    _scope: trio.CancelScope = attrs.field(init=False, factory=trio.CancelScope)

    async def run(self, head: bytes, body: Stream) -> None:
        """Send the answer until its end, or until the reader has gone or is too slow.

        Args:
          head: status and headers, as they are sent.
          body: sends the chunks. It is cancelled if nobody reads them any more.
        """
        end_unheard(self.stream)
        with self._scope:
            async with trio.open_nursery() as sending:
                sending.start_soon(self._notice_end)
                await self._send(head)
                await body(self._send_chunk)
                await self._send(self.connection.send(h11.EndOfMessage()) or b"")
                self._scope.cancel()

    async def _send_chunk(self, chunk: bytes) -> None:
        # An empty chunk would be the end of the body.
        if chunk:
            await self._send(self.connection.send(h11.Data(data=chunk)) or b"")

    async def _send(self, data: bytes) -> None:
        with trio.move_on_after(_WRITE_SECONDS), suppress(*_LOST):
            await self.stream.send_all(data)
            return
        self._scope.cancel()
        await trio.lowlevel.checkpoint()

    async def _notice_end(self) -> None:
        # The reader of a stream sends nothing more. If it does, it does not speak HTTP.
        with suppress(*_LOST):
            await self.stream.receive_some(1)
        self._scope.cancel()


def end_unheard(stream: trio.abc.Stream) -> None:
    """Let the system end a connection whose peer confirms nothing (Linux; else after minutes)."""
    if isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    if isinstance(stream, trio.SocketStream) and hasattr(socket, "TCP_USER_TIMEOUT"):
        with suppress(OSError):
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNHEARD_MS)
