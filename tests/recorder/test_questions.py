"""What is asked for, and when again."""

from hypothesis import given
from hypothesis import strategies as st

from kline_trio.candle import Series
from kline_trio.interval import Span
from kline_trio.recorder.questions import Questions
from kline_trio.storage.ledger import Absence, Reason

SPOT = Series("spot", "BTCUSDT", "1m")
MINUTE_MS = 60_000
WAIT = 10.0


def span(first: int, end: int) -> Span:
    return Span(first * MINUTE_MS, end * MINUTE_MS)


def asking(*spans: Span, now: float = 0.0) -> Questions:
    questions = Questions(WAIT)
    for one in spans:
        absence = Absence(SPOT, one, one.to_ms, Reason.NOT_RECEIVED)
        questions.add(absence, [one], now)
    return questions


def minutes(questions: Questions) -> list[int]:
    return [
        ms // MINUTE_MS
        for one in questions.of(SPOT)
        for ms in SPOT.interval.open_times_ms(one.span)
    ]


_spans = st.tuples(st.integers(0, 40), st.integers(1, 12)).map(lambda it: span(it[0], sum(it)))


@given(
    added=st.lists(_spans, max_size=5),
    steps=st.lists(st.tuples(st.sampled_from(["came", "drop", "asked", "closed"]), _spans)),
)
def test_each_candle_is_asked_for_until_it_came_or_was_dropped(
    added: list[Span], steps: list[tuple[str, Span]]
) -> None:
    """In order of time and without overlap, whatever is done to it."""
    questions = asking(*added)
    left = {ms // MINUTE_MS for one in added for ms in SPOT.interval.open_times_ms(one)}
    for now, (step, those) in enumerate(steps):
        inside = set(range(those.from_ms // MINUTE_MS, those.to_ms // MINUTE_MS))
        match step:
            case "came":
                questions.came(SPOT, [one * MINUTE_MS for one in sorted(inside)])
                left -= inside
            case "drop":
                questions.drop(SPOT, those)
                left -= inside
            case "asked":
                questions.asked(SPOT, those, float(now))
            case "closed":
                for one in questions.closed(SPOT, those.from_ms, float(now)):
                    assert one.span.to_ms <= those.from_ms
        assert minutes(questions) == sorted(left)
        assert left or not questions


def test_what_the_exchange_did_not_have_waits_each_time_for_longer() -> None:
    questions = asking(span(0, 3))
    questions.asked(SPOT, span(1, 2), now=0.0)
    assert [(one.span, one.asked, one.not_before) for one in questions.of(SPOT)[1:2]] == [
        (span(1, 2), 1, WAIT)
    ]
    assert [one.span for one in questions.due(SPOT, 5.0)] == [span(0, 1), span(2, 3)]
    questions.asked(SPOT, span(1, 2), now=WAIT)
    assert [one.not_before for one in questions.inside(SPOT, span(1, 2))] == [7 * WAIT]


def test_what_is_still_forming_is_not_asked_for_and_counts_no_attempt() -> None:
    questions = asking(span(0, 3))
    half_past_one_ms = MINUTE_MS + MINUTE_MS // 2
    assert questions
    assert [one.span for one in questions.closed(SPOT, half_past_one_ms, 0.0)] == [span(0, 1)]
    questions.came(SPOT, [0])
    assert not questions, "nobody waits for the rest of it"
    questions = asking(span(0, 3))
    questions.closed(SPOT, half_past_one_ms, 0.0)
    assert questions.due(SPOT, WAIT - 1) == questions.inside(SPOT, span(0, 1))
    [_, forming] = questions.closed(SPOT, 3 * MINUTE_MS, WAIT)
    assert (forming.span, forming.asked) == (span(1, 3), 0)


def test_while_the_exchanges_time_is_not_known_nothing_is_asked_for_and_nobody_spins() -> None:
    questions = asking(span(0, 3))
    assert questions.closed(SPOT, None, 0.0) == []
    assert [one.not_before for one in questions.of(SPOT)] == [WAIT]
