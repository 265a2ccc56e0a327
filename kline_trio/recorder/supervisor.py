"""The recorder as a whole: storage outside, network inside, each ended in its turn."""

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager

import attrs
import httpx2
import trio

from kline_trio.candle import ReceivedCandle, Series
from kline_trio.config import Config
from kline_trio.errors import StoreInUseError, UnavailableError
from kline_trio.exchange.markets import MARKETS
from kline_trio.exchange.rest import RestMarket
from kline_trio.recorder.audience import Audience, Candles
from kline_trio.recorder.completeness import Completeness
from kline_trio.recorder.filling import Filling, Http, Storage
from kline_trio.recorder.listener import Listener
from kline_trio.recorder.merge_rule import MergeRule
from kline_trio.recorder.merger import Merger
from kline_trio.recorder.room import watch_room
from kline_trio.recorder.seams import Door, Seams
from kline_trio.recorder.symbols import seconds_to_next_close, unknown_symbols
from kline_trio.recorder.timekeeper import keep_time
from kline_trio.recorder.verification import Verified, repairs, verify
from kline_trio.recorder.writer import Writer
from kline_trio.storage.ledger import Origin
from kline_trio.storage.store import Store

__all__ = ["Recorder", "compared", "fill", "open_recorder", "open_tail", "repair"]

logger = logging.getLogger(__name__)

_CANDLES_IN_CHANNEL = 10_000
"""All candles of four thousand series that close in one second, twice over; some 5 MB."""

_ANNOUNCE_SECONDS = 3.0
"""How long the start line waits for the exchange's clock."""

_REST_SECONDS = 10.0

_FETCHES_ITSELF = (
    "; it fetches the past itself: set `since` under [history] in its recorder.toml and start it"
    " again"
)

_CLOSE_SECONDS = 5.0


@attrs.frozen(eq=False)
class Recorder:
    """A running recorder."""

    _audience: Audience

    def candles(self, waiting: int = 1_000) -> Candles:
        """The candles accepted from now on, as they come.

        Args:
          waiting: how many may wait for the caller before further ones are lost to it.
        """
        return self._audience.join(waiting)


@asynccontextmanager
async def open_recorder(config: Config, seams: Seams | None = None) -> AsyncIterator[Recorder]:
    """Record while the body runs.

    When the body ends, the network is cancelled, what was received is committed, and merges go on
    for `drain_seconds`; what then still waits is durable in the journal. If cancelled, or if the
    body raises, nothing more is received or merged, and nothing accepted is lost.

    Raises:
      StoreInUseError: another recorder holds the store.
      DiskError: the store cannot be made, read or written; a disk that is only full, or
        read-only, is waited for.
    """
    seams = seams or Seams()
    audience = Audience()
    completeness = Completeness(round(config.completeness.grace_seconds * 1_000))
    watching = trio.CancelScope()
    send, receive = trio.open_memory_channel[ReceivedCandle](_CANDLES_IN_CHANNEL)
    async with _open_store(config, seams) as storage:

        def accepted(batch: Sequence[ReceivedCandle]) -> None:
            merger.accepted(batch)
            filling.backfill.received(batch)

        writer = Writer(
            storage.store,
            storage.commit_door,
            audience,
            config.store.journal_rows_in_memory,
            completeness,
            accepted,
        )
        with _lone_error_plain():
            async with _open_http(config, seams) as http, trio.open_nursery() as outer:
                filling = Filling.of(
                    config,
                    seams,
                    storage,
                    http,
                    completeness,
                    lambda batch: merger.accepted(batch),
                    lambda: not writer.is_short_of_room,
                )
                merger = _merger(config, storage, filling)
                outer.start_soon(merger.run)
                outer.start_soon(
                    _store, writer, filling, merger, receive, config.store.drain_seconds
                )
                outer.start_soon(_watch_room, watching, storage, config.streams)
                async with _open_network(config, seams, http, send, completeness.receive) as net:
                    net.start_soon(filling.auditor.run)
                    filling.start(net)
                    yield Recorder(audience)
                watching.cancel()
        waiting = await storage.commit_door.run(storage.store.rows)
        refilled = filling.filled
        logger.info(
            "stopped: %s recorded%s, %s waiting in the journal, %s files",
            f"{writer.recorded:,}",
            f", {refilled:,} refilled" if refilled else "",
            f"{waiting:,}",
            f"{len(merger.files):,}",
        )


async def fill(
    config: Config,
    until_ms: int | None = None,
    seams: Seams | None = None,
    stop_asked: Callable[[], Awaitable[None]] = trio.sleep_forever,
) -> int:
    """Fetch what is absent of the configured series, without recording; ends when that is done.

    If it is stopped or cancelled, what was fetched stays, and the rest is fetched next time.

    Args:
      config: as for the recorder; `history.since` is from when on.
      until_ms: up to when; None: now.
      seams: to the world.
      stop_asked: returns when it is to end early.

    Returns:
      how many candles were filled in.

    Raises:
      StoreInUseError: a recorder holds the store; it fetches the past itself, if it is told to.
      DiskError: the store cannot be made, read or written.
    """
    seams = seams or Seams()
    completeness = Completeness(round(config.completeness.grace_seconds * 1_000))
    async with _open_store(config, seams, _FETCHES_ITSELF) as storage:
        with _lone_error_plain():
            async with _open_http(config, seams) as http, trio.open_nursery() as outer:
                filling = Filling.of(
                    config,
                    seams,
                    storage,
                    http,
                    completeness,
                    lambda batch: merger.accepted(batch),
                    lambda: True,
                    until_ms,
                )
                merger = _merger(config, storage, filling)
                outer.start_soon(merger.run)
                async with trio.open_nursery() as network:
                    for rest in http.markets.values():
                        network.start_soon(keep_time, rest)
                    filling.start(network)
                    network.start_soon(_stop, stop_asked, network.cancel_scope)
                    await filling.until_done()
                    network.cancel_scope.cancel()
                await filling.auditor.keep()
                merger.finish(math.inf)
        return filling.filled


@asynccontextmanager
async def compared(
    config: Config,
    *,
    against: str,
    since_ms: int | None = None,
    sample: int | None = None,
    seams: Seams | None = None,
) -> AsyncIterator[AsyncIterator[Verified]]:
    """Gives what is stored as it compares with what the exchange says now; see `verify`."""
    seams = seams or Seams()
    async with _open_http(config, seams) as http:
        found = verify(config, http, seams, against=against, since_ms=since_ms, sample=sample)
        async with aclosing(found):
            yield found


async def repair(config: Config, found: Sequence[Verified], seams: Seams | None = None) -> int:
    """Take the exchange's value where ours differs or is absent; each change is a revision.

    Returns:
      how many candles were written.

    Raises:
      StoreInUseError: a recorder holds the store.
      DiskError: nothing was written.
    """
    seams = seams or Seams()
    wanted = repairs(found, seams.now())
    if wanted:
        async with _open_store(config, seams) as storage:
            await storage.commit_door.run(storage.store.accept, wanted, Origin.REPAIR)
    return len(wanted)


async def _stop(stop_asked: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
    await stop_asked()
    scope.cancel()


@asynccontextmanager
async def _open_store(config: Config, seams: Seams, advice: str = "") -> AsyncIterator[Storage]:
    commit_door, merge_door = Door(seams.on_disk), Door(seams.on_disk)
    try:
        store = await commit_door.run(Store.open, config.store.path, config.store.layout)
    except StoreInUseError as error:
        raise StoreInUseError(f"{error}{advice}") from None
    try:
        yield Storage(store, commit_door, merge_door)
    finally:
        # The deadline bounds the wait for the door; the job itself cannot be cut off.
        with trio.move_on_after(_CLOSE_SECONDS, shield=True):
            await commit_door.run(store.close)


def _merger(config: Config, storage: Storage, filling: Filling) -> Merger:
    rule = MergeRule(config.store.merge_seconds, config.store.max_merge_seconds)
    return Merger(
        storage.store, storage.commit_door, storage.merge_door, rule, filling.auditor.recount
    )


async def _store(
    writer: Writer,
    filling: Filling,
    merger: Merger,
    receive: trio.MemoryReceiveChannel[ReceivedCandle],
    drain_seconds: float,
) -> None:
    await writer.run(receive)
    writer.audience.leave()
    await filling.auditor.keep()
    merger.finish(drain_seconds)


async def _watch_room(
    watching: trio.CancelScope, storage: Storage, series: tuple[Series, ...]
) -> None:
    with watching:
        await watch_room(storage.store, storage.commit_door, series)


@asynccontextmanager
async def open_tail(
    config: Config, show: Callable[[ReceivedCandle], None], seams: Seams | None = None
) -> AsyncIterator[None]:
    """Show each closed candle as it comes, while the body runs; nothing is stored."""
    send, receive = trio.open_memory_channel[ReceivedCandle](_CANDLES_IN_CHANNEL)
    with _lone_error_plain():
        async with trio.open_nursery() as showing:
            showing.start_soon(_show_all, receive, show)
            seams = seams or Seams()
            async with (
                _open_http(config, seams) as http,
                _open_network(config, seams, http, send, lambda _series, _open_time_ms: None),
            ):
                yield


async def _show_all(
    receive: trio.MemoryReceiveChannel[ReceivedCandle], show: Callable[[ReceivedCandle], None]
) -> None:
    with receive:
        async for received in receive:
            show(received)


@asynccontextmanager
async def _open_http(config: Config, seams: Seams) -> AsyncIterator[Http]:
    # No proxy from the environment: the WebSockets could not follow.
    async with httpx2.AsyncClient(
        transport=seams.http_transport, timeout=_REST_SECONDS, trust_env=False
    ) as client:
        yield Http.of(config, client)


@asynccontextmanager
async def _open_network(
    config: Config,
    seams: Seams,
    http: Http,
    send: trio.MemorySendChannel[ReceivedCandle],
    received: Callable[[Series, int], None],
) -> AsyncIterator[trio.Nursery]:
    """Listen to all configured markets while the body runs; `send` is closed with it.

    The nursery is for what else ends with the network. If cancelled, connections are closed by
    force.
    """
    rest = http.markets
    by_market = {
        name: tuple(series for series in config.streams if series.trade_type == name)
        for name in rest
    }
    with send:
        async with trio.open_nursery() as network:
            for trade_type, series in by_market.items():
                listener = Listener(
                    MARKETS[trade_type],
                    series,
                    config.endpoints[trade_type].websocket,
                    config.connection,
                    seams,
                    send.clone(),
                    rest[trade_type].clock.hear,
                    received,
                )
                network.start_soon(listener.run)
                network.start_soon(keep_time, rest[trade_type])
            network.start_soon(_announce, config, by_market, rest)
            yield network
            network.cancel_scope.cancel()


async def _announce(
    config: Config, by_market: Mapping[str, tuple[Series, ...]], rest: Mapping[str, RestMarket]
) -> None:
    closes = []
    with trio.move_on_after(_ANNOUNCE_SECONDS):
        for trade_type, series in by_market.items():
            try:
                now_ms = await rest[trade_type].confirm_time()
            except UnavailableError as error:
                logger.warning("%s: REST gives no answer: %s", trade_type, error)
            else:
                closes.append(seconds_to_next_close(series, now_ms))
    logger.info(
        "%s series in %d markets -> %s%s",
        f"{len(config.streams):,}",
        len(by_market),
        config.store.path,
        f"; first close in {min(closes):.0f} s" if closes else "",
    )
    for trade_type, series in by_market.items():
        await _name_unknown_symbols(rest[trade_type], series)


async def _name_unknown_symbols(rest: RestMarket, series: tuple[Series, ...]) -> None:
    try:
        listed = await rest.listings()
    except UnavailableError as error:
        logger.info("%s: symbols are not checked: %s", rest.market.trade_type, error)
        return
    for symbol, near in unknown_symbols(series, listed).items():
        hint = f"; did you mean {near}?" if near else ""
        logger.warning("%s: no symbol %s%s", rest.market.trade_type, symbol, hint)


@contextmanager
def _lone_error_plain() -> Iterator[None]:
    """Raise a lone error as itself: nurseries wrap even one error, once for each level."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if isinstance(error, BaseExceptionGroup | trio.Cancelled):
            raise
        raise error from None
