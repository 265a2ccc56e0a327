"""Where each candle's file is, and which templates are refused."""

import string
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kline_trio.candle import TRADE_TYPES, Series
from kline_trio.interval import INTERVALS
from kline_trio.storage.layout import DEFAULT_LAYOUT, SUFFIXES, Layout
from tests.storage.support import BTC, CHINESE, COIN, LAYOUTS, MONTHLY, SERIES, START_MS

MINUTE_MS = 60_000
HIVE = "k/trade_type={trade_type}/time_interval={time_interval}/symbol={symbol}/{month}.parquet"

_letters = st.sampled_from(string.ascii_uppercase + string.digits + "_币安人生")
_symbols = st.text(_letters, min_size=1, max_size=40)
_series = st.builds(Series, st.sampled_from(TRADE_TYPES), _symbols, st.sampled_from([*INTERVALS]))
_times_ms = st.integers(0, 253_402_300_799_999)


def test_default_names_are_the_original_designs() -> None:
    """One file a series, its parts joined by underscores."""
    assert Layout().path(BTC, START_MS) == PurePosixPath("spot_BTCUSDT_1m.pqt")
    assert Layout().path(CHINESE, START_MS) == PurePosixPath("usdt_futures_币安人生USDT_1w.pqt")


def test_months_and_minutes_never_collide() -> None:
    """The month is `1mo`, so that names differ where case is ignored."""
    assert Layout().path(MONTHLY, START_MS) == PurePosixPath("spot_BTCUSDT_1mo.pqt")


@pytest.mark.parametrize(
    ("open_time_ms", "date"),
    [
        (0, "1970-01-01"),
        (1_706_745_599_999, "2024-01-31"),
        (1_706_745_600_000, "2024-02-01"),
        (1_709_164_800_000, "2024-02-29"),
        (253_402_300_799_999, "9999-12-31"),
    ],
)
def test_dates_are_of_the_candles_begin_in_utc(open_time_ms: int, date: str) -> None:
    """`{year}`, `{month}` and `{date}` name the day as the archives do."""
    layout = Layout("{trade_type}_{symbol}_{time_interval}/{year}/{month}/{date}.parquet")
    path = layout.path(BTC, open_time_ms)
    assert path.parts[1:] == (date[:4], date[:7], f"{date}.parquet")


def test_hive_style() -> None:
    """The path that makes a folder one table for those who read Hive partitions."""
    expected = "k/trade_type=spot/time_interval=1m/symbol=BTCUSDT/2024-01.parquet"
    assert str(Layout(HIVE).path(BTC, START_MS)) == expected


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{trade_type}_{symbol}.pqt", "{time_interval} is missing"),
        ("", "{trade_type} is missing"),
        ("{trade_type}_{symbl}_{time_interval}.pqt", "unknown placeholder {symbl}; one of"),
        ("{trade_type}_{symbol!r}_{time_interval}.pqt", "unknown placeholder"),
        ("{trade_type}_{symbol:>9}_{time_interval}.pqt", "unknown placeholder"),
        ("{trade_type}_{symbol.x}_{time_interval}.pqt", "unknown placeholder"),
        ("{}_{symbol}_{time_interval}.pqt", "unknown placeholder"),
        ("{trade_type}_{symbol_{time_interval}.pqt", "layout"),
        ("{trade_type}_{symbol}{time_interval}.pqt", "a separator"),
        ("{trade_type}_{symbol}5{time_interval}.pqt", "a separator"),
        ("/{trade_type}_{symbol}_{time_interval}.pqt", "must be relative"),
        ("../{trade_type}_{symbol}_{time_interval}.pqt", "begin with . or _"),
        ("a/../{trade_type}_{symbol}_{time_interval}.pqt", "begin with . or _"),
        ("./{trade_type}_{symbol}_{time_interval}.pqt", "begin with . or _"),
        (".kline_trio/{trade_type}_{symbol}_{time_interval}.pqt", "begin with . or _"),
        ("_{trade_type}_{symbol}_{time_interval}.pqt", "begin with . or _"),
        ("a//{trade_type}_{symbol}_{time_interval}.pqt", "may be empty"),
        ("{trade_type}_{symbol}_{time_interval}.csv", "must end in .pqt or .parquet"),
        ("{trade_type}_{symbol}_{time_interval}.pqt/", "must end in"),
        ("a\\b/{trade_type}_{symbol}_{time_interval}.pqt", "backslash"),
        ("a\0b/{trade_type}_{symbol}_{time_interval}.pqt", "printable"),
    ],
)
def test_unusable_templates_say_why(template: str, complaint: str) -> None:
    """Each refusal names the template and what to change."""
    with pytest.raises(ValueError, match="layout") as caught:
        Layout(template)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("template", "size"),
    [
        ("x" * 250 + "/" + "x" * 70 + "_" + DEFAULT_LAYOUT, 252),
        ("币" * 84 + "/" + DEFAULT_LAYOUT, 252),
        ("{symbol}_" + DEFAULT_LAYOUT, 342),
    ],
)
def test_names_that_can_grow_too_long_are_refused_for_a_new_store(template: str, size: int) -> None:
    """A store that has such a layout is read all the same."""
    with pytest.raises(ValueError, match=f"up to {size} bytes of UTF-8"):
        Layout(template).check_names()


def test_the_longest_name_can_be_made_and_copied(tmp_path: Path) -> None:
    layout = Layout("x" * 250 + "/" + "x" * 68 + "_" + DEFAULT_LAYOUT)
    layout.check_names()
    path = layout.path(Series("usdt_futures", "𠀀" * 40, "1M"), START_MS)
    assert len(path.name.encode()) == 250
    (tmp_path / f".{path.name}.tmp").touch()


_fragments = st.sampled_from(
    ["/", "..", ".", "_", "\\", "\0", "a", "=", "{", "}", "~", ":", "\n", " ", "{{", "}}"]
    + [f"{{{name}}}" for name in ("trade_type", "symbol", "time_interval", "year", "month", "x")]
)
_templates = st.lists(_fragments, max_size=8).map("".join)


@given(before=_templates, between=_templates, after=_templates, series=_series, time_ms=_times_ms)
def test_no_file_escapes(
    before: str, between: str, after: str, series: Series, time_ms: int
) -> None:
    """Whatever the template and the symbol, the file is below the folder and not in ours."""
    template = f"{before}{{trade_type}}_{{symbol}}{between}_{{time_interval}}{after}.pqt"
    try:
        layout = Layout(template)
    except ValueError:
        return
    path = layout.path(series, time_ms)
    folder = Path("/store")
    assert (folder / path).resolve().is_relative_to(folder)
    assert all(not part.startswith(".") and part for part in path.parts)
    assert path.name.endswith(SUFFIXES)


@given(_series, _series, _times_ms, st.sampled_from([DEFAULT_LAYOUT, HIVE]))
def test_no_two_series_share_a_file(
    one: Series, other: Series, time_ms: int, template: str
) -> None:
    """Paths of different series differ, even where case is ignored."""
    assume(one != other)
    layout = Layout(template)
    assert str(layout.path(one, time_ms)).lower() != str(layout.path(other, time_ms)).lower()


def test_all_series_of_the_tests_are_apart() -> None:
    """The tests' own series include the pair that differs in case only."""
    paths = {str(Layout().path(series, START_MS)).lower() for series in SERIES}
    assert len(paths) == len(SERIES)


@pytest.mark.parametrize("template", [*LAYOUTS, "{trade_type}_{symbol}_{time_interval}_{year}.pqt"])
@pytest.mark.parametrize("series", [BTC, MONTHLY, COIN])
@given(minute=st.integers(0, 2_000_000), seed=st.integers(-2, 2))
def test_a_place_is_where_the_layout_puts_a_candle(
    template: str, series: Series, minute: int, seed: int
) -> None:
    """Its ends are the first candle that does, and the first that does not any more."""
    layout = Layout(template)
    open_ms = series.interval.open_time_ms(START_MS + minute * MINUTE_MS)
    path = layout.path(series, open_ms)
    place = layout.place(series, path)
    assert place is not None
    assert place.from_ms <= open_ms < place.to_ms
    near_ms = series.interval.open_time_ms(place.to_ms + seed * MINUTE_MS)
    if "{" in template.partition("{time_interval}")[2]:
        assert (layout.path(series, near_ms) == path) == (place.from_ms <= near_ms < place.to_ms)


@pytest.mark.parametrize(
    "path", ["spot_BTCUSDT_1m.pqt/2024-13.parquet", "spot_BTCUSDT_1m.pqt", "a/2024-01.parquet"]
)
def test_a_path_of_another_layout_has_no_place(path: str) -> None:
    assert Layout(LAYOUTS[1]).place(BTC, PurePosixPath(path)) is None
    assert Layout().place(BTC, PurePosixPath("x") / path) is None
