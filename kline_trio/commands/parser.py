"""A parser of the command line that takes options in full only, and names the nearest one."""

import argparse
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any


class Parser(argparse.ArgumentParser):
    """A parser without abbreviations: `--simulat` is an error, not `--simulate`.

    An abbreviation that a script uses would mean another option, or none, once a later version has
    a second option that begins alike.
    """

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - those of argparse
        super().__init__(allow_abbrev=False, **settings)

    def parse_known_args(  # type: ignore[override] # overloads, for namespaces of one's own
        self,
        args: Sequence[str] | None = None,
        namespace: Any = None,  # noqa: ANN401 - as above
    ) -> tuple[Any, list[str]]:
        """Parse the words; end with status 2 if one of them is unknown.

        argparse calls this for the words of a command too. Unknown options are found first: else
        argparse may take the word behind one for another argument.
        """
        words = list(args or ())
        if self._subparsers is None:
            options = words[: words.index("--")] if "--" in words else words
            if unknown := [one for word in options for one in self._unknown_option(word)]:
                self.error("; ".join(unknown))
        namespace, unexpected = super().parse_known_args(words, namespace)
        if unexpected:
            self.error(f"unexpected: {' '.join(unexpected)}")
        return namespace, unexpected

    def _unknown_option(self, word: str) -> Iterator[str]:
        """Give the message about a word that is an unknown option."""
        option = word.partition("=")[0]
        known = [name for name in self._option_string_actions if name.startswith("--")]
        if option.startswith("--") and option not in known:
            near = get_close_matches(option, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"{self.prog} --help lists all"
            yield f"unknown option {option}; {hint}"
