"""The checks of `doctor`: tasks that find out facts, and the findings that follow from them.

Each fact is found out once, by one task. A check waits for the facts that it needs, and a pure
function makes its findings.
"""

import resource
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
import httpx2
import trio

from kline_trio.candle import Series
from kline_trio.commands.finding import Finding, softened
from kline_trio.commands.lake_findings import judge_lake, lake_fault
from kline_trio.commands.network_findings import (
    judge_archive,
    judge_clock,
    judge_connection,
    judge_host,
    judge_list,
    judge_name,
    judge_proxies,
    judge_route,
    judge_symbols,
)
from kline_trio.commands.store_findings import (
    disk_fault,
    judge_config,
    judge_disk,
    judge_files,
    judge_layout,
    judge_recorder,
    judge_space,
)
from kline_trio.config import Config
from kline_trio.errors import ConfigError, DiskError, UnavailableError
from kline_trio.exchange.archive import archive_files
from kline_trio.exchange.clock import ExchangeClock
from kline_trio.exchange.connection import Dial
from kline_trio.exchange.dialer import Dialer
from kline_trio.exchange.markets import MARKETS, Market
from kline_trio.exchange.probe import (
    HttpProbe,
    Reached,
    RouteProbe,
    Target,
    probe_http,
    probe_route,
    reach,
)
from kline_trio.exchange.rate_limiter import RateLimiter
from kline_trio.exchange.rest import RestMarket
from kline_trio.interval import Span
from kline_trio.listing import Listing
from kline_trio.reading.address import lake_packages
from kline_trio.storage.inspection import StoreReport, inspect_store
from kline_trio.symbols import select_series

if TYPE_CHECKING:
    from kline_trio.lake.inspection import LakeReport

_REACH_SECONDS = 8.0
_FRAME_SECONDS = 15.0
"""A busy symbol has a frame every 0.25 s (futures) or 2 s (spot)."""
_REST_SECONDS = 8.0
_LIST_SECONDS = 20.0
"""Spot's list of symbols has 15 MB."""
_DISK_SECONDS = 10.0
_LAKE_SECONDS = 30.0
"""A dozen requests to an object store that may be far away, and retries."""
_DAY_MS = 86_400_000
_ARCHIVED_DAYS = 8
"""A file of a day can come a week late (binance-public-data#181, #480)."""
_ONLY_HISTORY = "history comes from REST alone then, which is slower"
_OTHER_HOST = "another host does its work"

_Value = TypeVar("_Value")


async def _in_a_thread(job: Callable[..., _Value], *arguments: Any) -> _Value:  # noqa: ANN401
    # Abandoned: a disk that does not answer must not hold up the other checks. The jobs only read.
    return await trio.to_thread.run_sync(job, *arguments, abandon_on_cancel=True)


@attrs.frozen(kw_only=True)
class Surroundings:
    """How the checks reach network, disk, clocks and limits; the defaults are the real ones."""

    reach: Callable[[Target], Awaitable[Reached]] | None = None
    """Opens a connection to a target and closes it; None is the network."""
    dial: Dial | None = None
    """Opens a stream to a WebSocket URL; None is the network."""
    http_transport: httpx2.AsyncBaseTransport | None = None
    """Carries HTTP requests; None is httpx2's own."""
    in_thread: Callable[..., Awaitable[Any]] = _in_a_thread
    """Runs a job that blocks, away from the event loop."""
    wall_clock: Callable[[], float] = time.time
    """Seconds since 1970."""
    open_files: Callable[[], float] = lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    """Returns how many descriptors a process may have."""


@attrs.frozen
class Check:
    """One check, whose findings are shown together."""

    name: str
    subject: str
    run: Callable[[], Awaitable[Sequence[Finding]]]


@attrs.define(eq=False)
class _Fact(Generic[_Value]):
    """A value that one task finds out, and that other tasks wait for."""

    _values: list[_Value] = attrs.field(init=False, factory=list)
    _known: trio.Event = attrs.field(init=False, factory=trio.Event)

    def settle(self, value: _Value) -> None:
        """Make the value known; call it once."""
        self._values.append(value)
        self._known.set()

    async def get(self) -> _Value:
        """Wait for the value."""
        await self._known.wait()
        return self._values[0]


async def connection_problems(config: Config, surroundings: Surroundings) -> Sequence[str]:
    """Return why the CA file or a proxy cannot be used; nothing if they can."""
    urls = [url for one in config.endpoints.values() for url in one.websocket]
    with trio.move_on_after(_DISK_SECONDS):
        try:
            await surroundings.in_thread(_dialer(config).check, urls)
        except ConfigError as error:
            return error.problems
        return ()
    return [f"the certificates cannot be read within {_DISK_SECONDS:g} s"]


def _dialer(config: Config) -> Dialer:
    return Dialer(ca_file=config.connection.ca_file, proxy=config.connection.proxy)


@attrs.define(eq=False)
class Examination:
    """The facts about one configuration, the tasks that find them out, and the checks."""

    config: Config
    path: Path
    """Of recorder.toml."""
    surroundings: Surroundings
    problems: Sequence[str]
    """Why the CA file or a proxy cannot be used."""
    client: httpx2.AsyncClient | None
    """Carries HTTP requests; None if no host is to be checked."""

    _markets: tuple[Market, ...] = attrs.field(init=False)
    """The markets that the configuration uses; none if no host is to be checked."""
    _reached: dict[Target, _Fact[Reached]] = attrs.field(init=False)
    _routes: dict[tuple[Market, str], _Fact[RouteProbe | None]] = attrs.field(init=False)
    """By market and URL; None: its host is not reached."""
    _hosts: dict[tuple[Market, str], _Fact[HttpProbe | None]] = attrs.field(init=False)
    """By market and REST host; None: it is not reached."""
    _lists: dict[Market, _Fact[Mapping[str, Listing] | str]] = attrs.field(init=False)
    """The list of symbols, or why there is none."""
    _archive: _Fact[HttpProbe | None] = attrs.field(init=False, factory=_Fact)
    """None: the host is not reached."""
    _lake: "_Fact[LakeReport | Finding]" = attrs.field(init=False, factory=_Fact)
    """The report, or why there is none."""
    _store: _Fact[StoreReport | str] = attrs.field(init=False, factory=_Fact)
    """The report, or why the disk gives none."""

    def __attrs_post_init__(self) -> None:
        config = self.config
        used = {one.trade_type for one in config.streams}
        used |= {one.trade_type for one in config.patterns}
        self._markets = tuple(
            market for name, market in MARKETS.items() if name in used and self.client is not None
        )
        ends = {market: config.endpoints[market.trade_type] for market in self._markets}
        self._routes = {(one, url): _Fact() for one in ends for url in ends[one].websocket}
        self._hosts = {(one, host): _Fact() for one in ends for host in ends[one].rest}
        self._lists = {one: _Fact() for one in ends}
        urls = [url for _, url in (*self._routes, *self._hosts)]
        if ends:
            urls.append(config.archive)
        self._reached = {Target.of(url): _Fact() for url in urls}

    # Tasks that find out facts

    def tasks(self) -> Iterator[Callable[[], Awaitable[None]]]:
        """Give the tasks; each ends by itself within its time limits."""
        yield self._inspect_store
        if self.config.lake.url is not None:
            yield self._inspect_lake
        for target in self._reached:
            yield partial(self._reach, target)
        for market, url in self._routes:
            yield partial(self._probe_route, market, url)
        for market, host in self._hosts:
            yield partial(self._probe_host, market, host)
        for market in self._lists:
            yield partial(self._fetch_list, market)
        if self._markets:
            yield self._probe_archive

    async def _inspect_store(self) -> None:
        found: StoreReport | str = f"the disk does not answer within {_DISK_SECONDS:g} s"
        with trio.move_on_after(_DISK_SECONDS):
            try:
                found = await self.surroundings.in_thread(inspect_store, self.config.store.path)
            except DiskError as error:
                found = str(error)
        self._store.settle(found)

    async def _inspect_lake(self) -> None:
        url = str(self.config.lake.url)
        message = f"no answer within {_LAKE_SECONDS:g} s"
        found: LakeReport | Finding = lake_fault(url, message, "check endpoint and network")
        with trio.move_on_after(_LAKE_SECONDS):
            try:
                with lake_packages():
                    from kline_trio.lake.inspection import inspect_lake

                    job = partial(inspect_lake, self.config.lake, self.surroundings.wall_clock)
                found = await self.surroundings.in_thread(job)
            except ConfigError as error:
                found = lake_fault(url, str(error), "install it in the recorder's environment")
        self._lake.settle(found)

    async def _reach(self, target: Target) -> None:
        if self.surroundings.reach is not None:
            found = await self.surroundings.reach(target)
        else:
            found = await reach(_dialer(self.config), target, _REACH_SECONDS)
        self._reached[target].settle(found)

    async def _is_reached(self, url: str) -> bool:
        return (await self._reached[Target.of(url)].get()).failed is None

    async def _probe_route(self, market: Market, url: str) -> None:
        found = None
        if await self._is_reached(url):
            dial = self.surroundings.dial or _dialer(self.config).dial
            found = await probe_route(dial, url, market, _REACH_SECONDS, _FRAME_SECONDS)
        self._routes[market, url].settle(found)

    async def _probe_host(self, market: Market, host: str) -> None:
        url = f"{host}{market.rest_prefix}/time"
        self._hosts[market, host].settle(await self._get(url))

    async def _get(self, url: str) -> HttpProbe | None:
        assert self.client is not None
        if not await self._is_reached(url):
            return None
        return await probe_http(self.client, url, _REST_SECONDS, self.surroundings.wall_clock)

    async def _answers(self, market: Market) -> dict[str, HttpProbe]:
        """Wait for a market's REST hosts. Return the answers with a time, in the hosts' order."""
        answers = {}
        for (one, host), fact in self._hosts.items():
            if one == market:
                probe = await fact.get()
                if probe is not None and probe.server_time_ms is not None:
                    answers[host] = probe
        return answers

    async def _fetch_list(self, market: Market) -> None:
        assert self.client is not None
        found: Mapping[str, Listing] | str = "no REST host can be used"
        if hosts := tuple(await self._answers(market)):
            found = f"no answer within {_LIST_SECONDS:g} s"
            limiter = RateLimiter(market.weight_per_minute, 1.0)
            in_thread = self.surroundings.in_thread
            rest = RestMarket(self.client, market, hosts, limiter, ExchangeClock(), in_thread)
            with trio.move_on_after(_LIST_SECONDS):
                try:
                    found = await rest.listings()
                except UnavailableError as error:
                    found = str(error)
        self._lists[market].settle(found)

    async def _probe_archive(self) -> None:
        """Request the checksum of a file that should be published: of a busy symbol, last week."""
        now_ms = round(self.surroundings.wall_clock() * 1_000)
        for market in self._markets:
            for probe in (await self._answers(market)).values():
                now_ms = probe.server_time_ms or now_ms
        market = self._markets[0]
        day_ms = (now_ms // _DAY_MS - _ARCHIVED_DAYS) * _DAY_MS
        series = Series(market.trade_type, market.busy_symbol, "1m")
        file = next(archive_files(series, Span(day_ms, day_ms + _DAY_MS), now_ms))
        self._archive.settle(await self._get(f"{self.config.archive}/{file.path}.CHECKSUM"))

    # Checks

    def checks(self) -> Iterator[Check]:
        """Give the checks in the order of their lines."""
        store = str(self.config.store.path)
        yield Check("config", str(self.path), self._check_config)
        yield Check("disk", store, self._check_disk)
        yield Check("lock", store, self._check_recorder)
        if self._markets:
            yield Check("dns", "all hosts", self._check_names)
            yield Check("proxy", "all hosts", self._check_proxies)
        for target in self._reached:
            yield Check("connect", str(target), partial(self._check_connection, target))
        for market, url in self._routes:
            yield Check("route", url, partial(self._check_route, market, url))
        for market, host in self._hosts:
            yield Check("rest", host, partial(self._check_host, market, host))
        for market in self._markets:
            yield Check("clock", market.trade_type, partial(self._check_clock, market))
        if self._markets:
            yield Check("archive", self.config.archive, self._check_archive)
        for market in self._lists:
            yield Check("symbols", market.trade_type, partial(self._check_symbols, market))
        yield Check("files", "open files", self._check_files)
        yield Check("space", store, self._check_space)
        yield Check("layout", store, self._check_layout)
        if self.config.lake.url is not None:
            yield Check("lake", str(self.config.lake.url), self._check_lake)

    async def _check_config(self) -> Sequence[Finding]:
        return judge_config(self.path, self.config, self.problems)

    async def _check_disk(self) -> Sequence[Finding]:
        report = await self._store.get()
        if isinstance(report, str):
            return [disk_fault(self.config.store.path, report)]
        return [judge_disk(report.disk)]

    async def _check_recorder(self) -> Sequence[Finding]:
        report = await self._store.get()
        now_ms = self.surroundings.wall_clock() * 1_000
        return () if isinstance(report, str) else judge_recorder(report, now_ms)

    async def _check_names(self) -> Sequence[Finding]:
        """Return a finding for each name, though it may have several ports."""
        found: dict[Finding, None] = {}
        for target, fact in self._reached.items():
            one = await fact.get()
            found |= dict.fromkeys(softened(judge_name(one), await self._relief(target, one)))
        return list(found)

    async def _check_proxies(self) -> Sequence[Finding]:
        return judge_proxies([await fact.get() for fact in self._reached.values()])

    async def _check_connection(self, target: Target) -> Sequence[Finding]:
        one = await self._reached[target].get()
        return softened(judge_connection(one), await self._relief(target, one))

    async def _check_route(self, market: Market, url: str) -> Sequence[Finding]:
        probe = await self._routes[market, url].get()
        if probe is None:
            return ()
        is_done = probe.first_frame_seconds is not None or await self._has_route(market)
        return softened([judge_route(probe, market)], _OTHER_HOST if is_done else "")

    async def _check_host(self, market: Market, host: str) -> Sequence[Finding]:
        probe = await self._hosts[market, host].get()
        if probe is None:
            return ()
        is_done = await self._answers(market)
        return softened([judge_host(probe, market, host)], _OTHER_HOST if is_done else "")

    async def _check_clock(self, market: Market) -> Sequence[Finding]:
        answers = await self._answers(market)
        return judge_clock(next(iter(answers.values())), market.trade_type) if answers else ()

    async def _check_archive(self) -> Sequence[Finding]:
        probe = await self._archive.get()
        return () if probe is None else [judge_archive(probe, self.config.archive)]

    async def _check_symbols(self, market: Market) -> Sequence[Finding]:
        name, listed = market.trade_type, await self._lists[market].get()
        if isinstance(listed, str):
            return [judge_list(name, listed)]
        return judge_symbols(name, self.config.streams, self.config.patterns, listed)

    async def _check_files(self) -> Sequence[Finding]:
        limit = self.surroundings.open_files()
        return [judge_files(limit, await self._series(), self.config.connection.redundancy)]

    async def _check_space(self) -> Sequence[Finding]:
        report, series = await self._store.get(), await self._series()
        return () if isinstance(report, str) else [judge_space(report, series)]

    async def _check_layout(self) -> Sequence[Finding]:
        report, series = await self._store.get(), await self._series()
        layout = self.config.store.layout
        return () if isinstance(report, str) else [judge_layout(report, layout, series)]

    async def _check_lake(self) -> Sequence[Finding]:
        found = await self._lake.get()
        return (found,) if isinstance(found, Finding) else judge_lake(found)

    # What several checks need

    async def _series(self) -> Sequence[Series]:
        """Return the series that are recorded now. Without a list, patterns match nothing."""
        patterns = self.config.patterns
        lists = {}
        for market, fact in self._lists.items():
            if any(one.trade_type == market.trade_type for one in patterns):
                listed = await fact.get()
                if not isinstance(listed, str):
                    lists[market.trade_type] = listed
        return select_series(self.config.streams, patterns, lists)

    async def _has_route(self, market: Market) -> bool:
        """Wait until a route of the market has sent a frame, or none has."""
        for (one, _), fact in self._routes.items():
            if one == market:
                probe = await fact.get()
                if probe is not None and probe.first_frame_seconds is not None:
                    return True
        return False

    async def _relief(self, target: Target, reached: Reached) -> str:
        """Return why it does less harm that a target is not reached; empty if it does not."""
        if reached.failed is None:
            return ""
        relief = _ONLY_HISTORY
        for market, url in self._routes:
            if Target.of(url) == target:
                if not await self._has_route(market):
                    return ""
                relief = _OTHER_HOST
        for market, host in self._hosts:
            if Target.of(host) == target:
                if not await self._answers(market):
                    return ""
                relief = _OTHER_HOST
        return relief
