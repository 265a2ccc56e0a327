"""The process that publishes: `python -m kline_trio.lake`, begun by `recorder/publisher.py`."""

import sys

from kline_trio.lake.worker import main

if __name__ == "__main__":
    sys.exit(main(sys.stdin.buffer, sys.stdout.buffer))
