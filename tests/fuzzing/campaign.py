"""Many inputs, in chunks that each have dice of their own, so that any one can be drawn again."""

from random import Random

from tests.fuzzing.frames import bases
from tests.fuzzing.hostile import Hostile
from tests.fuzzing.laws import Laws, Subject, Tally

__all__ = ["CHUNK", "FindingError", "try_chunk", "try_chunks"]

CHUNK = 10_000
"""Inputs with dice in common."""

_TEXTS = 0.5
"""The share of inputs that are single messages; the rest are streams of bytes."""
_ANY_HEAD = 0.05
_BY_WSPROTO = 0.0625
"""The share of streams that wsproto reads too; it costs more than all the rest."""


class FindingError(AssertionError):
    """An input that breaks a law, and how to draw it again."""


def try_chunk(
    seed: int,
    chunk: int,
    inputs: int = CHUNK,
    *,
    subject: Subject | None = None,
    real: bool = True,
    by_wsproto: float = _BY_WSPROTO,
) -> Tally:
    """Try the inputs of one chunk.

    Raises:
      FindingError: one of them breaks a law.
    """
    dice = Random(f"{seed}/{chunk}")
    payloads = bases(real=real)
    hostile = Hostile(dice, payloads)
    where, shown = "the payloads themselves", b""
    try:
        laws = Laws(subject or Subject(), payloads)
        for number in range(inputs):
            where = f"seed {seed}, chunk {chunk}, input {number}"
            chance = dice.random()
            if chance < _TEXTS:
                shown = hostile.text()
                laws.check_text(shown)
                continue
            any_head = chance > 1 - _ANY_HEAD
            shown, reads = hostile.stream_with_any_head() if any_head else hostile.stream()
            where += f", reads that end at {reads}" if len(reads) < 40 else ", many reads"
            laws.check_stream(shown, reads, by_wsproto=dice.random() < by_wsproto)
    except Exception as error:
        raise FindingError(
            f"{where}: {type(error).__name__}: {error}\n{shown[:6_000]!r}"
        ) from error
    return laws.tally


def try_chunks(seed: int, inputs: int, subject: Subject) -> None:
    """Try so many inputs in whole chunks, made of the built-in frames alone.

    Raises:
      FindingError: one of them breaks a law.
    """
    for chunk in range(inputs // CHUNK):
        try_chunk(seed, chunk, subject=subject, real=False)
