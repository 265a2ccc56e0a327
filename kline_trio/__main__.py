"""`python -m kline_trio`."""

import sys

from kline_trio.cli import main

if __name__ == "__main__":
    sys.exit(main())
