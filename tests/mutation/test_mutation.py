"""The list of mutants does not rot, and a sample of it dies. The rest is run by hand."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutation.mutant import ROOT, Mutant, Verdict, copied, mutated, run
from tests.mutation.mutants import MUTANTS

SAMPLE = random.Random(len(MUTANTS)).sample([one for one in MUTANTS if not one.is_slow], 4)
"""Another one as the list grows, and the same in every run of one commit."""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_a_mutant_names_one_line_and_a_test_that_is_there(mutant: Mutant) -> None:
    compile(mutated(mutant), mutant.file, "exec")
    assert mutant.new != mutant.old
    file, _, name = mutant.test.partition("::")
    text = (ROOT / "tests" / file).read_text(encoding="utf-8")
    assert f"def {name.partition('[')[0]}(" in text


def test_mutants_have_names_of_their_own() -> None:
    names = Counter(one.name for one in MUTANTS)
    assert names.most_common(1)[0][1] == 1


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A copy of package and tests for all mutants of the sample."""
    with copied() as made:
        yield made


@pytest.mark.parametrize("mutant", SAMPLE, ids=lambda one: one.name)
def test_a_mutant_of_the_sample_dies(mutant: Mutant, folder: Path) -> None:
    assert run(mutant, folder) is Verdict.KILLED
