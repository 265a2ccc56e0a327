"""Publish a store in a process of its own, which can be killed.

`python -m tests.lake.publisher STORE URL ROWS` prints `ready`, and waits for a line of input. Then
it publishes, and prints a line of JSON for each part, and the sequence number at the end. The
credentials come from the environment.
"""

import json
import sys
from pathlib import Path

import attrs

from kline_trio.lake.location import Location
from kline_trio.lake.publish import Published, publish
from tests.lake.support import no_pause


def _print_part(part: Published) -> None:
    spans = [
        (*attrs.astuple(series), [(one.from_ms, one.to_ms) for one in some])
        for series, some in part.spans.items()
    ]
    sys.stdout.write(json.dumps({"sequence": part.sequence, "spans": spans}) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Publish, as the arguments say."""
    store, url, rows = sys.argv[1:]
    location = Location.from_url(url)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    sequence = publish(location, Path(store), _print_part, no_pause, int(rows))
    sys.stdout.write(json.dumps({"all": sequence}) + "\n")


if __name__ == "__main__":
    main()
