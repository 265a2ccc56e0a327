"""Pruning as a recorder does it, with the process that reads back, and by the command."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from deltalake import DeltaTable

import kline_trio
from kline_trio.commands.cli import main
from kline_trio.config.lake import LakeConfig
from kline_trio.errors import DiskFullError
from kline_trio.interval import DAY_MS
from kline_trio.lake.location import Location
from kline_trio.lake.merge import moment
from kline_trio.recorder.environment import SerialExecutor, Storage
from kline_trio.recorder.lake_process import PublishError
from kline_trio.recorder.publisher import Publisher
from kline_trio.recorder.upkeep import Months, Upkeep
from kline_trio.storage.catalog import stored_table
from kline_trio.storage.journal.ledger import Reason, SeriesAccount
from kline_trio.storage.journal.pruned import Pruned
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.journal.writer import Journal
from kline_trio.storage.paths import journal_path
from kline_trio.storage.step import Step
from kline_trio.storage.store import Store
from tests.lake.filling import lake_in, publish_store
from tests.storage.support import BTC, absent, at, merge_all, minutes, open_store, span

Captured = pytest.CaptureFixture[str]
FIRST, MONTH_ENDS, LAST = 1_430, 1_440, 1_460


@attrs.frozen(eq=False)
class Lab:
    """A published store with ten minutes of January and twenty of February."""

    store: Store
    lake: LakeConfig

    @property
    def location(self) -> Location:
        return Location.from_config(self.lake)

    def publisher(self, **changes: Any) -> Publisher:  # noqa: ANN401
        commits, merges = (SerialExecutor(trio.to_thread.run_sync) for _ in range(2))
        lake = attrs.evolve(self.lake, **changes)
        return Publisher(Storage(self.store, commits, merges), lake)

    def held(self) -> list[int]:
        return held(self.store.path)

    def pruned(self) -> list[Pruned]:
        return pruned(self.store.path)

    def delete_candles(self, condition: str = "true") -> None:
        DeltaTable(self.location.table_url("candles")).delete(condition)


def held(path: Path) -> list[int]:
    table = stored_table(path, BTC)
    return [] if table is None else [one.value for one in table["candle_begin_time"]]


def pruned(path: Path) -> list[Pruned]:
    with journal_view(path) as journal:
        return journal.pruned()


def fill(folder: Path, lake: Path) -> Store:
    store = open_store(folder)
    store.journal.settle([], {BTC: SeriesAccount(at(FIRST), at(LAST))})
    store.journal.accept(minutes(FIRST, LAST))
    store.journal.beat(None, {"spot": at(MONTH_ENDS) + 2 * DAY_MS}, 0)
    merge_all(store)
    publish_store(store, lake_in(lake))
    return store


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with closing(fill(tmp_path / "data", tmp_path / "lake")) as store:
        yield Lab(store, LakeConfig(url=tmp_path / "lake", prune_after=86_400.0))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a recorder that is stopped."""
    fill(tmp_path / "data", tmp_path / "lake").close()
    text = '[streams.spot]\n1m = ["BTCUSDT"]\n[lake]\nurl = "lake"\nprune_after = "1d"\n'
    (tmp_path / "recorder.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


JANUARY = span(FIRST, MONTH_ENDS)
FEBRUARY: Sequence[int] = [at(n) for n in range(MONTH_ENDS, LAST)]


async def test_a_month_that_was_read_back_is_removed(lab: Lab) -> None:
    publisher = lab.publisher()
    await publisher.look_after(compact=False)
    assert lab.held() == FEBRUARY
    [month] = lab.pruned()
    assert (month.series, month.rows) == (BTC, 10)
    assert publisher.statistics().pruned == 10
    assert publisher.statistics().lacking == ()
    with journal_view(lab.store.path) as journal:
        [address] = journal.lake_addresses().values()
    assert LakeConfig.from_address(json.loads(address)).url == lab.lake.url


async def test_nothing_is_removed_without_being_asked(lab: Lab) -> None:
    await lab.publisher(prune_after=None).look_after(compact=True)
    assert len(lab.held()) == 30
    assert lab.pruned() == []


async def test_the_second_time_there_is_nothing_to_do(lab: Lab) -> None:
    await lab.publisher().look_after(compact=True)
    before = lab.pruned()
    await lab.publisher().look_after(compact=True)
    assert (lab.pruned(), lab.held()) == (before, FEBRUARY)


async def test_a_lake_that_lacks_a_candle_keeps_the_month_here(lab: Lab) -> None:
    first = moment(datetime.fromtimestamp(at(FIRST) / 1_000, UTC))
    lab.delete_candles(f"candle_begin_time = {first}")
    publisher = lab.publisher()
    await publisher.look_after(compact=False)
    assert (len(lab.held()), lab.pruned()) == (30, [])
    assert dict(publisher.upkeep.kept) == {"has 1 candle that the lake lacks": 1}


async def test_a_lake_that_lacks_a_pruned_month_later_is_named(lab: Lab) -> None:
    publisher = lab.publisher()
    await publisher.look_after(compact=False)
    lab.delete_candles("month = '2024-01'")
    await publisher.look_after(compact=False)
    [text] = publisher.statistics().lacking
    assert "BTCUSDT-1m of 2024-01: 10 candles are gone, which were removed here" in text


async def test_a_candle_that_comes_during_the_reading_keeps_the_month_here(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = lab.publisher()
    into_journal = Upkeep._into_journal

    async def late(upkeep: Upkeep, months: Months) -> Months:
        lab.store.journal.accept(minutes(FIRST + 3, FIRST + 4, 9.0))
        return await into_journal(upkeep, months)

    monkeypatch.setattr(Upkeep, "_into_journal", late)
    await publisher.look_after(compact=False)
    assert (len(lab.held()), lab.pruned()) == (30, [])


async def test_a_kill_after_the_journal_loses_nothing(lab: Lab) -> None:
    publisher = lab.publisher()

    def on_step(step: Step) -> None:
        if step.what.startswith("removing"):
            scope.cancel()

    with trio.CancelScope() as scope:
        await publisher.look_after(compact=False, on_step=on_step)
    assert scope.cancelled_caught
    assert (len(lab.held()), len(lab.pruned())) == (30, 1)
    await lab.publisher().look_after(compact=False)
    assert (lab.held(), len(lab.pruned())) == (FEBRUARY, 1)


@pytest.mark.parametrize("method", ["prune", "list_pruned"])
async def test_a_full_disk_is_waited_for(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr("kline_trio.recorder.disk_space.RETRY_SECONDS", 0.01)
    real, tried = getattr(Journal, method), 0

    def full_at_first(journal: Journal, *arguments: Any) -> Any:  # noqa: ANN401
        nonlocal tried
        tried += 1
        if tried == 1:
            raise DiskFullError("no space left")
        return real(journal, *arguments)

    monkeypatch.setattr(Journal, method, full_at_first)
    await lab.publisher().look_after(compact=False)
    assert (lab.held(), len(lab.pruned()), tried) == (FEBRUARY, 1, 2)
    assert not lab.store.changed_files(lab.store.journal.files())


async def test_candles_that_were_not_due_can_be_asked_for_after_the_pruning(lab: Lab) -> None:
    """`since` went back, or `backfill` asked for them."""
    await lab.publisher().look_after(compact=False)
    assert [one.span for one in lab.pruned()] == [JANUARY]
    journal, past = lab.store.journal, absent(0, FIRST, reason=Reason.NOT_CONFIGURED)
    journal.settle([past], {BTC: SeriesAccount(at(0), at(LAST))})
    assert journal.pending_gaps([BTC]) == (past,)
    journal.accept(minutes(0, FIRST))
    merge_all(lab.store)
    publish_store(lab.store, lab.location)
    await lab.publisher().look_after(compact=False)
    [month] = lab.pruned()
    assert (month.span, month.rows) == (span(0, MONTH_ENDS), MONTH_ENDS)
    assert lab.held() == FEBRUARY
    assert len(kline_trio.read(lab.store.path, "spot", "BTCUSDT", "1m", lake=True)) == LAST


async def test_a_retired_series_can_be_recorded_again(lab: Lab) -> None:
    ends = MONTH_ENDS - 4
    lab.store.journal.settle([], {BTC: SeriesAccount(at(FIRST), at(ends), at(ends))})
    publish_store(lab.store, lab.location)
    await lab.publisher().look_after(compact=False)
    assert [one.span for one in lab.pruned()] == [span(FIRST, ends)]
    since = absent(ends, LAST, reason=Reason.NOT_CONFIGURED)
    lab.store.journal.settle([since], {BTC: SeriesAccount(at(FIRST), at(LAST))})
    assert lab.store.journal.pending_gaps([BTC]) == (since,)


async def test_a_late_candle_of_a_pruned_month_goes_too(lab: Lab) -> None:
    await lab.publisher().look_after(compact=False)
    lab.store.journal.accept(minutes(FIRST + 3, FIRST + 4, 9.0))
    merge_all(lab.store)
    publish_store(lab.store, lab.location)
    publisher = lab.publisher()
    await publisher.look_after(compact=False)
    assert (dict(publisher.upkeep.kept), lab.held()) == ({}, FEBRUARY)
    assert [one.rows for one in lab.pruned()] == [10]


async def test_a_late_candle_does_not_make_a_loss_forgotten(lab: Lab) -> None:
    await lab.publisher().look_after(compact=False)
    lab.delete_candles("month = '2024-01'")
    lab.store.journal.accept(minutes(FIRST + 3, FIRST + 4, 9.0))
    merge_all(lab.store)
    publish_store(lab.store, lab.location)
    publisher = lab.publisher()
    await publisher.look_after(compact=False)
    why = "was removed here before, and the lake lacks 9 candles"
    assert dict(publisher.upkeep.kept) == {why: 1}
    assert [one.rows for one in lab.pruned()] == [10]
    assert len(lab.held()) == 21


async def test_a_lake_that_has_moved_is_read_where_it_is(lab: Lab, tmp_path: Path) -> None:
    await lab.publisher().look_after(compact=False)
    (tmp_path / "lake").rename(tmp_path / "elsewhere")
    publisher = lab.publisher(url=tmp_path / "elsewhere")
    await publisher.publish()
    await publisher.look_after(compact=False)
    assert publisher.statistics().lacking == ()
    assert len(kline_trio.read(lab.store.path, "spot", "BTCUSDT", "1m", lake=True)) == 30


async def test_a_lake_that_is_gone_removes_nothing(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "lake").rename(tmp_path / "elsewhere")
    publisher = lab.publisher()
    with pytest.raises(PublishError, match="there is no lake yet"):
        await publisher.look_after(compact=False)
    assert (len(lab.held()), lab.pruned()) == (30, [])
    assert publisher.statistics().upkeep_problem is not None


async def test_a_publication_is_followed_by_the_upkeep(lab: Lab) -> None:
    publisher = lab.publisher(publish_seconds=10.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.run)
        last = publisher.ask_upkeep()
        while not publisher.upkeeps:
            await publisher.news.event.wait()
        nursery.cancel_scope.cancel()
    assert publisher.ended >= last
    assert lab.held() == FEBRUARY


def test_a_dry_run_names_the_months_and_changes_nothing(folder: Path, capsys: Captured) -> None:
    before = journal_path(folder / "data").read_bytes()
    assert main(["prune", "recorder.toml", "--dry-run"]) == 0
    assert "would remove 2024-01 spot 1m: 1 series, 10 candles\n" in capsys.readouterr().out
    assert len(held(folder / "data")) == 30
    assert journal_path(folder / "data").read_bytes() == before


def test_a_dry_run_names_what_would_stay(folder: Path, capsys: Captured) -> None:
    DeltaTable(str(folder / "lake" / "accounts")).delete()
    assert main(["prune", "recorder.toml", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "would stay: 1 month of a series: is not accounted for in the lake\n" in out


def test_a_dry_run_names_what_the_lake_lacks_by_now(folder: Path, capsys: Captured) -> None:
    assert main(["prune", "recorder.toml"]) == 0
    DeltaTable(str(folder / "lake" / "candles")).delete("month = '2024-01'")
    assert main(["prune", "recorder.toml", "--dry-run"]) == 0
    assert "10 candles are gone, which were removed here" in capsys.readouterr().out


def test_the_command_prunes_a_store(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert main(["prune", "recorder.toml"]) == 0
    assert "removed 10 candles here that the lake has" in caplog.text
    assert held(folder / "data") == FEBRUARY
    assert main(["prune", "recorder.toml"]) == 0
    assert "done: nothing was removed" in caplog.text


def test_without_prune_after_the_command_says_what_to_do(folder: Path, capsys: Captured) -> None:
    text = (folder / "recorder.toml").read_text(encoding="utf-8")
    text = text.replace('prune_after = "1d"\n', "")
    (folder / "recorder.toml").write_text(text, encoding="utf-8")
    assert main(["prune", "recorder.toml"]) == 2
    assert 'prune_after = "90d" under [lake]' in capsys.readouterr().err


def test_a_journal_of_before_has_no_pruned_months(folder: Path) -> None:
    path = journal_path(folder / "data")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "DROP TABLE pruned; DROP TABLE lake_address; PRAGMA user_version = 5"
        )
    assert pruned(folder / "data") == []
    Store.open(folder / "data", None).close()
    assert pruned(folder / "data") == []
