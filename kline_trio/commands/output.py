"""Output for the user: problems."""

import sys
from collections.abc import Collection

from kline_trio.quoting import one_line


def show_problems(problems: Collection[str]) -> int:
    """Print a line on stderr for each problem. Return the exit status: 1 if there are any."""
    for problem in problems:
        print(one_line(problem), file=sys.stderr)
    return 1 if problems else 0
