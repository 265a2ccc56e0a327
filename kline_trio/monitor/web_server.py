"""The web server of a recorder or a store: address, TLS, token, page and API put together."""

import logging
import resource
from collections.abc import Callable

import attrs
import trio

from kline_trio.config.monitor import MonitorConfig
from kline_trio.monitor.access import Access
from kline_trio.monitor.credentials import Credentials
from kline_trio.monitor.endpoints import Endpoints
from kline_trio.monitor.http_message import Handler
from kline_trio.monitor.http_server import MOST_CONNECTIONS, HttpServer
from kline_trio.monitor.login import Login
from kline_trio.monitor.watch import Watch
from kline_trio.recorder.statistics import Statistics

logger = logging.getLogger(__name__)

_DESCRIPTOR_SHARE = 16
"""Readers get at most this part of the files that the process may open; recording needs them."""


@attrs.frozen(kw_only=True)
class WebServer:
    """Serves one address."""

    settings: MonitorConfig
    """With an address."""
    credentials: Credentials
    wall_clock: Callable[[], float]
    """Seconds since 1970."""
    api: Handler | None = None
    """Answers requests below /api/, for the page; None: there is no page."""
    watch: Watch | None = None
    """For metrics and health; None: there is no recorder."""
    all_series: Callable[[], Statistics] | None = None
    """Returns statistics with all series, for metrics of each; None: without them."""

    async def serve(self, listeners: list[trio.SocketListener]) -> None:
        """Serve the connections that listeners accept, until cancelled."""
        server = HttpServer(self._endpoints().handle, self.wall_clock, most_connections())
        context = self.credentials.context
        if context is None:
            await trio.serve_listeners(server.serve, listeners)
        else:
            secure = [trio.SSLListener(one, context, https_compatible=True) for one in listeners]
            await trio.serve_listeners(server.serve, secure)

    def url(self, listeners: list[trio.SocketListener]) -> str:
        """Return the URL of the page. The port may have been chosen by the system."""
        assert self.settings.address is not None
        scheme = "http" if self.credentials.context is None else "https"
        host = self.settings.address.rpartition(":")[0]
        return f"{scheme}://{host}:{listeners[0].socket.getsockname()[1]}/"

    def log_exposure(self) -> None:
        """Warn if other machines read without TLS, or other users can read the token."""
        if self.credentials.context is None and self.settings.is_public:
            logger.warning("monitor: other machines read %s without TLS", self.settings.address)
        if self.credentials.exposed is not None:
            what = "every user of this machine can read it: chmod o= is wanted"
            logger.warning("monitor: %s: %s", self.credentials.exposed, what)

    def _endpoints(self) -> Endpoints:
        settings, token = self.settings, self.credentials.token
        assert settings.address is not None
        access = Access.to(settings.address, settings.allowed_hosts, token)
        login = None
        if token is not None:
            has_tls = self.credentials.context is not None
            login = Login(access, settings.root_path, self.wall_clock, is_secure=has_tls)
        return Endpoints(
            self.watch,
            access,
            settings.root_path,
            self.all_series,
            self.api,
            login=login,
            wall_clock=self.wall_clock,
        )


def most_connections() -> int:
    """Return the number of connections that leaves enough descriptors for recording."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(1, min(MOST_CONNECTIONS, most // _DESCRIPTOR_SHARE))
