"""What readers get: the page with its API, /metrics, /healthz and /readyz."""

import time
from collections.abc import Callable

import attrs
import trio

from kline_trio.monitor.access import Access
from kline_trio.monitor.http_message import Handler, Request, Response
from kline_trio.monitor.login import Login
from kline_trio.monitor.metrics import CONTENT_TYPE, metrics
from kline_trio.monitor.page.assets import Assets
from kline_trio.monitor.watch import Observation, Watch, json_line
from kline_trio.recorder.statistics import Statistics

_JSON = "application/json"
_SERIES_SECONDS = 5.0
"""The series are gathered no more often."""
_UNAUTHORIZED = 401
_API = "/api/"
_PATHS = b"kline_trio: / for the page, /api/v1/, /metrics for Prometheus, /healthz, /readyz\n"


@attrs.define(eq=False)
class Endpoints:
    """Answers requests. All readers share what is rendered."""

    watch: Watch | None
    """Its newest observation is shown; None: there is no recorder, and there are no metrics."""
    access: Access
    root_path: str = ""
    all_series: Callable[[], Statistics] | None = None
    """Returns statistics with all series, for metrics of each; None: without them."""
    api: Handler | None = None
    """Answers requests below /api/. The target of a request is without the root path."""
    assets: Assets = attrs.field(factory=Assets)
    login: Login | None = None
    """Lets browsers in; None: no token is wanted."""
    wall_clock: Callable[[], float] = time.time
    """Seconds since 1970, for the expiry of cookies."""
    _lock: trio.Lock = attrs.field(init=False, factory=trio.Lock)
    _rendered: tuple[Observation, bytes] | None = attrs.field(init=False, default=None)
    _series: tuple[float, Statistics] | None = attrs.field(init=False, default=None)

    async def handle(self, request: Request) -> Response:
        """Return the answer to a request."""
        path = request.path.removeprefix(self.root_path)
        if self.login is not None:
            answer = await self.login.answer(request, path)
            if answer is not None:
                return answer
        refusal = self.access.refusal(request, self.wall_clock())
        if refusal is not None:
            return self._refused(request, path, refusal)
        return await self._read(request, path)

    async def _read(self, request: Request, path: str) -> Response:
        """Return the answer to a reader who may read."""
        if self.watch is not None:
            match path:
                case "/metrics":
                    body = await self._metrics(self.watch)
                    return Response(body=body, content_type=CONTENT_TYPE)
                case "/healthz":
                    found = self.watch.latest
                    return _verdict(found, is_good=not found.health.is_stuck)
                case "/readyz":
                    found = self.watch.latest
                    return _verdict(found, is_good=found.health.is_ready)
        if path.startswith(_API) and self.api is not None:
            target = request.target.removeprefix(self.root_path)
            return await self.api(attrs.evolve(request, target=target))
        if not path and self.root_path:
            return self._moved(request)
        return await self._file(path or "/")

    def _refused(self, request: Request, path: str, refusal: Response) -> Response:
        """Return the refusal, or what leads the browser of a person to the login."""
        is_browser = "text/html" in request.headers.get("accept", "")
        if refusal.status != _UNAUTHORIZED or self.login is None or not is_browser:
            return refusal
        if not path and self.root_path:
            return self._moved(request)
        return self.login.page(request) if path in ("", "/") else refusal

    def _moved(self, request: Request) -> Response:
        # The page's relative URLs need the / at the end.
        _, mark, query = request.target.partition("?")
        where = ("location", f"{self.root_path}/{mark}{query}")
        return Response(status=308, body=_PATHS, headers=(where,))

    async def _file(self, path: str) -> Response:
        found = await self.assets.get(path)
        return Response(status=404, body=_PATHS) if found is None else found

    async def _metrics(self, watch: Watch) -> bytes:
        async with self._lock:
            found = watch.latest
            if self._rendered is None or self._rendered[0] is not found:
                series = () if self.all_series is None else self._all_series(self.all_series).series
                with_series = attrs.evolve(
                    found, statistics=attrs.evolve(found.statistics, series=series)
                )
                # In a thread: with thousands of series it takes a tenth of a second.
                text = await trio.to_thread.run_sync(metrics, with_series)
                self._rendered = (found, text)
            return self._rendered[1]

    def _all_series(self, gather: Callable[[], Statistics]) -> Statistics:
        now = trio.current_time()
        if self._series is None or now >= self._series[0] + _SERIES_SECONDS:
            self._series = (now, gather())
        return self._series[1]


def _verdict(found: Observation, *, is_good: bool) -> Response:
    status = 200 if is_good else 503
    return Response(status=status, body=json_line(found.verdict()), content_type=_JSON)
