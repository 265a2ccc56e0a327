"""A TOML document that is read key by key. Its problems are collected, each with its line."""

import os
import stat
from bisect import bisect_left
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import attrs
import tomli

from kline_trio.config.values import Setting
from kline_trio.errors import ConfigError

Where = tuple[str, ...]
"""The keys that lead to a place in the document."""

FORMER_KEY = "former key"
"""In the metadata of a field: its key in recorder.toml in earlier versions."""

_MAX_FILE_BYTES = 16 * 2**20
"""All symbols of all markets, in all 16 intervals, need a tenth of this."""
_BYTE_ORDER_MARK = "\ufeff"
"""Editors on Windows write it before UTF-8 text; TOML does not allow it."""

_Value = TypeVar("_Value")


def text_of_file(path: Path) -> str:
    """Return the text of a file. Refuse a pipe or a device, which could block for ever.

    Raises:
      ConfigError: the file cannot be read, is too long, or is not UTF-8.
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
    """Paths in the text are relative to it."""
    root: dict[str, Any]
    problems: list[tuple[Where, str]] = attrs.field(init=False, factory=list)

    @classmethod
    def parse(cls, text: str, name: str, folder: Path) -> "Document":
        """Parse a text.

        Raises:
          ConfigError: the text is not TOML; the name stands before the reason.
        """
        try:
            text = text.removeprefix(_BYTE_ORDER_MARK)
            return cls(text, folder, tomli.loads(text))
        except ValueError as error:  # also from a number of thousands of digits
            raise ConfigError([f"{name}: {error}"]) from None
        except RecursionError:
            raise ConfigError([f"{name}: nested too deeply"]) from None

    def add_problem(self, where: Where, problem: object) -> None:
        """Add a problem at a place in the document."""
        self.problems.append((where, str(problem)))

    def table(
        self, where: Where, value: object, known: tuple[str, ...], former: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Return the known and the former keys of a table, in this order. Others are problems."""
        if not isinstance(value, dict):
            self.add_problem(where, f"a table is wanted, not {value!r}")
            return {}
        for key in value:
            if key not in (*known, *former):
                self.add_problem((*where, key), f"unknown key; {hint(key, known)}")
        return {key: value[key] for key in (*known, *former) if key in value}

    def section(self, where: Where, parent: Mapping[str, Any], default: _Value) -> _Value:
        """Return a default, changed by the values of a table.

        Args:
          where: the table; the last key is one of the parent's.
          parent: the table around it.
          default: an attrs object; each field has a `Setting` as its validator.
        """
        anything: Any = default  # mypy knows no bound for all attrs classes
        fields: dict[str, Any] = attrs.fields_dict(type(anything))
        former = {one.metadata[FORMER_KEY]: name for name, one in fields.items() if one.metadata}
        table, changes = parent.get(where[-1], {}), dict[str, Any]()
        for key, value in self.table(where, table, tuple(fields), tuple(former)).items():
            place, name = (*where, key), former.get(key, key)
            if name in changes:
                self.add_problem(place, f"the former name of {name}, which is there too")
                continue
            setting, old = fields[name].validator, getattr(default, name)
            changes[name] = self.value(place, setting, value, old)
        section: _Value = attrs.evolve(anything, **changes)
        return section

    def value(self, where: Where, setting: Setting, value: object, default: _Value) -> _Value:
        """Return the field's value for a value of TOML. If that is wrong, add a problem."""
        try:
            found: _Value = setting.from_toml(value)
        except ValueError as error:
            self.add_problem(where, error)
            return default
        return self.folder / found if isinstance(found, Path) else found

    def raise_problems(self, name: str) -> None:
        """Raise ConfigError if there are problems. The name stands before each."""
        lines = [
            f"{name}: {'.'.join(where)}: {problem}{self._line_note(where)}"
            for where, problem in self.problems
        ]
        if lines:
            raise ConfigError(lines)

    def _line_note(self, where: Where) -> str:
        """Return the line of a key: the first line up to which the document has the key.

        No maintained library keeps positions, so this parses the first lines again, but only if
        there is a problem to show.
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
            continue  # the last line is inside a value of several lines
    return {}


def hint(key: str, known: tuple[str, ...]) -> str:
    """Return a hint for a user who wrote an unknown key."""
    near = get_close_matches(key, known, n=1)
    return f'did you mean "{near[0]}"?' if near else f"one of {' '.join(known)}"
