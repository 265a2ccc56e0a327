"""A small HTTP server for readers: GET and HEAD, few connections, a deadline for each step.

It is h11 on Trio's streams: no reader, slow, dead or hostile, delays recording.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate

import attrs
import h11
import trio

logger = logging.getLogger(__name__)

MOST_CONNECTIONS = 64
_HEAD_BYTES = 16_384
_HEAD_SECONDS = 10.0
_IDLE_SECONDS = 30.0
"""Between two requests of a connection."""
_WRITE_SECONDS = 10.0
_READ_BYTES = 16_384
_REFUSED = 400
"""This status and those above it."""
_BOTH_DONE = {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}
_LOST = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


@attrs.frozen(kw_only=True)
class Request:
    """A request; its body, if it has one, is not read."""

    method: str
    target: str
    """Path and query, as they were sent."""
    headers: Mapping[str, str]
    """Names in lower case; of several with one name, the last."""
    has_body: bool = False

    @property
    def path(self) -> str:
        """The path without the query."""
        return self.target.partition("?")[0]


@attrs.frozen(kw_only=True)
class Response:
    """An answer."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[Request], Awaitable[Response]]


@attrs.define(eq=False)
class HttpServer:
    """Serves the connections of one address."""

    handle: Handler
    """Answers a request. An exception becomes status 500 and a log line."""
    wall_clock: Callable[[], float]
    """Seconds since 1970, for the header `Date`."""
    most_connections: int = MOST_CONNECTIONS
    """One more is closed at once."""
    _connections: int = attrs.field(init=False, default=0)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection to its end, and close it. Raise nothing but Cancelled."""
        try:
            if self._connections < self.most_connections:
                self._connections += 1
                try:
                    await self._converse(stream)
                finally:
                    self._connections -= 1
        except _LOST:
            pass
        except Exception:
            # The server of all others would end with this connection.
            logger.exception("monitor: a connection ended by a bug")
        finally:
            await trio.aclose_forcefully(stream)

    async def _converse(self, stream: trio.abc.Stream) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)
        seconds = _HEAD_SECONDS
        while True:
            request: Request | None = None
            try:
                with trio.move_on_after(seconds):
                    request = await _receive(connection, stream)
                if request is None:
                    return  # it was idle, its head did not end, or the reader has gone
                response = await self._answer(request)
                if request.has_body and response.status < _REFUSED:
                    response = Response(status=413, body=b"a request without a body is wanted\n")
            except h11.RemoteProtocolError as error:
                response = Response(status=error.error_status_hint, body=b"not a valid request\n")
            with trio.move_on_after(_WRITE_SECONDS) as writing:
                await stream.send_all(self._encoded(connection, request, response))
            if writing.cancelled_caught or connection.states != _BOTH_DONE:
                return
            connection.start_next_cycle()
            seconds = _IDLE_SECONDS

    async def _answer(self, request: Request) -> Response:
        try:
            return await self.handle(request)
        except Exception:
            # A bug of a reader must not end the recorder.
            logger.exception("%s %a could not be answered", request.method, request.path[:100])
            return Response(status=500, body=b"an error of the monitor; see the recorder's log\n")

    def _encoded(
        self, connection: h11.Connection, request: Request | None, response: Response
    ) -> bytes:
        headers = [
            ("date", formatdate(self.wall_clock(), usegmt=True)),
            ("content-type", response.content_type),
            ("content-length", str(len(response.body))),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            *response.headers,
        ]
        parts = [connection.send(h11.Response(status_code=response.status, headers=headers))]
        if request is None or request.method != "HEAD":
            parts.append(connection.send(h11.Data(data=response.body)))
        parts.append(connection.send(h11.EndOfMessage()))
        return b"".join(part or b"" for part in parts)


async def _receive(connection: h11.Connection, stream: trio.abc.Stream) -> Request | None:
    """Receive a request up to its body; return None if the connection ended before it began.

    Raises:
      h11.RemoteProtocolError: the bytes are no request, or its head is too long.
    """
    found: Request | None = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(_READ_BYTES)))
        elif isinstance(event, h11.Request):
            found = Request(
                method=event.method.decode("ascii"),
                target=event.target.decode("ascii"),
                headers={
                    name.decode("ascii"): value.decode("latin-1") for name, value in event.headers
                },
            )
        elif isinstance(event, h11.Data):
            # The rest is not read: the connection ends with the response.
            return None if found is None else attrs.evolve(found, has_body=True)
        elif isinstance(event, h11.EndOfMessage):
            return found
        else:  # ConnectionClosed, PAUSED
            return None
