"""The child process of a lake: lines of JSON go in and out; `lake/worker.py` has the protocol.

The recorder never loads the lake's packages. It watches the memory of the process, and ends it if
it says nothing or needs too much.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import psutil
import trio

from kline_trio.duration import duration_text
from kline_trio.errors import UnavailableError
from kline_trio.quoting import one_line

WORKER = (sys.executable, "-P", "-m", "kline_trio.lake")
"""The command of the child process."""
_SILENT_SECONDS = 900.0
"""A process that says nothing for so long hangs."""
_LOOK_SECONDS = 1.0
_END_SECONDS = 5.0
_READ_BYTES = 1 << 16
_LAST_WORDS = 500
_MB = 1_000_000


class PublishError(UnavailableError):
    """The lake, or the process of the lake, failed. The store still has everything."""


class TooLargeError(PublishError):
    """The process used more memory than it may."""


@attrs.define(eq=False)
class LakeProcess:
    """The child process: lines of JSON go in and out."""

    _process: trio.Process
    _most_bytes: int
    _watched: psutil.Process
    _received: bytearray = attrs.field(init=False, factory=bytearray)
    _said: str = attrs.field(init=False, default="")
    """The last lines that are no JSON, such as those of a crash."""

    @classmethod
    async def begin(cls, command: Sequence[str], memory_mb: int) -> "LakeProcess":
        """Begin the process, which may use so much memory.

        Raises:
          PublishError: the system begins none.
        """
        home = str(Path(__file__).parents[2])
        paths = filter(None, [home, os.environ.get("PYTHONPATH")])
        # Each thread of malloc's keeps memory that it does not use.
        settings = {"PYTHONPATH": os.pathsep.join(paths), "MALLOC_ARENA_MAX": "2"}
        try:
            process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **settings},
                # A Ctrl-C in the terminal is the recorder's.
                start_new_session=True,
            )
            watched = psutil.Process(process.pid)
        except (OSError, psutil.Error) as error:
            raise PublishError(f"no process can be begun: {error}") from None
        return cls(process, memory_mb * _MB, watched)

    async def send(self, line: bytes) -> None:
        """Send a line; the end of a process that reads no more shows in its answer."""
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send_all(line)
        except (trio.BrokenResourceError, OSError):
            return

    async def answer(self) -> dict[str, Any]:
        """Return the next line that is an object of JSON.

        Raises:
          PublishError: the process has ended, hangs, or used more memory than it may.
        """
        deadline = trio.current_time() + _SILENT_SECONDS
        while True:
            line, newline, rest = self._received.partition(b"\n")
            if newline:
                self._received = rest
                if (answer := _object(line)) is not None:
                    return answer
                self._said = (self._said + line.decode(errors="replace") + " ")[-_LAST_WORDS:]
            elif not await self._receive(deadline):
                raise PublishError(await self._last_words())

    async def _receive(self, deadline: float) -> bool:
        """Wait for more output. Return False at its end."""
        assert self._process.stdout is not None
        while trio.current_time() < deadline:
            self._check_memory()
            with trio.move_on_after(_LOOK_SECONDS):
                chunk = await self._process.stdout.receive_some(_READ_BYTES)
                self._received += chunk
                return bool(chunk)
        raise PublishError(
            f"the process of the lake said nothing for {duration_text(_SILENT_SECONDS)}"
        )

    def _check_memory(self) -> None:
        try:
            used_bytes = self._watched.memory_info().rss
        except psutil.Error:
            return  # it has ended, which its output shows
        if used_bytes > self._most_bytes:
            used, most = (f"{size / _MB:,.0f} MB" for size in (used_bytes, self._most_bytes))
            raise TooLargeError(
                f"the process of the lake used {used} of memory, where {most} are allowed"
                " (memory_mb); it is begun anew with less at once"
            )

    async def _last_words(self) -> str:
        with trio.move_on_after(_END_SECONDS):
            await self._process.wait()
        status = self._process.returncode
        how = "ended" if status is None else f"ended with status {status}"
        if status is not None and status < 0:
            how = f"was killed by signal {-status}"
        said = f": {one_line(self._said.strip())}" if self._said.strip() else ""
        return f"the process of the lake {how}{said}"

    async def end(self) -> None:
        """Kill the process if it still runs, and close its pipes."""
        try:
            self._process.kill()
        finally:
            with trio.move_on_after(_END_SECONDS, shield=True):
                await self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    await trio.aclose_forcefully(pipe)


def _object(line: bytes | bytearray) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
