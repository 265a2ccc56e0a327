"""What the texts of the command line's arguments mean: paths, times, numbers and addresses."""

import argparse
import os
import sys
from pathlib import Path

from kline_trio.duration import duration_seconds


def path(text: str) -> Path:
    """Return a path, with `~` expanded."""
    # No shell expands the `~` of `--into=~/x`, or of a service's command.
    try:
        found = Path(text).expanduser()
        os.fsencode(found)
        found.absolute()  # fails if the path is relative and the working folder was deleted
    except OSError as error:
        problem = f"the working folder: {error.strerror}; change to one that exists"
    except RuntimeError as error:  # an unknown user
        problem = str(error)
    except UnicodeEncodeError:
        # Python decodes arguments with the C library, and encodes paths with its own tables.
        encoding = sys.getfilesystemencoding()
        problem = f"Python cannot spell this path in {encoding}: set PYTHONUTF8=1"
    else:
        return found
    raise argparse.ArgumentTypeError(f"{text}: {problem}")


def place(text: str) -> Path | str:
    """Return a path, or the address of a lake as it stands: a path would lose one of its `//`."""
    return text if "://" in text else path(text)


def duration(text: str) -> float:
    """Return a duration in seconds."""
    try:
        return duration_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def count(text: str) -> int:
    """Return a number from 1 on."""
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def percent(text: str) -> float:
    """Return a percentage."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage, as 99.9")
    return found


def minutes(text: str) -> float:
    """Return a duration in minutes, as of a number of minutes."""
    return duration(f"{text}m") / 60


def moment_ms(text: str) -> int:
    """Return a time in ms."""
    from kline_trio.config.values import read_moment

    try:
        return round(read_moment(text).timestamp() * 1_000)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def address(text: str) -> str:
    """Return an address to serve at."""
    from kline_trio.config.monitor import split_address

    try:
        split_address(text)
    except ValueError as error:
        hint = f"; write the file first: {text} --monitor" if text.endswith(".toml") else ""
        raise argparse.ArgumentTypeError(f"{error}{hint}") from None
    return text
