"""The command `doctor`: check what a recorder needs, before it runs or beside it.

It changes nothing: it makes no store and takes no lock. It sends each REST host one request for the
time, each market one for its list of symbols, and the archive one for a checksum. It opens one
WebSocket connection for each URL, for one stream. Markets that the configuration does not use are
left out.
"""

import argparse
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from kline_trio.commands.examination import (
    Check,
    Examination,
    Surroundings,
    connection_problems,
)
from kline_trio.commands.finding import Finding, Verdict, json_of, summary, text_of
from kline_trio.commands.progress import Progress, open_progress
from kline_trio.config import Config
from kline_trio.errors import ConfigError
from kline_trio.exchange.http import http_client
from kline_trio.storage.step import OnStep, Step

_TOTAL_SECONDS = 40.0
_REST_SECONDS = 8.0


def doctor(options: argparse.Namespace) -> int:
    """Print the findings of all checks. Return 1 if there is an error among them, else 0.

    Raises:
      ConfigError: the configuration cannot be read.
    """
    try:
        config = Config.from_toml(options.config)
    except ConfigError as error:
        if options.json:
            _print_json([_unreadable(options.config, one) for one in error.problems])
        raise
    with open_progress() as progress:
        show = _ignore if options.json else _line_printer(progress)
        show_waiting = partial(_show_waiting, progress.show)
        findings = trio.run(examine, config, options.config, Surroundings(), show, show_waiting)
    if options.json:
        _print_json(findings)
    else:
        print(summary(findings))
    return 1 if any(one.verdict is Verdict.ERROR for one in findings) else 0


def _unreadable(path: Path, problem: str) -> Finding:
    return Finding("config", str(path), Verdict.ERROR, problem, f"correct it in {path}")


def _print_json(findings: Sequence[Finding]) -> None:
    # JSON is UTF-8, or ASCII (RFC 8259, section 8.1).
    is_ascii = sys.stdout.encoding.lower() != "utf-8"
    print(json.dumps([json_of(one) for one in findings], ensure_ascii=is_ascii))


def _ignore(_: Finding) -> None:
    pass


def _line_printer(progress: Progress) -> Callable[[Finding], None]:
    before = None

    def print_line(finding: Finding) -> None:
        nonlocal before
        with progress.hidden():
            print(text_of(finding, before), flush=True)
        before = finding

    return print_line


def _show_waiting(on_step: OnStep, checks: Sequence[Check]) -> None:
    if checks:
        more = f", and {len(checks) - 1} more" if len(checks) > 1 else ""
        on_step(Step(f"waiting for {checks[0].name} {checks[0].subject}{more}"))


async def examine(
    config: Config,
    path: Path,
    surroundings: Surroundings,
    show: Callable[[Finding], None] = _ignore,
    show_waiting: Callable[[Sequence[Check]], None] = lambda _: None,
) -> list[Finding]:
    """Run all checks at the same time, for 40 s at most. Return their findings in a fixed order.

    Args:
      config: what to check.
      path: of its recorder.toml.
      surroundings: network, disk, clocks and limits.
      show: called with each finding, in order, as soon as those before it are known.
      show_waiting: called with the checks that are not finished, whenever that changes.
    """
    async with _opened(config, path, surroundings) as examination:
        checks = list(examination.checks())
        found: dict[Check, Sequence[Finding]] = {}
        shown: list[Finding] = []

        def advance() -> None:
            """Show the findings before the first check that is not finished."""
            waiting = [one for one in checks if one not in found]
            ready = checks[: checks.index(waiting[0])] if waiting else checks
            for finding in [finding for one in ready for finding in found[one]][len(shown) :]:
                shown.append(finding)
                show(finding)
            show_waiting(waiting)

        async def run(check: Check) -> None:
            found[check] = await check.run()
            advance()

        advance()
        with trio.move_on_after(_TOTAL_SECONDS):
            async with trio.open_nursery() as nursery:
                for task in examination.tasks():
                    nursery.start_soon(task)
                for check in checks:
                    nursery.start_soon(run, check)
        for check in checks:
            found.setdefault(check, [_late(check)])
        advance()
    return shown


def _late(check: Check) -> Finding:
    message = f"no result within {_TOTAL_SECONDS:g} s"
    return Finding(check.name, check.subject, Verdict.ERROR, message, "try again")


@asynccontextmanager
async def _opened(
    config: Config, path: Path, surroundings: Surroundings
) -> AsyncIterator[Examination]:
    """Give an examination while its HTTP client is open; without one if it cannot be made."""
    problems = await connection_problems(config, surroundings)
    if problems:
        yield Examination(config, path, surroundings, problems, None)
        return
    ca_file, proxy = config.connection.ca_file, config.connection.proxy
    async with http_client(ca_file, proxy, surroundings.http_transport, _REST_SECONDS) as client:
        yield Examination(config, path, surroundings, problems, client)
