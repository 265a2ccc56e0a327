"""Queries of a lake by Daft, which wants an environment of its own; for `lake_query`.

A line of JSON on stdin names the table, the texts that rows have, the times and how often; a line
on stdout has the rows, and the least seconds on the wall and of CPU.
"""

import json
import math
import sys
from datetime import datetime
from typing import Any

import daft

from benchmarks.spent import spending

_BEGIN = "candle_begin_time"


def main() -> None:
    """Answer each line, until there are no more."""
    for line in sys.stdin:
        asked = json.loads(line)
        wall = cpu = math.inf
        rows = 0
        for _ in range(asked["runs"]):
            with spending() as spent:
                rows = _rows(asked)
            wall, cpu = min(wall, spent.wall_seconds), min(cpu, spent.cpu_seconds)
        print(json.dumps([rows, wall, cpu]), flush=True)


def _rows(asked: dict[str, Any]) -> int:
    begin, kind = daft.col(_BEGIN), daft.DataType.timestamp("us", "UTC")
    since, until = (datetime.fromisoformat(asked[name]) for name in ("since", "until"))
    is_wanted = begin >= daft.lit(since).cast(kind)
    is_wanted &= begin < daft.lit(until).cast(kind)
    for name, text in asked["names"].items():
        is_wanted &= daft.col(name) == text
    return int(daft.read_deltalake(asked["url"]).where(is_wanted).to_arrow().num_rows)


if __name__ == "__main__":
    main()
