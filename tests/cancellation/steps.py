"""Stop a life of the recorder at its n-th task step: every await may be the last.

The order of tasks follows from a seed, so that the n-th step of a life is always the same one.
After the stop a recorder starts anew without faults, and goes on until everything is settled.
"""

import functools
import gc
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import attrs
import trio

from kline_trio.candle import Candle, Series
from kline_trio.config import Config
from kline_trio.interval import Span
from kline_trio.recorder.supervisor import open_recorder
from kline_trio.storage.catalog import stored_table
from kline_trio.storage.journal.ledger import Reason, State
from kline_trio.storage.table import candles_of
from tests.builders import truth
from tests.cancellation.lives import (
    BEGIN_MS,
    ENDING,
    FIRST_MS,
    HOUR_MS,
    LIVES,
    SERIES,
    SINCE_MS,
    SPEED,
    Stops,
    config_in,
    exchange_from,
    remembered_candles,
)
from tests.cancellation.oracle import Contents, Lives, wrong_in
from tests.cancellation.stops import calm, each_by_processes, memory_folder
from tests.virtual import joined, on_a_fast_disk, run_seeded, slow_disk

__all__ = ["MODES", "Outcome", "Place", "Trial", "campaign", "chosen", "one_for_each_line"]
__all__ += ["places_of", "try_many"]

MODES = ("polite", "cancelled", "hurried")
"""Polite: the body ends. Cancelled: the outermost scope is. Hurried: first one, then the other."""
_MOST_STEPS_OF_SHUTDOWN = 200
_LEAST_CANDLES = 200
_DISK_SECONDS = 0.03
_LAST_DISK_SECONDS = 0.002
_LAST_SPEED = 600.0
_POLL_SECONDS = 0.25
_SETTLED_WITHIN_SECONDS = 60.0
_BEGIN_SLACK_MS = 5 * 60_000 + 15_000 + round(0.5 * 1_000 * SPEED)
"""The candle that forms, and its grace; and half a second until a start has heard the time."""
_END_SLACK_MS = 5 * 60_000 + 60_000 + round(2.5 * 1_000 * SPEED)
"""The candle that forms, and how far a connection may be behind; then a look each second, and what
the look before still waits for."""
_AGAIN_MS = BEGIN_MS + 6 * HOUR_MS
"""When the last life begins: after everything that goes wrong."""


@attrs.define
class Place:
    """A step: which task it resumes, and where."""

    number: int
    task: str
    line: str
    """File and line of the innermost frame that is the recorder's."""

    def __str__(self) -> str:
        return f"step {self.number}, {self.task} at {self.line}"


@attrs.define(eq=False)
class StepCounter(trio.abc.Instrument):
    """Count the recorder's task steps, and act before some of them."""

    actions: dict[int, Callable[[], None]] = attrs.field(factory=dict)
    """What to do before the n-th step."""
    keeps_places: bool = False
    count: int = 0
    is_on: bool = False
    places: list[Place] = attrs.field(factory=list)
    """Where actions were taken; if all places are kept, one for each step."""
    _ours: dict[trio.lowlevel.Task, bool] = attrs.field(factory=dict)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count a step of the recorder."""
        if not self.is_on or not self._is_ours(task):
            return
        self.count += 1
        action = self.actions.get(self.count)
        if action is not None or self.keeps_places:
            self.places.append(Place(self.count, _short(task.name), _line_of(task)))
        if action is not None:
            action()

    def _is_ours(self, task: trio.lowlevel.Task) -> bool:
        known = self._ours.get(task)
        if known is None:
            parent = task.parent_nursery.parent_task if task.parent_nursery else None
            is_exchange = task.name.startswith("kline_trio.simulator")
            known = not is_exchange and (parent is None or self._is_ours(parent))
            self._ours[task] = known
        return known


def _short(name: str) -> str:
    return name.removeprefix("kline_trio.")


def _line_of(task: trio.lowlevel.Task) -> str:
    line = "its begin"
    for frame, number in task.iter_await_frames():
        name = frame.f_code.co_filename
        if "/kline_trio/" in name and "/simulator/" not in name:
            line = f"{Path(name).name}:{number}"
    return line


@attrs.define
class Outcome:
    """What came of one stop."""

    place: Place | None
    """None: the life ended before."""
    wrong: list[str] = attrs.field(factory=list)
    steps: int = 0


def prepare(folder: Path) -> int:
    """Record a first life, which is cancelled; return its end."""
    exchange = exchange_from(FIRST_MS)

    async def record() -> int:
        async with joined(exchange) as environment:
            with trio.CancelScope() as outermost:
                async with open_recorder(config_in(folder, since_ms=None), environment):
                    await trio.sleep(2.1)
                    outermost.cancel()
                    await trio.lowlevel.checkpoint()
            return exchange.now_ms(trio.current_time())

    return run_seeded(0, record)


@attrs.frozen
class Trial:
    """A life with one stop."""

    life: str
    mode: str
    number: int
    """Of the step at which it is stopped; 0: it is not stopped."""
    seed: int

    @property
    def command(self) -> str:
        """What repeats it."""
        return (
            f"python -m tests.cancellation steps --life {self.life} --mode {self.mode}"
            f" --seed {self.seed} --only {self.number}"
        )

    def run(self, folder: Path, prepared: Path, first_end_ms: int) -> Outcome:
        """Stop the life, start anew, and hold the store against the truth."""
        shutil.copytree(prepared, folder)
        try:
            counter, span = self.stopped_life(folder)
            outcome = Outcome(counter.places[0] if counter.places else None, steps=counter.count)
            again = run_seeded(self.seed, _settle, config_in(folder, is_last=True), outcome.wrong)
            spans = [Span(FIRST_MS, first_end_ms), span, again]
            outcome.wrong += _wrong(folder / "data", spans)
        finally:
            shutil.rmtree(folder)
        return outcome

    def stopped_life(self, folder: Path, *, keeps_places: bool = False) -> tuple[StepCounter, Span]:
        """Run the life up to its stop, and through its end."""
        counter = StepCounter(keeps_places=keeps_places)
        span = run_seeded(self.seed, self._live, folder, counter, instruments=[counter])
        return counter, span

    async def _live(self, folder: Path, counter: StepCounter) -> Span:
        exchange = exchange_from(BEGIN_MS)
        stops = Stops()
        end_ms: list[int] = []

        def stop() -> None:
            end_ms.append(exchange.now_ms(trio.current_time()))
            if self.mode == "cancelled":
                stops.at_once()
            else:
                stops.politely()

        if self.number:
            counter.actions[self.number] = stop
        if self.mode == "hurried":
            later = Random(self.number).randint(1, _MOST_STEPS_OF_SHUTDOWN)
            counter.actions[self.number + later] = stops.at_once
        async with joined(exchange, seed=self.seed, disk_seconds=_DISK_SECONDS) as environment:
            counter.is_on = True
            with stops.outermost:
                await LIVES[self.life].run(config_in(folder), environment, stops)
            counter.is_on = False
            end_ms.append(exchange.now_ms(trio.current_time()))
        return Span(BEGIN_MS, end_ms[0])


async def _settle(config: Config, wrong: list[str]) -> Span:
    """Record without faults until nothing is asked for any more."""
    exchange = exchange_from(_AGAIN_MS, _LAST_SPEED)
    async with joined(exchange) as environment:
        environment = attrs.evolve(environment, on_disk=slow_disk(Random(0), _LAST_DISK_SECONDS))
        async with open_recorder(config, environment):
            with trio.move_on_after(_SETTLED_WITHIN_SECONDS) as patience:
                await trio.sleep(1.0)
                # The store is all that tells: nothing inside the recorder is asked.
                while not _is_settled(config.store.path):  # noqa: ASYNC110
                    await trio.sleep(_POLL_SECONDS)
            if patience.cancelled_caught:
                wrong.append(f"nothing is settled after {_SETTLED_WITHIN_SECONDS} s")
            end_ms = exchange.now_ms(trio.current_time())
    return Span(_AGAIN_MS, end_ms)


def _is_settled(store: Path) -> bool:
    contents = Contents.ledger_of(store)
    return (
        set(SERIES) <= contents.accounts.keys()
        and all(contents.accounts[one].first_ms <= SINCE_MS for one in SERIES)
        and contents.accounts[ENDING].retired_ms is not None
        # The pause before this life is named for what goes on.
        and all(
            any(
                gap.span.to_ms >= _AGAIN_MS - _BEGIN_SLACK_MS
                for gap in contents.ledger.get(one, ())
            )
            for one in SERIES
            if one != ENDING
        )
        and not any(gap.state is State.PENDING for gaps in contents.ledger.values() for gap in gaps)
    )


def _wrong(store: Path, spans: Sequence[Span]) -> Iterator[str]:
    contents = Contents.of(store)
    first_ms = {one: one.interval.open_time_ms(SINCE_MS) for one in SERIES}
    yield from wrong_in(contents, Lives(spans, _BEGIN_SLACK_MS, _END_SLACK_MS), first_ms)
    for series in SERIES:
        yield from _against_the_truth(store, contents, series)


@functools.cache
def _truth_of(series: Series) -> dict[int, tuple[Candle, bool]]:
    """Return by open time each candle up to the end, and whether it was traded."""
    exchange = exchange_from(_AGAIN_MS)
    market, interval = exchange.markets[series.trade_type], series.interval
    until_ms = _AGAIN_MS + round(_SETTLED_WITHIN_SECONDS * 1_000 * SPEED)
    return {
        one.open_time_ms: (
            one,
            market.absence(series.symbol, one.open_time_ms, interval.end_time_ms(one.open_time_ms))
            is None,
        )
        for one in truth(exchange, series, SINCE_MS, until_ms)
    }


def _against_the_truth(store: Path, contents: Contents, series: Series) -> Iterator[str]:
    """Whether what was traded is stored, and what was not is closed."""
    account = contents.accounts.get(series)
    table = stored_table(store, series)
    if account is None or table is None:
        yield f"{series}: nothing is stored"
        return
    stored = {one.open_time_ms: one for one in candles_of(table)}
    for open_ms, (one, exists) in _truth_of(series).items():
        found = stored.get(open_ms)
        if exists and found != one and (found or open_ms < account.watermark_ms):
            yield f"{series}: {open_ms} is stored as {found}, and was traded as {one}"
        if not exists and found is not None:
            yield f"{series}: {open_ms} is stored, and was never traded"
    if (account.retired_ms is not None) != (series == ENDING):
        yield f"{series}: is accounted for as {account}"
    if series == ENDING:
        gaps = contents.ledger.get(series, ())
        last = gaps[-1] if gaps else None
        sealed = (Reason.DELISTED, State.CLOSED, account.watermark_ms)
        if last is None or (last.reason, last.state, last.span.to_ms) != sealed:
            yield f"{series}: is not sealed: {account}, {last}"


# -- many -------------------------------------------------------------------------------------


def places_of(life: str, seed: int) -> list[Place]:
    """Return all steps of a life that is not stopped, up to its end."""
    with calm(), _stage() as folder:
        # Copied as for a trial: the inodes of copied files are news to the recorder.
        prepare(folder / "first")
        shutil.copytree(folder / "first", folder / "life")
        counter, _ = Trial(life, "polite", 0, seed).stopped_life(folder / "life", keeps_places=True)
    return counter.places


@contextmanager
def _stage() -> Iterator[Path]:
    with (
        memory_folder() as folder,
        on_a_fast_disk(least_archive_candles=_LEAST_CANDLES),
        remembered_candles(),
    ):
        yield folder


def try_many(trials: Sequence[Trial]) -> list[tuple[Trial, Outcome]]:
    """Run each trial in a store of its own."""
    outcomes = []
    with calm(), _stage() as folder:
        end_ms = prepare(folder / "first")
        for nth, trial in enumerate(trials):
            try:
                outcome = trial.run(folder / "life", folder / "first", end_ms)
            except Exception as error:  # noqa: BLE001 - it is what a stop must not cause
                outcome = Outcome(None, [f"raised {error!r}"])
            outcomes.append((trial, outcome))
            gc.collect(2 if nth % 10 == 0 else 0)
    return outcomes


def chosen(steps: int, most: int, seed: int) -> list[int]:
    """Return at most so many steps, evenly spread, with an offset from the seed."""
    if most >= steps:
        return list(range(1, steps + 1))
    every = steps / most
    offset = Random(seed).random() * every
    return sorted({min(steps, 1 + int(offset + nth * every)) for nth in range(most)})


def one_for_each_line(places: Sequence[Place], seed: int) -> list[int]:
    """Return one step for each distinct pair of a task and a line."""
    by_line: dict[tuple[str, str], list[int]] = {}
    for place in places:
        by_line.setdefault((place.task, place.line), []).append(place.number)
    chance = Random(seed)
    return sorted(chance.choice(numbers) for numbers in by_line.values())


def campaign(trials: Sequence[Trial], jobs: int) -> int:
    """Run the trials; print each failure, and how far it is; return how many failures there are."""
    began = time.monotonic()
    say = functools.partial(print, flush=True)
    chunk = max(1, min(50, len(trials) // max(1, jobs * 4)))
    parts = [trials[at : at + chunk] for at in range(0, len(trials), chunk)]
    bad = stopped = done = 0
    for outcomes in each_by_processes(try_many, parts, jobs):
        done += len(outcomes)
        say(f"{done:,} of {len(trials):,} trials, {time.monotonic() - began:.0f} s")
        for trial, outcome in outcomes:
            stopped += outcome.place is not None
            if outcome.wrong:
                bad += 1
                say(
                    f"{trial.mode} stop of {trial.life} at {outcome.place}:"
                    f" {len(outcome.wrong)} faults: {'; '.join(outcome.wrong[:3])}\n"
                    f"  again: {trial.command}"
                )
    seconds = time.monotonic() - began
    say(
        f"{len(trials):,} trials, {stopped:,} of them stopped, {bad:,} left something wrong,"
        f" {seconds:.0f} s, {os.cpu_count()} cores"
    )
    return bad
