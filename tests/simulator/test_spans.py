"""Spans of time, against the obvious way to look them up."""

import attrs
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.simulator.script import Spans


@attrs.frozen
class Span:
    from_ms: int
    until_ms: int


@given(
    st.lists(st.builds(Span, st.integers(0, 50), st.integers(0, 60)), max_size=30),
    st.integers(-5, 70),
)
def test_every_span_that_holds_a_moment_is_found(spans: list[Span], at_ms: int) -> None:
    """Whatever their order, overlaps and lengths, empty and reversed ones included."""
    held = [span for span in spans if span.from_ms <= at_ms < span.until_ms]
    found = list(Spans(spans).at(at_ms))
    assert sorted(map(attrs.astuple, found)) == sorted(map(attrs.astuple, held))
    assert (next(Spans(spans).at(at_ms), None) is None) is (not held)
