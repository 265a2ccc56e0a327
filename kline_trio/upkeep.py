"""The commands on stores that end by themselves: check, status, snapshot, merge and relayout."""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TextIO

import attrs

from kline_trio.config import Config
from kline_trio.errors import ConfigError, DamagedError
from kline_trio.quoting import escaped, one_line
from kline_trio.storage.catalog import last_end_ms
from kline_trio.storage.check import CheckedFile, Fault
from kline_trio.storage.check import check as check_files
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.holes import holdings
from kline_trio.storage.layout import Layout
from kline_trio.storage.names import text_of
from kline_trio.storage.places import HOUSE, journal_path
from kline_trio.storage.snapshot import snapshot as make_snapshot
from kline_trio.storage.status import DEFAULT_GRACE_MS, SeriesStatus
from kline_trio.storage.status import status as store_status
from kline_trio.storage.store import Store
from kline_trio.storage.unite import Disagreement, common_layout, unite
from kline_trio.storage.universe import unlisted
from kline_trio.telling import (
    failures,
    recorder_json,
    series_json,
    status_lines,
    time_text,
)

__all__ = ["check", "merge", "relayout", "snapshot", "status"]

_MOST_FAULTS_A_FILE = 20
_MOST_DISAGREEMENTS = 100
_SECOND_LOOK_SECONDS = 3.0


def check(options: argparse.Namespace) -> int:
    """Print what is wrong with a store; 1 if anything is."""
    path = options.path
    if path.suffix == ".toml":
        path, _ = _store_of(path)
    # Sums on stdout are for another program to read.
    out = sys.stderr if options.manifest == "-" else sys.stdout
    sums: list[bytes] = []
    total: Counter[str] = Counter()
    if options.repair:
        _repair(path, out)
    for file in _shown(check_files(path)):
        _tell_faults(file, out)
        total["faults"] += len(file.faults)
        total["rows"] += file.rows
        total["bytes"] += file.size_bytes
        if file.is_foreign:
            total["foreign"] += 1
        elif file.sha256 is not None:
            total["files"] += 1
            sums.append(_sum(file.sha256, file.path, path.absolute()))
    if not (total["files"] or total["faults"] or path.is_file() or (path / HOUSE).is_dir()):
        raise ConfigError([f"there is no store in {path}, and no candle file: nothing is checked"])
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


def _repair(path: Path, out: TextIO) -> None:
    """Give gap rows to what is neither stored nor in the ledger: a recorder then asks for it.

    Series by series, each in one transaction: whenever it is killed, it can be done again.
    """
    if not journal_path(path).exists():
        raise ConfigError([f"there is no store {path}, and --repair is for stores"])

    def tell(damaged: Path, error: DamagedError) -> None:
        print(one_line(f"{error}; what it held counts as absent"), file=out)

    named = filled = 0
    with ExitStack() as stack:
        store = Store.open(path, None)
        stack.callback(store.close)
        with disk_errors(path):
            looks = holdings(store.path, tell)
        for look in looks:
            count = store.compare(look) or 0
            stored = look.count(look.stored_pending())
            if count:
                print(f"{look.series}: {count:,} candles are gaps of the ledger now", file=out)
            if stored:
                print(f"{look.series}: {stored:,} pending candles were stored", file=out)
            named += count
            filled += stored
    asked = "; a recorder will ask for the gaps" if named else ""
    print(f"repaired: {named:,} candles named, {filled:,} set to filled{asked}", file=out)


def _sum(sha256: str, path: Path, checked: Path) -> bytes:
    """A line as `sha256sum` writes it when it is run in the folder (GNU coreutils, "md5sum")."""
    name = os.fsencode(path.name if path == checked else path.relative_to(checked))
    said = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    mark = b"\\" if said != name else b""
    return b"%s%s  %s\n" % (mark, sha256.encode(), said)


def _write_manifest(place: str, content: bytes) -> None:
    if place == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        return
    try:
        with open(place, "wb", opener=_open_at_once) as file:
            os.set_blocking(file.fileno(), True)
            file.write(content)
    except OSError as error:
        raise ConfigError([f"{place}: cannot be written: {error.strerror}"]) from None


def _open_at_once(path: str, flags: int) -> int:
    # A pipe that nobody reads would keep the writer waiting for ever.
    return os.open(path, flags | os.O_NONBLOCK, 0o666)


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
    if file.series is not None:
        # Each hole is named, however many there are.
        for fault in file.faults:
            print(f"{file.series}: {fault.what}", file=out)
        return
    # A name may hold bytes that are no text, and line ends; a fault quotes what a file holds.
    name = escaped(str(file.path))
    for fault in file.faults[:_MOST_FAULTS_A_FILE]:
        print(f"{name}{_where(fault)}: {one_line(fault.what)}", file=out)
    more = len(file.faults) - _MOST_FAULTS_A_FILE
    if more > 0:
        print(f"{name}: and {more:,} more", file=out)


def _where(fault: Fault) -> str:
    if fault.row is None or fault.begin_time_ms is None:
        return ""
    return f": row {fault.row:,} ({time_text(fault.begin_time_ms)})"


def status(options: argparse.Namespace) -> int:
    """Print how complete a store is, series by series, those that only are configured too.

    Returns:
      1 if a candle is absent and nothing tells why, a file cannot be read, or a limit of the
      options is not kept.
    """
    store, config = _store_of(options.store)
    grace_ms = DEFAULT_GRACE_MS
    if config is not None:
        grace_ms = round(config.completeness.grace_seconds * 1_000)
    found = store_status(store, round(time.time() * 1_000), grace_ms)
    if found.recorder.pid is not None and any(one.unexplained for one in found.series):
        # The recorder may be naming those in this moment.
        time.sleep(_SECOND_LOOK_SECONDS)
        found = store_status(store, round(time.time() * 1_000), grace_ms, found.clocks)
    configured = () if config is None else config.streams
    known = {one.series for one in found.series}
    empty = [SeriesStatus(one, None, None, 0, 0, {}) for one in configured if one not in known]
    every = _with_unlisted(store, sorted([*found.series, *empty], key=lambda one: one.series))
    found = attrs.evolve(found, series=every)
    if options.json:
        recorder = recorder_json(found.recorder)
        told = [{**series_json(one), "recorder": recorder} for one in every]
        # JSON is UTF-8, or ASCII (RFC 8259, section 8.1).
        print(json.dumps(told, ensure_ascii=sys.stdout.encoding.lower() != "utf-8"))
    elif every:
        print("\n".join(status_lines(found)))
    else:
        print(f"{store}: nothing is stored there")
    failed = [*found.damaged, *failures(found, options.max_age, options.min_complete)]
    for line in map(one_line, failed):
        print(line, file=sys.stderr)
    return 1 if failed or any(one.unexplained for one in every) else 0


def _with_unlisted(store: Path, every: Sequence[SeriesStatus]) -> tuple[SeriesStatus, ...]:
    """Return the same, with what of them no list of the exchange's symbols has."""
    # A stored candle proves that its symbol is right. A damaged list is for `check` to name.
    with suppress(DamagedError):
        found = unlisted(store, [one.series for one in every if not one.rows])
        return tuple(
            attrs.evolve(one, is_unlisted=True, meant=found[one.series])
            if one.series in found
            else one
            for one in every
        )
    return tuple(every)


def _store_of(path: Path) -> tuple[Path, Config | None]:
    """The store that is named, or that a recorder.toml names, with what that file says."""
    if path.is_file() or path.suffix == ".toml":
        config = Config.from_toml(path)
        return config.store.path, config
    if not path.is_dir():
        raise ConfigError([f"there is no store {path}"])
    return path, None


def snapshot(options: argparse.Namespace) -> int:
    """Make a snapshot of a store, beside a running recorder or not; 1 if a file is damaged."""
    store, _ = _store_of(options.store)
    made = make_snapshot(
        store, options.into, lambda done, every: _progress(f"{done:,} of {every:,} files")
    )
    _progress("")
    copied = f" ({made.copied:,} copied, not linked)" if made.copied else ""
    print(f"{options.into}: {made.files:,} files{copied}, {made.waiting:,} candles in the journal")
    return _name_damaged(made.damaged)


def _name_damaged(lines: Collection[str]) -> int:
    for line in lines:
        print(one_line(line), file=sys.stderr)
    return 1 if lines else 0


def merge(options: argparse.Namespace) -> int:
    """Unite two stores into a new one, and tell where they disagree; 1 if a file is damaged."""
    for store in options.stores:
        _demand_store(store)
    layout = _layout(options.layout) if options.layout else common_layout(options.stores)
    disagreements, damaged = _unite(options, layout)
    print(f"the stores disagree on {disagreements:,} candles; see docs/storage.md, Merging")
    return _name_damaged(damaged)


def relayout(options: argparse.Namespace) -> int:
    """Write a store anew in another layout; 1 if a file is damaged."""
    [store] = options.stores
    layout = _layout(options.layout)
    _demand_store(store)
    with ExitStack() as stack:
        # Held: what a recorder accepted meanwhile would be left behind.
        stack.callback(Store.open(store, None).close)
        _, damaged = _unite(options, layout)
    print(f"now swap {store} and {options.into}, and set the layout in recorder.toml")
    return _name_damaged(damaged)


def _demand_store(path: Path) -> None:
    """Refuse a folder in which there is nothing of ours; candle files alone are a store."""
    if not path.is_dir() or not ((path / HOUSE).is_dir() or last_end_ms(path)):
        raise ConfigError([f"there is no store {path}"])


def _unite(options: argparse.Namespace, layout: Layout) -> tuple[int, Collection[str]]:
    """Return how many disagreements there are, and what is wrong with each damaged file."""
    rows = disagreements = series = 0
    damaged: dict[Path, str] = {}

    def tell(path: Path, error: DamagedError) -> None:
        damaged[path] = f"{error}; the new store lacks it"

    for one in unite(options.stores, options.into, layout, tell):
        series += 1
        rows += one.rows
        for found in one.disagreements[: max(0, _MOST_DISAGREEMENTS - disagreements)]:
            print(_told(found))
        disagreements += len(one.disagreements)
        _progress(f"{one.series}: {one.rows:,} rows")
    _progress("")
    print(f"{options.into}: {series:,} series, {rows:,} candles")
    return disagreements, damaged.values()


def _told(found: Disagreement) -> str:
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
