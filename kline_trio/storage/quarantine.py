"""The quarantine: numbered folders for files that are damaged, or in the way of the store's own."""

from pathlib import Path

from kline_trio.storage.disk import move_durably
from kline_trio.storage.paths import INTERNAL


def new_quarantine(store_path: Path) -> Path:
    """Return a folder, not made yet, for the next damaged file: numbered from 1."""
    quarantine = store_path / INTERNAL / "quarantine"
    taken = [int(path.name) for path in quarantine.glob("*") if path.name.isdecimal()]
    return quarantine / f"{max(taken, default=0) + 1:04}"


def move_to_quarantine(path: Path, store_path: Path, folder: Path | None = None) -> Path:
    """Move what stands at the path, or in the place of a folder above it, to the quarantine.

    Candle files keep their folders below the store; files of the internal folder lose theirs.

    Args:
      path: of a file that the store has, or is to have.
      store_path: the store's folder.
      folder: from `new_quarantine`, for several files that belong together; None: a new one.

    Returns:
      where it is now.

    Raises:
      OSError: the disk refused.
    """
    while path.parent != store_path and not path.parent.is_dir():
        path = path.parent
    internal = store_path / INTERNAL
    base = internal if path.is_relative_to(internal) else store_path
    aside = (folder or new_quarantine(store_path)) / path.relative_to(base)
    move_durably(path, aside)
    return aside
