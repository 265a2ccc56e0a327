"""The command `restore`: make a store of a lake."""

import argparse
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from kline_trio.commands.export import checked_names
from kline_trio.commands.lake_place import lake_of, location_of
from kline_trio.commands.progress import open_progress
from kline_trio.config import Config
from kline_trio.counting import counted
from kline_trio.errors import ConfigError
from kline_trio.reading.address import lake_packages
from kline_trio.storage.arguments import a_market, a_symbol, an_interval
from kline_trio.storage.layout import DEFAULT_LAYOUT, Layout
from kline_trio.storage.names import text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kline_trio.lake.restore import RestoredSeries
    from kline_trio.lake.scan import Filter


def restore(options: argparse.Namespace) -> None:
    """Write the candles of a lake, and what its recorders know besides them, into a new store.

    Raises:
      ConfigError: the store's place is taken, or there is no such lake, or no such candles in it.
      LakeError: the lake cannot be read, or a file of it is missing or damaged.
      DiskError: the disk refused, or has too little room.
    """
    lake, _ = lake_of(options.lake)
    into, layout = _target(options)
    location = location_of(lake)
    with lake_packages():
        from kline_trio.lake.restore import restore as run
    wanted = _wanted(options)
    # A name like those that recorders give themselves.
    name = secrets.token_hex(6)
    with open_progress() as progress:
        every = list(run(location, into, layout, wanted, name, progress.show))
    _report(into, every)


def _target(options: argparse.Namespace) -> tuple[Path, Layout]:
    """Return the folder of the new store and its layout: as named, else as in recorder.toml."""
    into, template = options.into, options.layout
    place = options.lake
    if isinstance(place, Path) and place.is_file():
        store = Config.from_toml(place).store
        into = into or store.path
        template = template or store.layout.template
    if into is None:
        raise ConfigError(["name the folder of the new store: --into data"])
    try:
        layout = Layout(text_of(template or DEFAULT_LAYOUT))
        layout.check_names()
    except ValueError as error:
        raise ConfigError([str(error)]) from None
    return into, layout


def _wanted(options: argparse.Namespace) -> "Filter":
    from kline_trio.lake.scan import Filter

    return Filter(
        frozenset(checked_names("--market", a_market, options.market)),
        frozenset(checked_names("--symbol", a_symbol, options.symbol)),
        frozenset(checked_names("--interval", an_interval, options.interval)),
        options.since or 0,
    )


def _report(into: Path, every: "Sequence[RestoredSeries]") -> None:
    rows, pending = sum(one.rows for one in every), sum(one.pending for one in every)
    print(f"{into}: {len(every):,} series, {counted(rows, 'candle')}")
    if pending:
        print(f"the lake lacks {counted(pending, 'candle')}; a recorder will ask the exchange")
    if doubled := sum(one.doubled for one in every):
        twice = counted(doubled, "row was", "rows were")
        print(f"{twice} in the lake twice, and not by kline_trio: compact the lake")
    if impossible := sum(one.impossible for one in every):
        print(f"{counted(impossible, 'row')} of the lake can be no candles, and were left out")
