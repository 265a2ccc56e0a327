"""The programming interface, version 1: its routes and errors. `docs/api.md` describes it."""

import logging
import math
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import suppress
from functools import partial

import attrs
import trio

from kline_trio.errors import KlineTrioError, UnavailableError
from kline_trio.monitor.http_message import Request, Response, SendChunk
from kline_trio.monitor.page.answers import (
    csv_answer,
    error_answer,
    json_answer,
    json_body_answer,
    json_of,
)
from kline_trio.monitor.page.event_stream import MOST_SERIES, EventStream
from kline_trio.monitor.page.history import STEP_SECONDS
from kline_trio.monitor.page.look import Look
from kline_trio.monitor.page.parameters import (
    BadRequestError,
    Format,
    NotFoundError,
    Parameters,
)
from kline_trio.monitor.page.shared_answers import SharedAnswers
from kline_trio.monitor.page.sources import Source
from kline_trio.monitor.page.store_answers import StoreAnswers
from kline_trio.monitor.page.store_index import StoreIndex

logger = logging.getLogger(__name__)

_PREFIX = "/api/v1/"
_OVERVIEW_SECONDS = 1.0
_FIRST_SECONDS = 0.3
_VERSION_SECONDS = 10.0
"""A page fetches the events again no more often."""
_AGAIN_SECONDS = 10.0
"""After a bug has ended a job."""

_Handler = Callable[[Parameters], Awaitable[Response]]


@attrs.frozen
class _Route:
    """What answers a path, and the parameters that it takes."""

    handle: _Handler
    parameters: Collection[str] = ()


@attrs.define(eq=False)
class Api:
    """Answers requests below /api/v1/. What several readers ask for is rendered once."""

    source: Source
    index: StoreIndex = attrs.field(init=False)
    stream: EventStream = attrs.field(init=False)
    _shared: SharedAnswers = attrs.field(init=False, factory=SharedAnswers)
    _overview: tuple[float, bytes] = attrs.field(init=False, default=(-math.inf, b""))
    """When it was made, and as JSON."""
    _events: tuple[float, str] = attrs.field(init=False, default=(-math.inf, ""))
    """When the version of the events last changed, and what it is."""
    _routes: dict[str, _Route] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.index = StoreIndex(self.source)
        self.stream = EventStream(self.source, self.overview)
        stored = StoreAnswers(self.source, self.index, self._shared)
        span = ("series", "from_ms", "to_ms")
        tree = ("zoom", "from_ms", "to_ms", "q", "open", "closed", "offset", "limit", "format")
        self._routes = {
            "overview": _Route(self._get_overview),
            "history": _Route(self._get_history, ("format",)),
            "events": _Route(stored.events, ("limit", "before_ms", "series", "format")),
            "calendar": _Route(stored.calendar, tree),
            "series": _Route(stored.series, ("q", "offset", "limit", "format")),
            "series/summary": _Route(stored.summary, ("series",)),
            "candles": _Route(stored.candles, (*span, "points", "format")),
            "gaps": _Route(stored.gaps, (*span, "state", "limit", "format")),
            "revisions": _Route(stored.revisions, ("series", "limit", "format")),
            "files": _Route(stored.files, ("series", "format")),
            "stream": _Route(self._get_stream, ("series",)),
        }

    def jobs(self) -> Iterator[Callable[[], Awaitable[None]]]:
        """Return what must run, until cancelled, while requests are answered."""
        yield self.index.run
        for job in (self.stream.tick, self.stream.follow_candles):
            yield partial(_kept_up, job)

    async def handle(self, request: Request) -> Response:
        """Return the answer to a request. Its target is without the root path."""
        name = request.path.removeprefix(_PREFIX)
        route = self._routes.get(name) if request.path.startswith(_PREFIX) else None
        if route is None:
            names = ", ".join(self._routes)
            return error_answer(404, f"there is nothing here; below {_PREFIX} are {names}")
        parameters = Parameters(request.query)
        try:
            parameters.check_names(route.parameters)
            return await route.handle(parameters)
        except BadRequestError as error:
            return error_answer(400, str(error))
        except NotFoundError as error:
            return error_answer(404, str(error))
        except KlineTrioError as error:
            return error_answer(503, str(error))

    def overview(self) -> bytes:
        """Return the overview as JSON; it is made once a second at most."""
        now, look = trio.current_time(), self.index.latest
        self.index.want()
        if now >= self._overview[0] + _OVERVIEW_SECONDS:
            values = {
                **self.source.moment(look).values(look, self.index.problem),
                "calendar": None if look is None else look.version,
                "events": self._events_version(look),
            }
            self._overview = (now, json_of(values))
        return self._overview[1]

    def _events_version(self, look: Look | None) -> str:
        """Return a version of the events that changes once in ten seconds at most."""
        now, (changed_at, known) = trio.current_time(), self._events
        version = f"{self.source.chronicle.version}-{'' if look is None else look.events_version}"
        if version != known and now >= changed_at + _VERSION_SECONDS:
            self._events = (now, version)
        return self._events[1]

    async def _get_overview(self, _: Parameters) -> Response:
        if self.index.latest is None:
            # So a page seldom begins without totals, and never waits long.
            with trio.move_on_after(_FIRST_SECONDS), suppress(UnavailableError):
                await self.index.get()
            self._overview = (-math.inf, b"")
        await trio.lowlevel.checkpoint()
        return json_body_answer(self.overview())

    async def _get_history(self, parameters: Parameters) -> Response:
        form = parameters.word("format", Format.JSON)
        history = self.source.history
        version = None if history.newest is None else history.newest.time_ms
        # The columns are made here: the watch changes the history.
        columns = history.columns()

        def render() -> Response:
            if form is Format.CSV:
                return csv_answer("history", tuple(columns), zip(*columns.values(), strict=True))
            return json_answer({"step_seconds": int(STEP_SECONDS), **columns})

        return await self._shared.get(("history", form), version, render)

    async def _get_stream(self, parameters: Parameters) -> Response:
        await trio.lowlevel.checkpoint()
        series = parameters.many_series()
        if len(series) > MOST_SERIES:
            raise BadRequestError(f"series: at most {MOST_SERIES} are taken")

        async def send(send_chunk: SendChunk) -> None:
            await self.stream.send(series, send_chunk)

        # Else nginx keeps events until they are some kilobytes.
        headers = (("x-accel-buffering", "no"),)
        return Response(content_type="text/event-stream", headers=headers, stream=send)


async def _kept_up(job: Callable[[], Awaitable[None]]) -> None:
    """Run a job; after a bug, run it again: else all pages would show old figures in silence."""
    while True:
        try:
            return await job()
        except Exception:
            again = f"it begins again in {_AGAIN_SECONDS:.0f} s"
            logger.exception("page: a job ended by a bug; %s", again)
        await trio.sleep(_AGAIN_SECONDS)
