"""Draws what queries of a lake cost by the size of files and by the time of partitions, as SVG."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["picture"]

_WIDTH, _HEIGHT = 860, 690
_LEFT, _TOP, _PANEL_WIDTH, _PANEL_HEIGHT = 78, 104, 340, 150
_GAP_X, _GAP_Y = 68, 44
_COLOURS = ("#1f6feb", "#d1242f", "#8250df")
_ROWS = (("requests", "requests"), ("read_mb", "MB read"), ("cpu_ms", "ms of CPU, from a folder"))
_READER = "Polars"
_COLUMNS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "files": ("size of a file (partitions are months)", lambda one: f"{one['target_mib']} MiB"),
    "partitions": (
        "time of a partition (files of 128 MiB)", lambda one: str(one["partition"]),
    ),
}  # fmt: skip


def picture(table: Sequence[Mapping[str, Any]]) -> str:
    """Return the drawing of readings, which are those of `lake_sizes`."""
    return "\n".join([*_drawn([one for one in table if one["reader"] == _READER]), "</svg>", ""])


def _drawn(table: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        f' width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" font-size="12">'
    )
    yield f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>'
    yield _text(_LEFT, 24, "A query of the lake, by Polars", size=15)
    for column, (case, (title, label)) in enumerate(_COLUMNS.items()):
        some = [one for one in table if one["case"] == case]
        left = _LEFT + column * (_PANEL_WIDTH + _GAP_X)
        yield _text(left, _TOP - 50, title, size=13)
        yield from _legend(left, _TOP - 30, some)
        for row, (name, unit) in enumerate(_ROWS):
            top = _TOP + row * (_PANEL_HEIGHT + _GAP_Y)
            yield from _panel(left, top, some, name, unit, label)


def _legend(left: float, top: float, some: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    at = left
    for query, colour in zip(_queries(some), _COLOURS, strict=False):
        yield f'<circle cx="{at + 4:.0f}" cy="{top - 4:.0f}" r="4" fill="{colour}"/>'
        yield _text(at + 11, top, query, size=10)
        at += 22 + 5.3 * len(query)


def _panel(
    left: float,
    top: float,
    some: Sequence[Mapping[str, Any]],
    name: str,
    unit: str,
    label: Callable[[Mapping[str, Any]], str],
) -> Iterator[str]:
    bottom = top + _PANEL_HEIGHT
    low, high = _decades([float(one[name]) for one in some])
    labels = list(dict.fromkeys(label(one) for one in some))

    def x_of(text: str) -> float:
        return left + (labels.index(text) + 0.5) * _PANEL_WIDTH / len(labels)

    def y_of(value: float) -> float:
        return bottom - (math.log10(value) - low) / (high - low) * _PANEL_HEIGHT

    for power in range(low, high + 1):
        y = y_of(10.0**power)
        yield (
            f'<line x1="{left}" x2="{left + _PANEL_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"'
            ' stroke="#d8dee4"/>'
        )
        yield _text(left - 6, y + 4, f"{10.0**power:,g}", anchor="end", size=10)
    yield _text(left, top - 6, unit, size=11)
    for text in labels:
        yield _text(x_of(text), bottom + 16, text, anchor="middle", size=11)
    numbers: dict[float, list[tuple[float, str, str]]] = {}
    for query, colour in zip(_queries(some), _COLOURS, strict=False):
        points = [(x_of(label(one)), y_of(float(one[name])), float(one[name]))
                  for one in some if one["query"] == query]  # fmt: skip
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for x, y, _ in points:
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'
        for x, y, value in points:
            numbers.setdefault(x, []).append((y, _number(value), colour))
    for x, some_numbers in numbers.items():
        yield from _numbered(x, top, bottom, sorted(some_numbers))


def _numbered(
    x: float, top: float, bottom: float, numbers: Sequence[tuple[float, str, str]]
) -> Iterator[str]:
    """Write the numbers of points above each other: above its point, or below if it has no room."""
    before, last = -math.inf, ""
    for y, text, colour in numbers:
        if text == last:
            continue
        if y - top < 12:
            place = (x + 8, y + 4, "start")
        elif y - before > 24:
            place = (x, y - 7, "middle")
        elif y + 15 < bottom:
            place = (x, y + 15, "middle")
            y += 15
        else:
            place = (x + 8, y - 4, "start")
        yield _text(place[0], place[1], text, anchor=place[2], size=10, colour=colour)
        before, last = y, text


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """Return the powers of ten below and above all values."""
    low = math.floor(math.log10(min(values)))
    high = math.ceil(math.log10(max(values) * 1.3))
    return low, max(high, low + 1)


def _queries(some: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(one["query"]) for one in some))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, colour: str = "#1f2328"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
        f' fill="{colour}">{escape(text)}</text>'
    )
