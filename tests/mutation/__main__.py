"""Run the mutants by hand: `python -m tests.mutation [--only NAME]`."""

import argparse
import sys
import time

from tests.mutation.mutant import Verdict, copied, run, tests_pass
from tests.mutation.mutants import MUTANTS


def main() -> int:
    """Print each mutant's verdict. Return 1 if one survived or could not be run."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("--only", metavar="NAME", help="mutants whose name or file contains this")
    chosen = parser.parse_args().only or ""
    mutants = [one for one in MUTANTS if chosen in one.name or chosen in one.file]
    if not mutants:
        parser.error(f"no mutant is called {chosen!r}")
    with copied() as folder:
        if not tests_pass(mutants, folder):
            print("some of these tests fail without any mutant")
            return 1
        verdicts = []
        for mutant in mutants:
            began = time.monotonic()
            verdicts.append(run(mutant, folder))
            seconds = time.monotonic() - began
            words = f"{mutant.file}: {mutant.name} ({seconds:.1f} s)"
            print(f"{verdicts[-1].value:9} {words}", flush=True)
    killed = verdicts.count(Verdict.KILLED)
    print(f"{killed} of {len(mutants)} mutants killed")
    return 0 if killed == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
