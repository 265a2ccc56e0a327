"""The commands that receive candles: record and tail."""

import argparse
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from functools import partial
from pathlib import Path

import attrs
import trio

from kline_trio.candle import ReceivedCandle
from kline_trio.commands.screen import Screen
from kline_trio.commands.signals import Requests, run
from kline_trio.commands.simulated import exchange_of
from kline_trio.config import Config
from kline_trio.config.difference import Change, differences
from kline_trio.errors import ConfigError, UnavailableError
from kline_trio.exchange.rest import sync_clock
from kline_trio.interval import time_text
from kline_trio.monitor.systemd import Notifier, NotifySocket
from kline_trio.monitor.watch import Watch
from kline_trio.program import program_name
from kline_trio.recorder.candle_log import LogCandles
from kline_trio.recorder.environment import Environment
from kline_trio.recorder.recording import unchangeable
from kline_trio.recorder.resources import (
    check_connection,
    open_http,
    unwrap_lone_error,
)
from kline_trio.recorder.series_set import SeriesSet
from kline_trio.recorder.supervisor import (
    CANDLES_IN_CHANNEL,
    listeners_of,
    open_network,
    open_recorder,
)
from kline_trio.storage.memory import use_system_memory
from kline_trio.storage.simulated import mark_as_simulated, simulated_store
from kline_trio.symbols import resolve

logger = logging.getLogger("kline_trio.running")

_SAVED_SECONDS = 2.0
"""A file that stays the same for so long was saved as a whole."""
_ONLY_WHEN_ASKED = ("address", "token_file", "token_variable", "on_change")
"""Settings of `[monitor]` that a saved file does not change: whoever can write it could let others
in, or run a command."""


def record(config: Config, options: argparse.Namespace) -> None:
    """Record until SIGINT, SIGTERM or the end of `--for`. At SIGHUP, read recorder.toml again."""

    async def main(requests: Requests) -> None:
        notify_socket = NotifySocket.from_environment(os.environ, os.getpid())
        notifier = Notifier(notify_socket, requests.is_stop_asked)
        async with exchange_of(config, options) as redirect, trio.open_nursery() as outside:
            # Before the recorder is open, and until it is closed: both may take a while.
            outside.start_soon(notifier.run)
            stop_asked = requests.wait_for_stop
            async with (
                open_recorder(
                    redirect(config),
                    stop_asked=stop_asked,
                    log_candles=LogCandles(options.log_candles),
                ) as recorder,
                trio.open_nursery() as beside,
            ):

                def reconfigure(new: Config) -> None:
                    recorder.reconfigure(redirect(new))
                    monitor.reconfigure(redirect(new))

                # Imported here: meanwhile the first connections are made.
                from kline_trio.monitor.service import Monitor

                reloader = Reloader(options.config, config, options.monitor, reconfigure, notifier)
                monitor = Monitor(
                    recorder,
                    redirect(config),
                    time.time,
                    options.simulate,
                    show=partial(_show, requests.screen) if requests.screen.is_terminal else None,
                    notifier=notifier,
                    reload=reloader.answer,
                )
                if options.simulate:
                    await _mark_as_simulated(redirect(config).store.path)
                beside.start_soon(monitor.run)
                beside.start_soon(reloader.watch_file)
                notifier.ready()
                while not await requests.is_stop():
                    with suppress(ConfigError):  # it was logged
                        await reloader.reload(is_dry_run=False)
                notifier.stopping()
                beside.cancel_scope.cancel()
            outside.cancel_scope.cancel()
        if options.simulate:
            _next_command(config, options)

    use_system_memory()
    run(main, options, signal.SIGHUP)


def _show(screen: Screen, watch: Watch) -> None:
    """Draw the panel of a watch."""
    # Imported here: it loads rich.
    from kline_trio.commands.panel import Panel

    panel = Panel()
    screen.show(lambda: panel.draw(watch.latest))


async def _mark_as_simulated(store: Path) -> None:
    # A full disk is no reason to end.
    with suppress(OSError):
        await trio.to_thread.run_sync(mark_as_simulated, store)


def _next_command(config: Config, options: argparse.Namespace) -> None:
    """Log what to type after a simulated run."""
    # `status recorder.toml` means the real store, if there is one.
    of = os.path.relpath(simulated_store(options.config))
    store = of if config.store.path.is_dir() else options.config
    command = f"{program_name()} status {store}"
    logger.info("simulated candles are in %s; now: %s", of, command)


@attrs.define(eq=False)
class Reloader:
    """Reads recorder.toml again, at SIGHUP and for `kline-trio reload`."""

    path: Path
    present: Config
    """As it was read last."""
    address: str | None
    """Of `--monitor`; None: as the file says."""
    reconfigure: Callable[[Config], None]
    """Lets the recorder go on by another configuration."""
    notifier: Notifier
    """Informs the service manager."""
    _started: Config = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.present, takes_self=True)
    )
    _one_at_a_time: trio.Lock = attrs.field(init=False, factory=trio.Lock)

    async def watch_file(self) -> None:
        """Read the file once it was saved, while `reload_on_save` is set; until cancelled."""
        known = seen = await self._stamp()
        while True:
            await trio.sleep(_SAVED_SECONDS)
            if not self.present.monitor.reload_on_save:
                known = None
                continue
            before, seen = seen, await self._stamp()
            if known is None:
                known = seen
            elif seen == before != known and seen is not None:
                known = seen
                logger.info("%s was saved: reading the configuration anew", self.path)
                with suppress(ConfigError):  # it was logged
                    await self.reload(is_dry_run=False, is_asked=False)

    async def _stamp(self) -> tuple[int, int, int] | None:
        """Return what differs for each content of the file; None: it is not there now."""
        try:
            found = await trio.to_thread.run_sync(os.stat, self.path, abandon_on_cancel=True)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    async def reload(
        self, *, is_dry_run: bool, is_asked: bool = True
    ) -> tuple[list[Change], list[str]]:
        """Read the file, and go on by it.

        Args:
          is_dry_run: only compare.
          is_asked: a person asked for it. If not, leave the settings of `_ONLY_WHEN_ASKED`.

        Returns:
          the keys that differ from the present configuration, and the tables of the file that
          count from the next start on.

        Raises:
          ConfigError: the file has a mistake, which is logged; nothing was changed.
        """
        async with self._one_at_a_time:
            if is_dry_run:
                new = await self._read()
            else:
                with self.notifier.reloading():
                    new = await self._read_or_log(is_asked=is_asked)
            found = differences(self.present, new), unchangeable(self._started, new)
            if not is_dry_run:
                self.present = new
                self.reconfigure(new)
            return found

    async def _read(self) -> Config:
        new = await trio.to_thread.run_sync(Config.from_toml, self.path)
        new = new.with_monitor(self.address)
        await trio.to_thread.run_sync(check_connection, new)
        return new

    async def _read_or_log(self, *, is_asked: bool) -> Config:
        try:
            new = await self._read()
            return new if is_asked else self._without_unasked_changes(new)
        except ConfigError as error:
            # The reason stands in the same line: equal lines of one minute are folded.
            for problem in error.problems:
                logger.error("the configuration stays as it was: %s", problem)
            raise

    def _without_unasked_changes(self, new: Config) -> Config:
        """Return the new configuration without changes that a person must ask for; log them."""
        old = {name: getattr(self.present.monitor, name) for name in _ONLY_WHEN_ASKED}
        changed = [name for name in old if getattr(new.monitor, name) != old[name]]
        if changed:
            names = ", ".join(f"monitor.{name}" for name in changed)
            logger.warning("%s: changed only at SIGHUP or by reload; it stays as it was", names)
        return attrs.evolve(new, monitor=attrs.evolve(new.monitor, **old))

    async def answer(self, is_dry_run: bool) -> dict[str, object]:  # noqa: FBT001 - of a request
        """Reload for the control socket; return what has changed."""
        if not is_dry_run:
            logger.info("control: reading the configuration anew")
        changes, later = await self.reload(is_dry_run=is_dry_run)
        return {
            "file": str(self.path.absolute()),
            "pid": os.getpid(),
            "changes": [attrs.asdict(one) for one in changes],
            "later": later,
            "applied": not is_dry_run,
        }


def tail(config: Config, options: argparse.Namespace) -> None:
    """Print closed candles until SIGINT, SIGTERM or the end of `--for`; nothing is stored."""

    async def main(requests: Requests) -> None:
        async with exchange_of(config, options) as redirect, open_tail(redirect(config)):
            await requests.wait_for_stop()

    run(main, options)


def _print(received: ReceivedCandle) -> None:
    series, candle = received.series, received.candle
    end = time_text(series.interval.end_time_ms(candle.open_time_ms))
    names = ("open", "high", "low", "close", "volume")
    values = " ".join(f"{name} {_digits(getattr(candle, name))}" for name in names)
    print(f"{end} {series} {values} trades {candle.trade_num}", flush=True)


def _digits(number: float) -> str:
    """Return the digits that the exchange sent, without zeros at the end."""
    # The shortest decimal that is this float; `g` would round it to six digits.
    return f"{Decimal(repr(number)):f}".removesuffix(".0")


@asynccontextmanager
async def open_tail(
    config: Config,
    show: Callable[[ReceivedCandle], None] = _print,
    environment: Environment | None = None,
) -> AsyncIterator[None]:
    """Call a function with each closed candle while the body runs; store nothing.

    Args:
      config: as for the recorder; the function does not touch its store.
      show: called with each candle; by default, print one line.
      environment: network, disk and clocks.

    Raises:
      UnavailableError: a list of symbols that patterns need cannot be fetched, and no series is
        configured besides.
    """
    environment = environment or Environment()
    send, receive = trio.open_memory_channel[ReceivedCandle](CANDLES_IN_CHANNEL)

    async def show_all() -> None:
        with receive:
            async for received in receive:
                show(received)

    with unwrap_lone_error():
        async with trio.open_nursery() as showing:
            showing.start_soon(show_all)
            async with open_http(config, environment) as http:
                series, unlisted = await resolve(config.streams, config.patterns, http.markets)
                if unlisted and not series:
                    raise UnavailableError("; ".join(map(": ".join, unlisted.items())))
                listeners = listeners_of(config, environment, http, send, SeriesSet(0))
                for trade_type, listener in listeners.items():
                    listener.listen_to([one for one in series if one.trade_type == trade_type])
                async with open_network(listeners, send) as network:
                    # Listeners hold candles back until the exchange's time is known.
                    for trade_type in sorted({one.trade_type for one in series}):
                        network.start_soon(sync_clock, http.markets[trade_type])
                    yield
