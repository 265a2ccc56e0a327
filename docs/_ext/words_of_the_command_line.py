"""The directive `commands`: what each command does, and its options, from the parser itself."""

import argparse
import re
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from sphinx.util.docutils import SphinxDirective

from kline_trio.commands import cli

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_BAR = r"\|"
"""A bar inside a cell of a table."""
_BRACKETS = re.compile(r"\[[^][]*(?:\[[^][]*\][^][]*)*\]")
_HARD_BLANK = "\N{NO-BREAK SPACE}"
_WIDTH = 76


def commands() -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """Return the parser of each command, with the line that says what the command does."""
    for action in cli._parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            lines = {one.dest: one.help or "" for one in action._choices_actions}
            return {name: (lines[name], parser) for name, parser in action.choices.items()}
    raise AssertionError("the parser has no commands")


def described(name: str) -> str:
    """Return the Markdown that describes a command."""
    line, parser = commands()[name]
    text = [f"{line[0].upper()}{line[1:]}.", "", "```text", *_usage(name, parser), "```", ""]
    rows = [_row(one) for one in parser._actions if not isinstance(one, argparse._HelpAction)]
    if rows:
        text += ["| argument | meaning |", "|---|---|", *rows, ""]
    if parser.epilog:
        text += [parser.epilog, ""]
    return "\n".join(text)


def _usage(name: str, parser: argparse.ArgumentParser) -> list[str]:
    """Return the lines of the usage, which break between arguments only."""
    words = " ".join(parser.format_usage().split())
    shown = words[words.index(f" {name} ") :].replace(" [-h]", "")
    whole = _BRACKETS.sub(lambda match: match[0].replace(" ", _HARD_BLANK), f"kline-trio{shown}")
    lines = wrap(whole, _WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    return [line.replace(_HARD_BLANK, " ") for line in lines]


def _row(action: argparse.Action) -> str:
    names = list(action.option_strings) or [str(action.metavar or action.dest)]
    if action.option_strings and action.nargs != 0:
        value = action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper()
        names = [f"{name} {value}" for name in names]
    cells = [", ".join(f"`{name}`" for name in names), action.help or ""]
    return f"| {' | '.join(cell.replace('|', _BAR) for cell in cells)} |"


class CommandsDirective(SphinxDirective):
    """Describe each command, in a section of its own."""

    def run(self) -> list[Any]:
        """Return the sections."""
        self.env.note_dependency(str(cli.__file__))
        text = "\n".join(f"### {name}\n\n{described(name)}" for name in commands())
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("commands", CommandsDirective)
    return {"parallel_read_safe": True}
