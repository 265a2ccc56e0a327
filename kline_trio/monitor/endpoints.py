"""What readers get: /metrics, /healthz and /readyz."""

from collections.abc import Callable

import attrs
import trio

from kline_trio.monitor.access import Access
from kline_trio.monitor.http_server import Request, Response
from kline_trio.monitor.metrics import CONTENT_TYPE, metrics
from kline_trio.monitor.watch import Observation, Watch, json_line
from kline_trio.recorder.statistics import Statistics

_JSON = "application/json"
_SERIES_SECONDS = 5.0
"""The series are gathered no more often."""
_PATHS = b"kline_trio: /metrics for Prometheus, /healthz, /readyz\n"


@attrs.define(eq=False)
class Endpoints:
    """Answers requests by the newest observation. All readers share what is rendered."""

    watch: Watch
    access: Access
    root_path: str = ""
    all_series: Callable[[], Statistics] | None = None
    """Returns statistics with all series, for metrics of each; None: without them."""
    _lock: trio.Lock = attrs.field(init=False, factory=trio.Lock)
    _rendered: tuple[Observation, bytes] | None = attrs.field(init=False, default=None)
    _series: tuple[float, Statistics] | None = attrs.field(init=False, default=None)

    async def handle(self, request: Request) -> Response:
        """Return the answer to a request."""
        refusal = self.access.refusal(request)
        if refusal is not None:
            return refusal
        health = self.watch.latest.health
        match request.path.removeprefix(self.root_path):
            case "/metrics":
                return Response(body=await self._metrics(), content_type=CONTENT_TYPE)
            case "/healthz":
                return _verdict(self.watch.latest, is_good=not health.is_stuck)
            case "/readyz":
                return _verdict(self.watch.latest, is_good=health.is_ready)
            case "" | "/":
                return Response(body=_PATHS)
        return Response(status=404, body=_PATHS)

    async def _metrics(self) -> bytes:
        async with self._lock:
            found = self.watch.latest
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
