"""Where in the store's folder everything is that is not a candle file."""

from pathlib import Path

__all__ = ["HOUSE", "journal_path", "lock_path", "scratch"]

HOUSE = ".kline_trio"
"""The one folder for it; candle readers never look into dotted ones."""


def journal_path(store_path: Path) -> Path:
    """The journal: candles accepted and not yet in a file."""
    return store_path / HOUSE / "journal.sqlite"


def lock_path(store_path: Path) -> Path:
    """The file that the one writer locks."""
    return store_path / HOUSE / "lock"


def scratch(store_path: Path) -> Path:
    """The folder of temporary files, swept at every start."""
    return store_path / HOUSE / "tmp"
