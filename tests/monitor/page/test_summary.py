"""The sentence is true: it never says complete while something is pending or unknown."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.monitor.health import Code, Reason, Verdict
from kline_trio.monitor.page.summary import (
    LastClose,
    LiveFacts,
    StoppedFacts,
    Totals,
    live_sentence,
    percent_of,
    stopped_sentence,
)
from kline_trio.storage.calendar import Counts
from tests.builders import MINUTE_MS, START_MS

SAYS_COMPLETE = re.compile(r"(All [\d,]+ series|The one series is) complete")
WHOLE = Totals(
    series=2_431, complete_series=2_431, due=1_000_000, refilled=40, pending=0, absent=0,
    unaccounted=0, by_reason={},
)  # fmt: skip
CLOSE = LastClose(end_ms=START_MS, lag_seconds=0.42)
GOOD = LiveFacts(
    verdict=Verdict.OK, reasons=(), recorded=2_431, totals=WHOLE, last_close=CLOSE, now_ms=START_MS
)
SILENT = Reason(
    code=Code.NO_DATA, verdict=Verdict.BAD, subject="spot", text="spot: no data for 50 s"
)
LATE = Reason(
    code=Code.ABSENT, verdict=Verdict.BAD, subject="spot A-1m", text="spot A-1m: 3 candles absent"
)
FULL = Reason(
    code=Code.DISK_SPACE, verdict=Verdict.DEGRADED, subject="store", text="store: 8.0 GB free"
)


def totals(**changes: object) -> Totals:
    return attrs.evolve(WHOLE, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({}, "All 2,431 series complete. Last close 15:00:00, committed 0.4 s later."),
        (
            {"totals": totals(series=1, complete_series=1)},
            "The one series is complete. Last close 15:00:00, committed 0.4 s later.",
        ),
        (
            {"totals": None},
            ("2,431 series are recorded; the missing candles are not counted yet."
            " Last close 15:00:00, committed 0.4 s later."),
        ),
        (
            {"is_counted": False, "last_close": None},
            ("2,431 series are recorded; the missing candles are not counted yet."
            " No candle has closed yet."),
        ),
        (
            {
                "totals": totals(
                    pending=12, absent=4, complete_series=2_428,
                    by_reason={"not received": 12, "the exchange had none": 3, "refused": 1},
                )
            },
            ("12 candles are missing and not fetched yet."
            " Last close 15:00:00, committed 0.4 s later."),
        ),
        (
            {"totals": totals(absent=4, complete_series=2_430, by_reason={"refused": 4})},
            ("All that can be had is stored: 99.999 % of 2,431 series."
            " Last close 15:00:00, committed 0.4 s later."),
        ),
        (
            {"pending": 1},
            "1 candle is missing and not fetched yet. Last close 15:00:00, committed 0.4 s later.",
        ),
        (
            {"uncounted": 3},
            ("3 series have no count yet; the other 2,431 lack nothing."
            " Last close 15:00:00, committed 0.4 s later."),
        ),
        (
            {"totals": totals(unaccounted=5, complete_series=2_430)},
            ("5 candles are not accounted for. Last close 15:00:00, committed 0.4 s later."),
        ),
        (
            {"uncounted": 6, "totals": totals(series=0, due=0)},
            "6 series have no count yet. Last close 15:00:00, committed 0.4 s later.",
        ),
        (
            {"verdict": Verdict.BAD, "reasons": (LATE, LATE), "pending": 3, "until_ms": START_MS},
            ("Trouble: 3 candles are missing and not fetched yet."
            " Last close 15:00:00, committed 0.4 s later."),
        ),
        (
            {"verdict": Verdict.BAD, "reasons": (SILENT, FULL, FULL, FULL), "until_ms": START_MS},
            ("Trouble: spot: no data for 50 s; 3 more causes."
            " All 2,431 series complete up to 15:00:00."
            " Last close 15:00:00, committed 0.4 s later."),
        ),
        (
            {"verdict": Verdict.DEGRADED, "reasons": (FULL,)},
            ("Attention: store: 8.0 GB free. What is missing is not known."
            " Last close 15:00:00, committed 0.4 s later."),
        ),
        (
            {"problem": "the store cannot be read: data: Input/output error"},
            ("What is missing is not known: the store cannot be read: data: Input/output error."
            " Last close 15:00:00, committed 0.4 s later."),
        ),
        (
            {"totals": totals(due=0), "last_close": LastClose(end_ms=0, lag_seconds=None)},
            "2,431 series, no candle is due yet. Last close 1970-01-01 00:00:00.",
        ),
        (
            {"totals": totals(series=0, due=0), "recorded": 0, "last_close": None},
            "No series is recorded. No candle has closed yet.",
        ),
    ],
)  # fmt: skip
def test_the_sentence_of_a_recorder(facts: dict[str, object], sentence: str) -> None:
    assert live_sentence(attrs.evolve(GOOD, **facts)) == sentence  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (
            {"heard_seconds": 11_520.0, "until_ms": START_MS},
            ("No recorder runs. The last one was heard 3 h 12 min ago."
            " All 2,431 series complete up to 2024-06-30 15:00:00."),
        ),
        (
            {"totals": totals(absent=20, complete_series=2_430, by_reason={"refused": 20}),
             "until_ms": START_MS},
            ("No recorder runs. All that can be had is stored up to 2024-06-30 15:00:00:"
            " 99.998 % of 2,431 series."),
        ),
        (
            {"totals": totals(pending=20, unaccounted=1), "until_ms": START_MS},
            ("No recorder runs. 20 candles are missing and not fetched yet, 1 candle is not"
            " accounted for, counted up to 2024-06-30 15:00:00."),
        ),
        (
            {"pid": 47, "heard_seconds": 20.0},
            ("A recorder (pid 47) writes here, heard 20 s ago."
            " All 2,431 series complete."),
        ),
        ({"totals": None}, "The store is being read."),
        ({"totals": totals(series=0)}, "No recorder runs. The store has no series."),
    ],
)  # fmt: skip
def test_the_sentence_of_a_store(facts: dict[str, object], sentence: str) -> None:
    whole = StoppedFacts(totals=WHOLE, until_ms=None)
    assert stopped_sentence(attrs.evolve(whole, **facts)) == sentence  # type: ignore[arg-type]


LACKS = ("pending", "absent", "unaccounted")
KNOWN = ("is_counted", "is_read")


def every_case() -> Iterator[dict[str, Any]]:
    """Each combination of what may be missing, and of what may be unknown."""
    choices = {
        **dict.fromkeys((*LACKS, "uncounted", "counted_pending"), (0, 2)),
        **dict.fromkeys(KNOWN, (True, False)),
        "reasons": ((), (SILENT,)),
        "until_ms": (None, START_MS - MINUTE_MS),
    }
    for values in itertools.product(*choices.values()):
        yield dict(zip(choices, values, strict=True))


def test_complete_is_said_only_if_nothing_lacks() -> None:
    for case in every_case():
        found = totals(**{name: case[name] for name in LACKS})
        facts = attrs.evolve(
            GOOD,
            totals=found if case["is_read"] else None,
            uncounted=case["uncounted"],
            pending=case["counted_pending"],
            is_counted=case["is_counted"],
            reasons=case["reasons"],
            verdict=Verdict.BAD if case["reasons"] else Verdict.OK,
            until_ms=case["until_ms"],
        )
        sentence = live_sentence(facts)
        lacks = any(case[name] for name in LACKS)
        is_known = case["is_read"] and case["is_counted"] and not case["uncounted"]
        is_whole = is_known and not lacks and not case["counted_pending"]
        if case["reasons"]:
            assert sentence.startswith("Trouble: spot: no data for 50 s.")
            is_whole = is_whole and case["until_ms"] is not None
            assert not is_whole or "complete up to 14:59:00" in sentence
        assert bool(SAYS_COMPLETE.search(sentence)) is is_whole, case
        stopped = stopped_sentence(StoppedFacts(totals=found, until_ms=case["until_ms"]))
        assert bool(SAYS_COMPLETE.search(stopped)) is not lacks, case


@pytest.mark.parametrize(
    ("stored", "due", "percent"),
    [(0, 0, None), (0, 3, 0.0), (2, 3, 66.666), (999_999, 1_000_000, 99.999), (3, 3, 100.0)],
)
def test_a_hundred_percent_is_all(stored: int, due: int, percent: float | None) -> None:
    assert percent_of(stored, due) == percent


@given(st.integers(0, 10**12), st.integers(1, 10**12))
def test_percent_never_rounds_up(stored: int, more: int) -> None:
    percent = percent_of(stored, stored + more)
    assert percent is not None
    assert percent < 100


def test_totals_are_the_sums_of_the_series() -> None:
    counts = [Counts(10), Counts(10, refilled=2), Counts(10, pending=1, absent=2, unaccounted=3)]
    found = Totals.of([*counts, Counts(0)], {"refused": 3})
    assert found.values() == {
        "series": 4, "complete_series": 3, "due": 30, "stored": 24, "refilled": 2, "pending": 1,
        "absent": 2, "unaccounted": 3, "percent": 80.0, "by_reason": {"refused": 3},
    }  # fmt: skip
