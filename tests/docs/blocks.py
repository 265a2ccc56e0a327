"""The fenced blocks of the documentation, and the notes above them.

A note is an HTML comment in the lines above a block, which no reader sees:

  <!-- cannot run here: REASON -->   only its syntax and its options are checked
  <!-- before: COMMAND -->           a line of sh that runs before it
  <!-- beside a recorder -->         it runs while a simulated recorder does, with its monitor
  <!-- within a recorder -->         it is the body of `async with open_recorder(...) as recorder`

Readers see how a line of sh ends, if not by itself and with status 0:

  kline-trio status recorder.toml   # exit status 3: no recorder runs
  kline-trio simulate               # until Ctrl-C
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
_FENCE = re.compile(r"^(`{3,}|~{3,}|:{3,})\s*(.*)$")
_NOTE = re.compile(
    r"<!-- (cannot run here|before|beside a recorder|within a recorder)(?:: (.+?))? -->"
)
_ENDS_A_COMMAND = {"&&", "||", "|", ";", "&", "(", ")"}
_PROGRAM = re.compile(r"(?:\S*/)?python3?(?: -P)? -m kline_trio\b|(?:\S*/)?kline-trio(?![\w./-])")
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@attrs.frozen(kw_only=True)
class Block:
    """A fenced block of a page."""

    page: str
    """Its path in the repository."""
    line: int
    """Of its first line of text."""
    language: str
    text: str
    reason: str | None
    """Why it cannot run here; None: it runs."""
    before: tuple[str, ...]
    """Lines of sh to run before it."""
    is_beside_a_recorder: bool
    is_within_a_recorder: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, without the directives of the site."""
    return list(_blocks(page.read_text(encoding="utf-8"), str(page.relative_to(ROOT))))


def _blocks(text: str, page: str) -> Iterator[Block]:
    lines = text.splitlines()
    notes: list[tuple[str, str]] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        fence = _FENCE.match(line)
        if fence is None:
            if line and not (found := _NOTE.findall(line)):
                notes = []
            elif line:
                notes += found
            continue
        begin = number
        while not lines[number].startswith(fence[1]):
            number += 1
        if not fence[2].startswith("{") and not fence[1].startswith(":"):
            yield _block(page, begin + 1, fence[2], lines[begin:number], notes)
        notes = []
        number += 1


def _block(
    page: str, line: int, language: str, lines: list[str], notes: list[tuple[str, str]]
) -> Block:
    names = [name for name, _ in notes]
    return Block(
        page=page,
        line=line,
        language=language,
        text="\n".join(lines) + "\n",
        reason=next((what for name, what in notes if name == "cannot run here"), None),
        before=tuple(what for name, what in notes if name == "before"),
        is_beside_a_recorder="beside a recorder" in names,
        is_within_a_recorder="within a recorder" in names,
    )


def prose_of(page: Path) -> str:
    """Return the text of a page without its fenced blocks."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^(`{3,}|:{3,}).*?^\1`*$", "", text, flags=re.DOTALL | re.MULTILINE)


def inline_code(page: Path) -> list[str]:
    """Return what stands between single backticks outside of blocks."""
    return _INLINE.findall(prose_of(page))


def commands_in(script: str) -> list[list[str]]:
    """Return the words of each call of kline_trio in lines of sh, without the program's name."""
    joined = script.replace("\\\n", " ")
    return [
        words for line in joined.splitlines() for call in _calls(line) if (words := _words(call))
    ]


def _calls(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.wordchars += "*=@%+:,{}[]~?!$"
    call: list[str] = []
    for token in lexer:
        if token in _ENDS_A_COMMAND:
            yield call
            call = []
        else:
            call.append(token)
    yield call


def _words(call: list[str]) -> list[str]:
    redirect = next((i for i, word in enumerate(call) if word in (">", ">>", "<")), len(call))
    call = call[:redirect]
    match = _PROGRAM.match(" ".join(call))
    return call[len(match[0].split()) :] if match else []


def inline_commands(page: Path) -> list[list[str]]:
    """Return the words of each call of kline_trio between single backticks.

    A placeholder becomes a value: `DATE` a date, `a|b` its first choice, `[WORD]` the word.
    """
    found = []
    for code in inline_code(page):
        match = _PROGRAM.match(code)
        if match is None:
            continue
        words = shlex.split(re.sub(r"[|][\w|-]+", "", code[match.end() :]))
        if words:
            found.append([_PLACEHOLDERS.get(word, word.strip("[]")) for word in words])
    return found


_PLACEHOLDERS = {"DATE": "2024-01-01", "TIME": "2024-01-01", "N": "5", "[ADDRESS]": "127.0.0.1:0"}
