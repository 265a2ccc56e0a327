"""The command `export`: write the candles of a store as CSV."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import attrs

from kline_trio.candle import MAX_TIME_MS, Series
from kline_trio.commands.progress import Progress, open_progress
from kline_trio.commands.store import store_of
from kline_trio.counting import counted
from kline_trio.errors import ConfigError
from kline_trio.interval import Span, time_text
from kline_trio.reading.address import lake_packages, lake_url
from kline_trio.storage.arguments import a_market, a_symbol, an_interval
from kline_trio.storage.disk import link, replace, sync_file, sync_folder
from kline_trio.storage.export import StoredSeries, csv_of, header, stored_series
from kline_trio.storage.in_lake import InLake
from kline_trio.storage.simulated import simulated_hint, simulated_store
from kline_trio.storage.step import Step

if TYPE_CHECKING:
    import pyarrow as pa

_STDOUT = "-"


@attrs.frozen
class _Wanted:
    """Which series to write. An empty set means all."""

    markets: frozenset[str] = frozenset()
    symbols: frozenset[str] = frozenset()
    intervals: frozenset[str] = frozenset()

    @classmethod
    def from_options(cls, options: argparse.Namespace) -> "_Wanted":
        """Return what the options name.

        Raises:
          ConfigError: there is no such market or interval, or no such symbol can be.
        """
        return cls(
            frozenset(checked_names("--market", a_market, options.market)),
            frozenset(checked_names("--symbol", a_symbol, options.symbol)),
            frozenset(checked_names("--interval", an_interval, options.interval)),
        )

    def __contains__(self, series: Series) -> bool:
        return (
            (not self.markets or series.trade_type in self.markets)
            and (not self.symbols or series.symbol in self.symbols)
            and (not self.intervals or series.time_interval in self.intervals)
        )


def checked_names(
    option: str, check: Callable[[object], str], texts: Iterable[str]
) -> Iterator[str]:
    """Give the names of an option as the exchange spells them.

    Raises:
      ConfigError: a name cannot be one.
    """
    for text in texts:
        try:
            yield check(text)
        except ValueError as error:
            raise ConfigError([f"{option} {text}: {error}"]) from None


class _Candles(Protocol):
    """The candles of a series, of which a part is in memory at a time."""

    def tables(self, span: Span) -> Iterator["pa.Table"]:
        """Give the candles with open times in a span, by time."""


class _Place(Protocol):
    """A store or a lake."""

    @property
    def name(self) -> str:
        """As errors name it."""

    def series(self, wanted: _Wanted) -> Mapping[Series, _Candles]:
        """Return those of its series that are wanted, in order."""

    def check_whole(self, wanted: _Wanted, span: Span) -> None:
        """Refuse a time of which wanted candles are in a lake alone."""


@attrs.frozen
class _Store:
    path: Path

    @classmethod
    def of(cls, path: Path) -> "_Store":
        """Return the store at a path, or of a recorder.toml.

        Raises:
          ConfigError: there is none.
        """
        store, config = store_of(path)
        if not store.is_dir():
            made_up = simulated_store(path)
            is_simulated = config is not None and made_up.is_dir()
            hint = f"; made-up candles are in {made_up}" if is_simulated else simulated_hint(store)
            raise ConfigError([f"there is no store {store}{hint}"])
        return cls(store)

    @property
    def name(self) -> str:
        return str(self.path)

    def series(self, wanted: _Wanted) -> Mapping[Series, _Candles]:
        parts = tuple(sorted(wanted.symbols))
        found = stored_series(self.path, lambda series: series in wanted, parts)
        for one in InLake.read(self.path).months:
            if one.series in wanted:
                found.setdefault(one.series, StoredSeries(self.path, one.series))
        return dict(sorted(found.items()))

    def check_whole(self, wanted: _Wanted, span: Span) -> None:
        pruned = InLake.read(self.path).touching(span).only(lambda series: series in wanted)
        if pruned.months:
            after = time_text(pruned.after_ms()).removesuffix("+00:00")
            advice = f"export from there, or name a later time, --start '{after}'"
            raise ConfigError([f"{self.path}: {pruned}: {advice}"])


@attrs.frozen
class _Lake:
    name: str

    def series(self, wanted: _Wanted) -> Mapping[Series, _Candles]:
        with lake_packages():
            from kline_trio.lake.reader import ReadableLake

            lake = ReadableLake.open(self.name)
            return lake.monthly([series for series in lake.series() if series in wanted])

    def check_whole(self, wanted: _Wanted, span: Span) -> None:
        pass


def export(options: argparse.Namespace) -> None:
    """Write the candles of the chosen series as CSV, series by series and by time.

    Raises:
      ConfigError: no stored series is chosen, or a month of one is in a lake alone; or the file
        cannot be made.
      DiskError: a file of the store cannot be read. Nothing is at the file's path then.
      LakeError: the lake cannot be read. Nothing is at the file's path then.
    """
    url = lake_url(options.store)
    place: _Place = _Store.of(options.store) if url is None else _Lake(url)
    wanted = _Wanted.from_options(options)
    span = Span(0 if options.start is None else options.start, options.end or MAX_TIME_MS)
    if span.from_ms >= span.to_ms:
        raise ConfigError(["--end is not after --start: there is nothing to write"])
    if options.csv == _STDOUT:
        # Candles and a bar in the same terminal would be unreadable.
        with open_progress(may_draw=not sys.stdout.isatty()) as progress:
            chosen = _found(place, wanted, progress)
            place.check_whole(wanted, span)
            _write(chosen, span, sys.stdout.buffer, progress)
            sys.stdout.buffer.flush()
            # A month that was pruned since may have been left out.
            place.check_whole(wanted, span)
        return
    path = Path(options.csv)
    _check_target(path, is_forced=options.force)
    with open_progress() as progress:
        chosen = _found(place, wanted, progress)
        place.check_whole(wanted, span)
        with _new_file(path, is_forced=options.force) as file:
            rows = _write(chosen, span, file, progress)
            place.check_whole(wanted, span)
    print(f"{path}: {len(chosen):,} series, {counted(rows, 'candle')}")


def _found(place: _Place, wanted: _Wanted, progress: Progress) -> dict[Series, _Candles]:
    progress.show(Step(f"{place.name}: looking for its series"))
    found = place.series(wanted)
    missing = sorted(wanted.symbols - {series.symbol for series in found})
    if missing:
        hints = _nearest(missing, place.series(_Wanted()))
        texts = [f"no such candles of {one} in {place.name}{hints[one]}" for one in missing]
        raise ConfigError(texts)
    if not found:
        raise ConfigError([f"no such candles in {place.name}"])
    return dict(found)


def _nearest(missing: list[str], stored: Iterable[Series]) -> dict[str, str]:
    """Return a hint for each missing symbol: the stored one that is most like it."""
    known = sorted({series.symbol for series in stored})
    near = {
        one: get_close_matches(one, [name for name in known if name != one], n=1) for one in missing
    }
    return {one: f"; did you mean {names[0]}?" if names else "" for one, names in near.items()}


def _write(chosen: Mapping[Series, _Candles], span: Span, out: BinaryIO, progress: Progress) -> int:
    """Write the CSV and return the number of candles."""
    rows = 0
    out.write(header())
    for done, (series, stored) in enumerate(chosen.items()):
        progress.show(Step(str(series), done, len(chosen), "series"))
        for table in stored.tables(span):
            out.write(csv_of(series, table))
            rows += table.num_rows
            what = f"{series}: {counted(rows, 'candle')} written in all"
            progress.show(Step(what, done, len(chosen), "series"))
    return rows


def _check_target(path: Path, *, is_forced: bool) -> None:
    """Refuse a path where no file can be, or where one is that is to stay."""
    if not path.absolute().parent.is_dir():
        raise ConfigError([f"{path}: there is no folder {path.parent}"])
    if os.path.lexists(path):
        if not path.is_file():
            raise ConfigError([f"{path} is no file: write to - and redirect the output"])
        if not is_forced:
            raise ConfigError([f"{path} is there already: add --force to replace it"])


@contextmanager
def _new_file(path: Path, *, is_forced: bool) -> Iterator[BinaryIO]:
    """Give a temporary file. It gets its name if the body succeeds, and is removed otherwise.

    Raises:
      ConfigError: the file cannot be made, or another program has made one.
    """
    # A link stays a link; the file that it names is replaced.
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        file = temporary.open("wb")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be written: {error.strerror}"]) from None
    try:
        with file:
            yield file
            sync_file(file)
        if is_forced or not _is_linked(temporary, path):
            replace(temporary, path)
        sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _is_linked(temporary: Path, path: Path) -> bool:
    """Give the file its name unless the name is taken. Return False if there are no hard links."""
    try:
        return link(temporary, path)
    except FileExistsError:
        raise ConfigError([f"{path} was made meanwhile: add --force to replace it"]) from None
