"""`python -m tests.fuzzing`: as many hostile inputs as are wished for."""

import argparse
import faulthandler
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial

from tests.fuzzing.campaign import CHUNK, FindingError, try_chunk
from tests.fuzzing.frames import SESSIONS
from tests.fuzzing.laws import Tally

_HANG_SECONDS = 300.0
"""No chunk takes so long, on any machine: it hangs, and the stack says where."""

_PROGRESS_SECONDS = 30.0


def main() -> int:
    """Try inputs; the status is 1 if one of them breaks a law."""
    asked = _parser().parse_args()
    began = told = time.monotonic()
    whole, findings = Tally(), 0
    for result in _results(asked.seed, asked.first, -(-asked.inputs // CHUNK), asked.jobs):
        if isinstance(result, Tally):
            whole.add(result)
        else:
            findings += 1
            print(f"FOUND: {result}", flush=True)
        if time.monotonic() - told > _PROGRESS_SECONDS:
            told = time.monotonic()
            print(f"{whole.inputs:,} inputs in {told - began:,.0f} s", flush=True)
    print(_summary(whole, asked.seed, time.monotonic() - began, findings))
    return 1 if findings else 0


def _results(seed: int, first: int, count: int, jobs: int) -> Iterator[Tally | str]:
    chunks = range(first, first + count)
    if jobs == 1:
        yield from map(partial(_try_chunk, seed), chunks)
        return
    with ProcessPoolExecutor(jobs) as pool:
        for done in as_completed([pool.submit(_try_chunk, seed, chunk) for chunk in chunks]):
            yield done.result()


def _try_chunk(seed: int, chunk: int) -> Tally | str:
    faulthandler.dump_traceback_later(_HANG_SECONDS, exit=True)
    try:
        return try_chunk(seed, chunk)
    except FindingError as finding:
        return str(finding)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _summary(whole: Tally, seed: int, seconds: float, findings: int) -> str:
    base = "real and built-in" if SESSIONS.is_dir() else "built-in"
    return (
        f"{whole.inputs:,} inputs of seed {seed} ({whole.bytes / 1e6:,.1f} MB, of {base} frames) in"
        f" {seconds:,.1f} s: {whole.forming:,} frames left out and {whole.kept:,} kept,"
        f" {whole.closed:,} times a changed text was still a closed candle and"
        f" {whole.refused:,} times no event, {whole.breaches:,} breaches, {whole.closes:,} CLOSE,"
        f" {whole.heard:,} streams heard by wsproto twice; {findings} findings"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    add = parser.add_argument
    add("--inputs", type=int, default=100_000, help=f"rounded up to whole chunks of {CHUNK:,}")
    add("--seed", type=int, default=1, help="other inputs for each")
    add("--first", type=int, default=0, help="the first chunk, to try one again")
    add("--jobs", type=int, default=1, help="processes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
