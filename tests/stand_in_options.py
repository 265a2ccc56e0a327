"""The stand-in's command line."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.stand_in_candles import Row, Taste, replayed

__all__ = ["Options", "options_from"]


@dataclass(frozen=True)
class Options:
    """What was asked for; times are exchange time."""

    start_ms: int
    until_ms: int | None
    history_ms: int
    """How long before the start the candles begin that REST and the archive have."""
    speed: float
    taste: Taste
    archive: dict[tuple[str, str, str], list[Row]]
    """Rows to replay; empty: candles are made up."""
    script: list[dict[str, Any]]
    """Actions in the order of their `at_ms`."""
    obey: bool
    """Whether to act on lines of standard input."""
    refusals: list[tuple[str, list[int]]]
    """The HTTP statuses that the first handshakes of a market get."""
    rest: str
    ping_seconds: float | None
    pong_seconds: float | None
    truth: Path | None


def options_from(arguments: Sequence[str]) -> Options:
    """The options of a command line."""
    asked = _parser().parse_args(arguments)
    archive = replayed(asked.replay)
    start_ms = _time_ms(asked.start, 0)
    if archive:
        start_ms = min(rows[0].t for rows in archive.values())
    script = json.loads(asked.script)
    for action in script:
        action["at_ms"] = _time_ms(str(action["at"]), start_ms)
    refusals = [refusal.split(":") for refusal in asked.refuse]
    return Options(
        start_ms=start_ms,
        until_ms=_time_ms(asked.until, start_ms) if asked.until else None,
        history_ms=int(asked.history_days * 86_400_000),
        speed=asked.speed,
        taste=Taste(asked.seed, asked.updates, int(asked.late_seconds * 1_000), asked.after_next),
        archive=archive,
        script=sorted(script, key=lambda action: action["at_ms"]),
        obey=asked.obey,
        refusals=[(market, [int(status)] * int(count)) for market, status, count in refusals],
        rest=asked.rest,
        ping_seconds=asked.ping_seconds,
        pong_seconds=asked.pong_seconds,
        truth=asked.truth,
    )


def _time_ms(text: str, start_ms: int) -> int:
    """A time as ISO 8601 or, with a plus, seconds after the start."""
    if text.startswith("+"):
        return start_ms + int(float(text) * 1_000)
    moment = datetime.fromisoformat(text)
    return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1_000)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="An exchange that speaks Binance's protocol.")
    add = parser.add_argument
    add("--start", default="2023-03-24T10:00:00Z", help="exchange time at the start")
    add("--until", help="exchange time at which the clock stops, or +SECONDS after the start")
    add("--history-days", type=float, default=0,
        help="how long before the start REST and the archive begin")  # fmt: skip
    add("--speed", type=float, default=120, help="exchange seconds a second")
    add("--seed", type=int, default=1)
    add("--updates", type=int, default=4, help="updates of each candle while it forms")
    add("--late-seconds", type=float, default=3, help="closes come so late at most")
    add("--after-next", type=float, default=0.1,
        help="share of closes that come after the next candle's first update")  # fmt: skip
    add("--replay", type=Path, nargs="+", default=[], help="archive files, zip or csv.gz")
    add("--script", default="[]", help='JSON: [{"at": "+90", "do": "drop", "market": "spot"}, ...];'
        " do: drop, stall (seconds, real), close (code), shutdown, repeat, revise, garbage (kinds),"
        " silence (stream, seconds), refuse (status, count), rest (mode), lie (about time, rows,"
        " first, date, event or candle; ahead and seconds, of exchange time; about quiet: the"
        " archive of a symbol, from that long after the start)")  # fmt: skip
    add("--obey", action="store_true",
        help="do at once what JSON lines on stdin say: a script's, without `at`")  # fmt: skip
    add("--refuse", action="append", default=[], metavar="MARKET:STATUS:COUNT",
        help="refuse the first handshakes")  # fmt: skip
    add("--rest", default="ok", help="ok, garbage, or the status of every answer")
    add("--ping-seconds", type=float)
    add("--pong-seconds", type=float)
    add("--truth", type=Path, help="where to write what was published, at SIGUSR1 and the end")
    return parser
