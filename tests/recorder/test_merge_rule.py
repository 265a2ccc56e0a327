"""When merges are due: what the rule promises, and what it costs over years."""

from hypothesis import given
from hypothesis import strategies as st

from kline_trio.recorder.merge_rule import SHARE, MergeRule

_RULE = MergeRule(merge_seconds=60, max_merge_seconds=3_600)
_rows = st.integers(1, 10_000_000)


@given(new_rows=_rows, file_rows=_rows)
def test_a_merge_waits_at_least_and_at_most(new_rows: int, file_rows: int) -> None:
    assert 60 <= _RULE.due_after_seconds(new_rows, file_rows) <= 3_600


@given(new_rows=_rows)
def test_a_series_first_candle_is_due_at_once(new_rows: int) -> None:
    assert _RULE.due_after_seconds(new_rows, 0) == 0


@given(new_rows=_rows, file_rows=_rows)
def test_more_rows_are_never_due_later(new_rows: int, file_rows: int) -> None:
    later = _RULE.due_after_seconds(new_rows, file_rows)
    assert _RULE.due_after_seconds(new_rows + 1, file_rows) <= later


@given(file_rows=_rows)
def test_a_share_of_the_file_is_due_as_soon_as_may_be(file_rows: int) -> None:
    enough = int(SHARE * file_rows) + 1
    assert _RULE.due_after_seconds(enough, file_rows) == 60


def test_a_cap_below_the_least_wait_is_no_cap() -> None:
    assert MergeRule(merge_seconds=90, max_merge_seconds=10).due_after_seconds(1, 10_000) == 90


def test_a_minute_is_written_64_times_at_most_until_the_cap() -> None:
    """Rows written per new row, for 1m candles, over the first days of a file."""
    file_rows, new_rows, written = 1, 0, 0
    minutes = 3_600
    for _ in range(minutes):
        new_rows += 1
        # Candles come a minute apart: the rule is asked when one came, and then each minute.
        if _RULE.due_after_seconds(new_rows, file_rows) <= (new_rows - 1) * 60:
            file_rows += new_rows
            written += file_rows
            new_rows = 0
    assert written <= (1 / SHARE + 2) * minutes
