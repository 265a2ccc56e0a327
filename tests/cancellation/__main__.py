"""Stop the recorder at many moments, by hand: `python -m tests.cancellation stops --count 10000`.

Exit with 1 if any stop left something wrong.
"""

import argparse
import logging
import sys

from tests.cancellation import stops


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.cancellation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    soon = commands.add_parser("stops", help="stops within two seconds of a start")
    soon.add_argument("--count", type=int, default=10_000)
    soon.add_argument("--seed", type=int, default=1, help="of the first stop")
    soon.add_argument("--jobs", type=int, default=2, help="processes")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    return 1 if stops.campaign(asked.count, asked.seed, asked.jobs) else 0


if __name__ == "__main__":
    sys.exit(main())
