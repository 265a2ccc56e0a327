"""A hundred thousand hostile inputs each time, and the proof that they would find what is wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzzing.campaign import FindingError, try_chunk, try_chunks
from tests.fuzzing.frames import TEXT, wire
from tests.fuzzing.hostile import HEAD
from tests.fuzzing.laws import LawBrokenError, Laws
from tests.fuzzing.mutants import MUTANTS, broken_subject

ROOT = Path(__file__).resolve().parents[2]


def test_a_hundred_thousand_inputs_break_no_law() -> None:
    """Without a crash, a hang or a wrong candle; in a process of its own, as coverage is slow."""
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzzing", "--inputs", "100000", "--seed", "1", "--jobs", "2"],
        capture_output=True, text=True, timeout=300, check=False, cwd=ROOT, env=surroundings,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    summary = done.stdout.splitlines()[-1]
    assert summary.startswith("100,000 inputs of seed 1")
    assert summary.endswith("; 0 findings")
    # The dice are not blind: all that can happen has happened many times.
    happened = summary.partition(" s: ")[2]  # before it stand the seconds, of a slow machine many
    counts = [int(count.replace(",", "")) for count in re.findall(r"[\d,]{3,} ?(?=\D)", happened)]
    assert len(counts) >= 7, summary
    assert min(counts) > 500, summary


@pytest.mark.parametrize("name", MUTANTS)
def test_each_thing_that_may_be_wrong_is_found(name: str) -> None:
    """Within a hundred thousand inputs; most within a hundred."""
    subject = broken_subject(name)
    with pytest.raises(FindingError):
        try_chunks(1, 100_000, subject)


def test_the_same_dice_draw_the_same_inputs() -> None:
    """A finding is drawn again by its seed and its chunk; other seeds draw others."""
    one, same, other = (try_chunk(seed, 0, 300, real=False) for seed in (7, 7, 8))
    assert one == same != other


def test_a_finding_says_how_to_draw_it_again() -> None:
    subject = broken_subject("fragments are judged")
    with pytest.raises(FindingError) as caught:
        try_chunk(3, 5, subject=subject, real=False)
    assert re.match(r"seed 3, chunk 5, input \d+, reads that end at \[", str(caught.value))
    assert "LawBrokenError: " in str(caught.value)


def test_the_laws_hold_bytes_to_the_letter() -> None:
    """A reference that took everything would find nothing: it tells forming from closed."""
    laws = Laws()
    payload = b'{"x":false}'
    data = HEAD + wire(TEXT, payload) + wire(TEXT, payload.replace(b"false", b"true"))
    laws.check_stream(data, [len(data)], by_wsproto=True)
    assert (laws.tally.forming, laws.tally.kept) == (1, 1)
    deaf = Laws(broken_subject("fals is enough"))
    with pytest.raises(LawBrokenError, match="not just those candles"):
        deaf.check_stream(HEAD + wire(TEXT, b'"x":fals'), [len(HEAD) + 10], by_wsproto=False)
