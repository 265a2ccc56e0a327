"""The recorder's end of the control socket: it answers programs of the same user.

`control_socket.py` has the protocol. Nothing here delays or ends recording: there are few
connections, a deadline for each step, and one answer at a time is made, in a thread.
"""

import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import attrs
import trio

from kline_trio.candle import MAX_TIME_MS
from kline_trio.errors import ConfigError, KlineTrioError
from kline_trio.monitor.as_json import observation_values
from kline_trio.monitor.control_place import BoundSocket, bind_control_socket, short_folders
from kline_trio.monitor.control_socket import MOST_REQUEST_BYTES, line_of, may_ask, peer_uid
from kline_trio.monitor.watch import Observation
from kline_trio.quoting import shown
from kline_trio.recorder.backfill import Backfill, Filling
from kline_trio.recorder.publisher import Publisher
from kline_trio.recorder.statistics import SeriesStatistics, Statistics

logger = logging.getLogger(__name__)

_MOST_CONNECTIONS = 16
_PUBLISH_LOOK_SECONDS = 5.0
"""Between two lines of progress, if nothing happens."""
_MOST_FETCHES = 4
"""Connections that wait for a backfill, which may take days."""
_REQUEST_SECONDS = 5.0
_WRITE_SECONDS = 10.0
"""For each line of an answer."""
_READ_BYTES = 4_096
_SERIES_SECONDS = 5.0
"""All series are gathered no more often."""
_RETRY_SECONDS = 60.0
_CLOSE_SECONDS = 2.0
_TOO_LONG = f"a request has {MOST_REQUEST_BYTES:,} bytes at most"
_LOST = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)

Reload = Callable[[bool], Awaitable[Mapping[str, object]]]
"""Reads the configuration again, or only compares it if the argument is True."""


class _RefusedError(KlineTrioError):
    """The request is wrong, or cannot be answered now."""


@attrs.define(eq=False)
class ControlServer:
    """Answers the requests of one recorder's control socket."""

    store_path: Path
    observation: Callable[[], Observation | None]
    """Returns the newest snapshot; None if there is none yet."""
    all_series: Callable[[], Statistics]
    """Returns statistics with all series."""
    backfill: Callable[[int | None], Backfill]
    """Returns the gaps up to now, and from a moment on if there is one."""
    reload: Reload | None = None
    """None: the program that embeds the recorder has no file to read again."""
    publisher: Publisher | None = None
    """None: the recorder publishes nothing."""
    is_allowed: Callable[[int | None], bool] = may_ask
    """Whether a user may ask."""

    _connections: int = attrs.field(init=False, default=0)
    _fetches: int = attrs.field(init=False, default=0)
    _making: trio.Lock = attrs.field(init=False, factory=trio.Lock)
    _made: dict[bool, tuple[float, Observation, bytes]] = attrs.field(init=False, factory=dict)
    """With all series or without: the last answer, when it was made, and of which snapshot."""

    async def run(self) -> None:
        """Make the socket, and serve it until cancelled. If it cannot be made, try again."""
        bound = await self._open()
        try:
            listening = trio.socket.from_stdlib_socket(bound.socket)
            await trio.serve_listeners(self.serve, [trio.SocketListener(listening)])
        finally:
            # A dead disk must not hold up the recorder's stop; the next start removes the socket.
            with trio.move_on_after(_CLOSE_SECONDS, shield=True):
                await trio.to_thread.run_sync(bound.close, abandon_on_cancel=True)

    async def _open(self) -> BoundSocket:
        is_logged = False
        while True:
            folders = short_folders(os.environ)
            try:
                bound = await trio.to_thread.run_sync(bind_control_socket, self.store_path, folders)
            except OSError as error:
                if not is_logged:
                    text = "control: no socket can be made, so that `status` reads the store alone"
                    logger.warning("%s: %s; recording goes on", text, error.strerror or error)
                is_logged = True
                await trio.sleep(_RETRY_SECONDS)
            else:
                logger.debug("control: %s", bound.path)
                return bound

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection to its end, and close it. It raises nothing but Cancelled."""
        await self.serve_user(stream, peer_uid(stream.socket))

    async def serve_user(self, stream: trio.abc.Stream, uid: int | None) -> None:
        """Serve one connection of a user, as `serve`; None: the system does not tell the user."""
        try:
            # The excess is closed at once.
            if self._connections < _MOST_CONNECTIONS:
                self._connections += 1
                try:
                    await self._serve(stream, uid)
                finally:
                    self._connections -= 1
        except _LOST:
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async def _serve(self, stream: trio.abc.Stream, uid: int | None) -> None:
        try:
            if not self.is_allowed(uid):
                raise _RefusedError(f"the recorder runs for another user, not for uid {uid}")
            if (request := await _receive(stream)) is not None:
                await self._answer(stream, request)
        except ConfigError as error:
            text = "the configuration stays as it was: the file cannot be used"
            await _send(stream, line_of({"error": text, "problems": error.problems}))
        except KlineTrioError as error:
            await _send(stream, line_of({"error": str(error), "problems": []}))
        except _LOST:
            raise
        except Exception:
            # A bug of the monitor must not end the recorder.
            logger.exception("control: a request could not be answered")
            text = "a bug of the recorder; its log has more"
            await _send(stream, line_of({"error": text, "problems": []}))

    async def _answer(self, stream: trio.abc.Stream, request: Mapping[str, object]) -> None:
        match request.get("request"):
            case "statistics":
                await _send(stream, await self._statistics(_flag(request, "series")))
            case "reload":
                if self.reload is None:
                    raise _RefusedError("this recorder has no recorder.toml to read again")
                found = await self.reload(_flag(request, "dry_run"))
                await _send(stream, line_of({"answer": found}))
            case "fetch":
                if self._fetches >= _MOST_FETCHES:
                    raise _RefusedError(f"{_MOST_FETCHES} programs wait for a backfill already")
                self._fetches += 1
                try:
                    await self._fetch(stream, _moment(request, "since_ms"))
                finally:
                    self._fetches -= 1
            case "publish":
                await self._publish(stream)
            case "prune":
                await self._prune(stream)
            case other:
                raise _RefusedError(f"there is no request {shown(repr(other), 50)}")

    async def _statistics(self, has_series: bool) -> bytes:  # noqa: FBT001 - a key of the cache
        """Return the answer; programs that ask at the same time share it."""
        async with self._making:
            found, now = self.observation(), trio.current_time()
            if found is None:
                raise _RefusedError("the recorder has just begun: ask again in a second")
            made_at, of, line = self._made.get(has_series, (0.0, None, b""))
            if of is found or (has_series and of is not None and now < made_at + _SERIES_SECONDS):
                return line
            series = self.all_series().series if has_series else None
            # In a thread: thousands of series take a second.
            line = await trio.to_thread.run_sync(
                _line_of_observation, found.statistics, found.verdict(), series
            )
            self._made[has_series] = (now, found, line)
            return line

    async def _fetch(self, stream: trio.abc.Stream, since_ms: int | None) -> None:
        """Send the progress until no gap is left."""
        backfill = self.backfill(since_ms)
        while True:
            found = await backfill.look()
            if found.is_done:
                break
            # A client that has gone is noticed here.
            await _send(stream, line_of({"progress": _values_of(found)}))
        await _send(stream, line_of({"answer": _values_of(found)}))

    async def _publish(self, stream: trio.abc.Stream) -> None:
        """Let the recorder publish, and send the progress until it has."""
        if self.publisher is None:
            raise _RefusedError("this recorder publishes nothing: [lake] has no url")
        last = self.publisher.ask()
        while self.publisher.ended < last:
            # A client that has gone is noticed here.
            found = self.publisher.statistics()
            await _send(stream, line_of({"progress": {"left": found.left, "rows": found.rows}}))
            with trio.move_on_after(_PUBLISH_LOOK_SECONDS):
                await self.publisher.news.event.wait()
        if self.publisher.problem is not None:
            raise _RefusedError(self.publisher.problem)
        await _send(stream, line_of({"answer": attrs.asdict(self.publisher.statistics())}))

    async def _prune(self, stream: trio.abc.Stream) -> None:
        """Let the recorder prune its store, and send the steps until it has."""
        if self.publisher is None or self.publisher.lake.prune_after is None:
            raise _RefusedError("this recorder removes nothing: [lake] has no prune_after")
        publisher, before = self.publisher, self.publisher.upkeeps
        last = publisher.ask_upkeep()
        while publisher.upkeeps == before:
            if publisher.ended >= last and publisher.problem is not None:
                raise _RefusedError(publisher.problem)
            # A client that has gone is noticed here.
            step = publisher.step
            await _send(stream, line_of({"progress": None if step is None else attrs.asdict(step)}))
            with trio.move_on_after(_PUBLISH_LOOK_SECONDS):
                await publisher.news.event.wait()
        if publisher.upkeep_problem is not None:
            raise _RefusedError(publisher.upkeep_problem)
        found = {"pruned": publisher.upkeep.pruned, "kept": dict(publisher.upkeep.kept)}
        await _send(stream, line_of({"answer": found}))


def _values_of(found: Filling) -> dict[str, object]:
    return attrs.asdict(found, filter=attrs.filters.exclude("is_done"))


def _line_of_observation(
    found: Statistics,
    verdict: Mapping[str, object],
    series: tuple[SeriesStatistics, ...] | None,
) -> bytes:
    return line_of({"answer": observation_values(found, verdict, series)})


def _flag(request: Mapping[str, object], name: str) -> bool:
    value = request.get(name, False)
    if not isinstance(value, bool):
        raise _RefusedError(f"{name}: true or false is wanted")
    return value


def _moment(request: Mapping[str, object], name: str) -> int | None:
    value = request.get(name)
    is_time = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_TIME_MS
    if not (value is None or is_time):
        raise _RefusedError(f"{name}: a time in ms since 1970 is wanted")
    return value if isinstance(value, int) else None


async def _receive(stream: trio.abc.ReceiveStream) -> Mapping[str, object] | None:
    """Receive a request; return None if none came in time.

    Raises:
      _RefusedError: it is too long, or no object of JSON.
    """
    received = bytearray()
    with trio.move_on_after(_REQUEST_SECONDS) as reading:
        while b"\n" not in received:
            if len(received) > MOST_REQUEST_BYTES:
                raise _RefusedError(_TOO_LONG)
            chunk = await stream.receive_some(_READ_BYTES)
            if not chunk:
                return None
            received += chunk
    if reading.cancelled_caught:
        return None
    line, _, _ = received.partition(b"\n")
    if len(line) > MOST_REQUEST_BYTES:
        raise _RefusedError(_TOO_LONG)
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise _RefusedError("a request is a line of JSON") from None
    if not isinstance(request, dict):
        raise _RefusedError("a request is an object of JSON")
    return request


async def _send(stream: trio.abc.SendStream, line: bytes) -> None:
    """Send a line.

    Raises:
      trio.BrokenResourceError: the client has gone, or does not read.
    """
    with trio.move_on_after(_WRITE_SECONDS) as writing:
        await stream.send_all(line)
    if writing.cancelled_caught:
        raise trio.BrokenResourceError
