"""The monitor of one recorder: its tasks, beside the recorder's own."""

import importlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio

from kline_trio.config import Config
from kline_trio.config.monitor import MonitorConfig, split_address
from kline_trio.errors import ConfigError
from kline_trio.exchange.http import http_transport
from kline_trio.monitor.alerts import ChangeCommand, HeartbeatUrl
from kline_trio.monitor.control import ControlServer, Reload
from kline_trio.monitor.credentials import Credentials, stamp_of
from kline_trio.monitor.health import Thresholds, Verdict
from kline_trio.monitor.systemd import Notifier
from kline_trio.monitor.watch import Watch
from kline_trio.recorder.environment import RecurringEvent
from kline_trio.recorder.supervisor import Recorder

if TYPE_CHECKING:
    from kline_trio.monitor.page.api import Api

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 60.0


@attrs.define(eq=False)
class Monitor:
    """Watches a recorder, and shows and reports what it sees. It never steers the recorder."""

    recorder: Recorder
    config: Config
    wall_clock: Callable[[], float]
    is_simulated: bool = False
    show: Callable[[Watch], None] | None = None
    """Called with the watch of each run; None: nobody looks."""
    notifier: Notifier | None = None
    """Informs the service manager, if there is one."""
    reload: Reload | None = None
    """Reads recorder.toml again for the control socket; None: there is no such file."""
    _scope: trio.CancelScope = attrs.field(init=False, factory=trio.CancelScope)
    _reloads: RecurringEvent = attrs.field(init=False, factory=RecurringEvent)
    _watch: Watch | None = attrs.field(init=False, default=None)
    _command: ChangeCommand | None = attrs.field(init=False, default=None)
    _api: "Api | None" = attrs.field(init=False, default=None)
    """Of the page; None: nothing was served yet."""

    @property
    def _settings(self) -> MonitorConfig:
        return self.config.monitor

    def reconfigure(self, config: Config) -> None:
        """Go on by another configuration.

        If `[monitor]` is the same, only read its files again: where the token or the certificate
        has changed, readers must connect anew.
        """
        is_same = _read_by_monitor(config) == _read_by_monitor(self.config)
        self.config = config
        if is_same:
            self._reloads.ring()
        else:
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
            recorder.publisher,
        )
        async with trio.open_nursery() as always:
            # Outside of the scope: the answer to a reload outlives the old `[monitor]`.
            always.start_soon(_guarded, "control", control.run)
            while True:
                with trio.CancelScope() as self._scope:
                    await _guarded("the monitor", self._run_jobs)
                    # Also if all jobs have ended: a bug would only come again.
                    await trio.sleep_forever()

    async def _run_jobs(self) -> None:
        settings = self._settings
        watch = self._watch_within(_limits(settings))
        if self.show is not None:
            self.show(watch)
        async with trio.open_nursery() as jobs:
            jobs.start_soon(_guarded, "watch", watch.run)
            if self.notifier is not None:
                jobs.start_soon(_guarded, "systemd", partial(self.notifier.follow, watch))
            if settings.address is not None:
                jobs.start_soon(_guarded, "server", partial(self._serve, settings.address, watch))
            if settings.on_change:
                shown = Verdict.OK if self._command is None else self._command.shown
                self._command = ChangeCommand(settings.on_change, watch, shown)
                jobs.start_soon(_guarded, "on_change", self._command.run)
            if settings.heartbeat_url is not None:
                heartbeat = partial(self._send_heartbeats, settings.heartbeat_url, watch)
                jobs.start_soon(_guarded, "heartbeat_url", heartbeat)

    def _watch_within(self, limits: Thresholds) -> Watch:
        """Return the one watch, with these limits: health outlives another configuration."""
        if self._watch is None:
            self._watch = Watch(self.recorder.statistics, limits, self.is_simulated)
        self._watch.limits = limits
        # The last look may be from before the monitor was switched off and on again.
        self._watch.look()
        return self._watch

    def _api_of(self, watch: Watch) -> "Api":
        """Return the one interface of the page: its history outlives another configuration."""
        from kline_trio.monitor.page.api import Api
        from kline_trio.monitor.page.sources import LiveSource

        if self._api is None:
            grace_ms = round(self.config.completeness.grace_seconds * 1_000)
            path = self.config.store.path
            source = LiveSource(self.recorder, path, grace_ms, watch.latest)
            watch.follower = source.look
            self._api = Api(source)
        return self._api

    async def _serve(self, address: str, watch: Watch) -> None:
        """Serve an address until cancelled, again and again with other credentials."""
        # On the loop, the imports would hold up all connections for a seventh of a second.
        await trio.to_thread.run_sync(_import_page)
        api = self._api_of(watch)
        while True:
            credentials, listeners = await self._open(address)
            try:
                async with trio.open_nursery() as serving:
                    for job in api.jobs():
                        serving.start_soon(_guarded, "page", job)
                    serving.start_soon(self._serve_listeners, api, watch, credentials, listeners)
                    await self._until_changed(credentials)
                    logger.info("monitor: %s: other credentials from now on", address)
                    serving.cancel_scope.cancel()
            finally:
                for listener in listeners:
                    listener.socket.close()

    async def _open(self, address: str) -> tuple[Credentials, list[trio.SocketListener]]:
        """Listen at an address; while it is taken, or a file cannot be read, try again."""
        host, port = split_address(address)
        logged = ""
        while True:
            try:
                credentials = await self._read_credentials()
                listeners = await trio.open_tcp_listeners(port, host=host)
            except (OSError, ConfigError) as error:
                text = str((error.strerror if isinstance(error, OSError) else None) or error)
                if text != logged:
                    again = f"it is tried again each {_RETRY_SECONDS:.0f} s"
                    logger.error("monitor: %s: %s; recording goes on, and %s", address, text, again)
                logged = text
                with trio.move_on_after(_RETRY_SECONDS):
                    await self._reloads.event.wait()
                continue
            return credentials, listeners

    async def _read_credentials(self) -> Credentials:
        # Abandoned if cancelled: a dead network disk must not hold up the recorder's stop.
        return await trio.to_thread.run_sync(
            Credentials.read, self._settings, abandon_on_cancel=True
        )

    async def _until_changed(self, known: Credentials) -> None:
        """Return when a file of the credentials has changed, at a reload, and can be used."""
        reload = self._reloads.event
        while True:
            await reload.wait()
            reload = self._reloads.event
            try:
                stamp = await trio.to_thread.run_sync(
                    stamp_of, self._settings, abandon_on_cancel=True
                )
                if stamp != known.stamp:
                    await self._read_credentials()
                    return
            except (OSError, ConfigError) as error:
                logger.error("monitor: %s; the credentials stay as they were", error)

    async def _serve_listeners(
        self,
        api: "Api",
        watch: Watch,
        credentials: Credentials,
        listeners: list[trio.SocketListener],
    ) -> None:
        from kline_trio.monitor.web_server import WebServer

        settings = self._settings
        gather = partial(self.recorder.statistics, series=True) if settings.per_symbol else None
        server = WebServer(
            settings=settings,
            credentials=credentials,
            wall_clock=self.wall_clock,
            api=api.handle,
            watch=watch,
            all_series=gather,
        )
        server.log_exposure()
        logger.info("monitor: %s", server.url(listeners))
        await server.serve(listeners)

    async def _send_heartbeats(self, url: str, watch: Watch) -> None:
        connection = self.config.connection
        transport = await trio.to_thread.run_sync(
            http_transport, connection.ca_file, connection.proxy, abandon_on_cancel=True
        )
        async with transport:
            await HeartbeatUrl(url, transport, watch).run()


def _import_page() -> None:
    """Import what only a recorder needs that serves something: the others start faster."""
    importlib.import_module("kline_trio.monitor.page.api")
    importlib.import_module("kline_trio.monitor.web_server")


def _read_by_monitor(config: Config) -> tuple[object, ...]:
    return config.monitor, config.connection.ca_file, config.connection.proxy


def _limits(settings: MonitorConfig) -> Thresholds:
    names = [field.name for field in attrs.fields(Thresholds)]
    return Thresholds(**{name: getattr(settings, name) for name in names})


async def _guarded(name: str, job: Callable[[], Awaitable[None]]) -> None:
    """Run a job; log its failure, which must not end the recorder."""
    try:
        await job()
    except* Exception:
        logger.exception("monitor: %s has ended; recording goes on", name)
