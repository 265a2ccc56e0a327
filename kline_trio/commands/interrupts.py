"""A signal while modules are imported: end at once, since there is nothing to clean up."""

import os
import signal
from types import FrameType

_FIRST_PROCESS = 1


def end_at_once() -> None:
    """Let SIGINT end the process with status 130 and without output, unless it is ignored.

    A KeyboardInterrupt would show a traceback, since nothing catches it yet. During an import it
    would show one even if it is caught: callbacks of the import system cannot raise it, and modules
    in C turn it into other errors.

    In a container, do the same for SIGTERM: the kernel does not let a signal without a handler end
    the first process, so that a stop in the first second would wait for its time limit.
    """
    if os.getpid() == _FIRST_PROCESS and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_from_now_on() -> None:
    """Let SIGINT raise KeyboardInterrupt again, if `end_at_once` changed that."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, _: FrameType | None) -> None:
    os._exit(128 + number)
