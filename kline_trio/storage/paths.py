"""Where in the store's folder everything is that is not a candle file."""

from pathlib import Path

__all__ = [
    "INTERNAL",
    "coverage_path",
    "journal_path",
    "lock_path",
    "new_quarantine",
    "recovered_path",
    "scratch",
    "universe_path",
]

INTERNAL = ".kline_trio"
"""The one folder for all of these; candle readers never look into dotted folders."""


def journal_path(store_path: Path) -> Path:
    """The journal: candles accepted and not yet in a file."""
    return store_path / INTERNAL / "journal.sqlite"


def recovered_path(store_path: Path) -> Path:
    """The journal that is about to take a damaged one's place; there at no other time."""
    return store_path / INTERNAL / "recovered.sqlite"


def coverage_path(store_path: Path) -> Path:
    """The ledger as a file for other programs; the journal has the newest state of it."""
    return store_path / INTERNAL / "coverage.parquet"


def universe_path(store_path: Path) -> Path:
    """What the symbols of the markets were, and when they became so."""
    return store_path / INTERNAL / "universe.parquet"


def lock_path(store_path: Path) -> Path:
    """The file that the one writer locks."""
    return store_path / INTERNAL / "lock"


def scratch(store_path: Path) -> Path:
    """The folder of temporary files, swept at every start."""
    return store_path / INTERNAL / "tmp"


def new_quarantine(store_path: Path) -> Path:
    """A folder, not made yet, for the next thing that is found damaged: numbered, from 1 on."""
    house = store_path / INTERNAL / "quarantine"
    taken = [int(path.name) for path in house.glob("*") if path.name.isdecimal()]
    return house / f"{max(taken, default=0) + 1:04}"
