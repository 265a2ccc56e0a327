"""The commands on stores that end by themselves: check, status, snapshot, merge and relayout."""

import argparse
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from kline_trio.candle import Series
from kline_trio.config import Config
from kline_trio.errors import ConfigError
from kline_trio.storage.check import CheckedFile, Fault
from kline_trio.storage.check import check as check_files
from kline_trio.storage.layout import Layout
from kline_trio.storage.snapshot import snapshot as make_snapshot
from kline_trio.storage.status import SeriesStatus
from kline_trio.storage.status import status as store_status
from kline_trio.storage.store import Store
from kline_trio.storage.unite import Disagreement, common_layout, unite

__all__ = ["check", "merge", "relayout", "snapshot", "status"]

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


def status(options: argparse.Namespace) -> int:
    """Print how complete a store is, series by series, those that only are configured too."""
    store, configured = _store_of(options.store)
    found = {one.series: one for one in store_status(store)}
    empty = [SeriesStatus(one, None, None, 0, 0, {}) for one in configured if one not in found]
    every = sorted([*found.values(), *empty], key=lambda one: one.series)
    if options.json:
        print(json.dumps([_status_json(one) for one in every], ensure_ascii=False))
        return 0
    if not every:
        print(f"{store}: nothing is stored there")
    width = max((len(str(one.series)) for one in every), default=0)
    for one in every:
        print(f"{one.series!s:<{width}}  {_status_line(one)}")
    return 0


def _store_of(path: Path) -> tuple[Path, tuple[Series, ...]]:
    """The store that is named, or that a recorder.toml names, with what is configured then."""
    if path.is_file() or path.suffix == ".toml":
        config = Config.from_toml(path)
        return config.store.path, config.streams
    if not path.is_dir():
        raise ConfigError([f"there is no store {path}"])
    return path, ()


def _status_json(one: SeriesStatus) -> dict[str, object]:
    return {
        "trade_type": one.series.trade_type,
        "symbol": one.series.symbol,
        "time_interval": one.series.time_interval,
        "from": None if one.from_ms is None else _time(one.from_ms),
        "to": None if one.to_ms is None else _time(one.to_ms),
        "rows": one.rows,
        "due": one.due,
        "complete_percent": one.complete_percent,
        "absent": one.absent,
        "last_close": None if one.to_ms is None else _time(one.to_ms),
    }


def _status_line(one: SeriesStatus) -> str:
    if one.from_ms is None or one.to_ms is None:
        line = "nothing stored"
    else:
        line = f"{_short(one.from_ms)} to {_short(one.to_ms)}  {one.rows:>12,} rows"
    if one.complete_percent is not None:
        # Rounded down: 100 % means that nothing is absent.
        line += f"  {math.floor(one.complete_percent * 1_000) / 1_000:7.3f} %"
    told = ", ".join(f"{count:,} {reason}" for reason, count in sorted(one.absent.items()))
    return f"{line}  absent: {told}" if told else line


def _short(time_ms: int) -> str:
    return _time(time_ms).removesuffix("+00:00")


def snapshot(options: argparse.Namespace) -> int:
    """Make a snapshot of a store, beside a running recorder or not."""
    store, _ = _store_of(options.store)
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
