"""When a series is merged: often while its file is short, and never later than the cap."""

import attrs

__all__ = ["SHARE", "MergeRule"]

SHARE = 1 / 64
"""New rows wait until they are this share of their file: each row is then rewritten at most 64
times while its file doubles, however long that takes."""


@attrs.frozen
class MergeRule:
    """How long the first of some new rows waits for company."""

    merge_seconds: float
    """At least so long, where the file is there."""
    max_merge_seconds: float
    """At most so long."""

    def due_after_seconds(self, new_rows: int, file_rows: int) -> float:
        """How long after the first new row's acceptance a merge is due, if no more rows come.

        Args:
          new_rows: how many wait.
          file_rows: how many their file holds; 0 for a file that is still to be made.
        """
        if not file_rows:
            # So that a new series' file is there to be looked at.
            return 0.0
        if new_rows >= SHARE * file_rows:
            return self.merge_seconds
        return max(self.merge_seconds, self.max_merge_seconds)
