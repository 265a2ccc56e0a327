"""The command `backfill` beside a running recorder: that one fetches, and this shows how far."""

import argparse
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kline_trio.commands.control import answers, ask
from kline_trio.commands.interrupts import raise_from_now_on
from kline_trio.commands.log import log_lines
from kline_trio.commands.progress import Progress, open_progress
from kline_trio.counting import counted
from kline_trio.errors import NoAnswerError, NotRunningError, StoreInUseError, UnavailableError
from kline_trio.storage.step import Step

logger = logging.getLogger("kline_trio.commands.backfill")

_LINE_SECONDS = 120.0
"""The recorder counts what is absent before each line; a long ledger takes a while."""
_LOG_SECONDS = 60.0
_NO_UNTIL = (
    "a recorder has the store, and fetches up to now: leave out --until, or stop the recorder first"
)


def fetch_beside_recorder(store: Path, options: argparse.Namespace, give_up_seconds: float) -> bool:
    """Let the store's running recorder fetch. Return False if none runs, and nothing was done.

    The recorder fills the gaps of its ledger anyway. With `--since` it takes the past of all its
    series into the ledger first; that stays, also if this command is stopped.

    Raises:
      ConfigError: `--since` is in the future of the exchange.
      StoreInUseError: `--until` was given.
      NoAnswerError: the recorder does not answer.
      UnavailableError: the exchange gave the recorder no answer for `give_up_seconds`.
    """
    lines = answers(store, _LINE_SECONDS, request="fetch", since_ms=options.since)
    try:
        if options.until is not None:
            ask(store, request="statistics")
            raise StoreInUseError(_NO_UNTIL)
        # Asked before the log begins: without a recorder, the backfill has a log of its own.
        with open_progress(may_draw=not options.quiet) as progress:
            progress.show(Step("waiting for the running recorder to count what is absent"))
            first = next(lines, {})
    except NotRunningError:
        return False
    raise_from_now_on()
    log_format = options.log_format
    with log_lines(debug=options.debug, quiet=options.quiet, log_format=log_format) as screen:
        logger.info("the recorder that runs fetches; this shows how far it is")
        _follow(first, lines, give_up_seconds, Progress(screen))
    return True


def filling_step(text: str, filled: int, pending: int | None) -> Step:
    """Return how far a backfill is, as a step.

    Args:
      text: the same for people, and what it waits for.
      filled: how many candles were filled in.
      pending: how many candles are still to be asked for; None: not known yet.
    """
    return Step(text, filled, None if pending is None else filled + pending, "candle")


def _follow(
    line: Mapping[str, Any],
    lines: Iterator[Mapping[str, Any]],
    give_up_seconds: float,
    progress: Progress,
) -> None:
    log_at = time.monotonic() + _LOG_SECONDS
    filled = 0
    try:
        while (found := line.get("progress")) is not None:
            filled = found["filled"]
            if found["silent_seconds"] >= give_up_seconds:
                minutes = found["silent_seconds"] / 60
                raise UnavailableError(
                    f"nothing could be asked for {minutes:.0f} minutes: {found['text']};"
                    " the recorder goes on, and --wait goes on waiting"
                )
            progress.show(filling_step(found["text"], filled, found["pending"]))
            if time.monotonic() >= log_at:
                log_at += _LOG_SECONDS
                logger.info("backfill: %s", found["text"])
            line = next(lines, {})
    except KeyboardInterrupt:
        so_far = counted(filled, "candle")
        logger.info("stopped waiting: %s filled in; the recorder goes on", so_far)
        raise
    if "answer" not in line:
        raise NoAnswerError("the recorder ended; what it fetched stays. Start backfill again")
    logger.info("done: %s filled in", counted(line["answer"]["filled"], "candle"))
