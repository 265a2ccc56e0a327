"""A command ends because it was asked to, or because its work is done; any other end is a bug."""

import argparse
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from kline_trio.commands import backfill, cli, record, simulate
from kline_trio.commands.backfill import Backfilled
from kline_trio.commands.signals import Requests, run
from kline_trio.monitor.service import Monitor


async def lose_a_cancelled() -> None:
    """As trio-websocket did: the exception leaves the scope that it belongs to."""
    lost: trio.Cancelled | None = None
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as error:
            lost = error
            raise
    assert lost is not None
    raise lost


@asynccontextmanager
async def losing(*_: object, **__: object) -> AsyncIterator[None]:
    """A resource with a nursery that swallows the lost exception, and cancels its body."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lose_a_cancelled)
        yield None


def options(seconds: float | None = None) -> argparse.Namespace:
    return argparse.Namespace(seconds=seconds, debug=False)


async def main_in_a_nursery(requests: Requests) -> None:
    async with losing():
        await requests.wait_for_stop()


async def main_itself(_: Requests) -> None:
    await lose_a_cancelled()


@pytest.mark.parametrize("main", [main_in_a_nursery, main_itself])
def test_a_lost_cancelled_is_no_end(main: object) -> None:
    """Whether a nursery swallows it or it reaches the end of the program."""
    with pytest.raises(RuntimeError, match="it ended without having been asked to"):
        run(main, options(60.0))  # type: ignore[arg-type]


@pytest.fixture
def hangup() -> Iterator[None]:
    """`record` changes what SIGHUP does before it handles it."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


async def wait_for_ever(_: Monitor) -> None:
    await trio.sleep_forever()


@pytest.mark.usefixtures("hangup")
@pytest.mark.parametrize("command", ["record", "tail", "backfill", "simulate"])
def test_a_command_whose_nursery_swallows_a_lost_cancelled_ends_with_status_70(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def fill(*_: object, **__: object) -> Backfilled:
        async with losing():
            await trio.Event().wait()
        return Backfilled(3, 5)

    path = tmp_path / "recorder.toml"
    path.write_text('[streams.spot]\n1m = ["BTCUSDT"]\n', encoding="utf-8")
    monkeypatch.setattr(record, "open_recorder", losing)
    monkeypatch.setattr(Monitor, "run", wait_for_ever)
    monkeypatch.setattr(record, "open_tail", losing)
    monkeypatch.setattr(backfill, "fill", fill)
    monkeypatch.setattr(simulate, "open_exchange", losing)
    monkeypatch.setattr(simulate, "toml_of", lambda _: "")
    words = [command] if command == "simulate" else [command, str(path)]
    assert cli.main(words) == 70
    said = capsys.readouterr().err
    assert "a bug in kline_trio: RuntimeError: it ended without having been asked to" in said


@pytest.mark.parametrize("absent", [0, None, 4])
def test_a_backfill_may_end_by_itself_only_if_nothing_is_left(
    absent: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fill(*_: object, **__: object) -> Backfilled:
        await trio.lowlevel.checkpoint()
        return Backfilled(3, absent)

    path = tmp_path / "recorder.toml"
    path.write_text('[streams.spot]\n1m = ["BTCUSDT"]\n', encoding="utf-8")
    monkeypatch.setattr(backfill, "fill", fill)
    assert cli.main(["backfill", str(path)]) == (0 if absent == 0 else 70)


def test_the_end_of_its_time_a_signal_and_done_work_are_reasons() -> None:
    async def until_stop(requests: Requests) -> None:
        await requests.wait_for_stop()

    async def interrupted(requests: Requests) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await requests.wait_for_stop()

    async def done(requests: Requests) -> None:
        await trio.lowlevel.checkpoint()
        requests.finish()

    run(until_stop, options(0.01))
    run(interrupted, options())
    run(done, options())
