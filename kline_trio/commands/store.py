"""The commands that copy stores: snapshot, merge and relayout."""

import argparse
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

from kline_trio.commands.output import show_problems, show_progress, time_text
from kline_trio.config import Config
from kline_trio.errors import ConfigError, DamagedError
from kline_trio.storage.catalog import last_end_ms
from kline_trio.storage.copy_stores import Disagreement, common_layout, unite
from kline_trio.storage.copy_stores import snapshot as make_snapshot
from kline_trio.storage.layout import Layout
from kline_trio.storage.names import text_of
from kline_trio.storage.paths import INTERNAL
from kline_trio.storage.store import Store

__all__ = ["merge", "relayout", "snapshot", "store_of"]

_MOST_DISAGREEMENTS = 100


def store_of(path: Path) -> tuple[Path, Config | None]:
    """Return the store at a path, or the store that a recorder.toml names and its content."""
    if path.is_file() or path.suffix == ".toml":
        config = Config.from_toml(path)
        return config.store.path, config
    if not path.is_dir():
        raise ConfigError([f"there is no store {path}"])
    return path, None


def snapshot(options: argparse.Namespace) -> int:
    """Make a snapshot of a store, also beside a recorder. Return 1 if a file is damaged."""
    store, _ = store_of(options.store)
    made = make_snapshot(
        store, options.into, lambda done, every: show_progress(f"{done:,} of {every:,} files")
    )
    show_progress("")
    copied = f" ({made.copied:,} copied, not linked)" if made.copied else ""
    print(f"{options.into}: {made.files:,} files{copied}, {made.waiting:,} candles in the journal")
    return show_problems(made.damaged)


def merge(options: argparse.Namespace) -> int:
    """Unite two stores and print where they disagree. Return 1 if a file is damaged."""
    for store in options.stores:
        _demand_store(store)
    layout = _layout(options.layout) if options.layout else common_layout(options.stores)
    disagreements, damaged = _unite(options, layout)
    print(f"the stores disagree on {disagreements:,} candles; see docs/storage.md, Merging")
    return show_problems(damaged)


def relayout(options: argparse.Namespace) -> int:
    """Write a store anew in another layout. Return 1 if a file is damaged."""
    [store] = options.stores
    layout = _layout(options.layout)
    _demand_store(store)
    # Held: what a recorder accepted meanwhile would be left behind.
    with closing(Store.open(store, None)):
        _, damaged = _unite(options, layout)
    print(f"now swap {store} and {options.into}, and set the layout in recorder.toml")
    return show_problems(damaged)


def _demand_store(path: Path) -> None:
    """Refuse a folder without a store; candle files alone are one."""
    if not path.is_dir() or not ((path / INTERNAL).is_dir() or last_end_ms(path)):
        raise ConfigError([f"there is no store {path}"])


def _unite(options: argparse.Namespace, layout: Layout) -> tuple[int, Collection[str]]:
    """Return the number of disagreements, and what is wrong with each damaged file."""
    rows = disagreements = series = 0
    damaged: dict[Path, str] = {}

    def tell(path: Path, error: DamagedError) -> None:
        damaged[path] = f"{error}; the new store lacks it"

    for one in unite(options.stores, options.into, layout, tell):
        series += 1
        rows += one.rows
        for found in one.disagreements[: max(0, _MOST_DISAGREEMENTS - disagreements)]:
            print(_line(found))
        disagreements += len(one.disagreements)
        show_progress(f"{one.series}: {one.rows:,} rows")
    show_progress("")
    print(f"{options.into}: {series:,} series, {rows:,} candles")
    return disagreements, damaged.values()


def _line(found: Disagreement) -> str:
    values = ", ".join(
        f"{name} {kept!r} kept, {found.dropped[name]!r} dropped"
        for name, kept in found.kept.items()
    )
    return f"{found.series} {time_text(found.begin_time_ms)}: {values}"


def _layout(template: str) -> Layout:
    try:
        layout = Layout(text_of(template))
        layout.check_names()
    except ValueError as error:
        raise ConfigError([str(error)]) from None
    return layout
