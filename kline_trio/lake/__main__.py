"""The process of the lake: `python -m kline_trio.lake`, begun by `recorder/lake_process.py`."""

import sys

from kline_trio.lake.worker import main

if __name__ == "__main__":
    sys.exit(main(sys.stdin.buffer, sys.stdout.buffer))
