"""The paths of everything in a store's folder that is not a candle file."""

from pathlib import Path

INTERNAL = ".kline_trio"
"""The one folder for all of these; candle readers never look into dotted folders."""


def journal_path(store_path: Path) -> Path:
    """Return the journal: candles accepted and not yet in a file."""
    return store_path / INTERNAL / "journal.sqlite"


def recovered_path(store_path: Path) -> Path:
    """Return the journal that is about to replace a damaged one; it exists only then."""
    return store_path / INTERNAL / "recovered.sqlite"


def coverage_path(store_path: Path) -> Path:
    """Return the ledger as a file for other programs; the journal has its newest state."""
    return store_path / INTERNAL / "coverage.parquet"


def universe_path(store_path: Path) -> Path:
    """Return the history of what the markets listed."""
    return store_path / INTERNAL / "universe.parquet"


def lock_path(store_path: Path) -> Path:
    """Return the file that the one writer locks."""
    return store_path / INTERNAL / "lock"


def scratch(store_path: Path) -> Path:
    """Return the folder of temporary files, swept at every start."""
    return store_path / INTERNAL / "tmp"
