"""Spell file names in UTF-8, whatever the locale is.

Python spells names in the locale's encoding (PEP 383). Under a Latin-1 locale, no file could be
named after a Chinese symbol. Under GB18030, other programs would not find the file. So each name
that is made of text, or stored as text, goes through here.
"""

import os
import sys
from pathlib import Path

from kline_trio.errors import ConfigError


def disk_name(text: str) -> str:
    """Return a path such that the operating system gets the text in UTF-8."""
    if sys.getfilesystemencoding() == "utf-8":
        return text
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


def text_of(path: str | os.PathLike[str]) -> str:
    """Return the text that a path is the UTF-8 of; the way back from `disk_name`."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def folder_path(path: str | os.PathLike[str]) -> Path:
    """Return the path that a caller means, with `~` expanded.

    A caller's path can be spelled as `os.listdir` spells it, or be text. If the two differ, take
    the one that exists; if neither exists, take the spelling of `os.listdir`.

    Raises:
      ConfigError: the path begins with `~` and the name of a user who does not exist, or it can be
        no path.
    """
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str) or "\0" in text:
        raise ConfigError([f"a path is wanted, as text or a pathlib.Path, not {path!r:.200}"])
    # Not Path.expanduser, which would expand `./~` too.
    expanded = os.path.expanduser(path)  # noqa: PTH111
    if expanded.startswith("~"):
        raise ConfigError([f"{path}: there is no such user"])
    spelled = Path(expanded)
    if sys.getfilesystemencoding() == "utf-8":
        return spelled
    in_utf8 = Path(disk_name(str(spelled)))
    try:
        return in_utf8 if os.path.lexists(in_utf8) and not os.path.lexists(spelled) else spelled
    except UnicodeEncodeError:
        return in_utf8
