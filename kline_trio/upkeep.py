"""The commands on stores that end by themselves: check, snapshot, merge and relayout."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from kline_trio.config import Config
from kline_trio.errors import ConfigError
from kline_trio.storage.check import CheckedFile, Fault
from kline_trio.storage.check import check as check_files
from kline_trio.storage.layout import Layout
from kline_trio.storage.snapshot import snapshot as make_snapshot
from kline_trio.storage.store import Store
from kline_trio.storage.unite import Disagreement, common_layout, unite

__all__ = ["check", "merge", "relayout", "snapshot"]

_MOST_FAULTS_A_FILE = 20
_MOST_DISAGREEMENTS = 100


def check(options: argparse.Namespace) -> int:
    """Print what is wrong with a store; 1 if anything is."""
    # Sums on stdout are for another program to read.
    out = sys.stderr if options.manifest == "-" else sys.stdout
    sums: list[bytes] = []
    total: Counter[str] = Counter()
    for file in _shown(check_files(options.path)):
        _tell_faults(file, out)
        total["faults"] += len(file.faults)
        total["rows"] += file.rows
        total["bytes"] += file.size_bytes
        if file.is_foreign:
            total["foreign"] += 1
        elif file.sha256 is not None:
            total["files"] += 1
            sums.append(_sum(file.sha256, file.path, options.path.absolute()))
    if options.manifest is not None:
        _write_manifest(options.manifest, b"".join(sums))
    verdict = f"{total['faults']:,} faults" if total["faults"] else "all good"
    foreign = f", {total['foreign']:,} files of others passed by" if total["foreign"] else ""
    print(
        f"checked {total['files']:,} files, {total['rows']:,} rows,"
        f" {total['bytes']:,} bytes{foreign}: {verdict}",
        file=out,
    )
    return 1 if total["faults"] else 0


def _sum(sha256: str, path: Path, checked: Path) -> bytes:
    """A line as `sha256sum` writes it when it is run in the folder (GNU coreutils, "md5sum")."""
    name = os.fsencode(path.name if path == checked else path.relative_to(checked))
    escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    mark = b"\\" if escaped != name else b""
    return b"%s%s  %s\n" % (mark, sha256.encode(), escaped)


def _write_manifest(place: str, content: bytes) -> None:
    if place == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        return
    try:
        Path(place).write_bytes(content)
    except OSError as error:
        raise ConfigError([f"{place}: cannot be written: {error.strerror}"]) from None


def _shown(files: Iterator[CheckedFile]) -> Iterator[CheckedFile]:
    """The same, with a line of progress if somebody looks on."""
    for count, file in enumerate(files, 1):
        yield file
        _progress(f"{count:,} files checked")
    _progress("")


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _tell_faults(file: CheckedFile, out: TextIO) -> None:
    # A name may hold bytes that are no text, and line ends.
    name = ascii(str(file.path))[1:-1] if not str(file.path).isprintable() else str(file.path)
    for fault in file.faults[:_MOST_FAULTS_A_FILE]:
        what = fault.what.encode(errors="backslashreplace").decode()
        print(f"{name}{_where(fault)}: {what}", file=out)
    more = len(file.faults) - _MOST_FAULTS_A_FILE
    if more > 0:
        print(f"{name}: and {more:,} more", file=out)


def _where(fault: Fault) -> str:
    if fault.row is None or fault.begin_time_ms is None:
        return ""
    return f": row {fault.row:,} ({_time(fault.begin_time_ms)})"


def _time(time_ms: int) -> str:
    try:
        return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(" ", "seconds")
    except (OverflowError, ValueError):
        return f"{time_ms} ms"


def snapshot(options: argparse.Namespace) -> int:
    """Make a snapshot of a store, beside a running recorder or not."""
    store = options.store
    if store.is_file() or store.suffix == ".toml":
        store = Config.from_toml(store).store.path
    made = make_snapshot(store, options.into)
    print(f"{options.into}: {made.files:,} files, {made.waiting:,} candles in the journal")
    return 0


def merge(options: argparse.Namespace) -> int:
    """Unite two stores into a new one, and tell where they disagree."""
    layout = _layout(options.layout) if options.layout else common_layout(options.stores)
    disagreements = _unite(options, layout)
    print(f"the stores disagree on {disagreements:,} candles; see docs/storage.md, Merging")
    return 0


def relayout(options: argparse.Namespace) -> int:
    """Write a store anew in another layout."""
    [store] = options.stores
    layout = _layout(options.layout)
    if not store.is_dir():
        raise ConfigError([f"there is no store {store}"])
    with ExitStack() as stack:
        # Held: what a recorder accepted meanwhile would be left behind.
        stack.callback(Store.open(store, None).close)
        _unite(options, layout)
    print(f"now swap {store} and {options.into}, and set the layout in recorder.toml")
    return 0


def _unite(options: argparse.Namespace, layout: Layout) -> int:
    rows = disagreements = series = 0
    for one in unite(options.stores, options.into, layout):
        series += 1
        rows += one.rows
        for found in one.disagreements[: max(0, _MOST_DISAGREEMENTS - disagreements)]:
            print(_told(found))
        disagreements += len(one.disagreements)
        _progress(f"{one.series}: {one.rows:,} rows")
    _progress("")
    print(f"{options.into}: {series:,} series, {rows:,} candles")
    return disagreements


def _told(found: Disagreement) -> str:
    values = ", ".join(
        f"{name} {kept!r} kept, {found.dropped[name]!r} dropped"
        for name, kept in found.kept.items()
    )
    return f"{found.series} {_time(found.begin_time_ms)}: {values}"


def _layout(template: str) -> Layout:
    try:
        return Layout(template)
    except ValueError as error:
        raise ConfigError([str(error)]) from None
