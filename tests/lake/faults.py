"""Lose, cut and refuse requests of publications, and compare the lake with the store after each.

`python -m tests.lake.faults --count 1000` plays a thousand faults; a sample of it runs with the
tests. A case is one publication with one fault at its n-th request, which may last longer than the
libraries retry; then a clean publication. After it, the lake has to equal the store row for row.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain, cycle
from pathlib import Path

import attrs
from deltalake import DeltaTable

from kline_trio.lake.errors import ForeignLakeError, LakeError
from kline_trio.lake.ledgers import Ledgers, _revision_table
from kline_trio.lake.location import Location
from kline_trio.lake.schema import TABLES
from kline_trio.storage.journal.ledger import Gap, Reason
from kline_trio.storage.journal.reader import journal_view
from kline_trio.storage.store import Store
from tests.lake.lossy_proxy import every_request
from tests.lake.servers import (
    ADMIN,
    Fault,
    LossyProxy,
    MemoryS3,
    Plan,
    Server,
    is_commit,
    location_of,
    nth,
    seaweed_server,
)
from tests.lake.support import (
    FIRST,
    Row,
    begin_and_publish,
    lake_candles,
    lake_table,
    make_store,
    stored_rows,
)
from tests.storage.support import BTC, at, merge_all, minutes, span

RECORDER = "rec-a"
_ROWS = 20
"""Of a chunk: the first publication has three, so that a fault can be between two."""
_FIRST_REQUESTS, _NEXT_REQUESTS = 205, 85
"""About how many requests a publication makes: into an empty lake, and into one that is there."""
_FIRST_COMMITS, _NEXT_COMMITS = 13, 3
_TIMES = (1, 9)
"""How often a request fails: once, and more often than the libraries retry."""
_CASES_A_LINE = 50
"""Of the output."""
_CASES_A_LAKE = 12
"""Then the log is longer than the distance of two checkpoints."""


@attrs.frozen
class Case:
    """One fault at one request of a publication."""

    number: int
    fault: Fault
    times: int
    is_commit: bool = False
    """Whether commits are counted, and not requests of each kind."""

    def __str__(self) -> str:
        kind = "commit" if self.is_commit else "request"
        return f"{kind} {self.number}: {self.fault.name} {self.times}x"

    def plan(self) -> Plan:
        """Return the proxy's plan."""
        among = is_commit if self.is_commit else every_request
        return nth(self.number, self.fault, self.times, among)


def all_cases(seed: int, requests: int, commits: int) -> Iterator[Case]:
    """Yield the cases of all requests and those of the commits in turn, without end."""
    while True:
        yield from chain.from_iterable(
            zip(cases(seed, requests), cycle(cases(seed, commits, are_commits=True)), strict=False)
        )


def cases(seed: int, requests: int, *, are_commits: bool = False) -> Iterator[Case]:
    """Yield all cases: first each request with one fault, then each with another one, and so on."""
    drawn = random.Random(seed)
    kinds = [(fault, times) for fault in Fault for times in _TIMES]
    orders = [drawn.sample(kinds, len(kinds)) for _ in range(requests)]
    for nth_pass in range(len(kinds)):
        for number in drawn.sample(range(requests), requests):
            yield Case(number, *orders[number][nth_pass], are_commits)


@attrs.define(eq=False)
class Campaign:
    """Stores, and lakes behind a proxy, that cases are played on one after the other."""

    folder: Path
    """For the stores: each lake has a new one, since a check takes longer the more there is."""
    proxy: LossyProxy
    server: Server
    """At the endpoint of the proxy."""
    seed: int = 0
    outcomes: Counter[str] = attrs.field(init=False, factory=Counter)
    """How often each class of error ended a publication."""
    slowest: tuple[float, str] = attrs.field(init=False, default=(0.0, ""))
    played: int = attrs.field(init=False, default=0)
    _lakes: int = attrs.field(init=False, default=0)
    _store: Store = attrs.field(init=False)
    _location: Location = attrs.field(init=False)
    _first: Iterator[Case] = attrs.field(init=False)
    _later: Iterator[Case] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._first = all_cases(self.seed, _FIRST_REQUESTS, _FIRST_COMMITS)
        self._later = all_cases(self.seed + 1, _NEXT_REQUESTS, _NEXT_COMMITS)

    def play(self, count: int) -> None:
        """Play so many cases.

        Raises:
          AssertionError: the lake differs from the store, or an error is not fit to be shown.
        """
        for _ in range(count):
            if self.played % _CASES_A_LAKE == 0:
                self._begin_anew()
                self._play_one(next(self._first))
            else:
                change_store(self._store, self.played % _CASES_A_LAKE)
                self._play_one(next(self._later))
            self.played += 1

    def close(self) -> None:
        """Close the store."""
        if self._lakes:
            self._store.close()

    def _play_one(self, case: Case) -> None:
        """Publish with a fault, then without one; compare the lake with the store."""
        began = time.monotonic()
        self.proxy.start_anew(case.plan())
        try:
            begin_and_publish(self._store, self._location, RECORDER, _ROWS)
        except LakeError as error:
            check_message(error)
            self.outcomes[type(error).__name__] += 1
        else:
            self.outcomes["published" if self.proxy.faults else "fault came too late"] += 1
        seconds = time.monotonic() - began
        self.slowest = max(self.slowest, (seconds, str(case)))
        self.proxy.start_anew()
        begin_and_publish(self._store, self._location, RECORDER, _ROWS)
        check_lake(self._store.path, self._location, str(case))

    def _begin_anew(self) -> None:
        self.close()
        self._lakes += 1
        name = f"campaign-{self.seed}-{os.getpid()}-{self._lakes}"
        self._store = make_store(self.folder / name)
        self._location = location_of(self.server, name)


def change_store(store: Store, number: int) -> None:
    """Accept a replaced value, two new candles and a gap; merge now and then."""
    journal, minute = store.journal, FIRST + 40 + 3 * number
    replaced = FIRST + number % 5
    journal.accept(minutes(replaced, replaced + 1, 10.0 + number))
    journal.accept(minutes(minute, minute + 2, 1.0 + number))
    gap = Gap(BTC, span(minute + 2, minute + 3), at(minute + 3), Reason.NOT_RECEIVED)
    journal.settle([gap], {})
    if number % 3 == 0:
        merge_all(store)


def check_message(error: LakeError) -> None:
    """Raise AssertionError if an error's text is not fit for a line of the log."""
    text = str(error)
    # Not of somebody else's lake: after that nobody retries.
    assert not isinstance(error, ForeignLakeError), text
    assert "\n" not in text, text
    assert len(text) < 500, text
    assert ADMIN.secret not in text, text
    assert "backtrace" not in text.lower(), text


def check_lake(store_path: Path, location: Location, what: str, recorder: str = RECORDER) -> None:
    """Raise AssertionError unless the lake holds just what the store does, in all tables."""
    found, wanted = lake_candles(location), stored_rows(store_path)
    assert found == wanted, (what, differences(found, wanted))
    with journal_view(store_path) as journal:
        ledgers = Ledgers.of(journal, store_path, recorder)
        revisions = _revision_table(recorder, journal.revisions_after(0))
        assert not journal.unpublished().spans, what
    tables = {
        "coverage": ledgers.coverage,
        "accounts": ledgers.accounts,
        "universe": ledgers.universe,
        "revisions": revisions,
    }
    for name, rows in tables.items():
        there = lake_table(location, name).select(rows.schema.names).to_pylist()
        assert sorted(map(str, there)) == sorted(map(str, rows.to_pylist())), (what, name)
    for name in TABLES:
        newest, oldest = (opened(location, name, version) for version in (None, 0))
        assert newest.metadata().id == oldest.metadata().id, (what, name)


def opened(location: Location, name: str, version: int | None) -> DeltaTable:
    """Return a table of the lake at a version; None: the newest."""
    url, options = location.table_url(name), location.table_options()
    return DeltaTable(url, version=version, storage_options=options)


def differences(found: list[Row], wanted: list[Row]) -> list[str]:
    """Return the rows that only one of them has."""
    # Times as texts: equal ones may have zones that are spelled in another way.
    texts = [
        Counter(" ".join(f"{name}={value}" for name, value in row.items()) for row in rows)
        for rows in (found, wanted)
    ]
    only_found, only_wanted = texts[0] - texts[1], texts[1] - texts[0]
    lines = [f"in the lake: {text}" for text in only_found.elements()]
    return sorted(lines + [f"in the store: {text}" for text in only_wanted.elements()])


def main() -> None:
    """Play faults, and print what came of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.lake.faults", description=__doc__)
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
        campaign = Campaign(folder / "stores", proxy, server.behind(endpoint), options.seed)
        stack.callback(campaign.close)
        began = time.monotonic()
        while campaign.played < options.count:
            campaign.play(min(_CASES_A_LINE, options.count - campaign.played))
            sys.stdout.write(
                f"{campaign.played} faults in {time.monotonic() - began:.0f} s:"
                f" {dict(campaign.outcomes)}; the slowest publication:"
                f" {campaign.slowest[0]:.1f} s, {campaign.slowest[1]}\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
