"""Counts in words."""

import re
from pathlib import Path

import pytest

from kline_trio.counting import counted, noun

PACKAGE = Path(__file__).parents[1] / "kline_trio"
NOUNS = (
    "candles files rows faults gaps markets streams symbols attempts minutes days times bytes"
    " failures disagreements connections lines entries stretches values"
)
COUNT_OF_MANY = re.compile(
    # A number of a variable, in an f-string or as an argument; a limit is more than one.
    rf"(?:\{{(?!_?[A-Z_]+[:}}]|most)[^{{}}]*(?::,|len\([^{{}}]*\))[^{{}}]*\}}|%[ds])"
    rf" (?:{'|'.join(NOUNS.split())})\b"
)


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (2_000, "2,000 files")]
)
def test_a_number_and_its_noun_agree(number: int, text: str) -> None:
    assert counted(number, "file") == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 candles were"), (1, "1 candle was"), (1_234, "1,234 candles were")]
)
def test_a_verb_agrees_too(number: int, text: str) -> None:
    assert counted(number, "candle was", "candles were") == text


def test_a_noun_can_stand_alone() -> None:
    assert [noun(number, "row") for number in (0, 1, 2)] == ["rows", "row", "rows"]
    assert noun(1, "it is a gap", "they are gaps") == "it is a gap"


@pytest.mark.parametrize(
    ("code", "is_found"),
    [
        ('f"{len(files):,} files"', True),
        ('f"{len(files)} files"', True),
        ('f"{count:,} candles were"', True),
        ('"%s candles"', True),
        ('f"more than {_MOST_BYTES:,} bytes"', False),
        ('f"more than {most_bytes:,} bytes"', False),
        ("f\"{counted(len(files), 'file')}\"", False),
    ],
)
def test_the_search_for_plurals_after_numbers_finds_them(code: str, *, is_found: bool) -> None:
    assert bool(COUNT_OF_MANY.search(code)) == is_found


@pytest.mark.parametrize(
    "module", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_no_message_has_a_plural_that_a_count_of_one_makes_wrong(module: Path) -> None:
    """`counted` writes them."""
    for line in module.read_text(encoding="utf-8").splitlines():
        assert not COUNT_OF_MANY.search(line), line
