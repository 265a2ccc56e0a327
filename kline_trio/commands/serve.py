"""The command `serve`: show a store on a web page, read only, whether or not a recorder runs."""

import argparse
import errno
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

from kline_trio.commands.live import existing_store
from kline_trio.commands.signals import Requests, run
from kline_trio.commands.store import store_of
from kline_trio.config.monitor import MonitorConfig, split_address
from kline_trio.errors import ConfigError
from kline_trio.monitor.credentials import Credentials
from kline_trio.monitor.page.api import Api
from kline_trio.monitor.page.sources import StoredSource
from kline_trio.monitor.web_server import WebServer
from kline_trio.program import program_name
from kline_trio.storage.catalog import candle_files
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.memory import use_system_memory
from kline_trio.storage.paths import INTERNAL

logger = logging.getLogger("kline_trio.serving")

_OF_THE_SYSTEM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Another address does not help."""


def serve(options: argparse.Namespace) -> None:
    """Serve the page of a store until SIGINT, SIGTERM or the end of `--for`.

    Raises:
      ConfigError: there is no store, the address cannot be used, or other machines could read
        without a token.
    """
    store, settings = _chosen(options)
    credentials = Credentials.read(settings)

    async def main(requests: Requests) -> None:
        async with open_page(store, settings, credentials) as url:
            print(f"{url} shows {store}; Ctrl-C ends it", flush=True)
            await requests.wait_for_stop()

    use_system_memory()
    run(main, options)


def _chosen(options: argparse.Namespace) -> tuple[Path, MonitorConfig]:
    """Return the store, and how to serve it.

    Of a recorder.toml the table [monitor] holds too, but for the address.
    """
    store, config = store_of(options.store)
    if config is not None:
        store = existing_store(store, options.store)
    _check_store(store)
    settings = MonitorConfig() if config is None else config.monitor
    settings = attrs.evolve(settings, address=options.address)
    if options.token_file is not None:
        settings = attrs.evolve(settings, token_file=options.token_file, token_variable=None)
    has_token = settings.token_file is not None or settings.token_variable is not None
    if settings.is_public and not has_token:
        reached = f"other machines can reach {options.address}"
        advice = f"add --token-file FILE, which `{program_name()} token FILE` writes"
        raise ConfigError([f"--address: {reached}: {advice}"])
    return store, settings


def _check_store(store: Path) -> None:
    with disk_errors(store):
        if (store / INTERNAL).is_dir() or (store.is_dir() and candle_files(store)):
            return
    what = "and no candle file" if store.is_dir() else "nor a folder of that name"
    raise ConfigError([f"there is no store {store}, {what}: there is nothing to show"])


@asynccontextmanager
async def open_page(
    store: Path, settings: MonitorConfig, credentials: Credentials
) -> AsyncIterator[str]:
    """Serve the page of a store while the body runs. Give its URL.

    Args:
      store: its folder.
      settings: with the address.
      credentials: as the settings name them.

    Raises:
      ConfigError: the address cannot be used.
    """
    listeners = await _open_listeners(settings)
    try:
        source = await trio.to_thread.run_sync(StoredSource, store)
        api = Api(source)
        server = WebServer(
            settings=settings, credentials=credentials, wall_clock=time.time, api=api.handle
        )
        server.log_exposure()
        async with trio.open_nursery() as serving:
            for job in api.jobs():
                serving.start_soon(job)
            serving.start_soon(server.serve, listeners)
            yield server.url(listeners)
            serving.cancel_scope.cancel()
    finally:
        for listener in listeners:
            listener.socket.close()


async def _open_listeners(settings: MonitorConfig) -> list[trio.SocketListener]:
    assert settings.address is not None
    host, port = split_address(settings.address)
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        if error.errno in _OF_THE_SYSTEM:
            raise
        why = error.strerror or str(error)
        raise ConfigError([f"{settings.address}: {why}; choose another --address"]) from None
