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


def control_socket_path(store_path: Path) -> Path:
    """Return the socket of the running recorder, if its path is short enough for one.

    Only the recorder's user may enter the folder.
    """
    return store_path / INTERNAL / "control" / "socket"


def control_note_path(store_path: Path) -> Path:
    """Return the file that names the recorder's socket, if that is in another folder."""
    return store_path / INTERNAL / "control.path"


def simulated_mark_path(store_path: Path) -> Path:
    """Return the file that marks a store whose candles are those of the built-in exchange."""
    return store_path / INTERNAL / "simulated"


def scratch(store_path: Path) -> Path:
    """Return the folder of temporary files, swept at every start."""
    return store_path / INTERNAL / "tmp"
