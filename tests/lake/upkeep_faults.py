"""Lose, cut and refuse requests of compactions and of prunings.

`python -m tests.lake.upkeep_faults --count 1000` plays a thousand faults; a sample of it runs with
the tests. After each compaction the lake has to equal the store row for row. After each pruning,
each candle has to be here or in the lake, with the values that it had; and of a lake that lacks
something, nothing may be pruned, whatever is lost on the way.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import cycle
from pathlib import Path

import attrs
from deltalake import DeltaTable

from kline_trio.candle import Candle, Source
from kline_trio.interval import DAY_MS
from kline_trio.lake.errors import LakeError
from kline_trio.lake.location import Location
from kline_trio.lake.read_back import Found, Kept, read_back
from kline_trio.lake.upkeep import compact
from kline_trio.storage.catalog import stored_table
from kline_trio.storage.journal.ledger import FetchResult, Gap, Reason, SeriesAccount
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.store import Store
from kline_trio.storage.table import candles_of
from tests.lake.faults import (
    RECORDER,
    Case,
    all_cases,
    cases,
    change_store,
    check_lake,
    check_message,
)
from tests.lake.servers import LossyProxy, MemoryS3, Server, location_of, seaweed_server
from tests.lake.support import FIRST, begin_and_publish, lake_table, make_store, no_pause
from tests.storage.support import BTC, at, merge_all, minutes, open_store, span

_COMPACT_REQUESTS, _COMPACT_COMMITS = 110, 2
_PRUNE_REQUESTS = 44
"""About how many requests each makes."""
_CASES_A_LAKE = 8
_LATER = at(0) / 1_000 + 100 * 86_400
"""All months of the stores are over by then."""
_JANUARY = span(FIRST, 1_440)


def _delete_row(location: Location) -> None:
    _delta(location, "candles").delete("symbol = 'BTCUSDT' AND close = 5.0")


def _change_row(location: Location) -> None:
    _delta(location, "candles").update({"volume": "volume + 1"}, predicate="close = 5.0")


def _delete_gaps(location: Location) -> None:
    _delta(location, "coverage").delete("state = 'closed'")


def _delete_revisions(location: Location) -> None:
    _delta(location, "revisions").delete()


def _delete_accounts(location: Location) -> None:
    _delta(location, "accounts").delete()


_HARMS = (_delete_row, _change_row, _delete_gaps, _delete_revisions, _delete_accounts)


def _delta(location: Location, name: str) -> DeltaTable:
    return DeltaTable(location.table_url(name), storage_options=location.table_options())


@attrs.define(eq=False)
class _Prunable:
    """A store whose first month is in the lake, kept as a folder that cases copy."""

    template: Path
    location: Location
    truth: dict[int, Candle]
    is_harmed: bool

    @classmethod
    def make(
        cls, folder: Path, location: Location, harm: Callable[[Location], None] | None
    ) -> "_Prunable":
        with closing(open_store(folder)) as store:
            journal = store.journal
            journal.settle([], {BTC: SeriesAccount(at(FIRST), at(FIRST + 40))})
            journal.accept(minutes(FIRST, FIRST + 8, 4.0))
            journal.accept(minutes(FIRST + 10, FIRST + 40, 4.0))
            merge_all(store)
            journal.accept(minutes(FIRST + 2, FIRST + 3, 5.0))
            gap = Gap(BTC, span(FIRST + 8, FIRST + 10), at(FIRST + 10), Reason.RECORDER_DOWN)
            journal.settle([gap], {})
            closed = Reason.EXCHANGE_HAD_NONE
            journal.refill([FetchResult(BTC, gap.span, (), Source.REST, closed)])
            journal.beat(None, {"spot": at(0) + 90 * DAY_MS}, 0)
            merge_all(store)
            begin_and_publish(store, location, RECORDER)
            truth = _rows(store.path)
        if harm is not None:
            harm(location)
        return cls(folder, location, truth, harm is not None)

    def prune(self, store: Store) -> int:
        """Do what a recorder does; return how many months were pruned."""
        months: list[Found] = []

        def on_group(found: Sequence[Found], _: Sequence[Kept]) -> None:
            months.extend(found)

        try:
            read_back(self.location, store.path, 86_400, on_group)
        finally:
            journal = store.journal
            kept = journal.prune([one.pruned for one in months], json.dumps({}))
            here = [one.here for one in months if one.pruned in kept]
            done = store.remove_months(BTC, here, journal.files([BTC]))
            journal.list_pruned(done.written, done.removed)
        return len(kept)

    def check(self, store: Store, what: str) -> None:
        """Raise AssertionError unless each candle is here, or in the lake and known to be there."""
        here = _rows(store.path)
        with journal_view(store.path) as journal:
            pruned = [one.span for one in journal.pruned()]
        there = _lake_rows(self.location)
        for begin_ms, candle in self.truth.items():
            if begin_ms in here:
                assert here[begin_ms] == candle, what
                continue
            assert any(begin_ms in span for span in pruned), what
            assert there.get(begin_ms) == candle, what
        if self.is_harmed:
            assert not any(one == _JANUARY for one in pruned), what


def _rows(store_path: Path) -> dict[int, Candle]:
    table = stored_table(store_path, BTC)
    return {} if table is None else {one.open_time_ms: one for one in candles_of(table)}


def _lake_rows(location: Location) -> dict[int, Candle]:
    names = [field.name for field in attrs.fields(Candle)][1:]
    rows = lake_table(location).to_pylist()
    return {
        round(row["candle_begin_time"].timestamp() * 1_000): Candle(
            round(row["candle_begin_time"].timestamp() * 1_000), *(row[name] for name in names)
        )
        for row in rows
    }


@attrs.define(eq=False)
class UpkeepCampaign:
    """Lakes behind a proxy, that cases are played on one after the other."""

    folder: Path
    proxy: LossyProxy
    server: Server
    """At the endpoint of the proxy."""
    seed: int = 0
    outcomes: Counter[str] = attrs.field(init=False, factory=Counter)
    """How often each class of error ended a job."""
    played: int = attrs.field(init=False, default=0)
    _made: int = attrs.field(init=False, default=0)
    _compactions: Iterator[Case] = attrs.field(init=False)
    _prunings: Iterator[Case] = attrs.field(init=False)
    _harms: Iterator[Callable[[Location], None] | None] = attrs.field(init=False)
    _store: Store | None = attrs.field(init=False, default=None)
    _location: Location = attrs.field(init=False)
    _prunable: _Prunable | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._compactions = all_cases(self.seed, _COMPACT_REQUESTS, _COMPACT_COMMITS)
        self._prunings = cycle(cases(self.seed + 1, _PRUNE_REQUESTS))
        self._harms = cycle([None, *_HARMS])

    def play(self, count: int) -> None:
        """Play so many cases, compactions and prunings in turn.

        Raises:
          AssertionError: something was lost, doubled or removed too early.
        """
        for _ in range(count):
            if self.played % 2:
                self._play_pruning(next(self._prunings))
            else:
                self._play_compaction(next(self._compactions))
            self.played += 1

    def close(self) -> None:
        """Close the store."""
        if self._store is not None:
            self._store.close()

    def _play_compaction(self, case: Case) -> None:
        if self._store is None or self.played % (2 * _CASES_A_LAKE) == 0:
            self.close()
            self._store, self._location = make_store(self._new()), self._new_lake()
            begin_and_publish(self._store, self._location, RECORDER)
        store, location = self._store, self._location
        change_store(store, self.played // 2 % _CASES_A_LAKE)
        self.proxy.start_anew()
        begin_and_publish(store, location, RECORDER)
        self._with_fault(f"compaction, {case}", case, lambda: _compact(location))
        _compact(location)
        check_lake(store.path, location, f"compaction, {case}")

    def _play_pruning(self, case: Case) -> None:
        if self._prunable is None or self.played % _CASES_A_LAKE == 1:
            self.proxy.start_anew()
            self._prunable = _Prunable.make(self._new(), self._new_lake(), next(self._harms))
        prunable, folder = self._prunable, self._new()
        shutil.copytree(prunable.template, folder)
        with closing(Store.open(folder, None)) as store:
            what = f"pruning, {case}"
            self._with_fault(what, case, lambda: prunable.prune(store))
            prunable.check(store, what)
            prunable.prune(store)
            prunable.check(store, what)
            with journal_view(store.path) as journal:
                is_pruned = any(one.span == _JANUARY for one in journal.pruned())
            assert is_pruned is not prunable.is_harmed, what
        shutil.rmtree(folder)

    def _with_fault(self, what: str, case: Case, job: Callable[[], object]) -> None:
        self.proxy.start_anew(case.plan())
        name = what.split(",")[0]
        try:
            job()
        except LakeError as error:
            check_message(error)
            self.outcomes[f"{name}: {type(error).__name__}"] += 1
        else:
            self.outcomes[f"{name}: {'done' if self.proxy.faults else 'no fault'}"] += 1
        self.proxy.start_anew()

    def _new(self) -> Path:
        self._made += 1
        return self.folder / f"store-{self._made}"

    def _new_lake(self) -> Location:
        self._made += 1
        return location_of(self.server, f"upkeep-{self.seed}-{os.getpid()}-{self._made}")


def _compact(location: Location) -> None:
    compact(location, "test", no_pause, now=_LATER)


def main() -> None:
    """Play faults, and print what came of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.lake.upkeep_faults", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000, help="how many faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--server", choices=["memory", "seaweed"], default="memory")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        if options.server == "memory":
            server = Server(stack.enter_context(MemoryS3().running()))
        else:
            server = stack.enter_context(seaweed_server(folder))
        proxy = LossyProxy(server.endpoint)
        endpoint = stack.enter_context(proxy.running())
        campaign = UpkeepCampaign(folder / "stores", proxy, server.behind(endpoint), options.seed)
        stack.callback(campaign.close)
        began = time.monotonic()
        while campaign.played < options.count:
            campaign.play(min(50, options.count - campaign.played))
            sys.stdout.write(
                f"{campaign.played} faults in {time.monotonic() - began:.0f} s:"
                f" {dict(sorted(campaign.outcomes.items()))}\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
