"""The commands about a store: check, snapshot, merge and relayout."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import TextIO

from kline_trio.candle import Series
from kline_trio.commands.output import show_problems
from kline_trio.commands.progress import Progress, open_progress
from kline_trio.config import Config
from kline_trio.config.toml import open_nonblocking
from kline_trio.counting import counted
from kline_trio.errors import ConfigError, DamagedError
from kline_trio.interval import time_text
from kline_trio.quoting import escaped, one_line
from kline_trio.storage.catalog import last_end_ms
from kline_trio.storage.check import CheckedFile
from kline_trio.storage.check import check as check_files
from kline_trio.storage.copy_stores import Disagreement, common_layout, unite
from kline_trio.storage.copy_stores import snapshot as make_snapshot
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.holdings import holdings
from kline_trio.storage.layout import Layout
from kline_trio.storage.names import text_of
from kline_trio.storage.paths import INTERNAL, journal_path
from kline_trio.storage.simulated import simulated_hint, simulated_store
from kline_trio.storage.step import Step
from kline_trio.storage.store import Store

_MOST_FAULTS_A_FILE = 20
_MOST_DISAGREEMENTS = 100


def store_of(path: Path) -> tuple[Path, Config | None]:
    """Return the path of a store, and its configuration if a recorder.toml was given.

    Raises:
      ConfigError: there is no such folder, or the file cannot be used.
    """
    if path.is_file() or path.suffix == ".toml":
        config = Config.from_toml(path)
        return config.store.path, config
    if not path.is_dir():
        raise ConfigError([f"there is no store {path}{simulated_hint(path)}"])
    return path, None


def check(options: argparse.Namespace) -> int:
    """Print the faults of a store, a folder or a file. Return 1 if there are any."""
    path = options.path
    if options.simulate:
        path = simulated_store(path)
        if not path.is_dir():
            raise ConfigError([f"there is no store {path}: record with --simulate first"])
    elif path.suffix == ".toml":
        path = Config.from_toml(path).store.path
    # Another program reads the sums from stdout.
    out = sys.stderr if options.manifest == "-" else sys.stdout
    sums: list[bytes] = []
    total: Counter[str] = Counter()
    if options.repair:
        with open_progress() as progress:
            _repair(path, out, progress)
    with open_progress() as progress:
        for file in check_files(path, progress.show):
            if file.faults:
                with progress.hidden():
                    print_faults(file, out)
            total.update(faults=len(file.faults), rows=file.rows, bytes=file.size_bytes)
            if file.is_foreign:
                total["foreign"] += 1
            elif file.sha256 is not None:
                total["files"] += 1
                sums.append(_sum(file.sha256, file.path, path.absolute()))
    if not (total["files"] or total["faults"] or path.is_file() or (path / INTERNAL).is_dir()):
        raise ConfigError([f"there is no store in {path}, and no candle file: nothing is checked"])
    if options.manifest is not None:
        _write_manifest(options.manifest, b"".join(sums))
    verdict = counted(total["faults"], "fault") if total["faults"] else "all good"
    others = counted(total["foreign"], "file of others", "files of others")
    foreign = f", {others} passed by" if total["foreign"] else ""
    files, rows, size = (counted(total[f"{one}s"], one) for one in ("file", "row", "byte"))
    print(f"checked {files}, {rows}, {size}{foreign}: {verdict}", file=out)
    return 1 if total["faults"] else 0


def _repair(path: Path, out: TextIO, progress: Progress) -> None:
    """Write gaps to the ledger for candles that are neither stored nor in it.

    A recorder then asks for them. Each series is one transaction: after a kill, repair again.
    """
    if not journal_path(path).exists():
        raise ConfigError([f"there is no store {path}, and --repair is for stores"])

    def report(_: Path, error: DamagedError) -> None:
        with progress.hidden():
            print(one_line(f"{error}; what it held counts as absent"), file=out)

    named = filled = 0
    progress.show(Step("checking the journal"))
    with closing(Store.open(path, None)) as store:
        with disk_errors(path):
            every = holdings(store.path, report, on_step=progress.show)
        for done, one in enumerate(every):
            progress.show(Step(f"repairing {one.series}", done, len(every), "series"))
            absent = store.journal.compare(one) or 0
            stored = one.count(one.stored_pending())
            if absent or stored:
                with progress.hidden():
                    _print_repaired(one.series, absent, stored, out)
            named += absent
            filled += stored
    asked = "; a recorder will ask for the gaps" if named else ""
    text = f"repaired: {counted(named, 'candle')} named, {filled:,} set to filled{asked}"
    with progress.hidden():
        print(text, file=out)


def _print_repaired(series: Series, absent: int, stored: int, out: TextIO) -> None:
    if absent:
        gaps = counted(absent, "candle is a gap", "candles are gaps")
        print(f"{series}: {gaps} of the ledger now", file=out)
    if stored:
        found = counted(stored, "pending candle was", "pending candles were")
        print(f"{series}: {found} stored", file=out)


def _sum(sha256: str, path: Path, checked: Path) -> bytes:
    """Return a line as `sha256sum` writes it in the folder (GNU coreutils, "md5sum")."""
    name = os.fsencode(path.name if path == checked else path.relative_to(checked))
    quoted = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    mark = b"\\" if quoted != name else b""
    return b"%s%s  %s\n" % (mark, sha256.encode(), quoted)


def _write_manifest(place: str, content: bytes) -> None:
    if place == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        return
    try:
        with open(place, "wb", opener=open_nonblocking) as file:
            os.set_blocking(file.fileno(), True)
            file.write(content)
    except OSError as error:
        raise ConfigError([f"{place}: cannot be written: {error.strerror}"]) from None


def print_faults(file: CheckedFile, out: TextIO) -> None:
    """Print the faults of a file, or the holes of a series."""
    if file.series is not None:
        # All holes of a series are printed, however many there are.
        for fault in file.faults:
            print(f"{file.series}: {fault.what}", file=out)
        return
    # A name may hold bytes that are no text, and line ends; a fault quotes the file's content.
    name = escaped(str(file.path))
    for fault in file.faults[:_MOST_FAULTS_A_FILE]:
        where = ""
        if fault.row is not None and fault.begin_time_ms is not None:
            where = f": row {fault.row:,} ({time_text(fault.begin_time_ms)})"
        print(f"{name}{where}: {one_line(fault.what)}", file=out)
    more = len(file.faults) - _MOST_FAULTS_A_FILE
    if more > 0:
        print(f"{name}: and {more:,} more", file=out)


def snapshot(options: argparse.Namespace) -> int:
    """Copy a store, which a recorder may hold. Return 1 if a file is damaged."""
    store, _ = store_of(options.store)
    with open_progress() as progress:
        made = make_snapshot(store, options.into, progress.show)
    copied = f" ({made.copied:,} copied, not linked)" if made.copied else ""
    files, waiting = counted(made.files, "file"), counted(made.waiting, "candle")
    print(f"{options.into}: {files}{copied}, {waiting} in the journal")
    return show_problems(made.damaged)


def merge(options: argparse.Namespace) -> int:
    """Merge two stores and print where they disagree. Return 1 if a file is damaged."""
    with open_progress() as progress:
        for store in options.stores:
            _check_store(store, progress)
        layout = _layout(options.layout) if options.layout else common_layout(options.stores)
        disagreements, damaged = _unite(options, layout, progress)
    print(
        f"the stores disagree on {counted(disagreements, 'candle')}; see docs/storage.md, Merging"
    )
    return show_problems(damaged)


def relayout(options: argparse.Namespace) -> int:
    """Copy a store in another layout. Return 1 if a file is damaged."""
    [store] = options.stores
    layout = _layout(options.layout)
    with open_progress() as progress:
        _check_store(store, progress)
        progress.show(Step("checking the journal"))
        # Hold the store: the copy would lack candles that a recorder accepted meanwhile.
        with closing(Store.open(store, None)):
            _, damaged = _unite(options, layout, progress)
    print(f"now swap {store} and {options.into}, and set the layout in recorder.toml")
    return show_problems(damaged)


def _check_store(path: Path, progress: Progress) -> None:
    """Refuse a folder without a store. Candle files alone are a store."""
    is_store = path.is_dir() and (
        (path / INTERNAL).is_dir() or last_end_ms(path, on_step=progress.show)
    )
    if not is_store:
        raise ConfigError([f"there is no store {path}{simulated_hint(path)}"])


def _unite(
    options: argparse.Namespace, layout: Layout, progress: Progress
) -> tuple[int, Collection[str]]:
    """Write the new store. Return the number of disagreements, and a line for each damaged file."""
    rows = disagreements = series = 0
    damaged: dict[Path, str] = {}

    def report(path: Path, error: DamagedError) -> None:
        damaged[path] = f"{error}; the new store lacks it"

    for one in unite(options.stores, options.into, layout, report, progress.show):
        series += 1
        rows += one.rows
        if shown := one.disagreements[: max(0, _MOST_DISAGREEMENTS - disagreements)]:
            with progress.hidden():
                for disagreement in shown:
                    print(_line(disagreement))
        disagreements += len(one.disagreements)
    with progress.hidden():
        print(f"{options.into}: {series:,} series, {counted(rows, 'candle')}")
    return disagreements, damaged.values()


def _line(one: Disagreement) -> str:
    values = [
        f"{name} {kept!r} kept, {one.dropped[name]!r} dropped" for name, kept in one.kept.items()
    ]
    return f"{one.series} {time_text(one.begin_time_ms)}: {', '.join(values)}"


def _layout(template: str) -> Layout:
    try:
        layout = Layout(text_of(template))
        layout.check_names()
    except ValueError as error:
        raise ConfigError([str(error)]) from None
    return layout
