"""The process that publishes, played by small programs: what the recorder keeps and logs."""

import logging
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs
import psutil
import pytest
import trio
import trio.testing

from kline_trio.candle import Candle, ReceivedCandle, Series
from kline_trio.config.lake import LakeConfig
from kline_trio.interval import Span
from kline_trio.recorder.environment import SerialExecutor, Storage
from kline_trio.recorder.lake_process import PublishError
from kline_trio.recorder.publisher import Publisher, retry_seconds
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.store import Store
from tests.builders import SPOT, START_MS, minute

BEGIN = """
import json, sys
request = json.loads(sys.stdin.readline())
def say(**answer):
    print(json.dumps(answer), flush=True)
def span(first, last, sequence, left=0):
    rows = [["spot", "BTCUSDT", "1m", START + first * 60_000, START + last * 60_000]]
    say(part={"spans": rows, "sequence": sequence, "rows": last - first, "inserted": last - first,
              "updated": 0, "left": left})
say(lake="lake-1")
assert sys.stdin.readline()
"""


def program(script: str, begin: str = BEGIN) -> Sequence[str]:
    """The command of a program that answers as the one that publishes."""
    return (sys.executable, "-c", f"START = {START_MS}\n{begin}\n{script}")


@attrs.frozen(eq=False)
class Lab:
    """A store of ten candles, and a publisher that runs a program."""

    storage: Storage
    lake: LakeConfig

    def publisher(self, command: Sequence[str], memory_mb: int = 512) -> Publisher:
        return Publisher(
            self.storage, attrs.evolve(self.lake, memory_mb=memory_mb), command=command
        )

    def unpublished(self) -> dict[Series, tuple[Span, ...]]:
        with journal_view(self.storage.store.path) as journal:
            return dict(journal.unpublished().spans)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    store = Store.open(tmp_path / "data", None)
    store.journal.accept([received(number) for number in range(10)])
    commits, merges = (SerialExecutor(trio.to_thread.run_sync) for _ in range(2))
    yield Lab(Storage(store, commits, merges), LakeConfig(url=tmp_path / "lake"))
    store.close()


def received(number: int, close: float = 2.0) -> ReceivedCandle:
    candle = Candle(minute(number), 1.0, 3.0, 1.0, close, 5.0, 10.0, 7, 2.0, 4.0)
    return ReceivedCandle(SPOT, candle, datetime.now(UTC))


def minutes(first: int, last: int) -> Span:
    return Span(minute(first), minute(last))


async def test_what_was_published_is_unpublished_no_more(lab: Lab) -> None:
    publisher = lab.publisher(program("span(0, 10, 11); say(done=11)"))
    await publisher.publish()
    assert lab.unpublished() == {}
    found = publisher.statistics()
    assert (found.publications, found.rows, found.inserted, found.problem) == (1, 10, 10, None)


async def test_a_candle_that_comes_meanwhile_stays_unpublished(lab: Lab) -> None:
    publisher = lab.publisher(program("span(0, 10, 11); say(done=11)"))
    journal = lab.storage.store.journal
    await publisher.publish(lambda: journal.accept([received(10), received(3, close=2.5)]))
    assert lab.unpublished() == {SPOT: (minutes(3, 4), minutes(10, 11))}


async def test_a_crash_in_the_middle_keeps_what_was_published(lab: Lab) -> None:
    script = "span(0, 4, 11, left=6); import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    publisher = lab.publisher(program(script))
    with pytest.raises(PublishError, match=r"killed by signal 9"):
        await publisher.publish()
    assert publisher.statistics().problem == "the process of the lake was killed by signal 9"
    [span] = [one for one in lab.unpublished()[SPOT] if one.from_ms >= minute(0)]
    assert span.from_ms == minute(4)
    assert publisher.statistics().left is None


async def test_the_last_words_of_a_crash_are_in_the_error(lab: Lab) -> None:
    publisher = lab.publisher(program("raise ValueError('out of luck')"))
    with pytest.raises(PublishError, match=r"ended with status 1: .*ValueError: out of luck"):
        await publisher.publish()


async def test_a_failure_that_the_process_names_is_the_error(lab: Lab) -> None:
    begin = BEGIN.split("say(lake")[0]
    publisher = lab.publisher(program("say(failed='denied', text='HTTP 403')", begin=begin))
    with pytest.raises(PublishError, match=r"^HTTP 403$"):
        await publisher.publish()
    assert lab.storage.store.journal.lake is None


async def test_another_lake_lacks_everything(lab: Lab) -> None:
    await lab.publisher(program("span(0, 10, 11); say(done=11)")).publish()
    other = program("span(0, 1, 0); say(done=0)", BEGIN.replace("lake-1", "lake-2"))
    await lab.publisher(other).publish()
    assert list(lab.unpublished()) == [SPOT]


async def test_a_process_that_needs_too_much_memory_is_ended_and_gets_smaller_commits(
    lab: Lab,
) -> None:
    script = "held = bytearray(400_000_000); import time; time.sleep(60)"
    publisher = lab.publisher(program(script), memory_mb=256)
    with pytest.raises(PublishError, match=r"used [0-9]+ MB of memory, where 256 MB are allowed"):
        await publisher.publish()
    begin = BEGIN.split("say(lake")[0]
    small = "say(failed='bug', text=str(request['most_rows']))"
    publisher.command = program(small, begin)
    with pytest.raises(PublishError, match=r"^125000$"):
        await publisher.publish()


def test_each_retry_waits_twice_as_long_also_after_weeks() -> None:
    waits = [retry_seconds(failures, 3_600.0) for failures in (1, 2, 3, 6, 7, 100_000)]
    assert waits == [60.0, 120.0, 240.0, 1_920.0, 3_600.0, 3_600.0]


async def test_no_process_is_left_after_a_cancel(lab: Lab, tmp_path: Path) -> None:
    script = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
    publisher = lab.publisher(program(f"{script}span(0, 4, 11)\ntime.sleep(60)"))
    with trio.CancelScope() as scope:
        await publisher.publish(scope.cancel)
    assert scope.cancelled_caught
    pid = await trio.Path(tmp_path / "pid").read_text(encoding="utf-8")
    assert not psutil.pid_exists(int(pid))
    # What was published is kept all the same: the job of the journal was whole.
    assert all(one.from_ms != minute(0) for one in lab.unpublished()[SPOT])


async def test_run_publishes_when_asked_and_tries_again_after_a_failure(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    begin = BEGIN.split("say(lake")[0]
    publisher = lab.publisher(program("say(failed='unreachable', text='no answer')", begin))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.run)
        for _ in range(2):
            await trio.testing.wait_all_tasks_blocked()
            await _until(publisher, publisher.ask())
        publisher.command = program("span(0, 10, 11); say(done=11)")
        await trio.testing.wait_all_tasks_blocked()
        await _until(publisher, publisher.ask())
        nursery.cancel_scope.cancel()
    lines = [one.getMessage() for one in caplog.records if one.getMessage().startswith("lake")]
    assert lines == [
        "lake: no answer; candles wait in the store",
        "lake: published 10 candles in 0 s",
        "lake: publishing goes on",
    ]


async def test_what_is_asked_for_during_an_upkeep_comes_after_it(lab: Lab) -> None:
    upkeep = """
if request["job"] == "upkeep":
    import time
    say(step={"what": "compacting"})
    time.sleep(0.5)
    say(done=0)
    sys.exit()
say(lake"""
    publisher = lab.publisher(program("say(done=11)", BEGIN.replace("\nsay(lake", upkeep)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.run)
        publisher.ask()
        with trio.fail_after(30):
            while publisher.step is None:
                await publisher.news.event.wait()
        assert not publisher.statistics().is_publishing
        await _until(publisher, publisher.ask())
        nursery.cancel_scope.cancel()
    assert publisher.upkeeps == 1


async def _until(publisher: Publisher, last: int) -> None:
    with trio.fail_after(30):
        while publisher.ended < last:
            await publisher.news.event.wait()
