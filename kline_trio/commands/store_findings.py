"""The findings of `doctor` about configuration, machine and store: pure, from reports."""

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from kline_trio.candle import Series
from kline_trio.commands.finding import Finding, Verdict
from kline_trio.config import Config
from kline_trio.counting import counted
from kline_trio.exchange.markets import MARKETS
from kline_trio.interval import time_text
from kline_trio.program import program_name
from kline_trio.storage.inspection import DiskReport, StoreReport
from kline_trio.storage.layout import Layout

_IN_MEMORY = ("tmpfs", "ramfs")
"""File systems that a restart of the machine empties."""
_FEW_DAYS = 30
"""The recorder's log warns below this, too."""
_MANY_DAYS = 3_650
_LEAST_BYTES = 256 * 10**6
"""The journal's WAL may have 67 MB, and a merge writes a second copy of its file."""
_CONNECTIONS_OF_A_SLOT = 2
"""A roll-over opens a connection before it closes the other one."""
_OTHER_DESCRIPTORS = 64
"""For journal, merges, REST, archive and logs. A recorder of a few series has 16 in all."""
_MANY_SERIES = 20
"""Beyond this number, whole files are copied too often (docs/merging.md)."""
_HOUR_MS = 3_600_000
_SILENT_MS = 150_000
"""Two heartbeats and a half."""
_MONTHLY = "{trade_type}_{symbol}_{time_interval}.pqt/{month}.parquet"


def judge_config(path: Path, config: Config, problems: Sequence[str]) -> tuple[Finding, ...]:
    """Return the findings about a configuration that could be read.

    Args:
      path: of recorder.toml.
      config: its content.
      problems: why its CA file or a proxy cannot be used; empty if they can.
    """
    named = counted(len(config.streams), "series", "series")
    lists = len(config.patterns)
    more = f", and what {counted(lists, 'list')} of patterns will match" if lists else ""
    good = Finding("config", str(path), Verdict.OK, f"good, {named}{more}")
    advice = f"correct it in {path} or in the environment; until then no host is checked"
    bad = [Finding("config", "connection", Verdict.ERROR, one, advice) for one in problems]
    return (good, *bad)


def judge_disk(report: DiskReport) -> Finding:
    """Return the finding about the file system of a store."""
    subject = str(report.folder)
    other = "set [store] path to a folder on a local disk"
    if not report.is_folder:
        message = f"{report.existing} is no folder"
        advice = "move it away, or set another [store] path"
        return Finding("disk", subject, Verdict.ERROR, message, advice)
    if report.is_network:
        message = f"a network file system ({report.kind}), where a store can be torn"
        advice = f"{other}, and copy snapshots of it over the network"
        return Finding("disk", subject, Verdict.ERROR, message, advice)
    if not report.is_writable:
        message = f"{report.existing} cannot be written by this user"
        advice = "change its owner or mode, mount its disk for writing, or set another [store] path"
        return Finding("disk", subject, Verdict.ERROR, message, advice)
    kind = f" ({report.kind})" if report.kind else ""
    if report.kind in _IN_MEMORY:
        message = f"a file system in memory{kind}: a restart of the machine loses all candles"
        return Finding("disk", subject, Verdict.WARNING, message, other)
    new = "" if report.existing == report.folder else "; the first start makes the folder"
    return Finding("disk", subject, Verdict.OK, f"a local disk{kind}{new}")


def disk_fault(path: Path, problem: str) -> Finding:
    """Return the finding about a disk that refuses, or does not answer."""
    advice = "look whether the disk is mounted and healthy, as by `dmesg`"
    return Finding("disk", str(path), Verdict.ERROR, problem, advice)


def judge_recorder(report: StoreReport, now_ms: float) -> tuple[Finding, ...]:
    """Return the findings about the lock, the journal and the last run of a store.

    Args:
      report: of the store.
      now_ms: the time of the local clock.
    """
    subject = str(report.disk.folder)
    if not report.exists:
        return (Finding("lock", subject, Verdict.OK, "free: no recorder has run there"),)
    lock = Finding("lock", subject, Verdict.OK, "free")
    if report.holder is not None:
        lock = _held(report, subject, now_ms)
    if report.problem:
        advice = (
            "upgrade kline_trio if the journal is of a newer version; else start the recorder: it"
            " keeps a damaged journal aside, and its readable rows"
        )
        return (lock, Finding("run", subject, Verdict.ERROR, report.problem, advice))
    if report.holder is not None or report.heard_ms is None:
        return (lock,)
    heard = time_text(report.heard_ms)
    if report.recorder is None:
        return (lock, Finding("run", subject, Verdict.OK, f"the last one ended in order, {heard}"))
    message = f"the last one (pid {report.recorder}) was killed or crashed after {heard}"
    advice = (
        "look at the end of its log, and for its pid in the log of the system (`journalctl -k`):"
        " memory may have run out; the next start fills the gap"
    )
    return (lock, Finding("run", subject, Verdict.WARNING, message, advice))


def _held(report: StoreReport, subject: str, now_ms: float) -> Finding:
    stop = f"to start another recorder, stop this one first: `kill -TERM {report.holder}`"
    if report.recorder != report.holder or report.heard_ms is None:
        message = f"held by the process with pid {report.holder}"
        return Finding("lock", subject, Verdict.OK, message, stop)
    silent_ms = now_ms - report.heard_ms
    message = f"held by the recorder with pid {report.holder}"
    message += f", last heartbeat {max(0.0, silent_ms) / 1_000:,.0f} s ago"
    if silent_ms <= _SILENT_MS:
        return Finding("lock", subject, Verdict.OK, message, stop)
    advice = "look at the end of its log: a recorder writes a heartbeat each minute"
    return Finding("lock", subject, Verdict.WARNING, message, advice)


def judge_files(limit: float, series: Iterable[Series], redundancy: int) -> Finding:
    """Return the finding about the limit of open files.

    Args:
      limit: how many descriptors a process may have.
      series: what is recorded.
      redundancy: how many connections carry each stream.
    """
    streams = Counter(one.trade_type for one in series)
    connections = redundancy * sum(
        math.ceil(count / MARKETS[name].streams_per_connection) for name, count in streams.items()
    )
    wanted = _CONNECTIONS_OF_A_SLOT * connections + _OTHER_DESCRIPTORS
    allowed = "unlimited" if limit == math.inf else f"{limit:,.0f}"
    uses = f"{counted(connections, 'connection')} and the store need up to {wanted:,}"
    message = f"{allowed} allowed; {uses}"
    if limit >= wanted:
        return Finding("files", "open files", Verdict.OK, message)
    enough = max(4_096, wanted)
    advice = f"allow more: `ulimit -n {enough}`, or LimitNOFILE={enough} in a unit of systemd"
    return Finding("files", "open files", Verdict.ERROR, message, advice)


def judge_space(report: StoreReport, series: Sequence[Series]) -> Finding:
    """Return the finding about the free space on the disk of a store."""
    path = report.disk.folder
    days = report.space.days_left(series)
    message = f"{report.disk.free_bytes / 1e9:,.1f} GB free"
    if days < math.inf:
        lasts = counted(round(days), "day") if days < _MANY_DAYS else "more than ten years"
        message += f", enough for {lasts} of {counted(len(series), 'series', 'series')}"
    is_short = report.disk.free_bytes < _LEAST_BYTES or days < 1
    if not is_short and days >= _FEW_DAYS:
        return Finding("space", str(path), Verdict.OK, message)
    if is_short:
        message += "; while the disk is full, nothing is recorded"
    advice = "make room on the disk, or set [store] path to a larger one"
    verdict = Verdict.ERROR if is_short else Verdict.WARNING
    return Finding("space", str(path), verdict, message, advice)


def judge_layout(report: StoreReport, layout: Layout, series: Iterable[Series]) -> Finding:
    """Return the finding about the layout of a store, and whether it fits the number of series.

    Series of an hour and longer do not count: their files stay short.
    """
    template, path = layout.template, report.disk.folder
    if report.layout is not None and report.layout != template:
        message = f"{path} is laid out as {report.layout!r}: a start with {template!r} is refused"
        words = ["relayout", str(path), "--layout", template, "--into", f"{path}-relayout"]
        advice = (
            "set [store] layout back, or write the store anew and swap the two:"
            f" `{program_name()} {shlex.join(words)}`"
        )
        return Finding("layout", template, Verdict.ERROR, message, advice)
    short = sum(1 for one in series if (one.interval.duration_ms or _HOUR_MS) < _HOUR_MS)
    message = f"{counted(short, 'series', 'series')} below an hour"
    is_split = any(f"{{{period}}}" in template for period in ("year", "month", "date"))
    if is_split or short <= _MANY_SERIES:
        what = "in files split by time" if is_split else "in one file each"
        return Finding("layout", template, Verdict.OK, f"{message}, {what}")
    message += f" in one file each: beyond {_MANY_SERIES}, merges copy whole files too often"
    advice = f'set [store] layout to "{_MONTHLY}"'
    if report.layout is not None:
        words = ["relayout", str(path), "--layout", _MONTHLY, "--into", f"{path}-relayout"]
        advice += f", after `{program_name()} {shlex.join(words)}`; then swap the two folders"
    return Finding("layout", template, Verdict.WARNING, message, advice)
