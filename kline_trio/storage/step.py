"""A step of a long job, for whoever shows how far the job is."""

from collections.abc import Callable

import attrs


@attrs.frozen
class Step:
    """What a job does or waits for now, and how much of the job is done."""

    what: str
    """The file or the series, or what the job waits for: `reading the list of files`."""
    done: int = 0
    """Before this step."""
    total: int | None = None
    """None: the step is not counted."""
    unit: str = ""
    """Of `done` and `total`, in the singular: `byte`, `file`, `series`."""


OnStep = Callable[[Step], None]
"""Called at the begin of each step, in the job's thread."""


def ignore_step(_: Step) -> None:
    """Show nothing."""
