"""The monitor of one recorder: its tasks, beside the recorder's own."""

import logging
import ssl
from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import trio

from kline_trio.config import Config
from kline_trio.config.monitor import MonitorConfig, split_address
from kline_trio.exchange.http import http_client
from kline_trio.monitor.access import Access
from kline_trio.monitor.alerts import ChangeCommand, HeartbeatUrl
from kline_trio.monitor.control import ControlServer, Reload
from kline_trio.monitor.health import Thresholds
from kline_trio.monitor.http_server import HttpServer
from kline_trio.monitor.watch import Watch
from kline_trio.recorder.supervisor import Recorder

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 60.0
_REQUEST_SECONDS = 10.0
_LEAST_TOKEN = 16


@attrs.define(eq=False)
class Monitor:
    """Watches a recorder, and shows and reports what it sees. It never steers the recorder."""

    recorder: Recorder
    config: Config
    wall_clock: Callable[[], float]
    is_simulated: bool = False
    reload: Reload | None = None
    """Reads recorder.toml again for the control socket; None: there is no such file."""
    _watch: Watch | None = attrs.field(init=False, default=None)
    _scope: trio.CancelScope = attrs.field(init=False, factory=trio.CancelScope)

    @property
    def _settings(self) -> MonitorConfig:
        return self.config.monitor

    def reconfigure(self, config: Config) -> None:
        """Go on by another configuration; if `[monitor]` is the same, change nothing."""
        is_same = config.monitor == self._settings
        self.config = config
        if not is_same:
            self._scope.cancel()

    async def run(self) -> None:
        """Watch, serve and alarm until cancelled; the control socket always, else by `[monitor]`.

        What goes wrong here is logged, and ends nothing but a part of the monitor.
        """
        recorder = self.recorder
        control = ControlServer(
            self.config.store.path,
            lambda: None if self._watch is None else self._watch.latest,
            partial(recorder.statistics, series=True),
            recorder.backfill,
            self.reload,
        )
        async with trio.open_nursery() as always:
            # Outside of the scope: the answer to a reload outlives the old `[monitor]`.
            always.start_soon(_guarded, "control", control.run)
            while True:
                with trio.CancelScope() as self._scope:
                    await self._run_jobs()

    async def _run_jobs(self) -> None:
        settings = self._settings
        watch = self._watch = Watch(self.recorder.statistics, _limits(settings), self.is_simulated)
        async with trio.open_nursery() as jobs:
            jobs.start_soon(_guarded, "watch", watch.run)
            if settings.address is not None:
                jobs.start_soon(_guarded, "server", partial(self._serve, settings.address, watch))
            if settings.on_change:
                command = ChangeCommand(settings.on_change, watch)
                jobs.start_soon(_guarded, "on_change", command.run)
            if settings.heartbeat_url is not None:
                heartbeat = partial(self._send_heartbeats, settings.heartbeat_url, watch)
                jobs.start_soon(_guarded, "heartbeat_url", heartbeat)

    async def _serve(self, address: str, watch: Watch) -> None:
        """Serve an address; as long as it is taken, or a file cannot be read, try again."""
        # Imported here: a recorder that serves nothing starts faster without it.
        from kline_trio.monitor.endpoints import Endpoints

        settings = self._settings
        is_logged = False
        while True:
            try:
                token, context = await trio.to_thread.run_sync(_secrets, settings)
                host, port = split_address(address)
                listeners = await trio.open_tcp_listeners(port, host=host)
            except (OSError, ValueError) as error:
                if not is_logged:
                    text = error.strerror if isinstance(error, OSError) else None
                    logger.error("monitor: %s: %s; recording goes on", address, text or error)
                is_logged = True
                await trio.sleep(_RETRY_SECONDS)
                continue
            break
        if context is None and settings.is_public:
            logger.warning("monitor: other machines read %s without TLS", address)
        access = Access.to(address, settings.allowed_hosts, token)
        gather = partial(self.recorder.statistics, series=True) if settings.per_symbol else None
        endpoints = Endpoints(watch, access, settings.root_path, gather)
        server = HttpServer(endpoints.handle, self.wall_clock)
        bound = listeners[0].socket.getsockname()[1]
        scheme = "http" if context is None else "https"
        logger.info("monitor: %s://%s:%d/metrics", scheme, address.rpartition(":")[0], bound)
        if context is None:
            await trio.serve_listeners(server.serve, listeners)
        else:
            secure = [trio.SSLListener(one, context, https_compatible=True) for one in listeners]
            await trio.serve_listeners(server.serve, secure)

    async def _send_heartbeats(self, url: str, watch: Watch) -> None:
        connection = self.config.connection
        client = await trio.to_thread.run_sync(
            http_client, connection.ca_file, connection.proxy, None, _REQUEST_SECONDS
        )
        async with client:
            await HeartbeatUrl(url, client, watch).run()


def _limits(settings: MonitorConfig) -> Thresholds:
    names = [field.name for field in attrs.fields(Thresholds)]
    return Thresholds(**{name: getattr(settings, name) for name in names})


def _secrets(settings: MonitorConfig) -> tuple[str | None, ssl.SSLContext | None]:
    """Read the token and the certificates."""
    token = None
    if settings.token_file is not None:
        token = settings.token_file.read_text(encoding="utf-8").strip()
        if len(token) < _LEAST_TOKEN:
            raise ValueError(f"{settings.token_file}: a token has at least {_LEAST_TOKEN} letters")
    if settings.tls_cert is None or settings.tls_key is None:
        return token, None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.tls_cert, settings.tls_key)
    return token, context


async def _guarded(name: str, job: Callable[[], Awaitable[None]]) -> None:
    try:
        await job()
    except Exception:
        # A bug of the monitor must not end the recorder.
        logger.exception("monitor: %s has ended; recording goes on", name)
