"""The command `check`: look the files of a store over, and repair its ledger."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TextIO

from kline_trio.commands.output import show_progress, time_text
from kline_trio.config import Config
from kline_trio.errors import ConfigError, DamagedError
from kline_trio.quoting import escaped, one_line
from kline_trio.storage.check import CheckedFile, Fault
from kline_trio.storage.check import check as check_files
from kline_trio.storage.disk import disk_errors
from kline_trio.storage.holdings import holdings
from kline_trio.storage.paths import INTERNAL, journal_path
from kline_trio.storage.store import Store

__all__ = ["check"]

_MOST_FAULTS_A_FILE = 20


def check(options: argparse.Namespace) -> int:
    """Print what is wrong with a store. Return 1 if anything is."""
    path = options.path
    if path.suffix == ".toml":
        path = Config.from_toml(path).store.path
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
    if not (total["files"] or total["faults"] or path.is_file() or (path / INTERNAL).is_dir()):
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
    """Write gap rows for candles that are neither stored nor in the ledger.

    A recorder then asks for them. Each series is one transaction: after a kill, repair again.
    """
    if not journal_path(path).exists():
        raise ConfigError([f"there is no store {path}, and --repair is for stores"])

    def tell(damaged: Path, error: DamagedError) -> None:
        print(one_line(f"{error}; what it held counts as absent"), file=out)

    named = filled = 0
    with closing(Store.open(path, None)) as store:
        with disk_errors(path):
            looks = holdings(store.path, tell)
        for look in looks:
            count = store.journal.compare(look) or 0
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
    """Return a line as `sha256sum` writes it in the folder (GNU coreutils, "md5sum")."""
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
    """Give the same files, and show on a terminal how many are checked."""
    for count, file in enumerate(files, 1):
        yield file
        show_progress(f"{count:,} files checked")
    show_progress("")


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
