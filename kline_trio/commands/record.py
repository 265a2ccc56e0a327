"""The commands that record or fill gaps: record, backfill and tail."""

import argparse
import logging
import math
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

import attrs
import trio

from kline_trio.candle import ReceivedCandle
from kline_trio.commands.fetch import fetch_beside_recorder
from kline_trio.commands.screen import Screen
from kline_trio.commands.signals import Requests, run
from kline_trio.commands.simulated import exchange_of
from kline_trio.config import Config, HistoryConfig
from kline_trio.config.difference import Change, differences
from kline_trio.counting import counted
from kline_trio.errors import ConfigError, UnavailableError
from kline_trio.exchange.rest import RestMarket, sync_clock
from kline_trio.interval import time_text
from kline_trio.monitor.service import Monitor
from kline_trio.monitor.systemd import Notifier, NotifySocket
from kline_trio.monitor.watch import Watch
from kline_trio.program import program_name
from kline_trio.recorder.auditor import Auditor
from kline_trio.recorder.backfill import filling_of, not_yet
from kline_trio.recorder.candle_log import LogCandles
from kline_trio.recorder.environment import Environment
from kline_trio.recorder.gap_filler import GapFiller
from kline_trio.recorder.housekeeping import Heartbeat
from kline_trio.recorder.recording import unchangeable
from kline_trio.recorder.resources import (
    Pipeline,
    check_connection,
    open_http,
    open_store,
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
_backfill_logger = logging.getLogger("kline_trio.commands.backfill")

_GIVE_UP_SECONDS = 600.0
"""A backfill ends after this time without any answer, unless `--wait` is given."""
_LOG_SECONDS = 60.0
_CHECK_SECONDS = 5.0
_SAVED_SECONDS = 2.0
"""A file that stays the same for so long was saved as a whole."""
_ONLY_WHEN_ASKED = ("address", "token_file", "token_variable", "on_change")
"""Settings of `[monitor]` that a saved file does not change: whoever can write it could let others
in, or run a command."""
_FETCHES_ITSELF = (
    "; it fetches the past itself: set `since` under [history] in its recorder.toml and start it"
    " again"
)


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
            return new if is_asked else self._without_the_rest(new)
        except ConfigError as error:
            # The reason stands in the same line: equal lines of one minute are folded.
            for problem in error.problems:
                logger.error("the configuration stays as it was: %s", problem)
            raise

    def _without_the_rest(self, new: Config) -> Config:
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


def backfill(config: Config, options: argparse.Namespace) -> None:
    """Fill gaps until none can be filled, or until SIGINT or SIGTERM.

    If a recorder runs, let that one fetch.
    """
    store = simulated_store(options.config) if options.simulate else config.store.path
    give_up_seconds = math.inf if options.wait else _GIVE_UP_SECONDS
    if fetch_beside_recorder(store, options, give_up_seconds):
        return
    if options.since is not None:
        since = datetime.fromtimestamp(options.since / 1_000, UTC)
        config = attrs.evolve(config, history=HistoryConfig(since=since))

    async def main(requests: Requests) -> None:
        async with exchange_of(config, options) as redirect:
            done = await fill(
                redirect(config),
                options.until,
                stop_asked=requests.wait_for_stop,
                give_up_seconds=give_up_seconds,
            )
            filled = f"{counted(done.filled, 'candle')} filled in"
            if done.absent is None:
                _backfill_logger.info("stopped early: %s; gaps are not known yet", filled)
            elif done.absent:
                absent = f"{done.absent:,} still absent"
                _backfill_logger.info("stopped early: %s, %s", filled, absent)
            else:
                _backfill_logger.info("done: %s", filled)
                requests.finish()

    run(main, options)


@attrs.frozen
class Backfilled:
    """The result of a backfill."""

    filled: int
    """How many candles were filled in."""
    absent: int | None
    """How many candles remain to be asked for, if it was stopped early; None: stopped before that
    was known."""


async def fill(
    config: Config,
    until_ms: int | None = None,
    environment: Environment | None = None,
    stop_asked: Callable[[], Awaitable[None]] = trio.sleep_forever,
    give_up_seconds: float = _GIVE_UP_SECONDS,
) -> Backfilled:
    """Fill the gaps of the configured series, without recording.

    If it is stopped or cancelled, fetched candles stay, and the next backfill fetches the rest. A
    market whose list of symbols cannot be fetched does not delay other series: its error is raised
    at the end.

    Args:
      config: as for the recorder; `history.since` is the first moment.
      until_ms: fetch up to this moment, exclusive; None: up to now.
      environment: network, disk and clocks.
      stop_asked: returns when the backfill is to end early.
      give_up_seconds: how long to go on without any answer.

    Raises:
      ConfigError: `history.since` is in the future of the exchange.
      UnavailableError: there was no answer for `give_up_seconds`, or a list of symbols that
        patterns need cannot be fetched.
      StoreInUseError: a recorder holds the store. It can fetch the past itself.
      DiskError: the store cannot be made, read or written.
    """
    environment, since_ms = environment or Environment(), config.history.since_ms
    async with open_store(config, environment, _FETCHES_ITSELF, stop_asked) as storage:
        pipeline = Pipeline(config, storage)
        with unwrap_lone_error():
            async with open_http(config, environment) as http, trio.open_nursery() as outer:
                filler = pipeline.gap_filler(environment, http)
                if until_ms is not None:
                    filler.until_ms = until_ms
                auditor = Auditor(
                    storage, pipeline.series, http.clocks, since_ms, is_recorder=False
                )
                series, unlisted = await resolve(config.streams, config.patterns, http.markets)
                no_list = "; ".join(map(": ".join, unlisted.items()))
                if no_list and not series:
                    raise UnavailableError(no_list)
                pipeline.series.set_series(series, {})
                outer.start_soon(pipeline.merger.run)
                markets = {one.trade_type: http.markets[one.trade_type] for one in series}
                await _Backfill(auditor, filler, markets, since_ms, give_up_seconds).run(stop_asked)
                absent = await filler.pending() if auditor.is_stock_taken else None
                # Candles that closed meanwhile become gaps too: the next recorder asks for them.
                await auditor.keep()
                pipeline.merger.finish(math.inf)
            await Heartbeat(storage, http.clocks, environment.wall_clock).end()
        if no_list and absent == 0:
            raise UnavailableError(f"{no_list}; {counted(filler.filled, 'candle')} filled in")
        return Backfilled(filler.filled, absent)


@attrs.frozen(eq=False)
class _Backfill:
    """Finds gaps and fills them, with the clocks and the log that this needs."""

    auditor: Auditor
    filler: GapFiller
    markets: Mapping[str, RestMarket]
    """By trade type; the markets of the series."""
    since_ms: int | None
    give_up_seconds: float

    async def run(self, stop_asked: Callable[[], Awaitable[None]]) -> None:
        """Find the gaps and fill them, until that is done or a stop is asked for."""
        async with trio.open_nursery() as network:

            async def stop() -> None:
                await stop_asked()
                network.cancel_scope.cancel()

            for _, market in sorted(self.markets.items()):
                network.start_soon(sync_clock, market)
            for job in (*self.filler.jobs(), stop, self._refuse_the_future, self._log_progress):
                network.start_soon(job)
            await self.auditor.take_stock()
            await self.filler.until_done()
            network.cancel_scope.cancel()

    async def _refuse_the_future(self) -> None:
        if self.since_ms is None:
            return
        for name, market in self.markets.items():
            if self.since_ms >= (await market.clock.accepted_span(self.since_ms)).to_ms:
                raise not_yet(self.since_ms, name)

    async def _log_progress(self) -> None:
        """Log the progress once a minute, until cancelled.

        Raises:
          UnavailableError: there was no answer for `give_up_seconds`.
        """
        filler = self.filler
        log_at = trio.current_time() + _LOG_SECONDS
        filled, filled_at = filler.filled, trio.current_time()
        while True:
            await trio.sleep(_CHECK_SECONDS)
            now = trio.current_time()
            if filler.filled != filled:
                filled, filled_at = filler.filled, now
            silent_seconds = now - max(filler.progress.answered_at, filled_at)
            is_unanswered = filler.progress.problem is not None or not self.auditor.is_stock_taken
            if is_unanswered and silent_seconds >= self.give_up_seconds:
                problem = filler.progress.problem or "the exchange's time is not to be had"
                minutes = counted(round(silent_seconds / 60), "minute")
                raise UnavailableError(
                    f"nothing could be asked for {minutes}: {problem};"
                    " what was fetched stays, and --wait goes on"
                )
            if now >= log_at:
                log_at = now + _LOG_SECONDS
                _backfill_logger.info("backfill: %s", await self._progress())

    async def _progress(self) -> str:
        pending = await self.filler.pending() if self.auditor.is_stock_taken else None
        return filling_of(self.filler, pending, self.filler.filled).text


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
