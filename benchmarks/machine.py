"""What the figures were measured on, and what all tables end with."""

import importlib.metadata
import json
import os
import platform
import ssl
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["calibration_us", "conclude", "footer", "machine", "verdict"]

_LIBRARIES = (
    "attrs", "h11", "httpx2", "msgspec", "numpy", "pandas", "pyarrow", "trio", "trio-websocket",
    "wsproto",
)  # fmt: skip
_TOLD = ("trio", "trio-websocket", "pyarrow")
"""Of these, what stands below each table; the JSON has all."""
_ROUNDS = 1_000


def calibration_us() -> float:
    """CPU of a fixed loop in pure Python right now: what figures of two machines are compared by.

    The least of many, for whatever else runs on the machine can only add.
    """
    least = float("inf")
    for _ in range(200):
        begin = time.thread_time_ns()
        total = 0
        for number in range(_ROUNDS):
            total += number * number % 7
        least = min(least, (time.thread_time_ns() - begin) / 1e3)
    return least


def machine() -> dict[str, object]:
    """Processor, system, versions, date and calibration."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "openssl": ssl.OPENSSL_VERSION,
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_average": list(os.getloadavg()),
        "calibration_us": round(calibration_us(), 1),
    }


def _libraries_of(python: Path) -> dict[str, str]:
    """All that is installed for the peers, and its versions."""
    code = (
        "import importlib.metadata as m\n"
        "for d in m.distributions(): print(d.metadata['Name'], d.version)"
    )
    done = subprocess.run(  # noqa: S603 - the interpreter that the user named
        [python, "-c", code], capture_output=True, text=True, check=True
    )
    return dict(line.split() for line in sorted(done.stdout.splitlines()))


def verdict(goals: Sequence[bool]) -> str:
    """In words: of no goals, that nothing was judged."""
    if not goals:
        return "not judged"
    return "met" if all(goals) else "not met"


def conclude(
    table: object, file: Path | None, goals: Sequence[bool], peers: Path | None = None
) -> int:
    """Print the lines below a table, and write all to a JSON file if there is to be one.

    Args:
      table: of what JSON can hold.
      file: where to; None: nowhere.
      goals: of each that was judged, whether it is met.
      peers: the interpreter of the peers, whose libraries are written down too.

    Returns:
      The exit status: 1 if a goal is not met.
    """
    found = machine()
    print(footer(found))
    if file is not None:
        if peers is not None:
            found["peers_libraries"] = _libraries_of(peers)
        result = {"machine": found, "verdict": verdict(goals), "table": table}
        file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if all(goals) else 1


def footer(found: dict[str, object]) -> str:
    """Two lines below a table: the machine, and what besides it decides how fast all is."""
    libraries = found["libraries"]
    assert isinstance(libraries, dict)
    versions = ", ".join(f"{name} {libraries[name]}" for name in _TOLD)
    # Without its date, and the machine's architecture.
    openssl = " ".join(str(found["openssl"]).split()[:2])
    kernel = " ".join(str(found["kernel"]).split()[:2])
    return (
        f"{found['processor']}, {found['cores']} cores, {found['python']}, {found['date']};"
        f" {_ROUNDS:,} rounds of pure Python take {found['calibration_us']} µs\n"
        f"{versions}, {openssl}, {kernel}"
    )


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
