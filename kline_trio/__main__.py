"""`python -m kline_trio`."""

import sys

from kline_trio.commands.interrupts import end_at_once

end_at_once()

from kline_trio.commands.cli import main  # noqa: E402 - an interrupt may come from here on

if __name__ == "__main__":
    sys.exit(main())
