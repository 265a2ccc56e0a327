"""What a network can do to a recorder, over real sockets: each fault in turn on a living session.

The proxies stand before all that the exchange offers, REST too, and know nothing of WebSockets.
In the end all candles are there, each once: what the stream lost has come over REST.
"""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from urllib.parse import urlsplit

import pandas as pd
import pytest

import kline_trio
from tests.end_to_end.expected import Key, expected_frame, stored_frame
from tests.end_to_end.harness import Program, Recorder, Simulated, StandIn, wait_until
from tests.fault_proxy import Door, FaultProxy, Weather

KEYS: Sequence[Key] = (
    ("spot", "BTCUSDT", "1m"),
    ("usdt_futures", "ETHUSDT", "1m"),
    ("coin_futures", "BTCUSD_PERP", "3m"),
)
PATIENCE = "connect_seconds = 2\nstall_seconds = 2\n[completeness]\nattempt_seconds = 0.5\n"

SLOW: Sequence[Weather] = (
    Weather(latency_seconds=0.1, jitter_seconds=0.1),
    Weather(slice_bytes=1),
    Weather(bytes_per_second=15_000),
)


def shut(door: Door) -> Callable[[FaultProxy], object]:
    """To shut a door, and then to cut the living connections."""

    def do(proxy: FaultProxy) -> None:
        proxy.door(door)
        proxy.cut()

    return do


BROKE = "lost: the connection broke; trying again"
NO_ANSWER = "not reached: no answer within 2 s; trying again"
Fault = tuple[Callable[[FaultProxy], object], str]
"""What a proxy is to do, and what the recorder should say of it."""

BROKEN: Sequence[Sequence[Fault]] = (
    # In each round one for each market, at the same time.
    ((FaultProxy.reset, BROKE), (FaultProxy.cut, BROKE), (FaultProxy.half_close, BROKE)),
    (
        (shut(Door.REFUSING), "not reached: all attempts to connect to"),
        (shut(Door.MUTE), NO_ANSWER),
        (shut(Door.BLACKHOLE), NO_ANSWER),
    ),
    [(FaultProxy.silence, "no data for 2 s; trying again")] * 3,
)


class Proxied:
    """An exchange behind proxies, one for each of its markets."""

    def __init__(self, exchange: StandIn | Simulated, opened: ExitStack) -> None:
        self.program, self.truth, self.archive = exchange.program, exchange.truth, exchange.archive
        self.proxies: dict[str, FaultProxy] = {}
        self.endpoints: Mapping[str, Mapping[str, str]] = {}
        for trade_type, urls in exchange.endpoints.items():
            [port] = {urlsplit(url).port for url in urls.values()}
            assert port is not None
            proxy = opened.enter_context(FaultProxy.running(port))
            self.proxies[trade_type] = proxy
            self.endpoints = {
                **self.endpoints,
                trade_type: {
                    what: url.replace(f":{port}", f":{proxy.port}") for what, url in urls.items()
                },
            }


@pytest.fixture
def proxied(either: StandIn | Simulated) -> Iterator[Proxied]:
    """Each of both exchanges in its turn, behind proxies."""
    with ExitStack() as opened:
        yield Proxied(either, opened)


def record_one_more(program: Program, keys: Sequence[Key] = KEYS) -> None:
    """Wait until one more candle of each series was recorded from its stream."""
    lines = [f"Recorded {trade_type} {symbol}-{interval}" for trade_type, symbol, interval in keys]
    wanted = {line: program.count(line) + 1 for line in lines}
    for line, times in wanted.items():
        program.wait_for(line, times=times)


def break_and_heal(program: Program, proxied: Proxied, faults: Mapping[str, Fault]) -> None:
    """Let the faults happen, each to its market, until the recorder says so; then heal them."""
    before = {name: program.count(f"{name}: {words}") for name, (_, words) in faults.items()}
    again = "{}: receiving 1 stream again after"
    heard = {name: program.count(again.format(name)) for name in faults}
    for name, (do, _) in faults.items():
        do(proxied.proxies[name])
    for name, (_, words) in faults.items():
        program.wait_for(f"{name}: {words}", times=before[name] + 1)
    for name in faults:
        proxied.proxies[name].heal()
    for name in faults:
        program.wait_for(again.format(name), times=heard[name] + 1)
    record_one_more(program)


def is_whole(frame: pd.DataFrame | None, key: Key) -> bool:
    """Whether a frame lacks no candle between its first and its last, and has none twice."""
    step = pd.Timedelta(key[2].replace("m", "min"))
    return frame is not None and set(frame.index.to_series().diff().dropna()) == {step}


def is_readable_whole(ours: Recorder, key: Key) -> bool:
    """The same of what can be read now."""
    return is_whole(ours.readable(key), key)


def test_slow_and_broken_networks_cost_no_candle(
    proxied: Proxied, recorder: Callable[..., Recorder], request: pytest.FixtureRequest
) -> None:
    """Latency, slices, throttle, reset, ends, closed doors and silence, on one living session."""
    ours = recorder(proxied, *KEYS)
    ours.configure(proxied, PATIENCE)
    with ours.running() as program:
        record_one_more(program)
        for weather in SLOW:
            for proxy in proxied.proxies.values():
                proxy.weather(weather)
            # The futures say so much a second that a close of theirs may take long to come.
            record_one_more(program, KEYS[:1])
        for proxy in proxied.proxies.values():
            proxy.heal()
        record_one_more(program)
        assert program.count("trying again") == 0, program.story()
        turn = "built_in" in request.node.name  # so that most faults meet two markets
        for faults in BROKEN:
            turned = [*faults[turn:], *faults[:turn]]
            names = [key[0] for key in KEYS]
            break_and_heal(program, proxied, dict(zip(names, turned, strict=True)))
        for key in KEYS:
            wait_until(partial(is_readable_whole, ours, key), f"{key} should be whole")
        assert program.end(signal.SIGINT) == 0, program.story()
    truth = proxied.truth()
    for key in KEYS:
        frame = stored_frame(ours.store, key)
        known = expected_frame(key[2], truth[key]).loc[frame.index[0] : frame.index[-1]]
        pd.testing.assert_frame_equal(frame, known)
        assert is_whole(frame, key)
    ledger = kline_trio.coverage(ours.store)
    assert set(ledger["state"]) == {"filled"}, ledger
