"""Alarms without another system: a command when the verdict changes, and a heartbeat."""

import json
import logging
import subprocess
from collections.abc import Awaitable, Callable

import attrs
import httpx2
import trio

from kline_trio.monitor.health import Verdict
from kline_trio.monitor.watch import Watch

logger = logging.getLogger(__name__)

_COMMAND_SECONDS = 30.0
_LEAST_SECONDS = 30.0
"""Between two runs of the command."""
_LOOK_SECONDS = 1.0
_HEARTBEAT_SECONDS = 60.0
_SHOWN = 200

Run = Callable[[tuple[str, ...], bytes], Awaitable[str | None]]
"""Runs a command with bytes on its standard input; returns what went wrong, or None."""


async def run_command(words: tuple[str, ...], body: bytes) -> str | None:
    """Run a command, without a shell. Kill it after 30 seconds.

    If cancelled, kill it.

    Returns:
      what went wrong; None if it ended with status 0.
    """
    try:
        with trio.fail_after(_COMMAND_SECONDS):
            done = await trio.run_process(
                words,
                stdin=body,
                stdout=subprocess.DEVNULL,
                capture_stderr=True,
                check=False,
            )
    except trio.TooSlowError:
        return f"it did not end within {_COMMAND_SECONDS:g} s, and was killed"
    except OSError as error:
        return f"it cannot be run: {error.strerror or error}"
    if done.returncode == 0:
        return None
    said = done.stderr.decode("utf-8", "replace").strip()[-_SHOWN:]
    return f"status {done.returncode}" + (f": {said!a}" if said else "")


@attrs.frozen
class ChangeCommand:
    """Runs a command when the verdict changes."""

    words: tuple[str, ...]
    watch: Watch
    run_one: Run = run_command

    async def run(self) -> None:
        """Run the command for each change, until cancelled; no more often than each 30 seconds.

        A verdict that comes and goes meanwhile is left out. A command that fails is logged.
        """
        shown = Verdict.OK
        while True:
            found = self.watch.latest
            if found.health.verdict is shown:
                await trio.sleep(_LOOK_SECONDS)
                continue
            was, shown = shown, found.health.verdict
            body = json.dumps({"was": str(was), **found.verdict()}, ensure_ascii=False) + "\n"
            problem = await self.run_one(self.words, body.encode())
            if problem is not None:
                logger.warning("on_change: %s: %s", self.words[0], problem)
            await trio.sleep(_LEAST_SECONDS)


@attrs.frozen
class HeartbeatUrl:
    """Requests a URL each minute while health is not bad, as healthchecks.io expects it."""

    url: str = attrs.field(repr=False)
    client: httpx2.AsyncClient
    watch: Watch

    async def run(self) -> None:
        """Request the URL until cancelled. Log a failure once, until it succeeds again."""
        is_failing, due_at, was_bad = False, trio.current_time(), False
        while True:
            is_bad = self.watch.latest.health.verdict is Verdict.BAD
            if is_bad == was_bad and (is_bad or trio.current_time() < due_at):
                await trio.sleep(_LOOK_SECONDS)
                continue
            was_bad, due_at = is_bad, trio.current_time() + _HEARTBEAT_SECONDS
            problem = await self._request(self.url + "/fail" if is_bad else self.url)
            if problem is not None and not is_failing:
                logger.warning("heartbeat_url: %s", problem)
            is_failing = problem is not None
            await trio.sleep(_LOOK_SECONDS)

    async def _request(self, url: str) -> str | None:
        # No text of an exception: it may name the URL, which is a secret.
        try:
            response = await self.client.get(url)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            return f"no answer ({type(error).__name__})"
        return None if response.is_success else f"HTTP {response.status_code}"
