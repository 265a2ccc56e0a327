"""A small HTTP server for readers: few connections, a deadline for each step.

It is h11 on Trio's streams: no reader, slow, dead or hostile, delays recording.
"""

import gzip
import logging
from collections.abc import Callable

import attrs
import h11
import trio

from kline_trio.monitor.http_message import Handler, Request, Response, is_unchanged, unchanged
from kline_trio.monitor.http_stream import StreamSender

logger = logging.getLogger(__name__)

MOST_CONNECTIONS = 64
MOST_STREAMS = 32
"""At most this many connections, and half of all, are streams."""
MOST_BODY_BYTES = 4_096
"""Of a POST."""
_KEPT_SHARE = 8
"""This part of all connections is for readers that have sent a request before."""
_HEAD_BYTES = 16_384
_HEAD_SECONDS = 10.0
_IDLE_SECONDS = 30.0
"""Between two requests of a connection."""
_WRITE_SECONDS = 10.0
_READ_BYTES = 16_384
_WRITE_BYTES = 65_536
_INLINE_BYTES = 16_384
"""A longer body is compressed in a thread, and sent in pieces."""
_GZIP_LEVEL = 5
_REFUSED = 400
"""This status and those above it."""
_BOTH_DONE = {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}
_LOST = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


@attrs.define(eq=False)
class HttpServer:
    """Serves the connections of one address."""

    handle: Handler
    """Answers a request. An exception becomes status 500 and a log line."""
    wall_clock: Callable[[], float]
    """Seconds since 1970, for the header `Date`."""
    most_connections: int = MOST_CONNECTIONS
    """If all are in use, one that sends no request makes room for one more."""
    _held: set[object] = attrs.field(init=False, factory=set)
    """A place for each connection."""
    _new: dict[object, trio.CancelScope] = attrs.field(init=False, factory=dict)
    """The places of connections that have not sent a request yet, the oldest first."""
    _idle: dict[object, trio.CancelScope] = attrs.field(init=False, factory=dict)
    """The places of connections whose next request is not whole, the longest wait first."""
    _streams: int = attrs.field(init=False, default=0)
    _compressing: trio.CapacityLimiter = attrs.field(
        init=False, factory=lambda: trio.CapacityLimiter(1)
    )
    """Many readers may compress on one core."""

    @property
    def connections(self) -> int:
        """The number of connections that are served."""
        return len(self._held)

    @property
    def most_streams(self) -> int:
        """The number of streams that leaves connections for other readers."""
        return min(MOST_STREAMS, self.most_connections // 2)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection to its end, and close it. Raise nothing but Cancelled."""
        place = object()
        try:
            if self._may_hold(place):
                await self._converse(stream, place)
        except _LOST:
            pass
        except Exception:
            # The server of all others would end with this connection.
            logger.exception("monitor: a connection ended by a bug")
        finally:
            self._held.discard(place)
            await trio.aclose_forcefully(stream)

    def _may_hold(self, place: object) -> bool:
        """Give a connection its place, if need be that of one that sends no request.

        Sockets that are only opened must not take the places of readers such as Prometheus, who
        keep a connection: so they have a limit of their own, and the oldest makes room first.
        """
        most_new = self.most_connections - self.most_connections // _KEPT_SHARE
        is_full = len(self._held) >= self.most_connections
        if is_full or len(self._new) >= most_new:
            others = self._idle if len(self._new) < most_new and self._idle else self._new
            if not others:
                return False
            longest = next(iter(others))
            self._held.discard(longest)
            others.pop(longest).cancel()
        self._held.add(place)
        return True

    def _last_to_go(self, place: object) -> None:
        """Let a connection that has begun another request make room after all that are silent."""
        if (waiting := self._idle.pop(place, None)) is not None:
            self._idle[place] = waiting

    async def _converse(self, stream: trio.abc.Stream, place: object) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)
        seconds, waits = _HEAD_SECONDS, self._new
        while True:
            request: Request | None = None
            try:
                with trio.move_on_after(seconds) as waiting:
                    waits[place] = waiting
                    try:
                        request = await _receive(
                            connection, stream, lambda: self._last_to_go(place)
                        )
                    finally:
                        waits.pop(place, None)
                if request is None:
                    return  # it was idle, its head did not end, or the reader has gone
                response = await self._answer(request)
            except h11.RemoteProtocolError as error:
                response = Response(status=error.error_status_hint, body=b"not a valid request\n")
            if request is not None and request.method != "HEAD" and response.stream is not None:
                await self._send_stream(connection, stream, response)
                return
            parts = self._encoded(connection, request, response)
            with trio.move_on_after(_WRITE_SECONDS) as writing:
                for part in parts:
                    await stream.send_all(part)
            if writing.cancelled_caught or connection.states != _BOTH_DONE:
                return
            connection.start_next_cycle()
            seconds, waits = _IDLE_SECONDS, self._idle

    async def _answer(self, request: Request) -> Response:
        try:
            response = await self.handle(request)
        except Exception:
            # A bug of a reader must not end the recorder.
            logger.exception("%s %a could not be answered", request.method, request.path[:100])
            return Response(status=500, body=b"an error of the monitor; see the recorder's log\n")
        if request.has_unread_body and response.status < _REFUSED:
            return Response(status=413, body=b"this body is too long, or not wanted\n")
        if response.stream is not None and self._streams >= self.most_streams:
            text = b"too many streams are open; try again later\n"
            return Response(status=503, body=text, headers=(("retry-after", "10"),))
        if is_unchanged(request, response):
            return unchanged(response)
        return await self._compressed(request, response)

    async def _compressed(self, request: Request, response: Response) -> Response:
        if not response.may_be_compressed:
            return response
        response = response.with_headers(("vary", "accept-encoding"))
        if not request.accepts_gzip:
            return response
        if response.gzipped is not None:
            body = response.gzipped
        elif len(response.body) <= _INLINE_BYTES:
            body = _gzipped(response.body)
        else:
            body = await trio.to_thread.run_sync(
                _gzipped, response.body, abandon_on_cancel=True, limiter=self._compressing
            )
        return attrs.evolve(response.with_headers(("content-encoding", "gzip")), body=body)

    def _encoded(
        self, connection: h11.Connection, request: Request | None, response: Response
    ) -> list[bytes | memoryview]:
        """Return the parts to send. A long body is not copied: many slow readers may share it."""
        parts = [self._encoded_head(connection, response)]
        if response.body and (request is None or request.method != "HEAD"):
            parts += connection.send_with_data_passthrough(h11.Data(data=response.body)) or []
        parts.append(connection.send(h11.EndOfMessage()) or b"")
        if len(response.body) <= _INLINE_BYTES:
            return [b"".join(parts)]
        # In pieces, since TLS copies each.
        return [
            memoryview(part)[at : at + _WRITE_BYTES]
            for part in parts
            for at in range(0, len(part), _WRITE_BYTES)
        ]

    def _encoded_head(self, connection: h11.Connection, response: Response) -> bytes:
        headers = response.all_headers(self.wall_clock())
        return connection.send(h11.Response(status_code=response.status, headers=headers)) or b""

    async def _send_stream(
        self, connection: h11.Connection, stream: trio.abc.Stream, response: Response
    ) -> None:
        assert response.stream is not None
        self._streams += 1
        try:
            head = self._encoded_head(connection, response.with_headers(("connection", "close")))
            await StreamSender(stream, connection).run(head, response.stream)
        finally:
            self._streams -= 1


def _gzipped(body: bytes) -> bytes:
    return gzip.compress(body, _GZIP_LEVEL, mtime=0)


async def _receive(
    connection: h11.Connection, stream: trio.abc.Stream, begin: Callable[[], object]
) -> Request | None:
    """Receive a request; return None if the connection ended before it began.

    Args:
      connection: holds what has been received.
      stream: is read if that is no whole request.
      begin: called when bytes have come.

    Raises:
      h11.RemoteProtocolError: the bytes are no request, or its head is too long.
    """
    found: Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            received = bytes(await stream.receive_some(_READ_BYTES))
            begin()
            connection.receive_data(received)
        elif isinstance(event, h11.Request):
            found = _request_of(event)
        elif isinstance(event, h11.Data):
            body += event.data
            if found is None:
                return None
            if found.method != "POST" or len(body) > MOST_BODY_BYTES:
                # The rest is not read: the connection ends with the response.
                return attrs.evolve(found, has_unread_body=True)
        elif isinstance(event, h11.EndOfMessage):
            return None if found is None else attrs.evolve(found, body=bytes(body))
        else:  # ConnectionClosed, PAUSED
            return None


def _request_of(event: h11.Request) -> Request:
    try:
        return Request(
            method=event.method.decode("ascii"),
            target=event.target.decode("ascii"),
            headers={
                name.decode("ascii"): value.decode("latin-1") for name, value in event.headers
            },
        )
    except ValueError as error:
        raise h11.RemoteProtocolError(str(error), error_status_hint=400) from None
