"""The picture of what queries cost, and a small run of what it is drawn from."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks import lake_sizes
from benchmarks.lake_picture import picture


def reading(case: str, partition: str, target: int, query: str, requests: int) -> dict[str, Any]:
    return {
        "case": case, "partition": partition, "target_mib": target, "query": query,
        "reader": "Polars", "requests": requests, "read_mb": requests / 10, "cpu_ms": 12.5,
    }  # fmt: skip


def texts_of(table: Sequence[dict[str, Any]]) -> list[str]:
    root = ET.fromstring(picture(table))
    return [one.text or "" for one in root.iter() if one.tag.endswith("text")]


def test_the_picture_has_each_reading_and_what_it_is_of() -> None:
    table = [
        reading("files", "month", 4, "one series", 20),
        reading("files", "month", 128, "one series", 31),
        reading("partitions", "day", 128, "all <series>", 400),
        reading("partitions", "year", 128, "all <series>", 57),
    ]
    texts = texts_of([*table, {**table[0], "reader": "DuckDB", "requests": 99_999}])
    assert {"4 MiB", "128 MiB", "day", "year", "one series", "all <series>"} <= set(texts)
    assert {"20", "31", "400", "57"} <= set(texts)
    assert "99,999" not in texts


def test_a_run_measures_each_query_and_draws_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = lake_sizes.Case("files", "1h", 8, 2, (("day", 128), ("month", 128)))
    monkeypatch.setattr(lake_sizes, "_QUICK", (small, lake_sizes._QUICK[1]))
    file, drawn = tmp_path / "result.json", tmp_path / "drawn.svg"
    words = ["--quick", "--runs", "1", "--data", str(tmp_path), "--json", str(file)]
    assert lake_sizes.main(words) == 0
    table = json.loads(file.read_text())["table"]
    assert {one["rows"] for one in table if one["case"] == "files"} == {48, 192, 1}
    assert {one["files"] for one in table if one["case"] == "files"} == {2, 1}
    assert all(one["requests"] > 3 and one["read_mb"] > 0 for one in table)
    assert lake_sizes.main(["--measured", str(file), "--picture", str(drawn)]) == 0
    assert drawn.read_text().startswith("<svg")
