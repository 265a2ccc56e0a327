"""`doctor` as a whole: what it prints and returns, asks for and leaves alone."""

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from kline_trio.candle import Series
from kline_trio.commands import cli
from kline_trio.commands.doctor import _show_waiting, examine
from kline_trio.commands.examination import Check
from kline_trio.commands.finding import Finding, Verdict, summary, text_of
from kline_trio.commands.simulate import toml_of
from kline_trio.config.lake import LakeConfig
from kline_trio.exchange.markets import MARKETS
from kline_trio.exchange.probe import Reached, Target
from kline_trio.simulator.exchange import Exchange
from kline_trio.simulator.server import Endpoints, open_exchange
from kline_trio.storage.step import Step
from tests.builders import SPOT, START_MS, USDT, patterns
from tests.commands.examined import (
    FUTURE,
    NOW_MS,
    PATH,
    World,
    at_once,
    deliver,
    of,
)
from tests.fakes import Peer, silence
from tests.storage.support import everything_under, open_store, run_python

# Without faults


async def test_without_faults_every_line_is_ok_and_in_its_order(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    found = await world.examine()
    assert [text_of(one) for one in found if one.check != "disk"] == [
        f"{line[:8]} {line[8:17]}{line[17:]}".replace("DATA", str(world.config.store.path))
        for line in (
            "ok      config   recorder.toml: good, 1 series",
            "ok      lock     DATA: free: no recorder has run there",
            "ok      dns      stream.binance.com: 1 address",
            "ok      dns      api.binance.com: 1 address",
            "ok      dns      data.binance.vision: 1 address",
            "ok      proxy    none: all connections are direct",
            "ok      tls      stream.binance.com:9443: certificate accepted, 0.10 s",
            "ok      tls      api.binance.com:443: certificate accepted, 0.10 s",
            "ok      tls      data.binance.vision:443: certificate accepted, 0.10 s",
            (
                "ok      route    spot wss://stream.binance.com:9443/stream: first frame of"
                " btcusdt@kline_1m after 0.3 s"
            ),
            (
                "ok      rest     spot https://api.binance.com: answers in 0.00 s; this address has"
                " used 12 of 6,000 weight in this minute"
            ),
            (
                "ok      clock    spot: the local clock is 0.00 s behind the exchange's, give or"
                " take 0.00 s"
            ),
            (
                "ok      archive  https://data.binance.vision: publishes"
                " BTCUSDT-1m-2023-11-06.zip.CHECKSUM"
            ),
            "ok      symbols  spot: 1 symbol in 1 series, all listed",
            "ok      files    open files: 1,024 allowed; 1 connection and the store need up to 66",
            f"ok      space    DATA: {found[-2].message}",
            (
                "ok      layout   {trade_type}_{symbol}_{time_interval}.pqt: 1 series below an"
                " hour, in one file each"
            ),
        )
    ]
    assert summary(found) == "18 ok, 0 warnings, 0 errors"
    assert not any(one.advice for one in found)


async def test_it_asks_for_little_and_only_of_the_markets_in_use(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    await world.examine()
    archived = "BTCUSDT-1m-2023-11-06.zip.CHECKSUM"
    path = f"/data/spot/daily/klines/BTCUSDT/1m/{archived}"
    assert sorted(world.asked) == sorted(["/api/v3/time", "/api/v3/exchangeInfo", path])
    [peer] = world.exchange.peers
    assert peer.url == MARKETS["spot"].websocket


async def test_each_market_in_use_and_each_url_is_tried_once(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    async def busy(peer: Peer) -> None:
        is_coin = "dstream" in peer.url
        is_spot = "/spare" in peer.url or "stream.binance.com:9443" in peer.url
        busy = Series("coin_futures", "BTCUSD_PERP", "1m") if is_coin else FUTURE
        await deliver(peer, SPOT if is_spot else busy)

    spot = world.config.endpoints["spot"]
    spot = attrs.evolve(spot, websocket=(*spot.websocket, "wss://other.test/spare"))
    world.change(
        streams=(SPOT, USDT), patterns=patterns('[streams.coin_futures]\n3m = ["BTC*"]'),
        endpoints={**world.config.endpoints, "spot": spot},
    )  # fmt: skip
    world.script = busy
    found = await world.examine()
    assert summary(found).endswith("0 warnings, 0 errors")
    assert len(of("route", found)) == len(world.exchange.peers) == 4
    assert world.asked.count("/fapi/v1/time") == world.asked.count("/dapi/v1/exchangeInfo") == 1
    [files] = of("files", found)
    assert "3 connections" in files.message


async def test_nothing_is_written_beside_a_store_or_without_one(
    autojump_clock: trio.testing.MockClock, world: World, tmp_path: Path
) -> None:
    await world.examine()
    assert everything_under(tmp_path) == {}
    store = open_store(world.config.store.path)
    store.journal.beat(os.getpid(), {}, NOW_MS)
    before = everything_under(tmp_path)
    await world.examine()
    assert everything_under(tmp_path) == before
    store.close()


async def test_lines_come_as_they_become_known_and_the_rest_is_waited_for(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    seen: list[tuple[float, str]] = []
    waiting: list[tuple[float, str]] = []
    began = trio.current_time()

    def show(finding: Finding) -> None:
        seen.append((round(trio.current_time() - began, 1), finding.check))

    def show_waiting(checks: Sequence[Check]) -> None:
        names = " ".join(one.name for one in checks)
        waiting.append((round(trio.current_time() - began, 1), names))

    world.script = silence
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.exchange.serve)
        await examine(world.config, PATH, world.surroundings, show, show_waiting)
        nursery.cancel_scope.cancel()
    assert seen[:3] == [(0.0, "config"), (0.0, "disk"), (0.0, "lock")]
    assert seen[3] == (0.1, "dns")
    assert [one for _, one in seen][-7:] == [
        "rest", "clock", "archive", "symbols", "files", "space", "layout",
    ]  # fmt: skip
    assert seen[-1][0] == 15.1
    assert waiting[0][1].startswith("config disk lock dns proxy connect connect connect route rest")
    assert (0.1, "route") in waiting
    assert waiting[-1] == (15.1, "")


async def test_it_ends_within_40_seconds_whatever_happens(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    async def never(_: Target) -> Reached:
        await trio.sleep_forever()
        raise AssertionError

    world.replace(reach=never)
    began = trio.current_time()
    faults = await world.faults()
    assert trio.current_time() - began == 40
    assert {one.message for one in faults} == {"no result within 40 s"}
    assert {one.verdict for one in faults} == {Verdict.ERROR}
    assert [one.check for one in faults][:5] == ["dns", "proxy", "connect", "connect", "connect"]


# The command


def run(*words: object) -> Callable[[], int]:
    return partial(cli.main, ["doctor", *map(str, words)])


STREAMS = '[streams.spot]\n1m = ["BTCUSDT"]\n\n[streams.coin_futures]\n3m = ["BTCUSD_PERP"]\n\n'


def write(folder: Path, served: Endpoints, streams: str = STREAMS) -> Path:
    path = folder / "recorder.toml"
    path.write_text(streams + toml_of(served), encoding="utf-8")
    return path


async def test_beside_the_built_in_exchange_the_clock_is_the_only_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its time is weeks or years away."""
    async with open_exchange(Exchange(start_ms=START_MS)) as served:
        path = write(tmp_path, served)
        assert await trio.to_thread.run_sync(run(path)) == 0
        told = capsys.readouterr()
        assert await trio.to_thread.run_sync(run(path, "--json")) == 0
        found = json.loads(capsys.readouterr().out)
    assert told.err == ""
    lines = [line for line in told.out.splitlines() if not line.startswith(("ok ", " "))]
    assert [line.partition(": ")[0] for line in lines] == [
        "warning  clock    spot", "warning  clock    coin_futures",
        "16 ok, 2 warnings, 0 errors",
    ]  # fmt: skip
    assert told.out.count("set the clock by NTP") == 1, "the same advice is not repeated"
    assert len(found) == 18
    assert all(list(one) == ["check", "subject", "verdict", "message", "advice"] for one in found)
    assert {one["verdict"] for one in found} == {"ok", "warning"}
    assert [*everything_under(tmp_path)] == [path]


async def test_an_error_makes_the_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_exchange(Exchange()) as served:
        path = write(tmp_path, served, '[streams.spot]\n1m = ["BTCUSDX"]\n\n')
        assert await trio.to_thread.run_sync(run(path)) == 1
        assert capsys.readouterr().out.endswith("11 ok, 1 warning, 1 error\n")
        assert await trio.to_thread.run_sync(run(path, "--json")) == 1


def test_a_file_that_cannot_be_read_is_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recorder.toml"
    path.write_text('[streams.spot]\n1x = ["BTCUSDT"]\n[stor]\n', encoding="utf-8")
    assert cli.main(["record", str(path), "--check"]) == 2
    checked = capsys.readouterr().err
    assert run(path)() == 2
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", checked)
    assert run(path, "--json")() == 2
    told = capsys.readouterr()
    assert told.err == checked
    assert [one["message"] for one in json.loads(told.out)] == checked.splitlines()
    assert {one["check"] for one in json.loads(told.out)} == {"config"}


def test_the_help_says_what_each_status_means(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        run("--help")()
    words = " ".join(capsys.readouterr().out.split())
    assert "0 if nothing is worse than a warning, 1 if there is an error, 2 if" in words


def test_progress_names_what_is_waited_for() -> None:
    checks = [Check("route", "wss://one", list), Check("rest", "https://two", list)]  # type: ignore[arg-type]
    steps: list[Step] = []
    for waiting in (checks, checks[:1], []):
        _show_waiting(steps.append, waiting)
    assert steps == [
        Step("waiting for route wss://one, and 1 more"),
        Step("waiting for route wss://one"),
    ]


def test_it_loads_neither_pandas_nor_pyarrow(tmp_path: Path) -> None:
    """Half a second and 40 MB, for nothing."""
    path = tmp_path / "recorder.toml"
    path.write_text('[streams.spot]\n1m = ["BTCUSDT"]\n[connection]\nca_file = "none"\n')
    open_store(tmp_path / "data").close()
    code = (
        "import sys\n"
        "from kline_trio.commands.cli import main\n"
        "assert main(['doctor', sys.argv[1]]) == 1\n"
        "print([name for name in ('pandas', 'pyarrow') if name in sys.modules])"
    )
    assert run_python(code, path).stdout.splitlines()[-1] == "[]"


# The lake


async def test_a_lake_is_examined_if_there_is_one(
    autojump_clock: trio.testing.MockClock, world: World, tmp_path: Path
) -> None:
    assert of("lake", await world.examine()) == []
    lake = tmp_path / "lake"
    world.change(lake=LakeConfig(url=lake))
    [finding] = of("lake", await world.examine())
    assert text_of(finding) == f"ok       lake     {lake}: the first publication makes this folder"
    assert not lake.exists()


async def test_a_lake_that_does_not_answer_is_an_error_in_time(
    autojump_clock: trio.testing.MockClock, world: World
) -> None:
    async def hang_on_the_lake(job: Callable[..., object], *arguments: object) -> object:
        if isinstance(job, partial):
            await trio.sleep_forever()
        return await at_once(job, *arguments)

    world.change(lake=LakeConfig(url="s3://bucket/klines"))
    world.replace(in_thread=hang_on_the_lake)
    [finding] = of("lake", await world.examine())
    assert finding.verdict is Verdict.ERROR
    assert finding.message.startswith("no answer within 30 s; the recorder goes on")
