"""When two witnesses agree about the time, at any speed."""

from hypothesis import given
from hypothesis import strategies as st

from kline_trio.exchange.agreement import Agreement, Witness
from kline_trio.interval import Span

HOUR_MS = 3_600_000
FRAMES, ENDPOINT = Witness.FRAMES, Witness.ENDPOINT


def told(*words: tuple[Witness, int]) -> list[int | None]:
    """Return what is agreed on after each word; times are in hours."""
    agreement = Agreement()
    agreed = [
        agreement.add(witness, Span(hours * HOUR_MS, hours * HOUR_MS + 1))
        for witness, hours in words
    ]
    return [None if one is None else one // HOUR_MS for one in agreed]


def test_times_that_are_nearly_the_same_agree_at_once() -> None:
    agreement = Agreement()
    assert agreement.add(FRAMES, Span(HOUR_MS, HOUR_MS + 1)) is None
    assert agreement.add(ENDPOINT, Span(HOUR_MS + 120_000, HOUR_MS + 120_001)) == HOUR_MS


def test_one_witness_does_not_agree_with_itself() -> None:
    assert told(*[(FRAMES, 1)] * 9) == [None] * 9


def test_times_that_are_far_apart_agree_by_turns() -> None:
    words = [(FRAMES, 1), (ENDPOINT, 3), (FRAMES, 5), (ENDPOINT, 7), (FRAMES, 9)]
    assert told(*words) == [None, None, None, 3, 5]


def test_a_word_that_was_under_way_for_longer_is_passed_over() -> None:
    words = [(FRAMES, 1), (ENDPOINT, 3), (FRAMES, 2), (FRAMES, 5), (ENDPOINT, 7)]
    assert told(*words) == [None, None, None, None, 3]


def test_a_lie_that_came_first_blocks_nobody() -> None:
    words = [(FRAMES, 100), (ENDPOINT, 2), (FRAMES, 3), (ENDPOINT, 4), (FRAMES, 6), (ENDPOINT, 8)]
    assert told(*words) == [None, None, None, None, None, 4]


def test_two_lies_that_are_no_course_of_time_block_nobody() -> None:
    words = [(FRAMES, 100), (ENDPOINT, 900), (FRAMES, 3), (ENDPOINT, 4)]
    more = [(FRAMES, 5), (ENDPOINT, 7), (FRAMES, 9), (ENDPOINT, 11)]
    assert told(*words, *more)[-1] in (7, 9)


@given(
    st.lists(st.tuples(st.sampled_from((FRAMES, ENDPOINT)), st.integers(3, 90)), max_size=40),
    st.sampled_from((FRAMES, ENDPOINT)),
    st.integers(-(10**5), 10**5),
)
def test_one_witness_that_lies_by_the_same_time_leads_nobody_ahead(
    steps: list[tuple[Witness, int]], liar: Witness, lie: int
) -> None:
    now, words = 0, []
    for witness, step in steps:
        now += step
        words.append((witness, max(0, now + (lie if witness is liar else 0))))
    nows = [sum(step for _, step in steps[: nth + 1]) for nth in range(len(steps))]
    for agreed, true in zip(told(*words), nows, strict=True):
        assert agreed is None or agreed <= true
