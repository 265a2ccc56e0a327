"""Alarms without another system: a command when the verdict changes, and a heartbeat."""

import logging
import os
import re
import signal
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

import attrs
import httpx2
import trio

from kline_trio.monitor.health import Code, Verdict
from kline_trio.monitor.watch import Observation, Watch, json_line

logger = logging.getLogger(__name__)

_COMMAND_SECONDS = 30.0
_LEAST_SECONDS = 30.0
"""Between two runs of the command."""
_END_SECONDS = 5.0
"""How long to wait for the end of a killed command; a dead disk can hold it up."""
_LAST_WORDS_SECONDS = 0.5
"""How long to read on after a command's end: a child may hold its error output open."""
_LOOK_SECONDS = 1.0
_HEARTBEAT_SECONDS = 60.0
_REQUEST_SECONDS = 10.0
_SHOWN = 200
_READ_BYTES = 16_384
_LEAST_SECRET = 8
"""Shorter words of a command line are shown if its error output repeats them."""

Run = Callable[[tuple[str, ...], bytes], Awaitable[str | None]]
"""Runs a command with bytes on its standard input; returns what went wrong, or None."""


async def run_command(words: tuple[str, ...], body: bytes) -> str | None:
    """Run a command, without a shell. Kill it after 30 seconds, with all that it has started.

    If cancelled, kill it too. What a command that ended by itself has started goes on.

    Returns:
      what went wrong; None if it ended with status 0.
    """
    try:
        process = await trio.lowlevel.open_process(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        return f"it cannot be run: {reason or type(error).__name__}"
    said = b""
    try:
        with trio.move_on_after(_COMMAND_SECONDS) as limit:
            said = await _talk(process, body)
    finally:
        if process.returncode is None:
            await _kill(process)
    if limit.cancelled_caught:
        return f"it did not end within {_COMMAND_SECONDS:g} s, and was killed"
    if process.returncode == 0:
        return None
    text = _without_secrets(said.decode("utf-8", "replace").strip(), words[1:])[-_SHOWN:]
    return f"status {process.returncode}" + (f": {text!a}" if text else "")


async def _talk(process: trio.Process, body: bytes) -> bytes:
    """Write to the process, wait for its end, and return the end of its error output."""
    stdin, stderr = process.stdin, process.stderr
    assert stdin is not None
    assert stderr is not None
    said = b""

    async def write() -> None:
        async with stdin:
            # It may end, or close its input, without having read all.
            with suppress(trio.BrokenResourceError):
                await stdin.send_all(body)

    async def read() -> None:
        # Only the end is kept: a command may write without limit.
        nonlocal said
        async with stderr:
            while part := await stderr.receive_some(_READ_BYTES):
                said = (said + part)[-4 * _SHOWN :]

    async with trio.open_nursery() as talking:
        talking.start_soon(write)
        talking.start_soon(read)
        await process.wait()
        talking.cancel_scope.deadline = trio.current_time() + _LAST_WORDS_SECONDS
    return said


async def _kill(process: trio.Process) -> None:
    """Kill a process and its children, which share its session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with trio.move_on_after(_END_SECONDS, shield=True):
        await process.wait()


def _without_secrets(text: str, arguments: Sequence[str]) -> str:
    """Return a text without the words of the arguments, which may be passwords or URLs."""
    secrets = {*arguments, *(word for one in arguments for word in re.split("[\\s'\"=]+", one))}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _LEAST_SECRET:
            text = text.replace(secret, "...")
    return text


@attrs.define(eq=False)
class ChangeCommand:
    """Runs a command when the verdict changes."""

    words: tuple[str, ...] = attrs.field(repr=False)
    watch: Watch
    shown: Verdict = Verdict.OK
    """The verdict of the last run."""
    run_one: Run = run_command

    async def run(self) -> None:
        """Run the command for each change, until cancelled; no more often than each 30 seconds.

        A verdict that comes and goes meanwhile is left out. A command that fails is logged.
        """
        while True:
            found = self.watch.latest
            verdict = _alarming_verdict(found)
            if verdict is self.shown:
                await trio.sleep(_LOOK_SECONDS)
                continue
            body = {"was": str(self.shown), **found.verdict()}
            problem = await self.run_one(self.words, json_line(body))
            self.shown = verdict
            if problem is not None:
                logger.warning("on_change: %s: %s", self.words[0], problem)
            await trio.sleep(_LEAST_SECONDS)


def _alarming_verdict(found: Observation) -> Verdict:
    """Return the verdict; a recorder that only starts is ok, or each start would raise an alarm."""
    reasons = found.health.reasons
    is_starting = all(one.code is Code.STARTING for one in reasons)
    return Verdict.OK if is_starting else found.health.verdict


@attrs.frozen
class HeartbeatUrl:
    """Requests a URL each minute while health is not bad, as healthchecks.io expects it."""

    url: str = attrs.field(repr=False)
    transport: httpx2.AsyncBaseTransport
    """Not a client: a client logs the URL of each request."""
    watch: Watch

    async def run(self) -> None:
        """Request the URL until cancelled. Log a failure once, until it succeeds again.

        When health turns bad, request the URL with `/fail` at the end of its path; each minute,
        until that has succeeded once.
        """
        is_failing, due_at, was_bad, is_reported = False, trio.current_time(), False, False
        while True:
            is_bad = self.watch.latest.health.verdict is Verdict.BAD
            if is_bad != was_bad:
                due_at, was_bad, is_reported = trio.current_time(), is_bad, False
            if (is_bad and is_reported) or trio.current_time() < due_at:
                await trio.sleep(_LOOK_SECONDS)
                continue
            due_at = trio.current_time() + _HEARTBEAT_SECONDS
            problem = await self._request(failure_url(self.url) if is_bad else self.url)
            is_reported = problem is None
            if problem is not None and not is_failing:
                logger.warning("heartbeat_url: %s", problem)
            elif problem is None and is_failing:
                logger.info("heartbeat_url: it answers again")
            is_failing = problem is not None

    async def _request(self, url: str) -> str | None:
        # No text of an exception: it may name the URL, which is a secret. The body is not read.
        with trio.move_on_after(_REQUEST_SECONDS):
            try:
                headers = {"user-agent": "kline_trio"}
                request = httpx2.Request("GET", url, headers=headers)
                response = await self.transport.handle_async_request(request)
                await response.aclose()
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                return f"no answer ({type(error).__name__})"
            return None if response.is_success else f"HTTP {response.status_code}"
        return f"no answer within {_REQUEST_SECONDS:g} s"


def failure_url(url: str) -> str:
    """Return a URL with `/fail` at the end of its path, before a query."""
    parts = urlsplit(url)
    return parts._replace(path=parts.path.rstrip("/") + "/fail").geturl()
