"""A document of TOML, read key by key: its problems are collected, each with its line."""

import os
import stat
from bisect import bisect_left
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import attrs
import tomli

from kline_trio.config.values import Kind
from kline_trio.errors import ConfigError

__all__ = ["Document", "Where", "hint", "open_nonblocking", "text_of_file"]

Where = tuple[str, ...]
"""The keys that lead to a place in the document."""

_MAX_FILE_BYTES = 16 * 2**20
"""The symbols of all markets, each in all 16 intervals, take a tenth of it."""
_BYTE_ORDER_MARK = "\ufeff"
"""Editors on Windows put it before UTF-8 text; TOML does not allow it."""

_Value = TypeVar("_Value")


def text_of_file(path: Path) -> str:
    """Return the text of a file. A pipe or a device could keep the reader waiting for ever.

    Raises:
      ConfigError: it cannot be read, is no file, is too long, or is not UTF-8.
    """
    try:
        # Not Path.open, which takes no opener.
        with open(path, "rb", opener=open_nonblocking) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(
                    [f"{path}: cannot be read: it is no file, but a pipe or a device"]
                )
            content = file.read(_MAX_FILE_BYTES + 1)
        if len(content) > _MAX_FILE_BYTES:
            raise ConfigError([f"{path}: cannot be read: longer than {_MAX_FILE_BYTES:,} bytes"])
        return content.decode()
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 text (byte {error.start})"]) from None


def open_nonblocking(path: str, flags: int) -> int:
    """Open a file, as an opener of `open`; a pipe without another end does not block it."""
    return os.open(path, flags | os.O_NONBLOCK, 0o666)


@attrs.frozen
class Document:
    """A parsed text, and the problems that were found in it."""

    text: str
    folder: Path
    """What its paths are relative to."""
    root: dict[str, Any]
    problems: list[tuple[Where, str]] = attrs.field(init=False, factory=list)

    @classmethod
    def parse(cls, text: str, name: str, folder: Path) -> "Document":
        """Parse a text.

        Raises:
          ConfigError: it is no TOML; the name stands before the reason.
        """
        try:
            text = text.removeprefix(_BYTE_ORDER_MARK)
            return cls(text, folder, tomli.loads(text))
        except ValueError as error:  # also of a number of thousands of digits
            raise ConfigError([f"{name}: {error}"]) from None
        except RecursionError:
            raise ConfigError([f"{name}: nested too deeply"]) from None

    def add_problem(self, where: Where, problem: object) -> None:
        """Add a problem of a place in the document."""
        self.problems.append((where, str(problem)))

    def table(self, where: Where, value: object, known: tuple[str, ...]) -> dict[str, Any]:
        """Return the known keys of a table, in their usual order; any other one is a problem."""
        if not isinstance(value, dict):
            self.add_problem(where, f"a table is wanted, not {value!r}")
            return {}
        for key in value:
            if key not in known:
                self.add_problem((*where, key), f"unknown key; {hint(key, known)}")
        return {key: value[key] for key in known if key in value}

    def section(
        self,
        where: Where,
        parent: Mapping[str, Any],
        default: _Value,
        former: Mapping[str, str],
    ) -> _Value:
        """Return a default with the values that a table has in its place.

        Args:
          where: the table; its last key is one of the parent's.
          parent: the table around it.
          default: each of its fields is read by the `Kind` that is its validator.
          former: the names that keys had in earlier versions, with the names that they have now.
        """
        anything: Any = default  # mypy knows no bound for all attrs classes
        kinds: dict[str, Any] = {one.name: one.validator for one in attrs.fields(type(anything))}
        table, written = parent.get(where[-1], {}), {}
        for old, new in former.items():
            if isinstance(table, dict) and old in table:
                if new in table:
                    self.add_problem((*where, old), f"the former name of {new}, which is there too")
                table = {new: table[old], **{key: table[key] for key in table if key != old}}
                written[new] = old
        changes = {}
        for key, value in self.table(where, table, tuple(kinds)).items():
            place = (*where, written.get(key, key))
            changes[key] = self.value(place, kinds[key], value, getattr(default, key))
        section: _Value = attrs.evolve(anything, **changes)
        return section

    def value(self, where: Where, kind: Kind, value: object, default: _Value) -> _Value:
        """Return what a value means; the default if it means nothing, which is a problem."""
        try:
            meant: _Value = kind.read(value)
        except ValueError as error:
            self.add_problem(where, error)
            return default
        return self.folder / meant if isinstance(meant, Path) else meant

    def raise_problems(self, name: str) -> None:
        """Raise ConfigError if there are problems; the name stands before each of them."""
        if self.problems:
            raise ConfigError(
                [
                    f"{name}: {'.'.join(where)}: {problem}{self._line_note(where)}"
                    for where, problem in self.problems
                ]
            )

    def _line_note(self, where: Where) -> str:
        """Return the line of a key: the first line up to which the document has the key.

        tomli keeps no positions, and no well-kept library does, so the text is read again up to
        some lines: only when there is a problem to show.
        """
        lines = self.text.splitlines(keepends=True)

        def holds_key(count: int) -> bool:
            found: Any = _longest_document(lines[:count])
            for key in where:
                found = found.get(key) if isinstance(found, dict) else None
            return found is not None

        line = bisect_left(range(len(lines) + 1), x=True, key=holds_key)
        return f" (line {line})" if line <= len(lines) else ""


def _longest_document(lines: list[str]) -> dict[str, Any]:
    for count in range(len(lines), 0, -1):
        try:
            return tomli.loads("".join(lines[:count]))
        except tomli.TOMLDecodeError:
            continue  # it ends in the middle of a value of several lines
    return {}


def hint(key: str, known: tuple[str, ...]) -> str:
    """Return what a user who wrote an unknown key may have meant."""
    near = get_close_matches(key, known, n=1)
    return f'did you mean "{near[0]}"?' if near else f"one of {' '.join(known)}"
