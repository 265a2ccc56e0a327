"""The lines of a job's progress: what it does, how much is done, and how long the rest takes."""

import io

import pytest
from rich.console import Console

from kline_trio.commands.bar import Bar
from kline_trio.storage.step import Step


def lines_of(bar: Bar, step: Step, begun_at: float, now: float, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as found:
        console.print(bar.draw(step, begun_at, now))
    return [line.rstrip() for line in found.get().splitlines()]


def counts_of(*steps: Step) -> str:
    """What stands behind the bar, if a step begins every ten seconds."""
    bar = Bar()
    shown = [lines_of(bar, one, 10.0 * n, 10.0 * n) for n, one in enumerate(steps)]
    return shown[-1][1].split(" %")[1].strip()


def test_what_is_waited_for_is_a_line_without_a_bar() -> None:
    assert lines_of(Bar(), Step("reading the journal"), 0, 0) == ["reading the journal"]


def test_a_long_step_says_since_when() -> None:
    assert lines_of(Bar(), Step("reading the journal"), 5, 16) == ["reading the journal (11 s)"]


def test_the_first_step_has_no_rate() -> None:
    assert lines_of(Bar(), Step("a.pqt", 4, 8, "file"), 0, 0.5) == [
        "a.pqt",
        f"{'━' * 10}{' ' * 10}  50 % 4 of 8 files",
    ]


@pytest.mark.parametrize(
    ("unit", "total", "done", "text"),
    [
        ("file", 300, 100, "100 of 300 files, 20 s left, 10 a second"),
        ("series", 300, 100, "100 of 300 series, 20 s left, 10 a second"),
        ("series", 2, 1, "1 of 2 series, 10 s left"),
        ("byte", 4_000_000_000, 1_000_000_000, "1.0 of 4.0 GB, 30 s left, 100 MB a second"),
        ("byte", 20_000, 5_000, "5.0 of 20.0 kB, 30 s left, 500 bytes a second"),
        ("byte", 800, 400, "400 of 800 bytes, 10 s left, 40 bytes a second"),
        ("second", 60, 10, "10 of 60 seconds, 50 s left"),
        ("candle", 1_000_000, 0, "0 of 1,000,000 candles"),
    ],
)
def test_a_counted_step_says_how_much_is_left(unit: str, total: int, done: int, text: str) -> None:
    assert counts_of(Step("a", 0, total, unit), Step("b", done, total, unit)) == text


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Step("a", 900, 1_000, "file"), Step("b", 0, 1_000, "file")),
        (Step("a", 900, 1_000, "file"), Step("b", 950, 1_000, "series")),
    ],
    ids=["begins anew", "other unit"],
)
def test_other_work_has_a_rate_of_its_own(first: Step, second: Step) -> None:
    assert "left" not in counts_of(Step("a", 0, 1_000, "file"), first, second)


def test_a_count_of_seconds_goes_on_by_itself() -> None:
    bar, step = Bar(), Step("recording", 10, 60, "second")
    assert lines_of(bar, step, 0, 5)[1].endswith(" 25 % 15 of 60 seconds, 45 s left")
    assert lines_of(bar, step, 0, 99)[1].endswith("100 % 60 of 60 seconds, 0 s left")


def test_a_total_may_grow() -> None:
    text = counts_of(Step("a", 0, 100, "candle"), Step("a", 100, 300, "candle"))
    assert text == "100 of 300 candles, 20 s left, 10 a second"


@pytest.mark.parametrize("width", [20, 40, 80])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    name = "klines/trade_type=usdt_futures/time_interval=1m/symbol=币安人生USDT/2024-01-31.parquet"
    bar = Bar()
    lines_of(bar, Step(name, 0, 2_000_000_000, "candle"), 0, 0, width)
    shown = lines_of(bar, Step(name, 10**9, 2 * 10**9, "candle"), 100, 200, width)
    assert len(shown) == 2
    assert all(Console().measure(line).maximum <= width for line in shown)


def test_a_long_name_keeps_both_its_ends() -> None:
    name = f"spot/{'x' * 100}/2024-01-31.parquet"
    [line] = lines_of(Bar(), Step(name), 0, 0)
    assert line.startswith("spot/x")
    assert line.endswith("x/2024-01-31.parquet")
    assert "…" in line


def test_a_name_with_control_characters_moves_no_cursor() -> None:
    assert lines_of(Bar(), Step("a\x1b[2J\n.pqt"), 0, 0) == ["a\\x1b[2J\\n.pqt"]
