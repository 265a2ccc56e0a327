"""The name of the program as the user called it, for hints that name a command."""

import sys
from pathlib import PurePath

_MODULE = "python -m kline_trio"
_SCRIPT = "kline-trio"


def program_name() -> str:
    """Return `kline-trio` if the script of this name was called, else `python -m kline_trio`."""
    called = sys.argv[0] if sys.argv else ""
    return _SCRIPT if PurePath(called).name == _SCRIPT else _MODULE
