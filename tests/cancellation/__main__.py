"""Stop the recorder at many moments, by hand.

`stops --count 10000` stops soon after a start, at random moments. `steps --every 1` stops two
lives, one of `open_recorder` and one of `fill`, at each task step; `steps --sample` at one step for
each line of the recorder at which a task waits. Exit with 1 if any stop left something wrong.
"""

import argparse
import logging
import sys

from tests.cancellation import steps, stops
from tests.cancellation.lives import LIVES


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.cancellation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    soon = commands.add_parser("stops", help="stops within two seconds of a start")
    soon.add_argument("--count", type=int, default=10_000)
    soon.add_argument("--seed", type=int, default=1, help="of the first stop")
    soon.add_argument("--jobs", type=int, default=2, help="processes")
    each = commands.add_parser("steps", help="stops at each task step")
    each.add_argument("--life", choices=LIVES, action="append", help="both, unless named")
    each.add_argument("--mode", choices=steps.MODES, action="append", help="all, unless named")
    each.add_argument("--seed", type=int, default=1, help="of the order of tasks")
    each.add_argument("--jobs", type=int, default=2, help="processes")
    which = each.add_mutually_exclusive_group()
    which.add_argument("--every", type=int, default=1, metavar="N", help="each N-th step")
    which.add_argument("--sample", action="store_true", help="one step for each task and line")
    which.add_argument("--only", type=int, metavar="N", help="the N-th step")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if asked.command == "stops":
        return 1 if stops.campaign(asked.count, asked.seed, asked.jobs) else 0
    trials = []
    for life in asked.life or LIVES:
        places = steps.places_of(life, asked.seed)
        numbers = [place.number for place in places][asked.seed % asked.every :: asked.every]
        if asked.sample:
            numbers = steps.one_for_each_line(places, asked.seed)
        if asked.only is not None:
            numbers = [asked.only]
        print(f"{life}: {len(places):,} steps, {len(numbers):,} of them chosen")
        trials += [
            steps.Trial(life, mode, number, asked.seed)
            for mode in asked.mode or steps.MODES
            for number in numbers
        ]
    return 1 if steps.campaign(trials, asked.jobs) else 0


if __name__ == "__main__":
    sys.exit(main())
