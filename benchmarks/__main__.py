"""`python -m benchmarks NAME [options]`: runs the benchmark of that name, a module here."""

import importlib
import sys

from benchmarks.all import NAMES

__all__ = ["main"]

_NAMES = ("all", *NAMES, "encoding", "lake_cost", "lake_query", "lake_sizes")


def main(arguments: list[str]) -> int:
    """Hands the options to the benchmark's own `main`, and gives back its exit status."""
    name, *options = arguments or ["--help"]
    if name in _NAMES:
        status: int = importlib.import_module(f"benchmarks.{name}").main(options)
        return status
    asked = name in ("-h", "--help")
    text = f"usage: python -m benchmarks NAME [options]\nNAME is one of: {' '.join(_NAMES)}"
    print(text if asked else f"there is no benchmark {name!r}\n{text}", file=sys.stderr)
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
