"""The process of a command: its standard streams, and the exit status for each error."""

import errno
import io
import os
import sys
import traceback
from pathlib import Path

from kline_trio.errors import (
    ConfigError,
    DiskError,
    LakeError,
    NoAnswerError,
    StoreInUseError,
    UnavailableError,
    leaves,
)
from kline_trio.quoting import escaped, one_line, shown

_STDERR = 2
_EXIT_USAGE = 2
_EXIT_BUG = 70
_EXIT_SYSTEM = 71
_EXIT_OUTPUT = 74
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_STATUSES: tuple[tuple[type[BaseException], int], ...] = (
    (ConfigError, _EXIT_USAGE),
    (StoreInUseError, 75),
    (DiskError, 74),
    (UnavailableError, 69),
    (NoAnswerError, 69),
    (LakeError, 69),
    (KeyboardInterrupt, 130),
)


def make_streams_safe() -> None:
    """Let stdout and stderr take any text, and let nothing else have their descriptors.

    Characters that the locale's encoding lacks are printed as backslash escapes. If a stream is
    closed, its output goes nowhere.
    """
    # Else a file of the store, or a socket, could get the descriptor of a closed stream, and the
    # log would be written into it.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            is_utf8 = stream.encoding.lower() == "utf-8"
            if stream.errors == "strict" or not is_utf8:
                stream.reconfigure(errors="backslashreplace")


def exit_status(error: BaseException, *, debug: bool) -> int:
    """Print the cause of an error on stderr, a line each, and return the exit status.

    Args:
      error: what ended the command, perhaps a group.
      debug: print the whole traceback too.
    """
    if debug:
        for line in "".join(traceback.format_exception(error)).splitlines():
            print(escaped(line), file=sys.stderr)
    found = list(leaves(error))
    first = found[0]
    if isinstance(first, BrokenPipeError):
        # The reader of the output has ended, as `head` does.
        _drop_output()
        return 0
    for kind, status in _STATUSES:
        for leaf in found:
            if isinstance(leaf, kind):
                lines = leaf.problems if isinstance(leaf, ConfigError) else [str(leaf)]
                for line in filter(None, lines):
                    print(one_line(line), file=sys.stderr)
                return status
    if isinstance(first, OSError) and first.errno in _FULL:
        # An error of the store would be a DiskError.
        _drop_output()
        print(f"the output could not be written: {first.strerror}", file=sys.stderr)
        return _EXIT_OUTPUT
    if problem := next(filter(None, map(_missing_package, found)), None):
        print(problem, file=sys.stderr)
        return _EXIT_USAGE
    if problem := next(filter(None, map(_resource_problem, found)), None):
        print(problem, file=sys.stderr)
        return _EXIT_SYSTEM
    frames = traceback.extract_tb(first.__traceback__)[-1:]
    place = "".join(f" at {Path(frame.filename).name}:{frame.lineno}" for frame in frames)
    bug = f"a bug in kline_trio: {type(first).__name__}: {shown(str(first))}{place}"
    print(f"{bug}; --debug shows all of it", file=sys.stderr)
    return _EXIT_BUG


def _drop_output() -> None:
    """Keep the interpreter's last flush from failing again (Python docs, "Note on SIGPIPE")."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _resource_problem(error: BaseException) -> str | None:
    """Return the line for a lack of memory, descriptors or threads; None for another error."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or number in (errno.ENOMEM, errno.ENOBUFS):
        advice = "record fewer series in one process, or allow it more"
        return f"the system gives no more memory: {advice}"
    if number in (errno.EMFILE, errno.ENFILE):
        return f"too many open files: allow more, as by `ulimit -n 4096` ({error})"
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        return "the system gives no more threads: allow more processes, as by `ulimit -u`"
    return None


def _missing_package(error: BaseException) -> str | None:
    """Return the line for a package that is not installed; None for another error."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    name = error.name.partition(".")[0]
    if name == "kline_trio":
        return None
    if name in sys.stdlib_module_names:
        return f"this Python was built without its module {name}: use another one"
    install = "run  python -m pip install .  in its folder"
    return f"kline_trio needs its packages: {install} ({shown(name)} is missing)"
