"""A running recorder and a stored one, as the interface sees them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

import attrs
import psutil
import pytest
import trio
import trio.testing

from kline_trio.candle import Series
from kline_trio.monitor.health import Health, Thresholds
from kline_trio.monitor.page.look import Present, look_at
from kline_trio.monitor.page.sources import LiveSource, StoredSource
from kline_trio.monitor.watch import Observation, Watch
from kline_trio.recorder.statistics import Statistics
from kline_trio.storage.calendar import Due
from kline_trio.storage.journal.ledger import SeriesAccount
from kline_trio.storage.paths import lock_path
from kline_trio.storage.status import Heartbeat
from tests.builders import MINUTE_MS, SPOT, START_MS
from tests.monitor.observations import market, statistics, store
from tests.monitor.page.pages import write_store
from tests.storage.support import BTC, absent, at, open_accounted

if TYPE_CHECKING:
    from kline_trio.recorder.supervisor import Recorder

NO_HEARTBEAT = Heartbeat(None, None, {})


@attrs.define
class FakeRecorder:
    """A recorder that only has statistics."""

    found: Statistics = attrs.field(factory=statistics)
    series: tuple[Series, ...] = (SPOT,)

    def statistics(self) -> Statistics:
        return self.found


def observed(found: Statistics) -> Observation:
    health = Health().after(found, Thresholds(), 0.0)
    return Observation(statistics=found, health=health, is_simulated=False)


def live(found: Statistics, looks: int = 3) -> LiveSource:
    source = LiveSource(cast("Recorder", FakeRecorder()), Path("data"), 5_000, observed(found))
    for _ in range(looks):
        source.look(observed(found))
    return source


def present(source: LiveSource | StoredSource, heartbeat: Heartbeat = NO_HEARTBEAT) -> Present:
    return source.present()(heartbeat)


async def test_what_is_due_of_a_recorder_has_been_named_or_stored() -> None:
    """The grace, and the 45 s in which a recorder names a missing candle, have passed."""
    began_ms = START_MS - 500_000
    found = present(live(statistics(markets=(market(exchange_ms=START_MS + 65_000),))))
    assert found.due == {"spot": Due(START_MS, is_live=True, began_ms=began_ms)}
    assert found.times_ms == {"spot": START_MS + 65_000}
    found = present(live(statistics(markets=(market(exchange_ms=START_MS + 64_999),))))
    assert found.due["spot"].until_ms == START_MS - MINUTE_MS


async def test_due_is_what_the_exchange_said_some_seconds_ago() -> None:
    """A recorder of a fast exchange needs some local seconds, too, to write what it found."""
    source = live(statistics(markets=(market(exchange_ms=START_MS + 65_000),)))
    for _ in range(2):
        source.look(observed(statistics(markets=(market(exchange_ms=START_MS + 10**9),))))
        assert present(source).due["spot"].until_ms == START_MS
    source.look(observed(statistics(markets=(market(exchange_ms=START_MS + 10**9),))))
    assert present(source).due["spot"].until_ms > START_MS


@pytest.mark.parametrize(
    "trouble",
    [store(full_why="No space left", full_seconds=3.0), store(committing_seconds=20.0)],
)
async def test_a_recorder_that_cannot_write_names_no_gaps(trouble: object) -> None:
    found = statistics(store=trouble)
    assert not present(live(found)).due["spot"].is_live


async def test_nothing_is_due_while_the_exchanges_time_is_unknown() -> None:
    found = present(live(statistics(markets=(market(exchange_ms=None, began_ms=None),))))
    assert (found.due, found.times_ms) == ({}, {})


async def test_the_watch_feeds_history_and_chronicle(
    autojump_clock: trio.testing.MockClock,
) -> None:
    recorder = FakeRecorder()
    watch = Watch(recorder.statistics, Thresholds())
    source = LiveSource(cast("Recorder", recorder), Path("data"), 5_000, watch.latest)
    watch.follower = source.look
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await trio.sleep(25.5)
        nursery.cancel_scope.cancel()
    assert len(source.history.samples()) == 2
    assert [str(one.kind) for one in source.chronicle.events] == ["started"]
    values = source.moment(None).values(None, None)
    assert values["sentence"] == (
        "1 series is recorded; the missing candles are not counted yet."
        " Last close 15:00:00, committed 0.4 s later."
    )
    assert (values["is_live"], values["totals"]) == (True, None)


async def test_the_overview_of_a_recorder_by_its_store(tmp_path: Path) -> None:
    written = write_store(tmp_path)
    moment = market(exchange_ms=at(60) + 70_000, last_close_ms=at(60))
    source = live(statistics(markets=(moment,)))
    source.store_path = tmp_path
    look = look_at(tmp_path, source.present(), None, with_census=False)
    written.close()
    values = source.moment(look).values(look, None)
    assert values["sentence"] == (
        "3 candles are missing and not fetched yet. Last close 01:00:00, committed 0.4 s later."
    )
    source.recorder = cast("Recorder", FakeRecorder(series=(SPOT, Series("spot", "AUSDT", "1m"))))
    sentence = source.moment(look).values(look, None)["sentence"]
    assert str(sentence).startswith("1 series has no count yet. 3 candles are missing")


async def test_nothing_is_complete_before_the_exchanges_time_is_known(tmp_path: Path) -> None:
    """After a day without a recorder the ledger of the day before looks whole."""
    written = open_accounted(tmp_path, 60)
    found = statistics(markets=(market(exchange_ms=None, began_ms=None, last_close_ms=None),))
    source = live(found)
    look = look_at(tmp_path, source.present(), None, with_census=False)
    written.close()
    assert look.totals.percent == 100.0
    assert source.moment(look).values(look, None)["sentence"] == (
        "1 series is recorded; the missing candles are not counted yet. No candle has closed yet."
    )
    assert look.until_ms is None


async def test_the_time_since_the_last_run_is_not_accounted_for_until_it_was_looked_at(
    tmp_path: Path,
) -> None:
    written = open_accounted(tmp_path, 60)
    moment = market(exchange_ms=at(600) + 65_000, began_ms=at(599), last_close_ms=at(600))
    source = live(statistics(markets=(moment,)))
    look = look_at(tmp_path, source.present(), None, with_census=False)
    assert (look.totals.due, look.totals.unaccounted) == (600, 540)
    assert "540 candles are not accounted for" in str(source.moment(look).values(look, None))
    written.journal.settle([absent(60, 599)], {BTC: SeriesAccount(at(0), at(599))})
    look = look_at(tmp_path, source.present(), look, with_census=False)
    written.close()
    assert (look.totals.unaccounted, look.totals.pending) == (0, 539)


async def test_a_second_look_reads_only_what_has_changed(tmp_path: Path) -> None:
    written = write_store(tmp_path)
    source = StoredSource(tmp_path)
    first = look_at(tmp_path, source.present(), None, with_census=True)
    again = look_at(tmp_path, source.present(), first, with_census=True)
    assert again.calendar is first.calendar
    assert again.counts is first.counts
    assert (again.version, again.events_version) == (first.version, first.events_version)
    written.journal.settle([], {SPOT: attrs.evolve(written.journal.accounts()[SPOT])})
    third = look_at(tmp_path, source.present(), again, with_census=True)
    assert third.calendar is first.calendar, "nothing of the ledger has changed"
    written.journal.settle([attrs.evolve(first.rows.gaps[0], series=Series("spot", "A", "1m"))], {})
    fourth = look_at(tmp_path, source.present(), third, with_census=True)
    written.close()
    assert len(fourth.calendar.series) == 3
    assert fourth.version != first.version
    assert fourth.events_version != first.events_version


async def test_the_version_is_another_one_if_other_candles_are_accounted_for(
    tmp_path: Path,
) -> None:
    """A recorder of another process that was killed is counted on from then, as one that ran."""
    written = open_accounted(tmp_path, 60)
    written.journal.beat(os.getpid(), {"spot": at(70)}, 940_000)
    source = StoredSource(tmp_path, lambda: psutil.Process().create_time() + 10)
    running = look_at(tmp_path, source.present(), None, with_census=True)
    written.journal.beat(None, {"spot": at(70)}, 940_000)
    killed = look_at(tmp_path, source.present(), running, with_census=True)
    written.close()
    assert (running.totals.unaccounted, killed.totals.unaccounted) == (9, 0)
    assert running.version != killed.version


def stopped(tmp_path: Path) -> StoredSource:
    return StoredSource(tmp_path, lambda: 1_000.0)


def test_a_store_is_due_up_to_its_last_heartbeat(tmp_path: Path) -> None:
    times = {"spot": (START_MS + 60_000, 5)}
    found = present(stopped(tmp_path), Heartbeat(None, 7, times))
    assert found.due == {"spot": Due(START_MS, is_live=False, heard_ms=START_MS + 60_000)}


def test_a_recorder_of_another_process_that_has_just_begun_is_not_counted_on(
    tmp_path: Path,
) -> None:
    times = {"spot": (START_MS + 60_000, 5)}
    found = present(stopped(tmp_path), Heartbeat(2**22 + 1, 7, times))
    assert found.due["spot"].heard_ms is None
    source = StoredSource(tmp_path, lambda: 10**12)
    assert present(source, Heartbeat(os.getpid(), 7, times)).due["spot"].heard_ms is not None


async def test_a_recorder_of_another_process_is_named(tmp_path: Path) -> None:
    written = write_store(tmp_path)
    written.journal.beat(os.getpid(), {"spot": at(60) + 70_000}, 940_000)
    source = stopped(tmp_path)
    look = look_at(tmp_path, source.present(), None, with_census=True)
    sentence = str(source.moment(look).values(look, None)["sentence"])
    written.close()
    assert lock_path(tmp_path).exists()
    assert sentence.startswith(f"A recorder (pid {os.getpid()}) writes here, heard 60 s ago."
                               " 3 candles are missing")  # fmt: skip
