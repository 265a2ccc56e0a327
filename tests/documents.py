"""The blocks of README and docs, and a shell that a reader could have typed them into.

A block that cannot run here has a comment on the line above it:

    <!-- cannot run here: reason -->

Comments in a block itself, which readers see, say how a command ends:

    kline-trio status recorder.toml   # exit status 3: no recorder runs now
    kline-trio serve data             # until Ctrl-C
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import NamedTuple, Self

import attrs
import psutil

from kline_trio.commands import cli

__all__ = [
    "Block",
    "Command",
    "Ran",
    "Shell",
    "blocks_of",
    "commands_of",
    "is_shown",
    "newcomers_environment",
    "parse_command",
]

_NOT_OURS = re.compile(r"kline[_-]trio|__editable__|_editable_impl|pip\b|pip-")
_SECONDS = 180.0
_BLOCK = re.compile(
    r"(?:^<!-- cannot run here: (?P<reason>.+?) -->\n\n?)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_ENDING = re.compile(r"\s#\s*(?:exit status (?P<status>\d+)|(?P<endless>until Ctrl-C))")
_SHELL_WORDS = ("|", "||", "&&", ";", ">", "<", "&")
_NUMBER = re.compile(r"[0-9][0-9,.:]*")


@attrs.frozen
class Block:
    """A fenced block of a Markdown page."""

    page: str
    line: int
    """The line number of its first fence, from 1."""
    language: str
    text: str
    reason: str | None
    """Why the block cannot run here, if its marker says so."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


class Command(NamedTuple):
    """A line of a shell block, and how it ends."""

    line: str
    status: int = 0
    is_endless: bool = False
    """Whether the command runs until Ctrl-C."""


class Ran(NamedTuple):
    """The end of a command."""

    status: int
    output: str
    """What it wrote to stdout and stderr."""


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page.name,
            text.count("\n", 0, match.start("language")) + 1,
            match["language"],
            match["text"],
            match["reason"],
        )
        for match in _BLOCK.finditer(text)
    ]


def commands_of(block: Block) -> Iterator[Command]:
    r"""Give the commands of a shell block, a line each; a `\` at an end continues a line."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        ending = _ENDING.search(line)
        status = int(ending["status"] or 0) if ending else 0
        yield Command(line, status, bool(ending and ending["endless"]))


def parse_command(line: str) -> None:
    """Check a line without running it: the shell's syntax, and the words of each `kline-trio`.

    Raises:
      AssertionError: bash refuses the line, or kline_trio an option or a value in it.
    """
    done = subprocess.run(
        ["bash", "-n"], input=line, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, f"{line}: {done.stderr}"
    words = shlex.split(line, comments=True)
    for begin, word in enumerate(words):
        if word == "kline-trio":
            rest = list(takewhile(lambda other: other not in _SHELL_WORDS, words[begin + 1 :]))
            if not rest or (rest[0] not in cli._COMMANDS and not rest[0].startswith("-")):
                rest.insert(0, "record")
            try:
                cli._parser().parse_args(rest)
            except SystemExit as end:
                assert end.code == 0, f"{line}: {rest}"  # noqa: PT017 - stderr says why


def is_shown(shown: str, output: str) -> bool:
    """Return whether a line of the output is like the line that a page shows.

    Numbers may differ, and so may the width of columns.
    """
    return _form(shown) in map(_form, output.splitlines())


def _form(line: str) -> str:
    return " ".join(_NUMBER.sub("0", word) for word in line.split())


class Shell:
    """One bash, in which commands run one after the other, as a reader types them.

    Each command has the folder and the environment that those before it left, and no terminal.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], output: Path) -> None:
        """Start bash.

        Args:
          folder: where it starts.
          environment: all of its variables.
          output: a file for what a command writes; each command overwrites it.
        """
        self._output = output
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], cwd=folder, env=dict(environment), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        """Nothing more; the end of the block ends bash."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """End bash, and whatever still runs in it."""
        self._kill()
        self._bash.communicate()

    def run(
        self, command: Command, meanwhile: Callable[[Callable[[], str]], None] | None = None
    ) -> Ran:
        """Run a command to its end.

        Args:
          command: a line. If it is endless, it is interrupted, as by Ctrl-C.
          meanwhile: called while an endless command runs, with a function that returns what it
            has written so far. The interrupt follows the return.

        Raises:
          AssertionError: the command did not end in time, or ended the shell.
        """
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        # The line break ends a comment of the line.
        place = shlex.quote(str(self._output))
        self._bash.stdin.write(f"{{ {command.line}\n}} </dev/null >{place} 2>&1; echo $?\n")
        self._bash.stdin.flush()
        watch = Timer(_SECONDS, self._kill)
        watch.start()
        try:
            if command.is_endless:
                assert meanwhile is not None
                meanwhile(self._written)
                [process] = psutil.Process(self._bash.pid).children()
                process.send_signal(signal.SIGINT)
            status = self._bash.stdout.readline()
        finally:
            watch.cancel()
        output = self._written()
        assert status, f"{command.line}: no end within {_SECONDS} s, or of the shell too: {output}"
        return Ran(int(status), output)

    def _written(self) -> str:
        return self._output.read_text(encoding="utf-8", errors="replace")

    def _kill(self) -> None:
        if self._bash.poll() is None:
            os.killpg(self._bash.pid, signal.SIGKILL)


def newcomers_environment(folder: Path) -> dict[str, str]:
    """Return the variables of a shell in which `pip install` of a clone takes seconds.

    A virtual environment that is made in it is fresh, but for one thing: the packages of the
    environment that runs the tests count as installed there, all except kline_trio and pip. So pip
    installs kline_trio alone, for real, and asks no index.

    Args:
      folder: an empty folder for what the shell needs.
    """
    packages, programs, home = (folder / name for name in ("packages", "programs", "home"))
    for place in (packages, programs, home):
        place.mkdir(parents=True)
    for installed in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for path in Path(installed).iterdir():
            if not _NOT_OURS.match(path.name):
                (packages / path.name).symlink_to(path)
    python = programs / "python3"
    # A link to the interpreter would not find its environment.
    interpreter = getattr(sys, "_base_executable", sys.executable)
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(interpreter)} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    inherited = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TZ") if name in os.environ}
    return {
        **inherited,
        "HOME": str(home),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(packages),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INDEX": "1",
        # pip reads this as the value of `build_isolation`.
        "PIP_NO_BUILD_ISOLATION": "false",
    }
