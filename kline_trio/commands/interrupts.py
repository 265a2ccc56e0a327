"""Ctrl-C before the work begins: while modules are imported, there is nothing to tidy up."""

import os
import signal
from types import FrameType

__all__ = ["end_at_once", "raise_from_now_on"]

_INTERRUPTED = 130


def end_at_once() -> None:
    """Let SIGINT end the process with status 130 and no word, unless it is ignored.

    A KeyboardInterrupt would show a traceback where nobody catches it yet; and in an import, also
    where it is caught: callbacks of the import system cannot raise it, and modules in C make other
    errors of it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_from_now_on() -> None:
    """Let SIGINT raise KeyboardInterrupt, if it was to end the process at once."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(_: int, __: FrameType | None) -> None:
    os._exit(_INTERRUPTED)
