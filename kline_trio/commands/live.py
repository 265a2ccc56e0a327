"""What a running recorder says of itself, in words: the command `status --live`.

EXIT STATUSES of `status`:
  0  healthy: every check that was made is good; a degraded recorder records all, too
  1  not healthy: the recorder's verdict is bad, or it does not answer; a candle is absent without
     a reason in the ledger, a file is damaged, or a limit of the options is exceeded
  2  the command line or the configuration is wrong
  3  no recorder runs, of `status recorder.toml` alone; faults of the store win. `status DIR`
     judges the store: it may be an archive, or a copy
With --live the store is not read, and there are two: 0 healthy, 1 anything else. So it is the
health check of a container: it loads neither Trio, pandas nor pyarrow, and takes 0.1 s.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tomli

from kline_trio.commands.control import ask
from kline_trio.commands.output import show_problems
from kline_trio.counting import counted
from kline_trio.duration import duration_text
from kline_trio.errors import ConfigError, NoAnswerError, NotRunningError
from kline_trio.quoting import one_line
from kline_trio.storage.names import disk_name, folder_path
from kline_trio.storage.simulated import simulated_hint, simulated_store

MOST_SERIES = 20
"""More are shown by --all."""
SIMULATED = "SIMULATED: the built-in exchange has made these candles up"
_DEFAULT_STORE = "data"
_WATCH_SECONDS = 2.0
_MANY_DAYS = 3_650
"""Free space that lasts longer is no news."""

Answer = Mapping[str, Any]
"""What a recorder answers to the request `statistics`."""


class Report(NamedTuple):
    """What a command has to say at one moment."""

    lines: list[str]
    """For stdout."""
    problems: list[str]
    """For stderr."""
    exit_status: int


def status_live(options: argparse.Namespace) -> int:
    """Print what the running recorder says of itself. Return 0 if it is healthy, else 1."""
    return show(options, lambda: _live_report(options))


def _live_report(options: argparse.Namespace) -> Report:
    try:
        answer = ask(named_store(options.store), request="statistics", series=options.all)
    except (NotRunningError, NoAnswerError, ConfigError) as error:
        nothing = {"source": None, "verdict": None, "error": str(error)}
        return Report([json_text(nothing)] if options.json else [], [str(error)], 1)
    is_good = is_healthy(answer)
    if options.json:
        lines = [json_text({"source": "recorder", **answer})]
    else:
        lines = [*live_lines(answer), *series_lines(answer, has_all=options.all)]
    problems = [] if is_good or not options.quiet else list(reason_lines(answer))
    return Report(lines, problems, 0 if is_good else 1)


def show(options: argparse.Namespace, report: Callable[[], Report]) -> int:
    """Print a report; with `--watch`, again and again until Ctrl-C. Return its exit status."""
    if not options.watch:
        return _show(report(), options)
    status = 0
    try:
        while True:
            began = time.monotonic()
            found = report()
            took = time.monotonic() - began
            if sys.stdout.isatty():
                columns, rows = shutil.get_terminal_size()
                lines = [line[:columns] for line in found.lines][: rows - 1 - len(found.problems)]
                found = found._replace(lines=lines)
                print("\033[H\033[J", end="")
            status = _show(found, options)
            # To measure a large store takes long; the recorder needs the disk.
            time.sleep(max(_WATCH_SECONDS, 10 * took))
    except KeyboardInterrupt:
        return status


def _show(found: Report, options: argparse.Namespace) -> int:
    if not options.quiet and found.lines:
        print("\n".join(found.lines), flush=True)
    show_problems(found.problems)
    return found.exit_status


def named_store(path: Path) -> Path:
    """Return the store that the user means: a folder, or that of a recorder.toml.

    Of a recorder.toml only `path` in the table [store] is read: a mistake elsewhere says nothing
    of the recorder that runs. If that folder does not exist, return the one of `--simulate`, if
    there is one.

    Raises:
      ConfigError: there is no such folder, or the file cannot be read.
    """
    if path.is_dir():
        return path
    try:
        text = path.read_text(encoding="utf-8-sig") if path.is_file() else None
        name = (
            "" if text is None else tomli.loads(text).get("store", {}).get("path", _DEFAULT_STORE)
        )
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from None
    if text is None or not isinstance(name, str):
        raise ConfigError([f"there is no store {path}{simulated_hint(path)}"])
    return existing_store(path.absolute().parent / folder_path(disk_name(name)), path)


def existing_store(store: Path, config_path: Path) -> Path:
    """Return a configuration's store; if only that of `--simulate` exists, return that."""
    simulated = simulated_store(config_path)
    return simulated if simulated.is_dir() and not store.is_dir() else store


def json_text(values: Mapping[str, object]) -> str:
    """Return JSON that stdout can show: UTF-8, or ASCII (RFC 8259, section 8.1)."""
    return json.dumps(values, ensure_ascii=sys.stdout.encoding.lower() != "utf-8")


def is_healthy(answer: Answer) -> bool:
    """Return whether a recorder's data come, and are complete."""
    return answer.get("verdict") in ("ok", "degraded")


def live_lines(answer: Answer) -> Iterator[str]:
    """Give a summary, the reasons of the verdict, and a line for each market."""
    statistics = answer["statistics"]
    uptime = duration_text(statistics["process"]["uptime_seconds"])
    since = duration_text(answer["since_seconds"])
    if answer.get("simulated"):
        yield SIMULATED
    yield (
        f"{answer['verdict']} for {since}: the recorder (pid {answer['pid']}) was asked;"
        f" it runs for {uptime}"
    )
    yield from reason_lines(answer)
    for market in statistics["markets"]:
        yield _market(market)
    yield _store(statistics["store"])
    if statistics.get("lake") is not None:
        yield _lake(statistics["lake"])


def reason_lines(answer: Answer) -> Iterator[str]:
    """Give a line for each reason of the verdict, the worst first."""
    for reason in answer["reasons"]:
        yield one_line(f"{reason['verdict']}: {reason['text']}")


def _market(market: Answer) -> str:
    connections = [one for one in market["listener"]["connections"] if one["is_delivering"]]
    words = [
        counted(market["series"], "series", "series"),
        counted(len(connections), "connection that delivers", "connections that deliver"),
        f"{counted(market['received'], 'candle')} received",
    ]
    refilled = sum(market["refilled"].values())
    words += [f"{refilled:,} filled in"] if refilled else []
    words += [f"{market['pending']:,} absent and asked for"] if market["pending"] else []
    words += _lag(market["lags"].values())
    words.append(f"last data {duration_text(market['silent_seconds'])} ago")
    return f"{market['trade_type']}: {', '.join(words)}"


def _lag(lags: Any) -> list[str]:  # noqa: ANN401 - of JSON
    longest = [one["p99_seconds"] for one in lags if one["p99_seconds"] is not None]
    return [f"99 % durable {max(longest):.2g} s after their close"] if longest else []


def _store(store: Answer) -> str:
    days = store["days_left"]
    left = "" if days is None or days > _MANY_DAYS else f" for {duration_text(days * 86_400)} more"
    waiting, files = counted(store["journal_rows"], "candle"), counted(store["files"], "file")
    free = f"{store['free_bytes'] / 1e9:,.1f} GB free{left}"
    return f"store: {waiting} in the journal, {files}, {free}"


def _lake(lake: Answer) -> str:
    behind = duration_text(lake["behind_seconds"])
    words = [
        f"published {behind} ago" if lake["publications"] else f"nothing published for {behind}"
    ]
    words.append(f"{counted(lake['rows'], 'candle')} sent since the start")
    if lake["is_publishing"]:
        left = "" if lake["left"] is None else f", {counted(lake['left'], 'candle')} to go"
        words.append(f"publishing now{left}")
    if lake["copies"] is not None and lake["copies_expected"] > 1:
        words.append(f"{lake['copies']} of {lake['copies_expected']} recorders of this shard")
    if lake["pruned"]:
        words.append(f"{counted(lake['pruned'], 'candle')} removed here since the start")
    problem = "" if lake["problem"] is None else f"; the last attempt failed: {lake['problem']}"
    if lake["upkeep_problem"] is not None:
        problem += f"; it could not be looked after: {lake['upkeep_problem']}"
    return one_line(f"lake: {', '.join(words)}{problem}")


def series_lines(answer: Answer, *, has_all: bool) -> Iterator[str]:
    """Give a line for each series, the worst first; only for the late ones without `has_all`."""
    statistics = answer["statistics"]
    series = sorted(statistics["series" if has_all else "late"], key=_badness)
    for one in series[: None if has_all else MOST_SERIES]:
        yield _series(one)
    if not has_all and len(series) > MOST_SERIES:
        yield f"and {len(series) - MOST_SERIES:,} more series that are late (--all shows them)"


def _badness(one: Answer) -> tuple[object, ...]:
    lag = one["last_hour"]["p99_seconds"] or 0.0
    absent = sum(one["absent"].values())
    return (-one["pending_seconds"], -one["pending"], -absent, -lag, *one["series"].values())


def _series(one: Answer) -> str:
    # Imported here: a health check loads neither attrs nor what it brings.
    from kline_trio.interval import time_text

    name = "{trade_type} {symbol}-{time_interval}".format(**one["series"])
    last_ms = one["last_open_ms"]
    words = [
        "no candle yet"
        if last_ms is None
        else f"last candle opened {time_text(last_ms).removesuffix('+00:00')}"
    ]
    if one["pending"]:
        since = duration_text(one["pending_seconds"])
        words.append(f"{counted(one['pending'], 'candle')} absent and asked for since {since}")
    words += [f"{count:,} {reason}" for reason, count in sorted(one["absent"].items())]
    words += _lag([one["last_hour"]])
    return one_line(f"{name}: {', '.join(words)}")
