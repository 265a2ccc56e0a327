"""`python -m benchmarks NAME [options]`: runs the benchmark of that name, a module here."""

import importlib
import pkgutil
import sys

import benchmarks

__all__ = ["main"]

_NO_BENCHMARKS = (
    "__main__", "appending", "archives", "filling", "load", "made_up", "neighbours", "peers",
    "receiving", "spent",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    """Hands the options to the benchmark's own `main`, and gives back its exit status."""
    names = sorted(
        module.name
        for module in pkgutil.iter_modules(benchmarks.__path__)
        if module.name not in _NO_BENCHMARKS
    )
    name, *options = arguments or ["--help"]
    if name in names:
        status: int = importlib.import_module(f"benchmarks.{name}").main(options)
        return status
    asked = name in ("-h", "--help")
    text = f"usage: python -m benchmarks NAME [options]\nNAME is one of: {' '.join(names)}"
    print(text if asked else f"there is no benchmark {name!r}\n{text}", file=sys.stderr)
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
