"""The process of a lake, so that its memory and its end are not the recorder's.

A request and its answers are lines of JSON on stdin and stdout. The process reads the store, and
never writes to it. It has one of two jobs.

`"job": "publish"`. It sends, in this order:

- `{"lake": ID}`, and waits for a line: the recorder has called `Journal.begin_lake`;
- `{"part": {...}}` for each part that is in the lake, for `Journal.published`;
- `{"neighbours": {...}}`, after it has renewed this recorder's presence in the lake.

`"job": "upkeep"`. It sends, in this order:

- `{"step": {...}}` at each step, with what it does: a process that says nothing is ended;
- `{"lacking": [TEXT, ...]}`: what the lake lacks of months that were removed here;
- `{"compacted": {...}}`, if the request asks for a compaction;
- `{"read_back": {...}}` for each group of months that may be removed here, or must stay.

Last comes `{"done": SEQUENCE}`, or `{"failed": KIND, "text": TEXT}`; KIND is a word of `Failure`.
"""

import enum
import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import attrs

from kline_trio.config.lake import LakeConfig
from kline_trio.errors import ConfigError, KlineTrioError
from kline_trio.lake.errors import (
    ConflictError,
    ForeignLakeError,
    LakeDeniedError,
    LakeError,
    LakeUnreachableError,
)
from kline_trio.storage.step import Step

if TYPE_CHECKING:
    from kline_trio.lake.read_back import Found

_NICENESS = 10
_PAUSE_SECONDS = 0.2
_MOST_PAUSE_SECONDS = 10.0


class Failure(enum.StrEnum):
    """Why a publication failed."""

    UNREACHABLE = "unreachable"
    DENIED = "denied"
    FOREIGN = "foreign"
    CONFLICT = "conflict"
    PACKAGES = "packages"
    """The extra `lake` is not installed."""
    CONFIG = "config"
    STORE = "store"
    """The store cannot be read."""
    BUG = "bug"


_FAILURES: tuple[tuple[type[BaseException], Failure], ...] = (
    (LakeUnreachableError, Failure.UNREACHABLE),
    (LakeDeniedError, Failure.DENIED),
    (ForeignLakeError, Failure.FOREIGN),
    (ConflictError, Failure.CONFLICT),
    (ConfigError, Failure.CONFIG),
    (ModuleNotFoundError, Failure.PACKAGES),
    (KlineTrioError, Failure.STORE),
)


def main(requests: IO[bytes], answers: IO[bytes]) -> int:
    """Read one request, carry it out and return the exit status."""
    os.nice(_NICENESS)

    def send(**answer: object) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()

    try:
        request = json.loads(requests.readline())
        if request["job"] == "publish":
            sequence = _publish(request, requests, send)
        else:
            sequence = _keep_up(request, send)
    except BrokenPipeError:
        return 1  # the recorder has gone
    except Exception as error:  # noqa: BLE001 - all of it goes to the recorder
        kinds = (kind for cause, kind in _FAILURES if isinstance(error, cause))
        kind = next(kinds, Failure.BUG)
        text = f"{type(error).__name__}: {error}" if kind is Failure.BUG else str(error)
        if kind is Failure.PACKAGES:
            text = f"the lake needs its packages: pip install 'kline-trio[lake]' ({error})"
        send(failed=kind, text=text)
        return 1
    send(done=sequence)
    return 0


def _publish(request: Mapping[str, Any], requests: IO[bytes], send: Any) -> int:  # noqa: ANN401
    # Here, so that a missing package is an answer.
    from kline_trio.lake.location import Location
    from kline_trio.lake.own_presence import Said, renew_presence
    from kline_trio.lake.publish import Published, publish
    from kline_trio.lake.tables import made_table

    location = Location.from_config(LakeConfig.from_address(request["lake"]))
    send(lake=made_table(location, "candles").id)
    if not requests.readline():
        raise BrokenPipeError

    def on_part(part: Published) -> None:
        counts = {name: getattr(part, name) for name in ("rows", "inserted", "updated", "left")}
        spans = [
            [*attrs.astuple(series), span.from_ms, span.to_ms]
            for series, some in part.spans.items()
            for span in some
        ]
        send(part={"spans": spans, "sequence": part.sequence, **counts})

    store_path = Path(request["store"])
    sequence = publish(location, store_path, on_part, _pause, request["most_rows"])
    said = Said.from_request(request["presence"])
    send(neighbours=attrs.asdict(renew_presence(location, store_path, said)))
    return sequence


def _keep_up(request: Mapping[str, Any], send: Any) -> int:  # noqa: ANN401
    from kline_trio.lake.lacking import lacking
    from kline_trio.lake.location import Location
    from kline_trio.lake.read_back import Found, Kept, read_back
    from kline_trio.lake.upkeep import compact

    location = Location.from_config(LakeConfig.from_address(request["lake"]))
    store_path, most_rows = Path(request["store"]), request["most_rows"]

    def on_step(step: Step) -> None:
        send(step=attrs.asdict(step))

    def on_group(found: Sequence[Found], kept: Sequence[Kept]) -> None:
        months = [[*attrs.astuple(one.pruned.series), *_values(one)] for one in found]
        stay = [[*attrs.astuple(one.month.series), one.month.span.from_ms, one.why] for one in kept]
        send(read_back={"months": months, "kept": stay})

    send(lacking=lacking(location, store_path, on_step))
    problem = None
    if request["compact"]:
        try:
            done = compact(location, request["holder"], _pause, on_step, most_rows=most_rows)
            send(compacted=attrs.asdict(done))
        except (LakeError, OSError) as error:
            problem = error  # Pruning does not need it.
    if (keep_seconds := request["keep_seconds"]) is not None:
        read_back(location, store_path, keep_seconds, on_group, most_rows, on_step)
    if problem is not None:
        raise problem
    return 0


def _values(found: "Found") -> list[object]:
    """Return the values of `Pruned`, and what of them the store has, for `recorder/upkeep.py`."""
    one, here = found.pruned, found.here
    span = one.span.from_ms, one.span.to_ms
    pruned = one.lake, one.version, one.rows, one.checksum, one.pruned_ms
    return [*span, *pruned, here.rows, here.checksum]


def _pause(tried: int) -> None:
    """Wait before the n-th retry of a commit, at random, so that two recorders fall out of step."""
    most = min(_MOST_PAUSE_SECONDS, _PAUSE_SECONDS * 2**tried)
    time.sleep(random.uniform(0, most))  # noqa: S311 - no secret
