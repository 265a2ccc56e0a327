"""The simulator's own calendar, against dates that the exchange has published."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kline_trio.simulator.calendar import (
    INTERVALS,
    intervals_of,
    next_open_ms,
    open_ms,
    quarter_delivery_ms,
)


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("interval", "moment", "opens", "next_opens"),
    [
        ("1s", "2026-01-01 00:00:00.999", "2026-01-01", "2026-01-01 00:00:01"),
        ("1m", "2026-09-11 09:02:58", "2026-09-11 09:02", "2026-09-11 09:03"),
        ("8h", "2024-02-29 23:59", "2024-02-29 16:00", "2024-03-01"),
        ("1d", "2020-08-11 07:00", "2020-08-11", "2020-08-12"),
        # first and last rows of the archive's BTCUSDT-3d files, and one seen on both REST sides
        ("3d", "2017-08-17 00:00", "2017-08-17", "2017-08-20"),
        ("3d", "2024-01-03 23:59", "2024-01-01", "2024-01-04"),
        ("3d", "2026-07-01 12:00", "2026-07-01", "2026-07-04"),
        # first row of the archive's BTCUSDT-1w files: a Monday before the listing
        ("1w", "2017-08-17 04:00", "2017-08-14", "2017-08-21"),
        ("1w", "2026-07-05 23:59", "2026-06-29", "2026-07-06"),
        # a real frame of 2022-05-29 has t 1651363200000 and T 1654041599999
        ("1M", "2022-05-29 09:50", "2022-05-01", "2022-06-01"),
        ("1M", "2024-02-29 00:00", "2024-02-01", "2024-03-01"),
        ("1M", "2025-12-31 23:59", "2025-12-01", "2026-01-01"),
    ],
)
def test_published_dates(interval: str, moment: str, opens: str, next_opens: str) -> None:
    """Candles open where the published ones do."""
    assert ms(opens) == open_ms(interval, ms(moment))
    assert ms(next_opens) == next_open_ms(interval, ms(opens))


@given(st.sampled_from(INTERVALS), st.integers(0, 4_000_000_000_000))
def test_every_moment_lies_in_its_candle(interval: str, at_ms: int) -> None:
    """A moment lies between its candle's open and the next, and the next follows at once."""
    opened = open_ms(interval, at_ms)
    following = next_open_ms(interval, opened)
    assert opened <= at_ms < following
    assert open_ms(interval, following) == following
    assert open_ms(interval, following - 1) == opened


def test_only_spot_has_seconds() -> None:
    """``1s`` is offered on spot alone, and all sixteen exist."""
    assert len(INTERVALS) == 16
    assert intervals_of("spot")[0] == "1s"
    assert "1s" not in intervals_of("usdt_futures")


def test_quarterlies_are_delivered_on_last_fridays() -> None:
    """Contracts named 260925 and 261225 are delivered on those days at 08:00 UTC."""
    at = ms("2026-09-11 09:00")
    assert quarter_delivery_ms(at) == ms("2026-09-25 08:00")
    assert quarter_delivery_ms(at, 1) == ms("2026-12-25 08:00")
    assert quarter_delivery_ms(ms("2026-09-25 08:00")) == ms("2026-12-25 08:00")
    assert quarter_delivery_ms(ms("2026-12-31")) == ms("2027-03-26 08:00")
